"""Nothing is wired in a test unless the test does it."""

from __future__ import annotations

import pytest

from dspex_lab.native.metrics import _wiring


@pytest.fixture(autouse=True)
def _unwired(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_wiring, "_wired", {})
    monkeypatch.setattr(_wiring, "_loaded", {})
