"""What every test has: a home, a working folder and an environment of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, caches and the current folder of the person who runs the tests are out of reach."""
    for name in list(os.environ):
        if name.endswith("_API_KEY") or name.startswith("DSPEX_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DSPY_CACHEDIR", str(tmp_path / "dspy_cache"))
    monkeypatch.chdir(tmp_path)
