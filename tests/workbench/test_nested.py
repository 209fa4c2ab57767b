"""Runs started in steps of other runs, and Labs beside each other."""

from __future__ import annotations

import dspy

import dspex_lab as dx
from dspex_lab.testing import scripted_lm


def test_a_nested_run_belongs_to_the_run_it_was_started_in(lab: dx.Lab) -> None:
    lab.use(scripted_lm([{"b": "yes"}]))

    def outer(x: str) -> str:
        return lab.predict("a -> b", a=x)["b"]

    result = lab.run(outer, x="?")
    assert result.tokens, "what the nested run spent is part of it"
    assert result.simulated
    runs = lab.sql("SELECT * FROM runs").set_index("name")
    assert (runs.loc["predict", "kind"], runs.loc["predict", "parent_id"]) == ("nested", result.run_id)
    spans = lab.sql("SELECT * FROM spans").set_index(["name", "kind"])
    assert spans.loc[("predict", "run"), "parent_id"] == spans.loc[("outer", "step"), "span_id"]
    calls = lab.sql("SELECT count(*) AS n FROM lm_calls")["n"][0]
    assert calls == 1


def test_the_budget_and_deadline_of_a_run_bind_those_inside_it(lab: dx.Lab) -> None:
    lab.use(scripted_lm([{"b": "yes"}]))
    seen: list[dx.Result] = []

    def outer(x: str) -> str:
        seen.append(lab.predict("a -> b", a=x))
        return "done"

    lab.run(outer, {"x": "?"}, options=dx.RunOptions(budget="0 calls"))
    assert isinstance(seen[-1].error, dx.BudgetExceeded)
    lab.run(outer, {"x": "?"}, options=dx.RunOptions(deadline=30))
    assert seen[-1].status == "complete"


def test_the_budget_of_a_map_is_for_all_its_rows(lab: dx.Lab) -> None:
    lab.use(scripted_lm([{"b": "yes"}]))
    out = lab.map("a -> b", [{"a": "1"}, {"a": "2"}], options=dx.RunOptions(budget="0 calls"))
    assert list(out["status"]) == ["failed", "failed"]
    assert lab.sql("SELECT count(*) AS n FROM lm_calls")["n"][0] == 0


def test_the_deadline_of_a_map_is_for_all_its_rows(lab: dx.Lab) -> None:
    import asyncio

    async def endless(x: int) -> int:
        await asyncio.Event().wait()
        return x

    out = lab.map(endless, [{"x": i} for i in range(4)], concurrency=1, options=dx.RunOptions(deadline=0.1))
    assert list(out["status"]) == ["failed"] * 4
    assert "was not begun" in out["error"][3]


def test_a_program_with_a_forward_of_an_optimizers_own_tells_what_it_used(lab: dx.Lab) -> None:
    program = dx.pipeline("p", label=dspy.Predict("text -> label: Literal['u', 'v']")).as_module(lab)
    train = [dspy.Example(text=t, label=v).with_inputs("text") for t, v in [("red", "u"), ("blue", "v")] * 2]
    embed = dspy.Embedder(lambda texts: [[float("red" in t), 1.0] for t in texts], caching=False)
    better = dspy.KNNFewShot(k=1, trainset=train, vectorizer=embed, max_bootstrapped_demos=0, max_labeled_demos=1).compile(
        program
    )
    result = lab.run(better, text="red")
    assert result.simulated
    assert result.tokens
    assert (result.lm, result.name) == ("offline/exemplar", "p")


def test_the_model_that_answered_is_named_also_where_a_module_has_its_own(lab: dx.Lab) -> None:
    module = dspy.Predict("a -> b")
    module.lm = scripted_lm([{"b": "own"}])
    assert lab.run(module, a="x").lm == module.lm.model


def test_two_labs_answer_with_their_own_models(lab: dx.Lab) -> None:
    lab.use(scripted_lm([{"b": "outer"}]))
    with dx.Lab(":memory:") as other:
        chosen = other.use(scripted_lm([{"b": "inner"}]))
        assert other.lm is chosen

        def ask(x: str) -> str:
            return other.predict("a -> b", a=x)["b"]

        assert lab.run(ask, x="?")["ask"] == "inner"
        with dspy.context(lm=lab.lm):
            assert other.predict("a -> b", a="x")["b"] == "outer", "what the user wraps around a call wins"
            assert other.use(chosen) is chosen


def test_routed_steps_are_predictors_of_the_program(lab: dx.Lab) -> None:
    made = dx.pipeline("p", first=dx.predict("a -> b"), second=dx.chain_of_thought("b -> c"))
    program = made.as_module(lab)
    assert [n for n, _ in program.named_predictors()] == ["first", "second.predict"]
    program.first.demos = [dspy.Example(a="x", b="y")]
    program.second.predict.signature = program.second.predict.signature.with_instructions("Be brief.")
    again = made.with_modules(program)
    assert [s.kind for s in again.steps.values()] == ["operation", "operation"], "they are still routed, with what was learned"
    assert again.steps["first"].target.demos == (dspy.Example(a="x", b="y"),)
    assert again.steps["second"].target.signature.instructions == "Be brief."
    assert list(again.steps["second"].target.signature.outputs) == ["c"]
    program.first.lm = scripted_lm([{"b": "own"}])
    assert made.with_modules(program).steps["first"].kind == "dspy", "with a model of its own it can only be the step itself"


def test_steps_may_be_called_like_what_every_module_has(lab: dx.Lab) -> None:
    lab.use(scripted_lm([{"b": "yes"}]))
    for name in ("history", "callbacks", "forward", "pipeline"):
        assert dx.pipeline("p", **{name: dspy.Predict("a -> b")}).as_module(lab)(a="x").b == "yes"


def test_a_program_whose_step_fell_back_answers(lab: dx.Lab) -> None:
    def broken(x: int) -> int:
        raise ValueError

    program = dx.pipeline("p", y=dx.step(broken, on_error="fallback", fallback=0)).as_module(lab)
    assert program(x=1).y == 0
