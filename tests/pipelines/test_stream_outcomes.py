"""A streamed run gives at the end what ``lab.run`` gives, is recorded as that is, and fails as that does."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from dspy.lm15 import ServerError
from stream_helpers import ADAPTERS, ANSWER, asked, compare_outcomes, named, real, text, tokens

import dspex_lab as dx
from dspex_lab.testing import Streams, scripted_lm

pytestmark = pytest.mark.usefixtures("cache_in_memory")

RECORDED = """
SELECT step, model, prompt_tokens, completion_tokens, cost, cache_hit, simulated, error, outputs
FROM lm_calls WHERE run_id = ? ORDER BY started
"""


def compare(lab: dx.Lab, plain: dx.Result, streamed: dx.Result) -> None:
    for name in ("status", "outputs", "prompt_tokens", "completion_tokens", "cost", "lm", "simulated", "name"):
        assert getattr(plain, name) == getattr(streamed, name), name
    compare_outcomes(plain, streamed)
    one, other = (lab.sql(RECORDED, [r.run_id]) for r in (plain, streamed))
    assert one.astype(str).equals(other.astype(str))
    assert len(one) > 0


@pytest.mark.parametrize("adapter", ADAPTERS, ids=named)
@pytest.mark.parametrize("on_loop", [False, True], ids=["thread", "loop"])
def test_a_streamed_run_gives_what_a_run_gives(lab: dx.Lab, adapter: Any, on_loop: bool) -> None:
    lm = lab.use(scripted_lm(ANSWER))
    if on_loop:
        real(lm)
    made = dx.pipeline("p", a=dspy.ChainOfThought("question -> answer, score: int"), size=lambda answer: len(answer))
    lm.engine.script = {"reasoning": "so it is", **ANSWER}
    with dspy.context(adapter=adapter, trace=[]):
        plain = lab.run(made, question="x")
        streamed = list(lab.stream(made, question="x"))[-1].result
    compare(lab, plain, streamed)
    history = [{k: e[k] for k in ("messages", "outputs", "usage", "cost", "kwargs")} for e in lm.history[-2:]]
    assert history[0] == history[1]
    assert lm.history[-1]["response"].message == lm.history[-2]["response"].message


def test_an_answer_in_no_form_is_asked_for_again_as_in_a_run(lab: dx.Lab) -> None:
    lm = lab.use(scripted_lm(["no form at all", {"answer": "yes"}]))
    made = dx.pipeline("p", a=dspy.Predict("question -> answer"))
    plain = lab.run(made, question="x")
    events = list(lab.stream(made, question="x"))
    compare(lab, plain, events[-1].result)
    assert tokens(events, attempt=1) == [(None, "no"), (None, " form"), (None, " at"), (None, " all")]
    assert tokens(events, attempt=2) == [("answer", "yes")]
    assert len({e.data["call_id"] for e in events if e.kind == "token"}) == 2
    assert lm.engine.streams == Streams(2, 2, 2)


@pytest.mark.parametrize("on_loop", [False, True], ids=["thread", "loop"])
def test_a_stream_that_breaks_before_anything_came_is_begun_again_as_a_call_is(lab: dx.Lab, on_loop: bool) -> None:
    broken = ServerError("gone")
    broken.retry_after = 0.0
    lm = scripted_lm({"answer": "one two"}, breaks={1: (0, broken)}, num_retries=1)
    lab.use(real(lm) if on_loop else lm)
    events = list(lab.stream(dx.pipeline("p", a=dspy.Predict("question -> answer")), question="x"))
    assert text([e for e in events if e.data and e.data.get("attempt") == 2], "a", "answer") == "one two"
    assert len({e.data["call_id"] for e in events if e.kind == "token"}) == 1
    assert lm.engine.streams == Streams(opened=2, ended=1, closed=2)
    assert events[-1].result.status == "complete"


@pytest.mark.parametrize("on_loop", [False, True], ids=["thread", "loop"])
def test_a_stream_that_breaks_later_was_paid_for_and_is_begun_again_only_where_the_step_says_so(
    lab: dx.Lab, on_loop: bool
) -> None:
    lm = scripted_lm({"answer": "one two"}, breaks={1: (6, ServerError("gone"))}, num_retries=1)
    lab.use(real(lm) if on_loop else lm)
    events = list(lab.stream(dx.pipeline("p", a=dspy.Predict("question -> answer")), question="x"))
    assert text(events, "a", "answer") == "one"
    assert events[-1].result.status == "failed"
    assert "one" in events[-1].result.steps["a"].note
    assert lm.engine.streams == Streams(opened=1, closed=1)
    broken = ServerError("gone")
    broken.retry_after = 0.0
    again = scripted_lm({"answer": "one two"}, breaks={1: (6, broken)}, num_retries=1)
    lab.use(real(again) if on_loop else again)
    tried = list(lab.stream(dx.pipeline("p", a=dx.step(dspy.Predict("question -> answer"), retries=1)), question="x"))
    assert tried[-1].result.status == "complete"
    assert [e.data["attempt"] for e in tried if e.kind == "step.start"] == [1, 2]
    assert again.engine.streams == Streams(opened=2, ended=1, closed=2)


@pytest.mark.parametrize("on_loop", [False, True], ids=["thread", "loop"])
def test_an_error_in_the_middle_leaves_what_was_told_and_a_partial_result(lab: dx.Lab, on_loop: bool) -> None:
    lm = scripted_lm({"answer": "one two three"}, breaks={1: (7, ConnectionError("cut off"))})
    lab.use(real(lm) if on_loop else lm)
    made = dx.pipeline("p", fine=lambda question: question.upper(), a=dspy.Predict("question -> answer"))
    events = list(lab.stream(made, question="x"))
    assert text(events, "a", "answer") == "one two"
    stop = next(e for e in events if e.kind == "step.stop" and e.step == "a")
    assert stop.data["status"] == "failed"
    result = events[-1].result
    assert (result.status, result.outputs) == ("partial", {"fine": "X"})
    assert "cut off" in str(result.error)
    assert lm.engine.streams == Streams(opened=1, closed=1)
    assert "cut off" in lab.sql("SELECT error FROM lm_calls")["error"][0]


def test_an_answer_from_the_cache_comes_at_once_and_says_so(lab: dx.Lab) -> None:
    lm = lab.use(scripted_lm(ANSWER, cache=True))
    made = asked()
    list(lab.stream(made, question="x"))
    events = list(lab.stream(made, question="x"))
    assert tokens(events, cached=True, whole=True, attempt=1) == [("answer", "one two three"), ("score", "3")]
    assert len(tokens(events)) == 2
    assert lm.engine.calls == 1
    assert list(lab.sql("SELECT cache_hit FROM lm_calls ORDER BY started")["cache_hit"]) == [False, True]
    compare(lab, lab.run(made, question="x"), events[-1].result)
