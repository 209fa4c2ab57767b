"""A run that is stopped: nothing of it is left running, and nothing computed is lost."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from clocks import stop_until
from engine_helpers import alone, check, double, double_at_once, message_of, statuses

import dspex_lab as dx
from dspex_lab.pipelines._context import enclosing

# --- stopping --------------------------------------------------------------------------------------------------------------


def test_a_step_that_ignores_its_end_lets_nothing_begin_after_it(lab: dx.Lab) -> None:
    reached, begun = asyncio.Event(), []

    async def stubborn(n: int) -> int:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return n
        return 0

    async def waits(n: int) -> int:
        reached.set()
        await asyncio.Event().wait()
        return n

    async def after(stubborn: int) -> int:
        begun.append(stubborn)
        return stubborn

    made = dx.pipeline("p", waits=waits, stubborn=stubborn, after=after, too=lambda stubborn: begun.append(stubborn))

    async def work() -> None:
        task = asyncio.create_task(lab.arun(made, n=1))
        await reached.wait()
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    alone(work)
    assert begun == []
    assert lab.last_result is not None
    assert statuses(lab.last_result) == {"waits": "cancelled", "stubborn": "complete"}


def nest(inner: Any) -> dict[str, Any]:
    """Return each way in which a step may be in another."""
    return {
        "each": dx.each("ns", inner, item="n", concurrency=3),
        "parallel": dx.parallel(one=inner, other=double_at_once),
        "pipeline": dx.pipeline("inner", quick=double_at_once, slow=inner),
        "when": dx.when("n > 0", inner),
        "loop": dx.loop(inner, until="loop > 0"),
        "assert": check(inner, lambda n: True),
    }


@pytest.mark.parametrize("kind", ["each", "parallel", "pipeline", "when", "loop", "assert"])
@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_what_is_stopped_inside_is_stopped_whole(shared: dx.Lab, kind: str, how: str) -> None:
    begun: list[int] = []
    reached, ended = asyncio.Event(), []

    async def endless(n: int) -> int:
        begun.append(n)
        reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(n)
        return n

    step = nest(endless)[kind]
    made = dx.pipeline("p", **{kind: dx.step(step, timeout=60) if how == "timeout" else step}, beside=double)
    given = {"n": 1, "ns": [1, 2, 3]}
    given = {n: v for n, v in given.items() if n in made.inputs}
    many = 3 if kind == "each" else 1

    async def work() -> None:
        stop_until(lambda: how == "timeout" and len(begun) == many)
        task = asyncio.create_task(shared.arun(made, given if "n" in given else {**given, "n": 1}))
        if how == "cancel":
            await reached.wait()
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() == (how == "cancel")

    alone(work)
    assert len(ended) == many
    result = shared.last_result
    assert result is not None
    outer = result.steps[kind]
    assert outer.status == ("cancelled" if how == "cancel" else "failed")
    assert [o.status for o in outer.parts.values()].count("cancelled") == many
    spans = shared.sql("SELECT name, status FROM spans WHERE run_id = ? AND name LIKE '%.%'", [result.run_id])
    assert list(spans["status"]).count("cancelled") == many


def test_a_run_stopped_before_its_last_step_began_is_not_complete(lab: dx.Lab) -> None:
    async def at_once(n: int) -> int:
        return n

    async def work() -> None:
        me, task = asyncio.current_task(), asyncio.create_task(lab.arun(dx.pipeline("p", a=at_once, b=at_once), n=1))
        # As a Lab that is closed does: before the second branch had its first turn.
        asyncio.get_running_loop().call_soon(lambda: [t.cancel() for t in asyncio.all_tasks() if t is not me])
        await asyncio.wait([task])
        assert task.cancelled()

    alone(work)
    result = lab.last_result
    assert result is not None
    assert (result.status, result.cancelled, result.outputs) == ("partial", True, {"a": 1})
    assert message_of(result) == "ended partial: it was stopped. Kept: the outputs of 'a'."


@pytest.mark.parametrize("names", ["y", "yz"], ids=["sequential", "branches"])
def test_a_run_given_up_with_its_loop_is_recorded(lab: dx.Lab, names: str) -> None:
    async def endless(n: int) -> int:
        reached.set()
        await asyncio.Event().wait()
        return n

    async def begin() -> None:
        task: Any = asyncio.ensure_future(lab.arun(dx.pipeline("p", **dict.fromkeys(names, endless)), n=1))
        task._log_destroy_pending = False
        await reached.wait()
        await asyncio.sleep(0)

    reached, loop = asyncio.Event(), asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.close()
    gc.collect()
    assert list(lab.sql("SELECT status FROM runs")["status"]) == ["cancelled"]
    assert enclosing(lab.id) is None
