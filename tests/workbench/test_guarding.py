"""What stands between DSPy's cache and an engine, through a real Lab and over real sockets: retries, circuits, places, time."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import dspy
import pytest
from guard_helpers import SIGNATURE, WAYS, Seen, model_at, only, quick, run, without_waits

import dspex_lab as dx
from dspex_lab.testing import Fault, FaultyServer, Gate, scripted_lm

__all__ = ["quick"]

ANSWER = {"label": "billing"}
must = dx.assert_


# --- one loop of retries --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_model_is_asked_as_often_as_it_says_and_each_retry_is_told(quick: dx.Lab, way: str) -> None:
    seen = Seen(quick)
    with FaultyServer(ANSWER, faults={1: Fault.server_error(), 2: Fault.unavailable(), 3: Fault.reset()}) as server:
        quick.use(model_at(server, num_retries=3))
        result = run(quick, way)
        assert (result.status, result.outputs) == ("complete", ANSWER)
        assert server.counts.arrived == 4
    assert len(seen.events("lm.retry")) == 3
    assert [call.attempts for call in seen.calls] == [4]
    retry = seen.events("lm.retry")[0]
    assert (retry.run_id, retry.step) == (result.run_id, seen.calls[0].step)


@pytest.mark.parametrize("way", WAYS)
def test_a_steps_retries_are_the_only_loop(quick: dx.Lab, way: str) -> None:
    with FaultyServer(ANSWER, faults=Fault.server_error()) as server:
        quick.use(model_at(server, num_retries=3))
        target = dspy.Predict(SIGNATURE) if "dspy" in way else SIGNATURE
        step = dx.step(dx.signature(target) if isinstance(target, str) else target, name="s", retries=2)
        result = run(quick, way, dx.pipeline("p", s=step))
        assert server.counts.arrived == 3, "neither 4 of the model's alone nor 12 of both"
    assert isinstance(result.error, dspy.LMServerError)


def test_a_steps_retries_are_the_only_loop_in_dspys_own_threads_too(quick: dx.Lab) -> None:
    class Both(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = dspy.Predict(SIGNATURE)

        def forward(self, message: str) -> dspy.Prediction:
            pair = [(self.inner, dspy.Example(message=m).with_inputs("message")) for m in (message, message + "!")]
            made = dspy.Parallel(num_threads=2, disable_progress_bar=True, max_errors=10)(pair)
            if any(not isinstance(each, dspy.Prediction) for each in made):
                raise dspy.LMServerError("one of them failed")
            return made[0]

    with FaultyServer(ANSWER, faults=Fault.server_error()) as server:
        quick.use(model_at(server, num_retries=3))
        result = quick.run(dx.step(Both(), retries=1, idempotent=True, name="both"), message="x")
        assert result.status == "failed"
        assert server.counts.arrived == 4, "two threads, two tries of the step, one request each"


@pytest.mark.parametrize("way", ["run", "arun", "dspy"])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.wrong_key(), dspy.LMAuthError),
        (Fault.unknown_model(), dspy.LMUnsupportedModelError),
        (Fault.context_length(), dspy.ContextWindowExceededError),
        (Fault.quota(), dspy.LMBillingError),
        (Fault.garbage(), dspy.LMProviderError),
    ],
)
def test_what_stays_wrong_is_asked_once(quick: dx.Lab, way: str, fault: Fault, error: type[Exception]) -> None:
    with FaultyServer(ANSWER, faults=fault) as server:
        quick.use(model_at(server, num_retries=3))
        target = dspy.Predict(SIGNATURE) if way == "dspy" else dx.signature(SIGNATURE)
        result = run(quick, way, dx.pipeline("p", s=target))
        assert type(result.error) is error
        assert server.counts.arrived == 1
    with FaultyServer(ANSWER, faults=Fault.quota()) as server:
        quick.use(model_at(server))
        quick.run(dx.step(dx.signature(SIGNATURE), name="s", retries=3), message="x")
        assert server.counts.arrived == 1, "a spent quota comes as a 429, and stays"


def test_a_model_without_retries_is_asked_once(quick: dx.Lab) -> None:
    with FaultyServer(ANSWER, faults=Fault.server_error()) as server:
        quick.use(model_at(server, num_retries=0))
        quick.run(SIGNATURE, message="x")
        assert server.counts.arrived == 1


def test_two_models_of_one_target_each_keep_to_their_own_number(quick: dx.Lab) -> None:
    with FaultyServer(ANSWER, faults=Fault.server_error()) as server:
        often, seldom = model_at(server, num_retries=2), model_at(server, num_retries=1)
        without_waits(quick, breaker=None)
        guards = {id(quick.gateway.guard(lm)) for lm in (often, seldom, often, seldom)}
        assert len(guards) == 2, "they are made once, however the two take turns"
        for lm, asked in ((often, 3), (seldom, 2), (often, 3)):
            server.clear()
            quick.use(lm)
            quick.run(SIGNATURE, message="x")
            assert server.counts.arrived == asked
        assert quick.gateway.guard(often).bulkhead is quick.gateway.guard(seldom).bulkhead


def test_retry_after_is_heeded_and_so_is_a_policy_of_the_users(quick: dx.Lab) -> None:
    seen = Seen(quick)
    quick.policy(dx.Policy(retry=dx.Retry(attempts=2, wait=50.0)))
    with FaultyServer(ANSWER, faults={1: Fault.rate_limit(retry_after=0)}) as server:
        quick.use(model_at(server, num_retries=3))
        assert quick.run(SIGNATURE, message="x").status == "complete", "it does not wait for 50 s"
        assert server.counts.arrived == 2
        assert seen.events("lm.retry")[0].data["wait"] == 0.0
        server.outage(Fault.rate_limit(retry_after=0))
        quick.run(SIGNATURE, message="x")
        assert server.counts.arrived == 4, "twice, as the policy says, not four times as the model does"


def test_a_wait_that_would_pass_the_deadline_is_not_begun(quick: dx.Lab) -> None:
    with FaultyServer(ANSWER, faults=Fault.rate_limit(retry_after=100)) as server:
        quick.use(model_at(server, num_retries=3))
        result = quick.run(SIGNATURE, message="x", options=dx.RunOptions(deadline=20))
        assert isinstance(result.error, dspy.LMRateLimitError)
        assert result.error.retry_after == 100
        assert server.counts.arrived == 1


def test_an_engine_of_ones_own_is_guarded_too(quick: dx.Lab) -> None:
    lm = scripted_lm(ANSWER, faults={1: ConnectionError("gone"), 2: TimeoutError("slow")})
    lm.num_retries = 2
    quick.use(lm)
    assert quick.run(SIGNATURE, message="x").status == "complete"
    assert lm.engine.calls == 3
    broken = scripted_lm(ANSWER, faults={1: ValueError("a bug of the engine's")})
    broken.num_retries = 2
    quick.use(broken)
    result = quick.run(SIGNATURE, message="x")
    assert isinstance(result.error, dspy.LMError)
    assert broken.engine.calls == 1, "a bug is not tried again"


@pytest.mark.parametrize("way", ["run", "arun", "dspy"])
def test_an_engine_of_dspys_older_form_passes_the_same_way(quick: dx.Lab, way: str) -> None:
    from dspy.utils import DummyLM

    seen = Seen(quick)
    quick.budget = "2 calls"
    quick.use(DummyLM([{"label": "a"}, {"label": "b"}, {"label": "c"}]))
    statuses = [run(quick, way, message=f"m{n}").status for n in range(3)]
    assert statuses == ["complete", "complete", "failed"]
    assert [c.attempts for c in seen.calls] == [1, 1]
    assert quick.gateway.guards.snapshot()[0].calls == 2


# --- the circuit ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_circuit_opens_refuses_at_once_and_closes_by_one_probe(quick: dx.Lab, way: str) -> None:
    without_waits(quick, breaker=dx.BreakerSettings(minimum=3, window=3, cool_down=3600.0, longest=3600.0, on=_ailing()))
    seen = Seen(quick)
    with FaultyServer(ANSWER) as server:
        quick.use(model_at(server))
        server.outage()
        for _ in range(3):
            assert isinstance(run(quick, way).error, dspy.LMServerError)
        assert server.counts.arrived == 3
        refused = run(quick, way)
        error = only(refused).error
        assert type(error) is dx.CircuitOpen
        assert error.target == f"openai/any-model@{server.url}"
        assert 3000 < (error.retry_after or 0) <= 3600
        assert server.counts.arrived == 3, "nobody was asked"
        assert seen.calls[-1].attempts == 0
        server.recover()
        assert type(run(quick, way).error) is dx.CircuitOpen
        _cooled_down(quick)
        assert run(quick, way).status == "complete"
        assert run(quick, way).status == "complete"
    assert seen.names("breaker.") == ["breaker.open", "breaker.half_open", "breaker.close"]
    assert seen.events("breaker.open")[0].data["target"].startswith("openai/any-model@")


def _ailing() -> Any:
    from dspex_lab.lms.calls._failures import ailing

    return ailing


def _breaker(lab: dx.Lab) -> Any:
    return lab.gateway.guard(lab.lm).breaker


def _cooled_down(lab: dx.Lab) -> None:
    _breaker(lab)._open_until = 0.0


def test_a_probe_that_fails_opens_it_again_and_only_one_probes(quick: dx.Lab) -> None:
    hold = Gate()
    with FaultyServer(ANSWER, hold=hold) as server:
        quick.use(model_at(server))
        _breaker(quick).open("for this test", 3600.0)
        _cooled_down(quick)
        probing = threading.Thread(target=lambda: quick.run(SIGNATURE, message="probe"))
        probing.start()
        assert server.reached(1)
        assert type(quick.run(SIGNATURE, message="another").error) is dx.CircuitOpen
        hold.open()
        probing.join(30)
        assert _breaker(quick).state == "closed"
        server.outage()
        _breaker(quick).open("again", 3600.0)
        _cooled_down(quick)
        quick.run(SIGNATURE, message="x")
        assert _breaker(quick).state == "open"
        assert server.counts.arrived == 2


def test_cached_answers_come_while_it_is_open(quick: dx.Lab) -> None:
    with FaultyServer(ANSWER) as server:
        quick.use(model_at(server, cache=True))
        for x in (SIGNATURE, dspy.Predict(SIGNATURE)):
            assert quick.run(x, message="x").status == "complete"
        _breaker(quick).open("for this test")
        for way in ("run", "dspy"):
            assert run(quick, way, message="x").outputs == ANSWER
        assert type(quick.run(SIGNATURE, message="new").error) is dx.CircuitOpen


def test_a_rate_limit_and_a_wrong_request_open_no_circuit(quick: dx.Lab) -> None:
    for fault in (Fault.rate_limit(retry_after=0), Fault.wrong_key(), Fault.context_length()):
        with FaultyServer(ANSWER, faults=fault) as server:
            quick.use(model_at(server))
            for _ in range(8):
                quick.run(SIGNATURE, message="x")
            assert _breaker(quick).state == "closed"
            assert server.counts.arrived == 8


def test_two_labs_do_not_mix(quick: dx.Lab) -> None:
    with dx.Lab(":memory:") as other, FaultyServer(ANSWER) as server:
        lm = model_at(server)
        quick.use(lm)
        other.use(lm)
        _breaker(quick).open("here only")
        inner = other.run(lambda x: quick.run(SIGNATURE, message=x).outputs, x="a")
        assert inner.outputs == {"result": {}} or not next(iter(inner.outputs.values()))
        assert type(quick.run(SIGNATURE, message="x").error) is dx.CircuitOpen
        assert other.run(SIGNATURE, message="x").status == "complete"
        nested = quick.run(lambda x: other.run(SIGNATURE, message=x).outputs["label"], x="a")
        assert next(iter(nested.outputs.values())) == "billing"


def test_health_says_which_circuit_is_open(quick: dx.Lab) -> None:
    with FaultyServer(ANSWER) as server:
        quick.use(model_at(server))
        assert quick.run(SIGNATURE, message="x").status == "complete"
        assert {c.state for c in quick.health.check("models")} >= {"healthy"}
        _breaker(quick).open("for this test")
        (found,) = [c for c in quick.health.check("models") if c.name == "models"]
        assert found.state == "unhealthy"
        assert server.url in found.reason


# --- time and places ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["run", "arun", "stream", "dspy"])
def test_a_policys_timeout_bounds_an_attempt(quick: dx.Lab, way: str) -> None:
    quick.policy(dx.Policy(retry=None, timeout=0.05))
    quick.budget = "9 calls"
    seen = Seen(quick)
    with FaultyServer(ANSWER, faults=Fault.hang()) as server:
        quick.use(model_at(server))
        result = run(quick, way)
        assert isinstance(result.error, dspy.LMTimeoutError)
        assert f"'openai/any-model@{server.url}' did not answer within 0.0" in str(result.error)
        assert server.counts.arrived == 1
        assert _in_use(quick) == 0
        assert quick.budget.spent.calls == 1, "it may have been paid for"
        server.release()
        if way in ("run", "dspy"):
            _until(lambda: len(seen.calls) == 2)
            late = seen.calls[1]
            assert late.completion_tokens
            assert (late.error or "").startswith("CancelledError: it was answered when nobody waited")
        assert quick.budget.spent.calls == 1, "and it is booked once"


def _in_use(lab: dx.Lab) -> int:
    return sum(row.in_use for row in lab.gateway.guards.snapshot())


def test_a_deadline_bounds_everything_and_frees_the_place(quick: dx.Lab) -> None:
    class Sync(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = dspy.Predict(SIGNATURE)

        def forward(self, message: str) -> dspy.Prediction:
            return self.inner(message=message)

    with FaultyServer(ANSWER, faults=Fault.hang()) as server:
        quick.use(model_at(server, num_retries=3))
        for x in (SIGNATURE, Sync()):
            result = quick.run(x, message="x", options=dx.RunOptions(deadline=0.1))
            assert result.status == "failed"
        _until(lambda: _in_use(quick) == 0)
        assert server.counts.arrived <= 2


def _until(true: Any) -> None:
    """Wait for what another thread is about to do."""
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_cancelled_run_frees_its_place_and_leaves_the_server(quick: dx.Lab) -> None:
    async def cancelled(server: FaultyServer) -> None:
        task = asyncio.ensure_future(quick.arun(SIGNATURE, message="x"))
        assert await asyncio.to_thread(server.reached, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with FaultyServer(ANSWER, faults=Fault.hang()) as server:
        quick.use(model_at(server))
        asyncio.run(cancelled(server))
        assert _in_use(quick) == 0
        assert server.abandoned(1)
        assert _breaker(quick).status().calls == 0, "a cancellation says nothing of the provider"


@pytest.mark.parametrize("tasks", [False, True])
def test_a_provider_gets_no_more_calls_at_once_than_it_has_places(quick: dx.Lab, tasks: bool) -> None:
    without_waits(quick, bulkhead=dx.BulkheadSettings(limit=4, adaptive=False))
    rows = [{"message": f"m{i}"} for i in range(60)]
    hold = Gate()
    with FaultyServer(ANSWER, hold=hold) as server:
        quick.use(model_at(server))
        x: Any = SIGNATURE if tasks else dx.step(_threaded, name="s")
        frames: list[Any] = []
        mapping = threading.Thread(target=lambda: frames.append(quick.map(x, rows, concurrency=30)))
        mapping.start()
        _until(lambda: sum(row.waiting for row in quick.gateway.guards.snapshot()) == 26)
        assert server.reached(4)
        assert (_in_use(quick), server.counts.arrived) == (4, 4)
        hold.open()
        mapping.join(60)
        assert set(frames[0]["status"]) == {"complete"}
        assert server.counts.arrived == 60
        assert _in_use(quick) == 0


def _threaded(message: str) -> str:
    return str(dspy.Predict(SIGNATURE)(message=message).label)


def test_a_thousand_calls_at_once_in_tasks_and_threads(quick: dx.Lab) -> None:
    async def many(x: Any) -> list[dx.Result]:
        return await asyncio.gather(*(quick.arun(x, message=f"m{i}") for i in range(500)))

    lm = scripted_lm(ANSWER)
    quick.use(lm)
    results = asyncio.run(many(SIGNATURE)) + asyncio.run(many(dx.step(_threaded, name="s")))
    assert {r.status for r in results} == {"complete"}
    assert lm.engine.calls == 1000
    assert _in_use(quick) == 0


def test_a_full_queue_is_refused_by_name(quick: dx.Lab) -> None:
    without_waits(quick, bulkhead=dx.BulkheadSettings(limit=1, queue=0, adaptive=False))
    with FaultyServer(ANSWER, faults={1: Fault.hang()}) as server:
        quick.use(model_at(server))
        first = threading.Thread(target=lambda: quick.run(SIGNATURE, message="a"))
        first.start()
        assert server.reached(1)
        assert type(quick.run(SIGNATURE, message="b").error) is dx.BulkheadFull
        server.release()
        first.join(30)


def test_an_event_loop_that_is_closed_under_its_calls_gives_the_places_back(quick: dx.Lab) -> None:
    without_waits(quick, bulkhead=dx.BulkheadSettings(limit=1, adaptive=False))
    with FaultyServer(ANSWER, faults={1: Fault.hang()}) as server:
        quick.use(model_at(server))

        async def leave() -> None:
            tasks = [asyncio.ensure_future(quick.arun(SIGNATURE, message=str(i))) for i in range(3)]
            assert await asyncio.to_thread(server.reached, 1)
            del tasks

        asyncio.run(leave())
        assert _in_use(quick) == 0
        assert quick.run(SIGNATURE, message="after").status == "complete"


def test_a_lab_that_is_closed_under_calls_says_so() -> None:
    lab = without_waits(dx.Lab(":memory:"))
    caught: list[Any] = []

    def work() -> None:
        try:
            caught.append(lab.run(dx.pipeline("p", a=dx.signature(SIGNATURE), b=_later), message="x"))
        except BaseException as error:
            caught.append(error)

    with FaultyServer(ANSWER, faults=Fault.hang()) as server:
        lab.use(model_at(server))
        thread = threading.Thread(target=work)
        thread.start()
        assert server.reached(1)
        lab.close()
        thread.join(30)
        assert isinstance(caught[0], dx.ConfigurationError)
        assert server.abandoned(1)


async def _later(message: str) -> str:
    return message


# --- hedging --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["run", "arun", "dspy"])
def test_a_late_answer_is_asked_for_once_more_and_the_first_wins(quick: dx.Lab, way: str) -> None:
    quick.policy(dx.Policy(hedge=dx.Hedge(after=0.02, share=1.0)))
    seen = Seen(quick)
    quick.budget = "100 calls"
    with FaultyServer(ANSWER, faults={1: Fault.hang()}) as server:
        quick.use(model_at(server, num_retries=1))
        result = run(quick, way)
        assert result.outputs == ANSWER
        assert server.counts.arrived == 2
        server.release()
        assert server.idle()
        _until(lambda: quick.budget.snapshot().under_way == 0)
        assert quick.budget.spent.calls == 2, "the other one is paid for too"
    assert seen.names("hedge.") == ["hedge.start", "hedge.win"]
    taken = [c for c in seen.calls if c.error is None]
    assert [c.attempts for c in taken] == [2]
    if way != "arun":
        _until(lambda: len(seen.calls) == 2)
        late = next(c for c in seen.calls if c.error is not None)
        assert late.completion_tokens
        assert (late.error or "").startswith("CancelledError"), "which the statistics count as nobody's failure"


def test_a_model_without_retries_is_not_hedged(quick: dx.Lab) -> None:
    quick.policy(dx.Policy(hedge=dx.Hedge(after=0.0, share=1.0)))
    with FaultyServer(ANSWER) as server:
        quick.use(model_at(server, num_retries=0))
        assert quick.run(SIGNATURE, message="x").status == "complete"
        assert server.counts.arrived == 1


# --- under load -----------------------------------------------------------------------------------------------------------


def test_each_level_leaves_something_out_and_it_comes_back(quick: dx.Lab) -> None:
    quick.policy(dx.Policy(retry=dx.Retry(attempts=4, wait=0.0, jitter=0.0), breaker=None, hedge=dx.Hedge(0.02, share=1.0)))
    level = quick.gateway.degradation
    seen = Seen(quick)
    with FaultyServer(ANSWER) as server:
        lm = model_at(server, num_retries=3, cache=True)
        quick.use(lm)
        level.pin("no_hedging")
        server.outage(Fault.server_error())
        quick.run(SIGNATURE, message="a")
        assert server.counts.arrived == 4
        level.pin("fewer_retries")
        server.clear()
        quick.run(SIGNATURE, message="a")
        assert server.counts.arrived == 2
        server.recover()
        assert quick.run(SIGNATURE, message="kept under load").status == "complete"
        level.pin("cached_only")
        server.clear()
        refused = quick.run(SIGNATURE, message="new")
        assert type(refused.error) is dx.BulkheadFull
        assert "only caches answer" in str(refused.error)
        assert quick.run(SIGNATURE, message="kept under load").outputs == ANSWER
        assert server.counts.arrived == 0
        level.unpin()
        assert quick.run(SIGNATURE, message="new").status == "complete"
    changes = [e.data["after"] for e in seen.events("degradation.change")]
    assert changes == ["no_hedging", "fewer_retries", "cached_only", "normal"]


def test_under_load_the_cheapest_that_may_answer_is_asked_first(quick: dx.Lab) -> None:
    with FaultyServer(ANSWER) as server:
        dear, cheap = model_at(server, "openai/gpt-4o"), model_at(server, "openai/gpt-4o-mini")
        quick.use(dear, fallbacks=[cheap, "cache"])
        quick.run(SIGNATURE, message="x")
        quick.gateway.degradation.pin("cheapest_model_first")
        quick.run(SIGNATURE, message="x")
        quick.gateway.degradation.unpin()
        quick.run(SIGNATURE, message="x")
        assert [r.model for r in server.requests] == ["gpt-4o", "gpt-4o-mini", "gpt-4o"]


def test_under_load_a_suggestion_is_not_asked_for_again_and_says_so(quick: dx.Lab) -> None:
    lm = scripted_lm([{"label": "no"}, {"label": "billing"}])
    quick.use(lm)
    checked = dx.suggest(dx.signature(SIGNATURE), "label == 'billing'")
    quick.gateway.degradation.pin("no_second_opinions")
    spared = quick.run(checked, message="x")
    assert (spared.status, spared.outputs["label"], lm.engine.calls) == ("partial", "no", 1)
    assert "not again at the present load" in only(spared).note
    strict = quick.run(must(dx.signature(SIGNATURE), "label == 'no'"), message="y")
    assert (strict.status, lm.engine.calls) == ("complete", 3), "what must hold is asked for again all the same"
    quick.gateway.degradation.unpin()
    again = quick.run(checked, message="z")
    assert (again.status, lm.engine.calls) == ("complete", 4)


def test_under_load_a_step_is_tried_twice_at_most_and_says_so(quick: dx.Lab) -> None:
    tries = []

    def fails(x: int) -> int:
        tries.append(x)
        raise ConnectionError("no")

    step = dx.step(fails, name="s", retries=3, idempotent=True)
    quick.gateway.degradation.pin("fewer_retries")
    result = quick.run(step, x=1)
    assert len(tries) == 2
    assert "not again at the present load" in (only(result).note or "")


def test_under_load_a_judge_is_asked_in_one_order(quick: dx.Lab) -> None:
    from dspex_lab.lms import LMJudge

    lm = scripted_lm({"reason": "good", "grade": 5})
    quick.use(lm)
    judge = LMJudge(both_orders=True)

    def graded(answer: str) -> float:
        return judge(rubric="right", prediction=answer, reference="yes", task=None).score

    assert quick.run(graded, answer="yes").status == "complete"
    assert lm.engine.calls == 2
    quick.gateway.degradation.pin("no_second_opinions")
    result = quick.run(graded, answer="no")
    assert (result.status, lm.engine.calls) == ("partial", 3)
    assert "one order" in only(result).note


# --- what is told ---------------------------------------------------------------------------------------------------------


def test_all_that_is_told_is_of_a_known_name_and_holds_no_key(quick: dx.Lab) -> None:
    from guard_helpers import KEY

    from dspex_lab.events import EVENT_NAMES

    seen = Seen(quick)
    quick.policy(dx.Policy(retry=dx.Retry(attempts=3, wait=0.0, jitter=0.0), hedge=dx.Hedge(0.0, share=1.0)))
    echo = Fault.error(500, f"no, {KEY} is not what I want")
    faults = {1: Fault.rate_limit(retry_after=0.001), **dict.fromkeys(range(2, 40), echo)}
    with FaultyServer(ANSWER, faults=faults) as server:
        quick.use(model_at(server, num_retries=3), fallbacks=["cache"])
        for n in range(6):
            quick.run(SIGNATURE, message=f"told {n}")
        quick.gateway.degradation.pin("no_hedging")
        quick.health.check()
    told = {e.name for e in seen.events()}
    assert {"lm.retry", "breaker.open", "hedge.start", "fallback.use", "degradation.change"} <= told
    assert not told - set(EVENT_NAMES)
    for query in ("FROM events", "FROM lm_calls", "FROM spans", "FROM runs"):
        assert KEY not in quick.sql(query).to_csv(), query


# --- what needs no guard --------------------------------------------------------------------------------------------------


def test_an_engine_in_this_process_has_budgets_and_nothing_else_around_it(quick: dx.Lab) -> None:
    seen = Seen(quick)
    quick.use("offline")
    quick.gateway.degradation.pin("cached_only")
    assert quick.run("message -> label: Literal['a', 'b']", message="x").status == "complete"
    assert quick.gateway.guards.snapshot() == []
    assert [c.attempts for c in seen.calls] == [1]
    refused = quick.run("message -> label", message="x", options=dx.RunOptions(budget="1 tokens"))
    assert type(refused.error) is dx.BudgetExceeded
