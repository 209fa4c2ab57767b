"""The models that stand in for one that fails: who is asked, with whose record, price and cache, and for which failures."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from guard_helpers import SIGNATURE, WAYS, Seen, model_at, only, quick, run

import dspex_lab as dx
from dspex_lab.testing import Fault, FaultyServer, scripted_lm

__all__ = ["quick"]

ANSWER, OTHER = {"label": "billing"}, {"label": "card"}


@pytest.mark.parametrize("way", WAYS)
def test_another_model_answers_with_a_record_a_price_and_a_cache_of_its_own(quick: dx.Lab, way: str) -> None:
    seen = Seen(quick)
    with FaultyServer(ANSWER, faults=Fault.server_error()) as down, FaultyServer(OTHER) as up:
        first = model_at(down, "openai/gpt-4o", cache=True)
        second = model_at(up, "openai/gpt-4o-mini", cache=True)
        quick.use(first, fallbacks=[second])
        result = run(quick, way, message=f"once by {way}")
        assert (result.status, result.outputs) == ("complete", OTHER)
        again = run(quick, way, message=f"once by {way}")
        assert again.outputs == OTHER
        assert (down.counts.arrived, up.counts.arrived) == (2, 1), "the other one's answer is in its cache"
    failed, answered, _, cached = seen.calls
    assert (failed.model, failed.instead_of, failed.cost) == ("openai/gpt-4o", None, None)
    assert failed.error is not None
    assert failed.error.startswith("LMServerError")
    assert "message" in str(failed.messages)
    assert (answered.model, answered.instead_of, answered.error) == ("openai/gpt-4o-mini", "openai/gpt-4o", None)
    assert answered.cost
    assert result.cost == pytest.approx(answered.cost)
    assert (cached.cache_hit, cached.cost) == (True, 0.0)
    used = seen.events("fallback.use")[0]
    assert (used.run_id, used.data["target"], used.data["before"]) == (result.run_id, "openai/gpt-4o-mini", "openai/gpt-4o")
    assert (len(first.history), len(second.history)) == (0, 2)


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_from_before_makes_the_step_partial_and_says_why(quick: dx.Lab, way: str) -> None:
    seen = Seen(quick)
    with FaultyServer(ANSWER) as server:
        quick.use(model_at(server, cache=True), fallbacks=["cache"])
        run(quick, "run", message="kept")
        run(quick, "adspy", message="kept by the async way")
        server.outage()
        fresh = dx.RunOptions(fresh=True)
        for kept in ("kept", "kept by the async way"):
            result = run(quick, way, message=kept, options=fresh)
            assert (result.status, result.outputs) == ("partial", ANSWER)
            assert "answered from the cache, because LMServerError" in only(result).note
            assert result.cost in (None, 0.0)
            hit = seen.calls[-1]
            assert (hit.run_id, hit.cache_hit, hit.cost, hit.instead_of) == (result.run_id, True, 0.0, "openai/any-model")
            assert [e.data["after"] for e in seen.events("fallback.use") if e.run_id == result.run_id] == ["cache"]
        lost = run(quick, way, message="new")
        assert isinstance(lost.error, dspy.LMServerError), "the failure of the first is what is told"
        assert "cache (cache)" in "".join(lost.error.__notes__)


def test_a_cached_answer_is_told_as_a_token_where_somebody_watches(quick: dx.Lab) -> None:
    with FaultyServer(ANSWER) as server:
        quick.use(model_at(server, cache=True), fallbacks=["cache"])
        quick.run(SIGNATURE, message="kept")
        server.outage()
        events = list(quick.stream(SIGNATURE, message="kept", options=dx.RunOptions(fresh=True)))
        tokens = [e for e in events if e.kind == "token"]
        assert [(t.field, t.value, t.data["cached"]) for t in tokens] == [("label", "billing", True)]


@pytest.mark.parametrize("fault", [Fault.wrong_key(), Fault.unknown_model(), Fault.quota(), Fault.rate_limit(retry_after=0),
                                   Fault.garbage(), Fault.reset(), Fault.context_length(), Fault.overloaded()])  # fmt: skip
def test_what_another_model_may_mend_moves_on(quick: dx.Lab, fault: Fault) -> None:
    with FaultyServer(ANSWER, faults=fault) as down, FaultyServer(OTHER) as up:
        quick.use(model_at(down), fallbacks=[model_at(up, "openai/other")])
        assert quick.run(SIGNATURE, message="x").outputs == OTHER
        assert (down.counts.arrived, up.counts.arrived) == (1, 1)


def test_what_is_wrong_for_all_is_told_at_once(quick: dx.Lab) -> None:
    with FaultyServer(ANSWER, faults=Fault.content_policy()) as down, FaultyServer(OTHER) as up:
        quick.use(model_at(down), fallbacks=[model_at(up, "openai/other")])
        assert isinstance(quick.run(SIGNATURE, message="x").error, dspy.LMInvalidRequestError)
        spent = quick.run(SIGNATURE, message="x", options=dx.RunOptions(budget="0 calls"))
        assert type(spent.error) is dx.BudgetExceeded
        assert (down.counts.arrived, up.counts.arrived) == (1, 0)


def test_an_open_circuit_moves_on_without_a_call(quick: dx.Lab) -> None:
    with FaultyServer(ANSWER) as down, FaultyServer(OTHER) as up:
        quick.use(model_at(down), fallbacks=[model_at(up, "openai/other")])
        quick.gateway.guard(quick.lm).breaker.open("for this test")
        assert quick.run(SIGNATURE, message="x").outputs == OTHER
        assert down.counts.arrived == 0


def test_the_last_failure_leaves_the_first_ones_error_with_all_that_was_tried(quick: dx.Lab) -> None:
    with FaultyServer(ANSWER, faults=Fault.wrong_key()) as one, FaultyServer(OTHER, faults=Fault.server_error()) as two:
        quick.use(model_at(one), fallbacks=[model_at(two, "openai/other")])
        error = quick.run(SIGNATURE, message="x").error
        assert isinstance(error, dspy.LMAuthError)
        notes = "".join(error.__notes__)
        assert "openai/any-model (lm): LMAuthError" in notes
        assert "openai/other (lm): LMServerError" in notes


def test_fallbacks_are_taken_back_and_do_not_reach_models_of_others(quick: dx.Lab) -> None:
    with FaultyServer(ANSWER, faults=Fault.server_error()) as down, FaultyServer(OTHER) as up:
        first = model_at(down)
        quick.use(first, fallbacks=[model_at(up, "openai/other")])
        quick.use(first)
        assert quick.run(SIGNATURE, message="x").status == "failed"
        assert quick.gateway.fallbacks(first) == ()


def test_one_fallback_needs_no_list_and_a_wrong_one_is_refused_with_nothing_changed(quick: dx.Lab) -> None:
    with FaultyServer(ANSWER) as server:
        first = model_at(server)
        quick.use(first, fallbacks="cache")
        assert quick.gateway.fallbacks(first) == ("cache",)
        with pytest.raises(dx.LMError):
            quick.use(first, fallbacks=["no such model"])
        assert quick.gateway.fallbacks(first) == ("cache",)


@pytest.mark.parametrize("way", ["run", "stream", "dspy", "adspy"])
def test_a_request_of_the_users_own_is_handed_on_in_the_others_name(quick: dx.Lab, way: str) -> None:
    from dspy.lm15 import Message, Request, TextPart

    one, two = scripted_lm("first", faults={1: ConnectionError("down")}), scripted_lm("second")
    quick.use(one, fallbacks=[two])
    asked = Request(model=one.model, messages=(Message(role="user", parts=(TextPart(text="hi"),)),))

    class Asks(dspy.Module):
        def forward(self, q: str) -> dspy.Prediction:
            return dspy.Prediction(y=dspy.settings.lm(asked).text)

    assert run(quick, way, dx.step(Asks(), outputs=["y"]), q="a").outputs["y"] == "second"
    assert two.engine.requests[0].model == two.model


# --- Chat, then JSON ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_second_paid_call_for_one_answer_is_counted_and_shown(quick: dx.Lab, way: str) -> None:
    seen = Seen(quick)

    def script(arrival: Any) -> Any:
        in_json = "response_format" in arrival.body or "JSON" in str(arrival.body)
        return '{"label": "a"}' if in_json else "no field at all"

    with FaultyServer(script) as server:
        quick.use(model_at(server, "openai/gpt-4o-mini"))
        result = run(quick, way)
        assert (result.status, result.outputs) == ("complete", {"label": "a"})
        assert server.counts.arrived == 2
    assert [call.again for call in seen.calls] == [False, True]
    assert result.asked_again == 1
    assert result.cost == pytest.approx(sum(call.cost or 0 for call in seen.calls))
    assert "asked again in JSON 1 x" in result.summary()
    (told,) = seen.events("lm.second_call")
    assert told.data == {"target": "openai/gpt-4o-mini", "call_id": seen.calls[1].call_id, "cached": False}
    assert told.run_id == result.run_id


def test_the_calls_of_an_agent_are_no_second_calls(quick: dx.Lab) -> None:
    seen = Seen(quick)

    def look(q: str) -> str:
        return "found"

    quick.use("offline")
    quick.run(dspy.ReAct("question -> answer", tools=[look], max_iters=2), question="x")
    assert len(seen.calls) > 1
    assert not any(call.again for call in seen.calls)


# --- bad answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error", "words", "hint"),
    [
        (Fault.wrong_key(), "LMAuthError", "Incorrect API key provided", "%dspex key"),
        (Fault.unknown_model(), "LMUnsupportedModelError", "does not exist", "Check the name"),
        (Fault.context_length(), "ContextWindowExceededError", "maximum context length is 8192", "Shorten the inputs"),
        (Fault.quota(), "LMBillingError", "exceeded your current quota", "Put the account in order"),
        (Fault.server_error(), "LMServerError", "had an error while processing", "another model answer"),
        (Fault.reset(), "LMTransportError", "read failed", "the network"),
        (Fault.empty("content"), "AdapterParseError", "empty or null response", "Ask more plainly"),
        (Fault.schema_ignored(), "AdapterParseError", "in my own words", "structured=True"),
        (Fault.garbage(), "LMProviderError", "is not JSON", ""),
    ],
)
@pytest.mark.parametrize("way", ["run", "adspy"])
def test_a_bad_answer_is_a_named_error_with_the_providers_words_and_what_to_do(
    quick: dx.Lab, way: str, fault: Fault, error: str, words: str, hint: str
) -> None:
    with FaultyServer(ANSWER, faults=fault) as server:
        quick.use(model_at(server))
        result = run(quick, way)
    assert result.status == "failed"
    outcome = only(result)
    assert type(outcome.error).__name__ == error
    assert words in str(outcome.error)
    assert hint in outcome.why
    with pytest.raises(dx.PipelineError, match=error) as caught:
        result.raise_for_status()
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("fault", [Fault.cut(after=5), Fault.cut(after=5, clean=True), Fault.bad_sse(after=5),
                                   Fault.error_event(after=5, message="the provider's own words")])  # fmt: skip
def test_of_a_stream_that_is_cut_what_had_come_is_kept_and_it_is_paid_for_once(quick: dx.Lab, fault: Fault) -> None:
    seen = Seen(quick)
    script = {"label": "billing is what it is about, or so I think"}
    with FaultyServer(script, faults=fault) as server:
        quick.use(model_at(server, "openai/gpt-4o-mini", num_retries=3))
        result = run(quick, "stream")
        assert server.counts.arrived == 1, "nobody asked for a second payment"
    assert result.status == "failed"
    outcome = only(result)
    named = dspy.LMServerError if fault.kind == "error_event" else dspy.LMStreamAssemblyError
    assert isinstance(outcome.error, named)
    assert "what had come of the answer when it broke off: '[[ ## label ## ]]" in outcome.note
    assert outcome.note in outcome.why
    assert outcome.outputs == {}, "half an answer is no answer for the steps behind"
    (call,) = seen.calls
    assert "[[ ## label ## ]]" in str(call.outputs)
    if fault.kind == "error_event":
        assert "the provider's own words" in str(outcome.error)


def test_a_stream_that_breaks_before_anything_came_is_asked_for_again(quick: dx.Lab) -> None:
    with FaultyServer(ANSWER, faults={1: Fault.reset()}) as server:
        quick.use(model_at(server, num_retries=1))
        assert run(quick, "stream").outputs == ANSWER
        assert server.counts.arrived == 2


@pytest.mark.parametrize("asynchronous", [False, True])
def test_dspys_own_streaming_is_guarded_and_asked_again_by_one_loop(quick: dx.Lab, asynchronous: bool) -> None:
    class Streams(dspy.Module):
        async def aforward(self, message: str) -> dspy.Prediction:
            program = dspy.Predict(SIGNATURE)
            listener = dspy.streaming.StreamListener(signature_field_name="label")
            streamed = dspy.streamify(program, stream_listeners=[listener], is_async_program=asynchronous)
            pieces = [piece async for piece in streamed(message=message)]
            return pieces[-1]

    seen = Seen(quick)
    with FaultyServer(ANSWER, faults={1: Fault.rate_limit(retry_after=0)}) as server:
        quick.use(model_at(server, num_retries=2))
        result = run(quick, "adspy", dx.step(Streams(), name="s", outputs=["label"]), message="x")
        assert result.outputs["label"] == "billing"
        assert server.counts.arrived == 2
        server.outage(Fault.rate_limit(retry_after=0))
        tried = run(quick, "adspy", dx.step(Streams(), name="s", outputs=["label"], retries=1, idempotent=True), message="y")
        assert tried.status == "failed"
        assert server.counts.arrived == 4, "the step's own loop is the only one"
    assert seen.calls[0].attempts == 2
    assert quick.gateway.guards.snapshot()[0].in_use == 0
