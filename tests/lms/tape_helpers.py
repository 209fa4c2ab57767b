"""What the tests of tapes share: requests, and a tape with answers on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dspex_lab.lms.tape._engine import taped
from dspex_lab.lms.tape._tape import Tape
from dspex_lab.testing import ScriptedEngine


def request(text: str = "hello", model: str = "test/model", **config: Any) -> Any:
    from dspy.lm15 import Config, Message, Request

    return Request(model=model, messages=(Message.user(text),), config=Config(**config))


def recorded(path: Path, script: Any, *texts: str, **options: Any) -> ScriptedEngine:
    engine = ScriptedEngine(script, **options)
    with Tape(path, "record") as tape:
        for text in texts:
            try:
                taped(engine, tape).complete(request(text))
            except Exception as error:
                assert "planned" in str(error)  # noqa: PT017 - it is on the tape
    return engine
