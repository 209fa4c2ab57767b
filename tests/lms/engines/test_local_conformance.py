"""LocalEngine passes the suite that every engine passes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dspy")
pytest.importorskip("torch", reason="local models need torch (extra neural)")
pytest.importorskip("transformers", reason="local models need transformers (extra neural)")
pytest.importorskip("llguidance", reason="answers are held to a schema by llguidance (extra neural)")

from local_checkpoints import one_thread

from dspex_lab.lms.engines import LocalEngine, local_lm
from dspex_lab.testing import Declared, EngineConformance


@pytest.fixture(scope="module")
def folder(taught: Path) -> Iterator[Path]:
    with one_thread():
        held = LocalEngine(taught, device="cpu")
        held.load()  # the LMs of the tests share these weights
        yield taught
        held.close()


class TestLocalEngine(EngineConformance):
    declared = Declared(scripted=False, tools=False)

    @pytest.fixture(autouse=True)
    def _model(self, folder: Path) -> None:
        self.folder = folder

    def make(self, answer: Any) -> Any:
        return local_lm(self.folder, device="cpu", window=0.0, temperature=0, max_tokens=40, cache=False)

    def test_it_says_what_it_was_taught(self) -> None:
        """So the suite runs over answers that end, and not over noise cut at max_tokens."""
        assert self.lm()("Say it.") == ["one two three four"]
