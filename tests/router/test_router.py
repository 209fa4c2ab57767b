"""The router: registries, the fixed strategy, fallback and statistics."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import dspex_lab as dx
from dspex_lab.pipelines import Operation
from dspex_lab.router import Implementation, Router
from dspex_lab.router._fixed import order
from dspex_lab.testing import scripted_lm

CONTRACT = dx.signature("text: str -> label: Literal['a', 'b']", name="Label")


@pytest.fixture
def lab() -> Iterator[dx.Lab]:
    with dx.Lab(":memory:") as made:
        made.use(scripted_lm([{"reasoning": "r", "label": "b"}]))
        yield made


def test_an_order_is_a_pure_function_of_names_and_pin() -> None:
    assert order(["x", "y"], None) == (["x", "y"], "x is registered first")
    assert order(["x"], None) == (["x"], "x is the only implementation that can run it")
    assert order(["x", "y"], "y") == (["y"], "pinned to y")


def test_the_native_form_answers_where_nothing_else_is_registered(lab: dx.Lab) -> None:
    result = lab.predict(CONTRACT, text="x")
    assert result["label"] == "b"
    assert next(iter(result.steps.values())).implementation == "native"
    thought = lab.chain_of_thought(CONTRACT, text="x")
    assert thought.outputs == {"label": "b"}
    assert next(iter(thought.steps.values())).outputs == {"reasoning": "r", "label": "b"}


def test_a_function_of_the_users_goes_first_and_the_choice_is_recorded(lab: dx.Lab) -> None:
    @lab.router.implementation("predict(Label)")
    def rule(text: str) -> dict:
        return {"label": "a"}

    result = lab.predict(CONTRACT, text="x")
    assert result["label"] == "a"
    decision = lab.sql("SELECT * FROM decisions").iloc[0]
    assert (decision["operation"], decision["chosen"], decision["strategy"]) == ("predict(Label)", "rule", "fixed")
    assert list(decision["candidates"]) == ["rule", "native"]
    assert decision["run_id"] == result.run_id
    assert lab.predict("text -> label", text="x")["label"] == "b", "another operation is left alone"


def test_the_next_one_answers_when_one_fails_and_both_are_counted(lab: dx.Lab) -> None:
    @lab.router.implementation("predict", name="fragile")
    def fragile(text: str) -> dict:
        raise OSError("gone")

    result = lab.predict(CONTRACT, text="x")
    assert (result.status, result["label"]) == ("complete", "b")
    reasons = list(lab.sql("SELECT reason FROM decisions ORDER BY time")["reason"])
    assert "fragile failed: OSError: gone" in reasons[1]
    table = lab.router.statistics().set_index("implementation")
    assert (table.loc["fragile", "calls"], table.loc["fragile", "errors"]) == (1, 1)
    assert (table.loc["native", "calls"], table.loc["native", "errors"]) == (1, 0)
    assert table.loc["native", "p50_seconds"] > 0
    assert table.loc["fragile", "last_error"] == "OSError: gone"


def test_an_answer_that_does_not_fit_the_signature_counts_as_a_failure(lab: dx.Lab) -> None:
    @lab.router.implementation("predict")
    def wrong(text: str) -> dict:
        return {"label": "zebra"}

    assert lab.predict(CONTRACT, text="x")["label"] == "b"


def test_when_all_fail_the_last_error_is_told_with_the_others(lab: dx.Lab) -> None:
    for name in lab.router.registry.names("predict"):
        lab.router.registry.remove("predict", name)
    for name in ("one", "two"):

        def fail(text: str, name: str = name) -> dict:
            raise OSError(name)

        lab.router.register("predict", Implementation(name, lambda signature, fail=fail: fail))
    error = lab.predict(CONTRACT, text="x").error
    assert isinstance(error, OSError)
    assert "before it: OSError: one" in error.__notes__[0]


def test_pins_and_can_run_are_obeyed(lab: dx.Lab) -> None:
    lab.router.register(
        "predict",
        Implementation("short", lambda s: lambda text: {"label": "a"}, can_run=lambda o, i: len(i["text"]) < 5),
        first=True,
    )
    assert lab.predict(CONTRACT, text="abc")["label"] == "a"
    assert lab.predict(CONTRACT, text="abcdef")["label"] == "b"
    assert lab.predict(CONTRACT, text="abc", options=dx.RunOptions(pin={"predict": "dspy"}))["label"] == "b"
    with pytest.raises(dx.ConfigurationError, match="Did you mean 'dspy'"):
        lab.predict(CONTRACT, text="abc", options=dx.RunOptions(pin={"predict": "dsp"}))
    assert lab.last_result["label"] == "b", "nothing was run"


def test_dspy_and_the_pool_do_the_same_again_and_are_taken_only_on_request() -> None:
    router = Router()
    operation = dx.predict(CONTRACT)
    assert [c.name for c in router.decide(operation, {"text": "x"}, None)[0]] == ["native"]
    assert [c.name for c in router.decide(operation, {"text": "x"}, "dspy")[0]] == ["dspy"]
    assert [(c.name, c.pool) for c in router.decide(operation, {"text": "x"}, "pool")[0]] == [("pool", "general")]


def test_what_nobody_can_run_is_refused_by_name(lab: dx.Lab) -> None:
    router = Router()
    with pytest.raises(dx.ConfigurationError, match="No implementation can run the operation 'predic"):
        router.decide(Operation("predic", CONTRACT), {}, None)
    with pytest.raises(dx.ConfigurationError, match=r"has no implementation 'dsp'\. Did you mean 'dspy'"):
        router.registry.remove("predict", "dsp")


def test_inputs_are_checked_before_any_implementation_runs(lab: dx.Lab) -> None:
    result = lab.run(dx.pipeline("p", text=lambda x: x, label=dx.predict(CONTRACT)), x=3)
    assert result.steps["label"].status == "failed"
    assert lab.sql("SELECT count(*) AS n FROM decisions")["n"][0] == 0


def test_a_replaced_implementation_is_built_anew(lab: dx.Lab) -> None:
    for answer in ("a", "b"):
        lab.router.register(
            "predict", Implementation("rule", lambda s, answer=answer: lambda text: {"label": answer}), first=True
        )
        assert lab.predict(CONTRACT, text="x")["label"] == answer


def test_an_implementation_that_cannot_say_whether_it_runs_is_counted_and_passed_over(lab: dx.Lab) -> None:
    def broken(operation: Operation, inputs: object) -> bool:
        raise OSError("no answer")

    lab.router.register("predict", Implementation("unsure", lambda s: lambda text: {}, can_run=broken), first=True)
    assert lab.predict(CONTRACT, text="x")["label"] == "b"
    table = lab.router.statistics().set_index("implementation")
    assert (table.loc["unsure", "errors"], table.loc["unsure", "last_error"]) == (1, "OSError: no answer")


def test_a_pin_of_an_operation_that_does_not_exist_is_refused() -> None:
    with pytest.raises(dx.ConfigurationError, match=r"no operation 'predit' to pin\. Did you mean 'predict'"):
        Router().check_pins({"predict": "dspy", "predit": "dspy"}, {"predict(Label)": "predict"})
