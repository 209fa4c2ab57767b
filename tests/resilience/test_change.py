"""The record of a change, and failures as one line."""

from __future__ import annotations

import json
import time

from dspex_lab.resilience import Change
from dspex_lab.resilience._change import describe, tell


def test_a_change_is_the_data_of_an_event() -> None:
    change = Change("breaker.open", "a/b", "closed", "open", "because", details={"retry_after": 3.0})
    assert abs(change.time - time.time()) < 60
    assert json.loads(json.dumps(change.as_data())) == {
        "target": "a/b",
        "before": "closed",
        "after": "open",
        "reason": "because",
        "retry_after": 3.0,
    }


def test_nobody_need_be_told() -> None:
    tell(None, Change("e", "t", "a", "b", "c"))


def test_a_failure_is_one_short_line() -> None:
    assert describe(ValueError("two\n  lines")) == "ValueError: two lines"
    assert describe(TimeoutError()) == "TimeoutError"
    long = describe(ValueError("x" * 1_000))
    assert (len(long), long[-1]) == (300, "…")


def test_a_failure_whose_text_cannot_be_had_is_still_named() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    assert describe(Mute()) == "Mute: (its text cannot be had: RuntimeError)"
