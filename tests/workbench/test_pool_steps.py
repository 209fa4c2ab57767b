"""Steps on the worker pool: values, records, traces and failures come home."""

from __future__ import annotations

import os
from collections.abc import Iterator

import dspy
import pytest

import dspex_lab as dx
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
    assert result.steps["there"].worker == f"general, pid {result['pid']}"
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
