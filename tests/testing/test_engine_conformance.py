"""The conformance suite over the engines that ask nobody: the scripted and the offline one."""

from __future__ import annotations

from typing import Any

from dspex_lab.lms import make_lm
from dspex_lab.testing import Declared, EngineConformance, scripted_lm


class TestScriptedEngine(EngineConformance):
    def make(self, answer: Any) -> Any:
        return scripted_lm(answer)


class TestExemplarEngine(EngineConformance):
    declared = Declared(scripted=False, live=False, tools=False, logprobs=False)

    def make(self, answer: Any) -> Any:
        return make_lm("offline")
