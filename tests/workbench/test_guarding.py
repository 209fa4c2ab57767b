"""What stands between DSPy's cache and an engine, through a real Lab and over real sockets: retries, and what is told."""

from __future__ import annotations

import dspy
import pytest
from guard_helpers import ANSWER, SIGNATURE, WAYS, Seen, model_at, quick, run, without_waits

import dspex_lab as dx
from dspex_lab.testing import Fault, FaultyServer, scripted_lm

__all__ = ["quick"]

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
