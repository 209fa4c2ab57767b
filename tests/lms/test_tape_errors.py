"""Errors come back from a tape as they were; what cannot be recorded is not withheld."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tape_helpers import recorded, request

from dspex_lab.lms.tape._engine import taped
from dspex_lab.lms.tape._errors import error_data, error_from
from dspex_lab.lms.tape._tape import Tape
from dspex_lab.testing import ScriptedEngine

# --- errors ---------------------------------------------------------------------------------------------------------


def all_errors() -> list[Any]:
    from dspy import lm15
    from dspy.lm15 import Message, Response, Usage
    from dspy.utils import exceptions

    part = Response(id=None, model="m", message=Message.assistant("half"), finish_reason="stop", usage=Usage(7, 3))
    fields = {"status": 429, "provider": "openai", "provider_code": "x", "request_id": "r", "retry_after": 3.0}
    return [
        lm15.RateLimitError("slow down", **fields, rate_limit_headers={"x-left": ["0"]}),
        lm15.AuthError("no", provider="openai", env_keys=("OPENAI_API_KEY",), status=401),
        lm15.ContextLengthError("too long", status=400),
        lm15.UnsupportedModelError("no such model", status=404),
        lm15.TimeoutError("slow"),
        lm15.TransportError("broken"),
        lm15.NotConfiguredError("no key", provider="openai", env_keys=("A", "B")),
        lm15.UnsupportedFeatureError("no", feature="config.top_k"),
        lm15.StreamAssemblyError("cut", partial=part, part_index=1),
        exceptions.LMServerError("down", model="a/b", status=500),
        exceptions.LMUnsupportedFeatureError("no", model="a/b", feature="x"),
        ValueError("no number"),
        ConnectionError("gone"),
    ]


@pytest.mark.parametrize("number", range(13))
def test_errors_come_back_as_they_were(number: int) -> None:
    from dspy.clients.errors import wrap_error

    error = all_errors()[number]
    again = error_from(json.loads(json.dumps(error_data(error))))
    assert type(again) is type(error)
    assert str(again) == str(error)
    for name in ("code", "status", "provider", "provider_code", "request_id", "retry_after", "env_keys", "feature", "partial"):
        assert getattr(again, name, None) == getattr(error, name, None), name
    assert dict(getattr(again, "rate_limit_headers", None) or {}) == dict(getattr(error, "rate_limit_headers", None) or {})
    # What DSPy makes of it is the same, too.
    one, two = wrap_error(error, model="a/b"), wrap_error(again, model="a/b")
    assert (type(one), str(one)) == (type(two), str(two))


def test_an_error_of_a_class_of_ones_own_becomes_what_dspy_makes_of_it() -> None:
    from dspy.clients.errors import wrap_error
    from dspy.lm15 import LM15Error

    class Mine(Exception):
        pass

    again = error_from(error_data(Mine("odd")))
    assert type(again) is LM15Error
    assert str(wrap_error(again, model="m")) == str(wrap_error(Mine("odd"), model="m"))


@pytest.mark.parametrize("name", ["SystemExit", "Popen", "__import__", "CollectionLimitError", "Response"])
@pytest.mark.parametrize("family", ["lm15", "dspy", "python", "other"])
def test_no_class_is_made_that_is_not_an_error_of_engines(name: str, family: str) -> None:
    from dspy import LMError as DSPyLMError
    from dspy.lm15 import LM15Error

    made = error_from({"family": family, "class": name, "message": "m"})
    assert type(made) is LM15Error or isinstance(made, DSPyLMError)


def test_failures_are_on_the_tape_in_their_place(path: Path) -> None:
    from dspy.lm15 import RateLimitError

    recorded(path, "one", "a", "a", faults={1: RateLimitError("planned", status=429, retry_after=1.0)})
    with Tape(path, "replay") as tape:
        with pytest.raises(RateLimitError) as caught:
            taped(None, tape).complete(request("a"))
        assert caught.value.retry_after == 1.0
        assert taped(None, tape).complete(request("a")).text == "one"


# --- what cannot be recorded ----------------------------------------------------------------------------------------


def test_an_answer_that_cannot_be_written_is_not_withheld(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Engine:
        def complete(self, request: Any) -> Any:
            return "no response at all"

        def stream(self, request: Any) -> Iterator[Any]:
            yield "no event at all"

    with Tape(path, "record") as tape:
        player: Any = taped(Engine(), tape)
        assert player.complete(request()) == "no response at all"
        assert list(player.stream(request())) == ["no event at all"]
    late = taped(ScriptedEngine("one"), tape)
    assert late.complete(request()).text == "one"
    assert (tape.lost, tape.recorded) == (3, 0)
    assert "could not be written on the tape" in caplog.text
    assert "the tape is closed" in caplog.text


def test_a_full_disk_loses_that_call_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    true = os.write
    with Tape(path, "record") as tape:
        player = taped(ScriptedEngine(["one", "two"]), tape)

        def half(fd: int, data: Any) -> int:
            if fd == tape._writer._fd:  # type: ignore[union-attr]
                if len(data) < 100:
                    raise OSError(28, "No space left on device")
                return true(fd, data[:-50])
            return true(fd, data)

        monkeypatch.setattr(os, "write", half)
        assert player.complete(request("a")).text == "one"
        monkeypatch.setattr(os, "write", true)
        player.complete(request("b"))
        assert (tape.lost, tape.recorded) == (1, 1)
    with Tape(path, "replay") as tape:
        assert taped(None, tape).complete(request("b")).text == "two"
        assert (len(tape), tape.cut) == (1, 0)


def test_a_call_too_large_to_be_read_again_is_not_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspex_lab.lms.tape._tape.LONGEST_LINE", 1000)
    with Tape(path, "record") as tape:
        assert taped(ScriptedEngine("x" * 2000), tape).complete(request()).text == "x" * 2000
        assert tape.lost == 1
