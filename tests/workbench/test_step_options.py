"""What stands around a step's work, in a Lab: retries, timeouts, the cache, batches, a model of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import dspy
import pytest
import stamina

import dspex_lab as dx
from dspex_lab.testing import scripted_lm


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    stamina.set_testing(True, attempts=100, cap=True)
    yield
    stamina.set_testing(False)


class Flaky:
    """Fails a number of times, then answers."""

    def __init__(self, fails: int) -> None:
        self.fails, self.calls = fails, 0

    def __call__(self, x: int) -> int:
        self.calls += 1
        if self.calls <= self.fails:
            raise OSError(f"try {self.calls}")
        return x * 10


def test_an_option_that_there_is_not_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(dx.PipelineError, match=r"no option 'retires'\. Did you mean 'retries'\?") as told:
        dx.step(Flaky(1), retires=2)  # type: ignore[call-arg]
    assert "Its options are name, kind, pool, timeout, retries" in str(told.value)
    assert dx.step(target=Flaky(1), retries=2, idempotent=True).retries == 2


# --- retries ----------------------------------------------------------------------------------------------------------


def test_a_step_is_tried_again_and_each_time_is_told(lab: dx.Lab) -> None:
    work = Flaky(2)
    result = lab.run(dx.pipeline("p", y=dx.step(work, retries=3, idempotent=True)), x=2)
    assert (result.status, result.outputs, work.calls) == ("complete", {"y": 20}, 3)
    told = lab.sql("SELECT data->>'error' AS error, (data->>'attempt')::INT AS attempt FROM events WHERE name = 'step.retry'")
    assert list(told.itertuples(index=False, name=None)) == [("OSError: try 1", 1), ("OSError: try 2", 2)]
    assert lab.sql("SELECT (data->>'attempts')::INT AS n FROM spans WHERE name = 'y'")["n"][0] == 3


def test_after_the_last_try_the_failure_is_the_steps_own(lab: dx.Lab) -> None:
    work = Flaky(9)
    result = lab.run(dx.step(work, name="y", retries=2, idempotent=True, on_error="fallback", fallback=lambda x: -1), x=2)
    assert (result.status, work.calls) == ("partial", 3)
    assert list(result.outputs.values()) == [-1]
    assert "OSError: try 3" in str(result.steps["y"].why)


def test_an_async_step_is_tried_again_within_its_own_timeout_each_time(lab: dx.Lab) -> None:
    calls = 0

    async def stuck_once(x: int) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            await asyncio.Event().wait()
        return x

    result = lab.run(dx.pipeline("p", y=dx.step(stuck_once, retries=1, idempotent=True, timeout=0.5)), x=4)
    assert (result.outputs, calls) == ({"y": 4}, 2), result.error


def test_a_prediction_needs_no_promise_to_be_tried_again(lab: dx.Lab) -> None:
    lm = scripted_lm([{"b": "yes"}], faults={1: ConnectionError("gone")})
    lm.num_retries = 0
    lab.use(lm)
    result = lab.run(dx.pipeline("p", b=dx.step(dx.predict("a -> b"), retries=1)), a="x")
    assert result.outputs == {"b": "yes"}, result.error


# --- cache ------------------------------------------------------------------------------------------------------------


def test_equal_inputs_are_answered_from_memory(lab: dx.Lab) -> None:
    counted = Flaky(0)

    def work(x: int) -> int:
        return counted(x)

    made = dx.pipeline("p", y=dx.step(work, cache=True))
    results = [lab.run(made, x=x) for x in (1, 1, 2, 1)]
    assert [r.outputs["y"] for r in results] == [10, 10, 20, 10]
    assert counted.calls == 2
    assert [r.steps["y"].implementation for r in results] == ["work", "cache", "work", "cache"]
    names = list(lab.sql("SELECT name FROM events WHERE name LIKE 'cache.%' ORDER BY time")["name"])
    assert names == ["cache.miss", "cache.hit", "cache.miss", "cache.hit"]


def test_a_failure_is_not_kept_and_a_degraded_answer_neither(lab: dx.Lab) -> None:
    counted = Flaky(1)

    def work(x: int) -> int:
        return counted(x)

    made = dx.pipeline("p", y=dx.step(work, cache=60))
    assert [lab.run(made, x=1).status for _ in range(3)] == ["failed", "complete", "complete"]
    assert counted.calls == 2
    short = dx.pipeline("p", y=dx.step(dx.loop(work, until=lambda x: False, limit=1), cache=True))
    assert [lab.run(short, x=1).status for _ in range(2)] == ["partial", "partial"]
    assert counted.calls == 4


def test_another_model_is_another_question(lab: dx.Lab) -> None:
    made = dx.pipeline("p", b=dx.step(dspy.Predict("a -> b"), cache=True))
    answers = []
    for text in ("one", "two", "two"):
        lab.use(scripted_lm([{"b": text}], model=f"scripted/{text}"))
        answers.append(lab.run(made, a="x").outputs["b"])
    assert answers == ["one", "two", "two"]


def test_an_optimizers_candidate_is_tried_and_not_looked_up(lab: dx.Lab) -> None:
    seen: list[str] = []

    def answer(request: Any) -> dict[str, str]:
        seen.append(str(request))
        return {"b": "yes"}

    lab.use(scripted_lm(answer))
    program = dx.pipeline("p", b=dx.step(dspy.Predict("a -> b"), cache=True)).as_module(lab)
    for _ in range(2):
        program(a="x")
    assert len(seen) == 2


def test_equal_requests_at_the_same_time_are_one(lab: dx.Lab) -> None:
    calls, gate, begun = 0, threading.Event(), threading.Event()

    async def slow(x: int) -> int:
        nonlocal calls
        calls += 1
        begun.set()
        await asyncio.to_thread(gate.wait)
        return x

    made = dx.pipeline("p", y=dx.step(slow, cache=True))

    async def main() -> list[dx.Result]:
        runs = [asyncio.ensure_future(lab.arun(made, x=1)) for _ in range(5)]
        await asyncio.to_thread(begun.wait)
        gate.set()
        return await asyncio.gather(*runs)

    results = asyncio.run(main())
    assert {r.outputs["y"] for r in results} == {1}
    assert calls == 1


# --- batches ----------------------------------------------------------------------------------------------------------


def test_requests_of_many_runs_go_together(lab: dx.Lab) -> None:
    sizes: list[int] = []

    def embed(text: list[str]) -> list[int]:
        sizes.append(len(text))
        return [len(t) for t in text]

    made = dx.pipeline("p", n=dx.step(embed, batch=dx.Batch(size=8, window=5.0)), m=lambda n: n + 1)
    assert made.inputs["text"].type is str
    rows = [{"text": "x" * i} for i in range(32)]
    frame = lab.map(made, rows, concurrency=16)
    assert list(frame["m"]) == list(range(1, 33))
    assert sizes == [8, 8, 8, 8]


def test_a_run_alone_does_not_wait_for_company(lab: dx.Lab) -> None:
    def embed(text: list[str]) -> list[int]:
        return [len(t) for t in text]

    made = dx.pipeline("p", n=dx.step(embed, batch=dx.Batch(size=8, window=3600)))
    assert lab.run(made, text="abc").outputs == {"n": 3}


@pytest.mark.parametrize("bad", [dspy.Predict("a -> b"), dx.when("x > 1", Flaky(0))])
def test_only_functions_are_batched(bad: Any) -> None:
    with pytest.raises(dx.PipelineError, match="only a function in the kernel"):
        dx.step(bad, batch=dx.Batch())


# --- models -----------------------------------------------------------------------------------------------------------


def test_a_step_may_have_a_model_of_its_own(lab: dx.Lab) -> None:
    lab.use(scripted_lm([{"b": "common", "c": "common"}]))
    own = scripted_lm([{"c": "own"}], model="scripted/own")

    def ask(a: str) -> str:
        return dspy.Predict("a -> b")(a=a).b

    made = dx.pipeline("p", b=dx.predict("a -> b"), c=dx.step(dspy.Predict("b -> c"), lm=own), d=ask)
    result = lab.run(made, a="x")
    assert result.outputs == {"b": "common", "c": "own", "d": "common"}, result.error
    models = lab.sql("SELECT step, model FROM lm_calls ORDER BY step").set_index("step")["model"]
    assert models["c"] == "scripted/own"
    assert models["b"] == models["d"] != "scripted/own"


def test_a_model_that_cannot_be_made_fails_its_step_alone(lab: dx.Lab) -> None:
    made = dx.pipeline("p", b=dx.step(dspy.Predict("a -> b"), lm="nobody/such-model"), n=lambda a: a + "!")
    result = lab.run(made, a="x")
    assert result.outputs == {"n": "x!"}
    assert "nobody" in str(result.error)


def test_the_steps_in_a_step_use_its_model(lab: dx.Lab) -> None:
    lab.use(scripted_lm([{"b": "common"}]))
    own, inner = (scripted_lm([{"b": text, "c": text}], model=f"scripted/{text}") for text in ("own", "inner"))
    group = dx.parallel(one=dx.predict("a -> b"), two=dx.step(dspy.Predict("a -> c"), lm=inner))
    result = lab.run(dx.pipeline("p", both=dx.step(group, lm=own)), a="x")
    assert result.outputs == {"b": "own", "c": "inner"}, result.error
