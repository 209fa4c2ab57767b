"""What every test has: a home, a working folder and an environment of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Notebooks run in kernels of their own, which fixtures do not reach: they get a store and a cache that vanish."""
    os.environ["DSPEX_STORE"] = ":memory:"
    os.environ["DSPY_CACHEDIR"] = tempfile.mkdtemp(prefix="dspex-cache-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the cache of the notebooks."""
    shutil.rmtree(os.environ["DSPY_CACHEDIR"], ignore_errors=True)


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, caches and the current folder of the person who runs the tests are out of reach."""
    for name in list(os.environ):
        if name.endswith("_API_KEY") or name.startswith("DSPEX_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DSPY_CACHEDIR", str(tmp_path / "dspy_cache"))
    monkeypatch.chdir(tmp_path)
