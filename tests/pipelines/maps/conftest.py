"""A Lab with its store in a file, and rows to map over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import dspex_lab as dx


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[dx.Lab]:
    with dx.Lab(tmp_path / "store" / "lab.duckdb") as made:
        yield made
