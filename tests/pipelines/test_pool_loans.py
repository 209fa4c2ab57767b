"""What a step on a pool may spend, where its worker dies and it is done again; pool and deaths are fakes."""

from __future__ import annotations

from typing import Any

import dspy
import pytest

import dspex_lab as dx
from dspex_lab.pipelines._away import TRIES
from dspex_lab.testing import FakePool, scripted_lm


def deaths(count: int) -> list[dx.PoolError]:
    return [dx.WorkerKilled("gone") for _ in range(count)]


def pooled(lab: dx.Lab, failures: int, monkeypatch: pytest.MonkeyPatch) -> FakePool:
    pool = FakePool(failures=deaths(failures), emit=lab.bus.emit)
    monkeypatch.setattr(lab._runner, "pool", lambda name: pool)
    return pool


def asked(lab: dx.Lab, **more: Any) -> dx.Result:
    lab.use(scripted_lm(["[[ ## b ## ]]\nyes\n\n[[ ## completed ## ]]"] * 20))
    step = dx.step(dspy.Predict("a -> b"), pool="general", **{"idempotent": True, **more})
    return lab.run(dx.pipeline("p", b=step), a="x")


def allowed(pool: FakePool) -> list[int | None]:
    """The calls that each try was lent."""
    return [args[1].allowance["calls"] for _, args in pool.calls]


def test_each_try_has_a_loan_of_its_own_and_what_a_dead_one_may_have_spent_is_booked(
    lab: dx.Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pooled(lab, 1, monkeypatch)
    lab.budget = "8 calls"
    result = asked(lab)
    assert result.outputs == {"b": "yes"}
    assert allowed(pool) == [4, 2], "half of what is left, each time"
    assert lab.budget.spent.calls == 4 + 1
    assert lab.budget.snapshot().held.calls == 0


@pytest.mark.parametrize(("more", "tries"), [({}, TRIES), ({"idempotent": False}, 1)])
def test_tries_that_all_die_never_spend_more_than_there_is(
    lab: dx.Lab, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], tries: int
) -> None:
    pool = pooled(lab, 20, monkeypatch)
    lab.budget = "64 calls"
    assert type(asked(lab, **more).error) is dx.WorkerKilled
    assert allowed(pool) == [32, 16, 8, 4, 2][:tries]
    assert lab.budget.spent.calls == sum(allowed(pool)) <= 64


def test_without_a_limit_the_pool_itself_does_it_again(lab: dx.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pooled(lab, 2, monkeypatch)
    assert asked(lab).status == "complete"
    assert allowed(pool) == [None]
    assert lab.budget.spent.calls == 1


def test_what_has_told_something_is_not_done_again(lab: dx.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Told(FakePool):
        async def call(self, fn: Any, /, *args: Any, **options: Any) -> Any:
            calls.append(options["label"])
            options["on_chunk"]("a part")
            raise dx.WorkerKilled("gone")

    pool = Told()
    monkeypatch.setattr(lab._runner, "pool", lambda name: pool)
    lab.budget = "8 calls"
    lab.use(scripted_lm(["-"]))
    stream = lab.stream(dx.pipeline("p", b=dx.step(dspy.Predict("a -> b"), pool="general", idempotent=True)), a="x")
    list(stream)
    assert stream.result is not None
    assert type(stream.result.error) is dx.WorkerKilled
    assert calls == ["b"]
