"""What a run leaves in the store."""

from __future__ import annotations

import dspy
import pytest

import dspex_lab as dx
from dspex_lab.testing import scripted_lm


def shout(answer: str) -> str:
    return answer.upper()


def test_spans_lm_calls_and_events_are_joined_by_their_ids(lab: dx.Lab) -> None:
    lab.use(scripted_lm([{"reasoning": "r", "answer": "yes"}]))
    watched: list[str] = []
    lab.bus.subscribe(lambda record: watched.append(getattr(record, "name", "")))
    result = lab.run(dx.pipeline("ask", reply=dspy.ChainOfThought("question -> answer"), loud=shout), question="?")
    assert result.status == "complete", result.error
    assert result.steps["reply"].outputs["reasoning"] == "r"
    assert "reasoning" not in result.outputs
    spans = lab.sql("SELECT * FROM spans").set_index("name")
    assert set(spans.index) == {"ask", "reply", "loud"}
    assert spans.loc["reply", "parent_id"] == spans.loc["ask", "span_id"]
    calls = lab.sql("SELECT * FROM lm_calls")
    assert len(calls) == 1
    call = calls.iloc[0]
    assert (call["span_id"], call["run_id"], call["step"]) == (spans.loc["reply", "span_id"], result.run_id, "reply")
    assert call["prompt_tokens"] > 0
    assert call["seconds"] > 0
    assert bool(call["simulated"])
    assert "question" in call["messages"]
    assert {"run.start", "step.start", "dspy.execute", "lm.call", "step.stop", "native.execute", "run.stop"} <= set(watched)
    # What a span or an LM call tells is kept once.
    assert set(lab.sql("SELECT name FROM events")["name"]) == {"run.start"}


def test_every_event_has_a_name_of_the_list(lab: dx.Lab) -> None:
    from dspex_lab.events import EVENT_NAMES

    lab.run(dx.pipeline("p", y=lambda x: 1 / x), x=0)
    lab.predict("question -> answer", question="?")
    assert set(lab.sql("SELECT DISTINCT name FROM events")["name"]) <= EVENT_NAMES


def test_a_cache_hit_is_recorded_as_such_and_costs_nothing(lab: dx.Lab) -> None:
    lm = scripted_lm([{"answer": "yes"}])
    lm.cache = True
    lab.use(lm)
    first = lab.predict("question -> answer", question="same")
    second = lab.predict("question -> answer", question="same")
    hits = lab.sql("SELECT cache_hit, prompt_tokens FROM lm_calls ORDER BY started")
    assert list(hits["cache_hit"]) == [False, True]
    assert hits["prompt_tokens"][1] == 0
    assert first.tokens
    assert second.tokens == 0
    assert {"cache.miss", "cache.hit"} <= set(lab.sql("SELECT name FROM events")["name"])


def test_a_failing_model_is_recorded_with_its_error(lab: dx.Lab) -> None:
    def refuse(request: object) -> str:
        raise RuntimeError("provider is down")

    lab.use(scripted_lm(refuse))
    result = lab.predict("question -> answer", question="?")
    assert result.status == "failed"
    assert "provider is down" in lab.sql("SELECT error FROM lm_calls")["error"][0]
    assert "error.lm" in set(lab.sql("SELECT name FROM events")["name"])


def test_messages_are_left_out_where_they_are_not_wanted() -> None:
    with dx.Lab(":memory:", dx.Config(record_messages=False)) as lab:
        lab.use(scripted_lm([{"answer": "yes"}]))
        lab.predict("question -> answer", question="?")
        call = lab.sql("SELECT messages, outputs, prompt_tokens FROM lm_calls").iloc[0]
        assert call["messages"] is None
        assert call["outputs"] is None
        assert call["prompt_tokens"] > 0


def test_an_observer_that_raises_does_not_break_the_run(lab: dx.Lab, caplog: pytest.LogCaptureFixture) -> None:
    def broken(record: object) -> None:
        raise RuntimeError("observer")

    remove = lab.bus.subscribe(broken)
    assert lab.run(lambda x: x, x=1).status == "complete"
    assert caplog.text.count("an observer of events raised") == 1
    remove()


def test_plain_dspy_calls_outside_a_run_are_left_alone(lab: dx.Lab) -> None:
    lm = scripted_lm([{"answer": "yes"}])
    lab.use(lm)
    lab.predict("question -> answer", question="?")
    with dspy.context(lm=lm):
        dspy.Predict("question -> answer")(question="?")
    assert lab.sql("SELECT count(*) AS n FROM lm_calls")["n"][0] == 1
