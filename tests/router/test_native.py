"""The native implementations behind the router: when they run, when DSPy does, and what an operation carries."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dspy
import pytest
from dspy.adapters.types.citation import Citations
from dspy.adapters.types.decision import Noul
from dspy.utils.callback import BaseCallback

import dspex_lab as dx
from dspex_lab.native._predict import NativePredict
from dspex_lab.pipelines import Operation
from dspex_lab.router import Implementation, Registry, Router
from dspex_lab.router._builtin import runs_natively
from dspex_lab.testing import scripted_lm

CONTRACT = dx.signature("text: str -> label: Literal['a', 'b']", name="Label")


@pytest.fixture
def lab() -> Iterator[dx.Lab]:
    with dx.Lab(":memory:") as made:
        yield made


def chosen(operation: Operation) -> list[str]:
    return [c.name for c in Router().decide(operation, {"text": "x"}, None)[0]]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "native"),
        ({"adapter": dspy.ChatAdapter()}, "native"),
        ({"adapter": dspy.JSONAdapter()}, "native"),
        ({"adapter": dspy.XMLAdapter()}, "dspy"),
        ({"adapter": dspy.ChatAdapter(callbacks=[BaseCallback()])}, "dspy"),
        ({"adapter": dspy.ChatAdapter(native_response_types=[dspy.Reasoning])}, "dspy"),
        ({"callbacks": [BaseCallback()]}, "dspy"),
        ({"send_stream": object()}, "dspy"),
        ({"lm": "no model"}, "dspy"),
    ],
)
def test_dspy_does_it_where_the_surroundings_have_no_native_equal(settings: dict[str, Any], expected: str) -> None:
    with dspy.context(**settings):
        assert chosen(dx.predict(CONTRACT)) == [expected]
        assert chosen(dx.chain_of_thought(CONTRACT)) == [expected]


@pytest.mark.parametrize(
    "contract",
    [
        dspy.Signature("text, tools: list[dspy.Tool] -> calls: dspy.ToolCalls"),
        dspy.Signature("text, config -> label"),
        dspy.Signature({"text": (str, dspy.InputField()), "sure": (list[Noul], dspy.OutputField())}),
        dspy.Signature({"text": (str, dspy.InputField()), "sources": (Citations, dspy.OutputField())}),
    ],
    ids=["tool calls", "a name that Predict keeps", "a decision", "citations"],
)
def test_dspy_does_it_where_a_field_has_no_native_equal(contract: Any) -> None:
    assert chosen(dx.predict(contract)) == ["dspy"]
    with pytest.raises(dx.ConfigurationError, match="cannot be answered natively"):
        NativePredict(contract)


def test_both_give_the_same_answer_and_the_same_record(lab: dx.Lab) -> None:
    lm = scripted_lm([{"reasoning": "r", "label": "b"}])
    lab.use(lm)
    pins = [{"chain_of_thought": which} for which in ("native", "dspy")]
    runs = [lab.chain_of_thought(CONTRACT, text="x", options=dx.RunOptions(pin=pin)) for pin in pins]
    assert [next(iter(r.steps.values())).implementation for r in runs] == ["native", "dspy"]
    outputs = [dict(next(iter(r.steps.values())).outputs) for r in runs]
    assert outputs[0] == outputs[1] == {"reasoning": "r", "label": "b"}
    calls = lab.sql(
        "SELECT model, prompt_tokens, completion_tokens, cost, cache_hit, simulated, error, messages, outputs FROM lm_calls"
    ).to_dict("records")
    assert len(calls) == 2
    assert repr(calls[0]) == repr(calls[1])
    told = lab.sql("SELECT run_id, name, step, data FROM events ORDER BY time")
    first, second = (told[told["run_id"] == r.run_id].drop(columns="run_id").to_dict("records") for r in runs)
    assert first == second != []


def test_demonstrations_and_settings_of_an_operation_reach_each_implementation(lab: dx.Lab) -> None:
    demos = (dspy.Example(text="seen", label="a"),)
    lm = scripted_lm([{"label": "b"}])
    lab.use(lm)
    operation = replace(dx.predict(CONTRACT), demos=demos, config={"temperature": 0.3})
    for which in ("native", "dspy"):
        assert lab.run(operation, text="x", options=dx.RunOptions(pin={"predict": which}))["label"] == "b"
    first, second = lm.history
    assert first["messages"] == second["messages"]
    assert [m["role"] for m in first["messages"]] == ["system", "user", "assistant", "user"]
    assert first["kwargs"] == second["kwargs"] == {"temperature": 0.3}


def test_an_implementation_is_built_once_for_what_it_was_given() -> None:
    built: list[Any] = []

    def build(signature: Any, demos: tuple[Any, ...] = ()) -> Any:
        built.append(demos)
        return lambda text: {"label": "a"}

    registry, made = Registry(), Implementation("mine", build)
    plain, shown = dx.predict(CONTRACT), replace(dx.predict(CONTRACT), demos=({"text": "x", "label": "a"},))
    for operation in (plain, dx.predict(CONTRACT), shown, shown):
        registry.target(operation, made)
    assert built == [(), ({"text": "x", "label": "a"},)]


def test_a_builder_that_does_not_say_what_it_takes_gets_the_signature() -> None:
    class Silent:
        __signature__ = "none"

        def __call__(self, signature: Any) -> Any:
            return signature

    assert Implementation("silent", Silent()).make(dx.predict(CONTRACT)) is CONTRACT


def test_a_failed_call_is_not_paid_again_by_the_same_prompt(lab: dx.Lab) -> None:
    lm = scripted_lm("no field at all")
    lab.use(lm)
    result = lab.predict(CONTRACT, text="x")
    assert result.status == "failed"
    assert lm.engine.calls == 2, "chat, and once more in JSON, as DSPy does"


def test_the_budget_guard_is_asked_before_each_native_call(lab: dx.Lab) -> None:
    lm = scripted_lm([{"label": "b"}])
    lab.use(lm)
    result = lab.predict(CONTRACT, text="x", options=dx.RunOptions(budget="0 calls"))
    assert isinstance(result.error, dx.BudgetExceeded)
    assert lm.engine.calls == 0


def test_nothing_is_loaded_to_say_whether_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "dspy")
    assert runs_natively(dx.predict(CONTRACT), {})
    assert "dspy" not in sys.modules


def test_what_was_built_longest_ago_is_forgotten() -> None:
    registry, made = Registry(), Implementation("mine", lambda signature: object())
    first = registry.target(dx.predict("a0 -> b"), made)
    assert registry.target(dx.predict("a0 -> b"), made) is first
    for number in range(1, 258):
        registry.target(dx.predict(f"a{number} -> b"), made)
    assert registry.target(dx.predict("a0 -> b"), made) is not first
