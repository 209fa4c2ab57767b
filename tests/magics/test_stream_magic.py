"""``%dspex stream``: words are shown as they come, under the name of the step and field that speaks."""

from __future__ import annotations

from typing import Any

import dspy
import pytest

import dspex_lab as dx
from dspex_lab.magics._stream import Transcript
from dspex_lab.pipelines import StreamEvent
from dspex_lab.testing import scripted_lm


def written(*events: StreamEvent) -> str:
    out: list[str] = []
    shown = Transcript(out.append)
    for event in events:
        shown.take(event)
    shown.end()
    return "".join(out)


def token(step: str, field: str | None, text: str, call: str = "c", attempt: int = 1, **about: Any) -> StreamEvent:
    data = {"call_id": call, "attempt": attempt, "part": "text", "whole": False, "cached": False, **about}
    return StreamEvent("token", step, field, text, data=data)


def test_the_words_of_a_run_are_shown_and_its_result_is_returned(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    lab = dx.lab()
    lab.use(scripted_lm({"answer": "one two", "score": 3}))
    shell.user_ns["asked"] = dx.pipeline(
        "asked", a=dspy.Predict("question -> answer, score: int"), size=lambda answer: len(answer)
    )
    done = shell.run_cell('result = get_ipython().run_line_magic("dspex", \'stream asked question="x"\')')
    done.raise_error()
    assert capsys.readouterr().out == "a.answer: one two\na.score: 3\nsize.size: 7\n"
    assert shell.user_ns["result"] is lab.last_result
    assert lab.last_result.outputs == {"answer": "one two", "score": 3, "size": 7}


def test_a_run_of_which_nothing_came_fails_the_cell(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    dx.lab().use(scripted_lm("x"))

    def bad(x: int) -> int:
        raise ValueError("no such thing")

    shell.user_ns["bad"] = dx.pipeline("bad", y=bad)
    error = shell.run_cell("%dspex stream bad x=1").error_in_exec
    assert isinstance(error, dx.PipelineError)
    assert "no such thing" in str(error)
    assert capsys.readouterr().out.startswith("y: failed\n")


def test_a_step_that_is_skipped_is_shown_as_that(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def bad(x: int) -> int:
        raise ValueError("no such thing")

    shell.user_ns["half"] = dx.pipeline("half", fine=lambda x: x + 1, y=bad, z=lambda y: y)
    shell.run_cell("r = get_ipython().run_line_magic('dspex', 'stream half x=1')").raise_error()
    out = capsys.readouterr().out.splitlines()
    assert {"fine.fine: 2", "y: failed", "z: skipped"} <= set(out)
    assert out.index("y: failed") < out.index("z: skipped")


@pytest.mark.parametrize(
    ("line", "why"), [("", "What is to be run"), ("asked questoin='x'", "question"), ("asked 1 2", "not expected")]
)
def test_what_cannot_be_run_is_said_with_its_place(shell: Any, line: str, why: str) -> None:
    shell.user_ns["asked"] = dx.pipeline("asked", size=lambda question: len(question))
    error = shell.run_cell(f"%dspex stream {line}").error_in_exec
    assert isinstance(error, dx.DspexError)
    assert why in str(error)


def test_a_heading_stands_where_another_speaks() -> None:
    assert written(token("a", "x", "1 "), token("b", None, "hm", "d"), token("a", "x", "2")) == "a.x: 1 \nb: hm\na.x: 2\n"
    assert written(token("a", "x", "no"), token("a", "x", "yes", attempt=2)) == "a.x: no\na.x (attempt 2): yes\n"
    assert written(token("a", None, "so", part="thinking", cached=True)) == "a (thinking, from the cache): so\n"
    assert written(token("a", None, "{}", part="tool_call")) == "a (tool call): {}\n"
    assert written(StreamEvent("step.start", "a"), StreamEvent("partial")) == ""


def test_a_value_without_words_is_shown_and_a_long_one_cut() -> None:
    assert written(StreamEvent("field", "a", "x", [1, 2])) == "a.x: [1, 2]\n"
    assert written(StreamEvent("field", "a", "x", "y" * 1000)) == f"a.x: {'y' * 399}…\n"
    assert written(token("a", "x", "1"), StreamEvent("field", "a", "x", "1")) == "a.x: 1\n"
    stop = StreamEvent("step.stop", "a", data={"status": "fallback"})
    assert written(token("a", "x", "1"), stop) == "a.x: 1\na: fallback\n"
    assert written(StreamEvent("step.stop", "a", data={"status": "complete"})) == ""


def test_what_would_control_a_terminal_is_left_out() -> None:
    assert written(token("a", "x", "\x1b[2Jgone\r\x08\n\tkept\x9b")) == "a.x: [2Jgone\n\tkept\n"
    assert written(StreamEvent("field", "a", "x", "\x1b]0;title\x07")) == "a.x: ]0;title\n"


def test_what_an_inner_step_gave_is_shown_once(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    inner = dx.pipeline("inner", words=lambda text: len(text.split()))
    shell.user_ns["outer"] = dx.pipeline("outer", measures=inner, more=lambda words: words + 1)
    shell.run_cell("r = get_ipython().run_line_magic('dspex', 'stream outer text=\"a b\"')").raise_error()
    assert capsys.readouterr().out == "measures.words.words: 2\nmore.more: 3\n"
    both = StreamEvent("field", "o.i", "x", 1), StreamEvent("field", "o", "x", 2), StreamEvent("field", "oi", "x", 1)
    assert written(*both) == "o.i.x: 1\no.x: 2\noi.x: 1\n"


def test_calls_that_speak_at_once_have_headings_of_their_own() -> None:
    told = written(token("a", "x", "one", "c"), token("a", "x", "two", "d"), token("a", "x", " more", "c"))
    assert told == "a.x: one\na.x (call 2): two\na.x:  more\n"
