"""What may be spent, kept through a real Lab: no limit is crossed, refusals come before the server sees anything."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from typing import Any

import dspy
import pytest
from guard_helpers import ANSWER, KEY, SIGNATURE, WAYS, Seen, cancelled, model_at, quick, run

import dspex_lab as dx
from dspex_lab.testing import Fault, FaultyServer, Reply

__all__ = ["quick"]

MODEL = "openai/gpt-4o-mini"


def _held(lab: dx.Lab) -> tuple[float, int, int, int]:
    now = lab.budget.snapshot()
    return (now.held.cost, now.held.tokens, now.held.calls, now.under_way)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("limits", ["3 calls", "1000 tokens", "$0.0002"])
def test_a_call_that_would_cross_is_refused_by_name_before_it_is_made(quick: dx.Lab, way: str, limits: str) -> None:
    seen = Seen(quick)
    quick.budget = limits
    with FaultyServer(ANSWER) as server:
        quick.use(model_at(server, MODEL, max_tokens=50))
        results = [run(quick, way, message=f"m{i}") for i in range(12)]
        asked = sum(r.status == "complete" for r in results)
        assert 0 < asked < 12
        assert server.counts.arrived == asked
    refused = results[-1].error
    assert type(refused) is dx.BudgetExceeded
    assert "this Lab" in str(refused)
    spent, budget = quick.budget.spent, quick.budget.budget
    assert spent.calls == asked
    for limit, used in ((budget.calls, spent.calls), (budget.tokens, spent.tokens), (budget.cost, spent.cost)):
        assert limit is None or used <= limit
    assert _held(quick) == (0, 0, 0, 0)
    assert len(seen.calls) == asked, "what was not made is no call"
    assert seen.events("budget.refuse")[0].data["target"] == MODEL
    assert sum(r.cost or 0 for r in results) == pytest.approx(spent.cost)


@pytest.mark.parametrize("door", ["map", "threads", "tasks"])
def test_calls_at_once_cannot_cross_a_limit_together(quick: dx.Lab, door: str) -> None:
    quick.budget = "$0.0004, 2000 tokens, 25 calls"
    with FaultyServer(Reply("[[ ## label ## ]]\nbilling\n\n[[ ## completed ## ]]")) as server:
        quick.use(model_at(server, MODEL, max_tokens=40))
        if door == "map":
            frame = quick.map(SIGNATURE, [{"message": f"m{i}"} for i in range(60)], concurrency=20)
            done = int((frame["status"] == "complete").sum())
        elif door == "tasks":

            async def many() -> list[dx.Result]:
                return await asyncio.gather(*(quick.arun(SIGNATURE, message=f"m{i}") for i in range(60)))

            done = sum(r.status == "complete" for r in asyncio.run(many()))
        else:
            found: list[dx.Result] = []
            threads = [
                threading.Thread(target=lambda i=i: found.append(quick.run(SIGNATURE, message=f"m{i}"))) for i in range(40)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            done = sum(r.status == "complete" for r in found)
        assert 0 < done == server.counts.arrived
    spent = quick.budget.spent
    assert spent.cost <= 0.0004
    assert spent.tokens <= 2000
    assert spent.calls == done <= 25
    assert _held(quick) == (0, 0, 0, 0)


def test_a_runs_own_budget_bounds_it_and_the_runs_in_it(quick: dx.Lab) -> None:
    with FaultyServer(ANSWER) as server:
        quick.use(model_at(server, MODEL, max_tokens=40))

        def twice(message: str) -> str:
            inner = [quick.run(SIGNATURE, message=f"{message}{i}") for i in range(3)]
            return ",".join(r.status for r in inner)

        result = quick.run(dx.pipeline("p", said=twice), message="x", options=dx.RunOptions(budget="2 calls"))
        assert result.outputs["said"] == "complete,complete,failed"
        assert server.counts.arrived == 2
        assert quick.run(SIGNATURE, message="y").status == "complete", "the Lab itself has no limit"


def test_each_retry_is_a_request_of_its_own_for_the_budget(quick: dx.Lab) -> None:
    with FaultyServer(ANSWER, faults=Fault.cut()) as server:
        quick.use(model_at(server, MODEL, num_retries=5, max_tokens=10))
        quick.budget = "3 calls"
        result = quick.run(SIGNATURE, message="x")
        assert type(result.error) is dx.BudgetExceeded
        assert server.counts.arrived == 3, "each may have been paid for"
        assert quick.budget.spent.calls == 3
    with FaultyServer(ANSWER, faults={1: Fault.server_error(), 2: Fault.server_error()}) as server:
        quick.use(model_at(server, MODEL, num_retries=5, max_tokens=10))
        quick.budget = "4 calls"
        assert quick.run(SIGNATURE, message="x").status == "complete"
        assert (server.counts.arrived, quick.budget.spent.calls) == (3, 4), "who was refused paid nothing"
    assert _held(quick) == (0, 0, 0, 0)


def test_what_is_given_up_is_booked_as_estimated_and_nothing_stays_held(quick: dx.Lab) -> None:
    quick.budget = "10 calls, $1"
    with FaultyServer(ANSWER, faults={1: Fault.hang()}) as server:
        quick.use(model_at(server, MODEL, max_tokens=10))
        asyncio.run(cancelled(quick, server))
    assert quick.budget.spent.calls == 1
    assert quick.budget.spent.assumed > 0
    assert _held(quick) == (0, 0, 0, 0)


def test_a_cached_answer_costs_nothing(quick: dx.Lab) -> None:
    quick.budget = "1 calls"
    with FaultyServer(ANSWER) as server:
        quick.use(model_at(server, MODEL, cache=True))
        for way in ("run", "dspy", "run"):
            assert run(quick, way, message="the same for nothing").status == "complete"
        assert (server.counts.arrived, quick.budget.spent.calls) == (1, 1)


def test_the_answer_of_another_model_is_booked_at_its_own_price(quick: dx.Lab) -> None:
    quick.budget = "$1"
    with FaultyServer(ANSWER, faults=Fault.server_error()) as down, FaultyServer(ANSWER) as up:
        quick.use(model_at(down, "openai/gpt-4o", max_tokens=9), fallbacks=[model_at(up, MODEL, max_tokens=9)])
        result = quick.run(SIGNATURE, message="x")
        assert result.status == "complete"
        assert quick.budget.spent.cost == pytest.approx(result.cost)
        assert quick.budget.spent.calls == 1


# --- in a worker ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pooled() -> Iterator[dx.Lab]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DSPEX_POOL_GENERAL_WORKERS", "1")
        patch.setenv("OPENAI_API_KEY", KEY)
        with dx.Lab(":memory:") as lab:
            yield lab


def _on_pool(target: Any = None) -> Any:
    return dx.pipeline("p", s=dx.step(target or dspy.Predict(SIGNATURE), pool="general"))


def test_a_worker_gets_a_loan_and_brings_home_what_is_left(pooled: dx.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with FaultyServer(ANSWER) as server:
        pooled.use(model_at(server, MODEL, max_tokens=10))
        pooled.budget = "5 calls"
        statuses = [pooled.run(_on_pool(), message=f"m{i}").status for i in range(8)]
        assert statuses[0] == "complete"
        assert server.counts.arrived == pooled.budget.spent.calls == statuses.count("complete") <= 5
        assert type(pooled.run(_on_pool(), message="more").error) is dx.BudgetExceeded
    assert _held(pooled) == (0, 0, 0, 0)
    pooled.budget = None


def test_a_worker_that_is_killed_has_spent_its_loan(pooled: dx.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    with FaultyServer(ANSWER) as server:
        pooled.use(model_at(server, MODEL, max_tokens=10))
        before = pooled.budget.spent.calls
        pooled.budget = f"{before + 4} calls"
        result = pooled.run(dx.pipeline("p", s=dx.step(_dies, pool="general")), message="x")
        assert isinstance(result.error, dx.WorkerKilled)
        assert pooled.budget.spent.calls == before + 2, "half of what was left was lent, and nobody knows what became of it"
    assert _held(pooled) == (0, 0, 0, 0)
    pooled.budget = None


def _dies(message: str) -> str:
    os.kill(os.getpid(), 9)
    return message


def test_fallbacks_policies_and_notes_reach_a_worker(pooled: dx.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    seen = Seen(pooled)
    with FaultyServer(ANSWER, faults=Fault.server_error()) as down, FaultyServer({"label": "other"}) as up:
        first = model_at(down, MODEL, num_retries=3)
        pooled.policy(dx.Policy(retry=dx.Retry(attempts=2, wait=0.0, jitter=0.0)), first)
        pooled.use(first, fallbacks=[model_at(up, "openai/gpt-4o"), "cache"])
        result = pooled.run(_on_pool(), message="x")
        assert result.outputs["label"] == "other"
        assert (down.counts.arrived, up.counts.arrived) == (2, 1)
        assert [c.instead_of for c in seen.calls] == [None, MODEL]
        assert {"lm.retry", "fallback.use"} <= set(seen.names("lm.", "fallback."))
        retried = pooled.run(dx.pipeline("p", s=dx.step(dspy.Predict(SIGNATURE), pool="general", retries=1)), message="y")
        assert retried.outputs["label"] == "other"
        assert down.counts.arrived == 3, "under a step's retries each call is made once"


def test_a_tape_reaches_a_worker_and_comes_home(pooled: dx.Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with FaultyServer(ANSWER) as server:
        pooled.use(model_at(server, MODEL))
        with pooled.record(tmp_path / "t.jsonl") as tape:
            assert pooled.run(_on_pool(), message="x").outputs["label"] == "billing"
        assert tape.recorded == 1
        with pooled.replay(tmp_path / "t.jsonl"):
            assert pooled.run(_on_pool(), message="x").outputs["label"] == "billing"
            missed = pooled.run(_on_pool(), message="not on it")
            assert missed.status == "failed"
            assert "is not on" in str(missed.error)
        with pooled.replay(tmp_path / "t.jsonl", "fill"):
            assert type(pooled.run(_on_pool(), message="x").error) is dx.ConfigurationError
        assert server.counts.arrived == 1
