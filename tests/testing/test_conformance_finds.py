"""The conformance suite finds what it is there to find: engines with one flaw each fail the test that names it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FLAWED = '''
import threading
from dataclasses import replace
from typing import Any

import dspy
import pytest
from dspy.lm15 import StreamDeltaEvent, StreamEndEvent, StreamStartEvent, TextDelta, Usage

from dspex_lab.testing import AsyncScriptedEngine, Declared, EngineConformance, ProviderConformance, Reply, ScriptedEngine


class Flawed(ScriptedEngine):
    flaw = ""

    def complete(self, request):
        response = super().complete(request)
        if self.flaw == "usage":
            return replace(response, usage=Usage(input_tokens=1, output_tokens=1, total_tokens=9))
        if self.flaw == "mixed":
            self.last = response = getattr(self, "last", response)
        return response

    def stream(self, request):
        for event in super().stream(request):
            if self.flaw == "loses" and event.type == "delta" and event.delta.text == "two ":
                continue
            yield event

    def dump_state(self):
        return {"script": "other", "delay": 0.0} if self.flaw == "saved" else super().dump_state()


def lm(flaw, answer):
    engine = Flawed(answer)
    engine.flaw = flaw
    return dspy.LM(f"flawed/{flaw}", engine=engine, async_engine=AsyncScriptedEngine(engine), cache=False, num_retries=0)


class TestUsage(EngineConformance):
    def make(self, answer): return lm("usage", answer)

class TestMixed(EngineConformance):
    def make(self, answer): return lm("mixed", answer)

class TestLoses(EngineConformance):
    def make(self, answer): return lm("loses", answer)

class TestSaved(EngineConformance):
    def make(self, answer): return lm("saved", answer)

class TestKnown(EngineConformance):
    known = {"test_a_call_is_answered": "said to fail, and does not"}
    def make(self, answer): return lm("none", answer)

class TestLeaky(ProviderConformance):
    """A real engine whose LM shows its key, and that tries twice."""
    declared = Declared(partial=False, hides_key=False, timeout=False)

    def make_lm(self, server, *, key, timeout=None):
        made = dspy.LM("openai/m", engine="lm15", api_base=server.url, api_key=key, cache=False, num_retries=1)
        type(made).__repr__ = lambda self: f"<LM {self.kwargs}>"
        return made
'''
FOUND = """
TestUsage::test_tokens_are_counted
TestMixed::test_calls_from_many_threads_do_not_mix
TestLoses::test_a_stream_gives_the_same_answer_in_pieces
TestSaved::test_it_is_saved_and_loaded
TestSaved::test_it_travels_to_a_worker
TestKnown::test_a_call_is_answered
TestLeaky::test_a_spoilt_answer_is_named[cut]
TestLeaky::test_the_key_is_in_nothing_that_is_shown_or_saved
"""


def test_each_flaw_is_found(tmp_path: Path) -> None:
    (tmp_path / "test_flawed.py").write_text(FLAWED)
    wanted = [f"test_flawed.py::{name}" for name in FOUND.split()]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", *wanted]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    missed = [name for name in wanted if f"FAILED {name}" not in done.stdout]
    assert missed == [], done.stdout[-3000:]
