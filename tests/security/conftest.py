"""A sandbox for what leaves no names behind, and a kernel in which there is no other."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from dspex_lab.security.sandbox import Sandbox, _warm


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as made:
        yield made


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else has a warm Python, and nothing that was forgotten is given back meanwhile."""
    gc.collect()
    monkeypatch.setattr(_warm, "_zygote", None)
    monkeypatch.setattr(_warm, "_leases", 0)
