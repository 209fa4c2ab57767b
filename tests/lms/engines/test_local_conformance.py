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

from local_checkpoints import make_checkpoint, one_thread, teach

from dspex_lab.lms.engines import LocalEngine, local_lm
from dspex_lab.testing import Declared, EngineConformance


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with one_thread():
        made = make_checkpoint(tmp_path_factory.mktemp("tiny"), context=4096)
        teach(made, "one two three four", '{"label": "billing"}', prompts=["Say it.", "question 1", "question 30"])
        held = LocalEngine(made, device="cpu")
        held.load()  # the LMs of the tests share these weights
        yield made
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
