"""A store in a file, and records to put into it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_records import Script

from dspex_lab.store import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "er" / "lab.duckdb"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path, lab_id="lab") as store:
        yield store


@pytest.fixture
def script() -> Script:
    """Run Python in a process of its own and return what it printed."""

    def run(source: str, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **options,  # type: ignore[call-overload]
        )

    return run
