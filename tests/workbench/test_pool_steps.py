"""Steps on the worker pool: values, records, traces and failures come home."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import dspy
import pytest

import dspex_lab as dx
from dspex_lab.pools import _running
from dspex_lab.testing import scripted_lm


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dx.Lab]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DSPEX_POOL_GENERAL_WORKERS", "1")
        with dx.Lab(":memory:") as lab:
            yield lab


def where(x: int) -> dict:
    return {"pid": os.getpid(), "twice": 2 * x}


def test_a_function_runs_in_a_worker_and_its_span_has_the_right_parent(pooled: dx.Lab) -> None:
    result = pooled.run(dx.pipeline("p", there=dx.step(where, pool="general"), more=lambda twice: twice + 1), x=3)
    assert result.outputs["more"] == 7
    assert result["pid"] != os.getpid()
    spans = pooled.sql("SELECT name, kind, span_id, parent_id FROM spans WHERE run_id = ?", [result.run_id]).set_index("name")
    assert spans.loc["there", "parent_id"] == spans.loc["p", "span_id"]
    events = pooled.sql("SELECT name, span_id FROM events WHERE run_id = ? AND name LIKE 'pool.%'", [result.run_id])
    assert set(events["name"]) == {"pool.checkout", "pool.checkin"}
    assert set(events["span_id"]) == {spans.loc["there", "span_id"]}


def test_a_dspy_module_runs_there_and_its_calls_are_recorded_here(pooled: dx.Lab) -> None:
    made = dx.pipeline("p", label=dx.step(dspy.Predict("text -> label: Literal['u', 'v']"), pool="general"))
    with dspy.context(trace=[]):
        result = pooled.run(made.as_module(pooled), text="x")
        trace = dspy.settings.trace
    assert result["label"] in ("u", "v")
    assert result.simulated
    call = pooled.sql("SELECT step, span_id, prompt_tokens FROM lm_calls WHERE run_id = ?", [result.run_id]).iloc[0]
    assert call["step"] == "label"
    assert call["prompt_tokens"] > 0
    assert call["span_id"] == pooled.sql("SELECT span_id FROM spans WHERE name = 'label'")["span_id"][0]
    assert [(type(t[0]), t[1]) for t in trace] == [(dspy.Predict, {"text": "x"})]


def test_what_a_model_call_cost_comes_home_with_the_error(pooled: dx.Lab) -> None:
    lm = scripted_lm(["no such field at all"])
    with dspy.context(lm=lm):
        result = pooled.run(dx.pipeline("p", n=dx.step(dspy.Predict("text -> n: int"), pool="general")), text="x")
    assert result.status == "failed"
    assert pooled.sql("SELECT count(*) AS n FROM lm_calls WHERE run_id = ?", [result.run_id])["n"][0] >= 1


def test_a_failure_in_a_worker_keeps_its_type_and_the_run_its_other_steps(pooled: dx.Lab) -> None:
    def broken(x: int) -> int:
        raise LookupError(f"no {x}")

    result = pooled.run(dx.pipeline("p", broken=dx.step(broken, pool="general"), fine=lambda x: x), x=1)
    assert (result.status, result.outputs) == ("partial", {"fine": 1})
    assert isinstance(result.error, LookupError)


def test_a_killed_worker_is_told_by_name_and_the_pool_goes_on(pooled: dx.Lab) -> None:
    def die(x: int) -> int:
        os.kill(os.getpid(), 9)
        return x

    result = pooled.run(dx.pipeline("p", y=dx.step(die, pool="general")), x=1)
    assert isinstance(result.error, dx.WorkerKilled)
    assert "error.pool" in set(pooled.sql("SELECT name FROM events WHERE run_id = ?", [result.run_id])["name"])
    assert pooled.run(dx.pipeline("p", there=dx.step(where, pool="general")), x=1).status == "complete"


def test_an_operation_can_be_pinned_to_the_pool(pooled: dx.Lab) -> None:
    result = pooled.predict("text -> label: Literal['u', 'v']", text="x", options=dx.RunOptions(pin={"predict": "pool"}))
    assert result.status == "complete"
    assert next(iter(result.steps.values())).implementation == "pool"


def test_a_key_given_only_as_an_argument_does_not_travel(pooled: dx.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = dspy.LM("openai/gpt-5-mini", api_key="sk-test-0123456789abcdef")
    with dspy.context(lm=lm):
        result = pooled.run(dx.pipeline("p", a=dx.step(dspy.Predict("q -> a"), pool="general")), q="x")
        assert isinstance(result.error, dx.LMError)
        assert "sk-test" not in str(result.error)
        assert pooled.run(dx.pipeline("p", there=dx.step(where, pool="general")), x=1).status == "complete"


def test_an_unknown_pool_is_refused_by_name_before_anything_runs(pooled: dx.Lab) -> None:
    ran = []
    with pytest.raises(dx.ConfigurationError, match="Did you mean 'general'"):
        pooled.run(dx.pipeline("p", first=lambda x: ran.append(x), y=dx.step(where, pool="genral")), x=1)
    assert not ran


def test_async_functions_run_there_too(pooled: dx.Lab) -> None:
    async def later(x: int) -> int:
        return x + 1

    assert pooled.run(dx.pipeline("p", y=dx.step(later, pool="general")), x=1).outputs == {"y": 2}


def test_the_worker_is_named(pooled: dx.Lab) -> None:
    result = pooled.run(dx.pipeline("p", there=dx.step(where, pool="general")), x=1)
    assert result.steps["there"].worker in {f"general-{n}, pid {result['pid']}" for n in range(8)}
    assert pooled.sql("SELECT worker FROM spans WHERE run_id = ? AND name = 'there'", [result.run_id])["worker"][0]


def test_the_adapter_travels(pooled: dx.Lab) -> None:
    def adapter(x: int) -> str:
        import dspy

        return type(dspy.settings.adapter).__name__

    with dspy.context(adapter=dspy.JSONAdapter()):
        assert pooled.run(dx.pipeline("p", y=dx.step(adapter, pool="general")), x=1)["y"] == "JSONAdapter"


def test_a_predictors_own_model_travels_without_its_key_and_history(pooled: dx.Lab) -> None:
    module = dspy.Predict("text -> label: Literal['u', 'v']")
    module.lm = scripted_lm([{"label": "v"}])
    module.lm.history.append({"secret": "in the history"})
    assert pooled.run(dx.pipeline("p", label=dx.step(module, pool="general")), text="x")["label"] == "v"
    assert module.lm is not None, "the program here keeps its model"
    module.lm = dspy.LM("openai/gpt-5-mini", api_key="sk-test-0123456789abcdef")
    result = pooled.run(dx.pipeline("p", label=dx.step(module, pool="general")), text="x")
    assert isinstance(result.error, dx.LMError)
    assert "sk-test" not in str(result.error)


def test_the_budget_reaches_the_worker(pooled: dx.Lab) -> None:
    def ask(text: str) -> str:
        import dspy

        return dspy.Predict("text -> label")(text=text).label

    made = dx.pipeline("p", label=dx.step(ask, pool="general"))
    result = pooled.run(made, {"text": "x"}, options=dx.RunOptions(budget="0 calls"))
    assert isinstance(result.error, dx.BudgetExceeded)


def test_a_timeout_ends_the_worker_by_name(pooled: dx.Lab) -> None:
    def forever(x: int) -> int:
        import threading

        threading.Event().wait()
        return x

    result = pooled.run(dx.pipeline("p", y=dx.step(forever, pool="general", timeout=0.3)), x=1)
    assert isinstance(result.error, dx.TaskTimeout)
    assert pooled.run(dx.pipeline("p", there=dx.step(where, pool="general")), x=1).status == "complete"


def test_models_and_programs_travel_without_key_and_history(pooled: dx.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-the-environment")
    pooled.run(dx.pipeline("key", y=dx.step(key_of_the_worker, pool="general")), x=1).raise_for_status()
    model = dspy.LM("openai/gpt-4o-mini", api_key="sk-from-the-environment")
    model.history.append({"prompt": "said here"})
    program = dspy.Predict("question -> answer")
    program.traces.append("seen here")

    def looked_at(x: int) -> list[object]:
        model.history.append({"prompt": "said there"})
        return [model.history, model.kwargs.get("api_key"), program.traces, model]

    history, key, traces, home = pooled.run(dx.pipeline("p", y=dx.step(looked_at, pool="general")), x=1)["y"]
    assert (history, traces, home.history) == ([{"prompt": "said there"}], [], [])
    assert key == home.kwargs.get("api_key") == "sk-from-the-environment"
    assert b"sk-from" not in cloudpickle_of(looked_at)


def key_of_the_worker(x: int) -> int:
    os.environ["OPENAI_API_KEY"] = "sk-from-the-environment"
    return x


def cloudpickle_of(value: object) -> bytes:
    """Return the bytes that travel of a value."""
    from dspex_lab.pools._frames import pack

    return bytes(pack(value).head)


def test_a_step_that_killed_two_workers_is_not_given_to_a_third(pooled: dx.Lab) -> None:
    def fatal(x: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return x

    def harmless(x: int) -> int:
        return x

    def error_of(function: object, x: int) -> object:
        return pooled.run(dx.pipeline("p", y=dx.step(function, pool="general")), x=x).error

    assert [type(error_of(fatal, 1)).__name__ for _ in range(3)] == ["WorkerKilled", "WorkerKilled", "PoisonTask"]
    assert type(error_of(fatal, 2)).__name__ == "WorkerKilled"
    assert error_of(harmless, 1) is None


def test_what_a_step_raises_after_it_asked_a_model_has_its_own_name(pooled: dx.Lab) -> None:
    class NoSuchOrder(ValueError):
        pass

    def fails(x: int) -> int:
        dspy.Predict("question -> answer")(question="Which order?")
        raise NoSuchOrder(x)

    def too_large(x: int) -> int:
        dspy.Predict("question -> answer")(question="How much?")
        return len(bytearray(1 << 50))

    def error_of(function: object) -> object:
        return pooled.run(dx.pipeline("p", y=dx.step(function, pool="general")), x=1).error

    assert type(error_of(fails)) is NoSuchOrder
    assert type(error_of(too_large)) is dx.OutOfMemory


def test_a_coroutine_on_a_pool_is_cancelled_and_its_worker_lives(pooled: dx.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_running, "GRACE", 60)  # on a busy machine it is late in hearing that it should stop

    async def waits(folder: str) -> None:
        Path(folder, "begun").touch()  # noqa: ASYNC240 - quick
        try:
            await asyncio.Event().wait()
        finally:
            Path(folder, "cleaned").touch()  # noqa: ASYNC240 - quick

    before = pooled.run(dx.pipeline("w", y=dx.step(where, pool="general")), x=1)["pid"]
    folder = pooled.run(dx.pipeline("f", y=dx.step(lambda x: tempfile.mkdtemp(), pool="general")), x=1)["y"]
    for timeout in (0.3, 3, 30):  # on a busy machine it may not have begun so soon
        failed = pooled.run(dx.pipeline("p", y=dx.step(waits, pool="general", timeout=timeout)), folder=folder)
        assert type(failed.error) is dx.TaskTimeout
        if Path(folder, "begun").exists():
            break
    assert pooled.run(dx.pipeline("w", y=dx.step(where, pool="general")), x=1)["pid"] == before
    assert Path(folder, "cleaned").exists()
