"""The dry run: which models are asked how often, and what that takes and costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import dspy
import pytest
from dry_run_helpers import texts
from hypothesis import given
from hypothesis import strategies as st

import dspex_lab as dx
from dspex_lab.lms import set_price
from dspex_lab.lms.choice import _prices
from dspex_lab.pipelines import Kind, Shape, Step, StepField, Surroundings, each, loop, parallel, step_kind, when
from dspex_lab.pipelines.dryrun import Bounds, Spend
from dspex_lab.pipelines.kinds import assert_, template
from dspex_lab.testing import scripted_lm


@pytest.fixture(autouse=True)
def _prices_as_before() -> Iterator[None]:
    yield
    _prices._own.clear()


# --- models ---------------------------------------------------------------------------------------------------------


def test_a_model_that_cannot_be_made_is_an_error_of_its_step(lab: dx.Lab) -> None:
    whole = dx.pipeline(
        "p",
        a=dx.step(dspy.Predict("x -> a"), lm="opnai/gpt-5-mini"),
        b=dx.step(dspy.Predict("x -> b"), lm="openai/gpt-5-mini"),
    )
    report = lab.check(whole)
    assert not report.ok
    assert "Did you mean 'openai'" in texts(report, "error", "a")[0]
    assert "OPENAI_API_KEY is not set" in texts(report, "error", "b")[0]
    assert report.cost is None


def test_a_predictors_own_model_goes_before_the_one_in_use(lab: dx.Lab) -> None:
    own = dspy.Predict("x -> a")
    own.lm = dspy.LM("openai/gpt-5-mini", api_key="none")
    report = lab.check(dx.pipeline("p", a=own, b=dspy.Predict("x -> b")))
    assert report.steps["a"].model == "openai/gpt-5-mini"
    assert report.steps["b"].model == "offline/exemplar"
    assert report.steps["b"].spend.cost == Bounds(0, 0)
    assert report.steps["a"].spend.cost.least > 0  # type: ignore[union-attr]


def test_several_models_in_one_module_give_bounds_of_the_cheapest_and_the_dearest(lab: dx.Lab) -> None:
    class Two(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = dspy.Predict("x -> y"), dspy.Predict("y -> z")
            self.one.lm = dspy.LM("mine/cheap", api_key="none")
            self.two.lm = dspy.LM("mine/dear", api_key="none")

        def forward(self, x: str) -> dspy.Prediction:
            return self.two(y=self.one(x=x).y)

    set_price("mine/cheap", input=1, output=1)
    set_price("mine/dear", input=100, output=100)
    found = lab.check(dx.pipeline("p", a=Two())).steps["a"]
    assert found.model == "mine/cheap, mine/dear"
    assert found.spend.calls == Bounds(0, None)


def test_a_model_nobody_lists_is_a_warning_and_an_imitation_is_said(lab: dx.Lab) -> None:
    strange = dx.step(dspy.Predict("x -> a"), lm=dspy.LM("openai/gpt-99-imaginary", api_key="none"))
    report = lab.check(dx.pipeline("p", a=strange, b=dspy.Predict("x -> b")))
    assert texts(report, "warning", "a") == ["'openai/gpt-99-imaginary' is not in the list of known models"]
    assert "offline/exemplar answers, which only imitates a model" in texts(report, "note")


def test_without_a_lab_the_model_is_the_one_around_or_unknown() -> None:
    whole = dx.pipeline("p", a=dspy.Predict("x -> a"))
    report = whole.check()
    assert report.cost is None
    assert "which model answers is not known here; lab.check(...) knows" in texts(report, "note")
    with dspy.context(lm=dspy.LM("openai/gpt-5-mini", api_key="none")):
        assert whole.check().steps["a"].model == "openai/gpt-5-mini"


def test_an_operation_that_nothing_carries_out_is_an_error(lab: dx.Lab) -> None:
    whole = dx.pipeline("p", a=dx.predict("x -> a"))
    assert lab.check(whole).ok
    lost = whole.check(around=Surroundings(implementations=lambda operation: []))
    assert texts(lost, "error", "a") == ["nothing carries out the operation 'predict'"]


def test_a_model_of_a_step_made_of_others_reaches_none_of_them(lab: dx.Lab) -> None:
    whole = dx.pipeline("p", a=dx.step(when("x == 'a'", dspy.Predict("x -> a")), lm="offline"))
    assert texts(lab.check(whole), "warning", "a") == ["the steps in it use its lm=; this estimate takes the model in use"]


# --- calls ----------------------------------------------------------------------------------------------------------


ASK = "x -> y"


@pytest.mark.parametrize(
    ("made", "calls"),
    [
        (lambda: dspy.Predict(ASK), (1, 2)),
        (lambda: dx.chain_of_thought(ASK), (1, 2)),
        (lambda: template("Say {{ x }}"), (1, 1)),
        (lambda: lambda x: x, (0, 0)),
        (lambda: when("x == 'a'", dspy.Predict(ASK)), (0, 2)),
        (lambda: when("x == 'a'", dspy.Predict(ASK), template("{{ x }}")), (1, 2)),
        (lambda: when("1 < 2", template("{{ x }}"), dspy.Predict(ASK)), (1, 1)),
        (lambda: when("1 > 2", template("{{ x }}")), (0, 0)),
        (lambda: loop(template("{{ x }}"), until="len(y) > 1", limit=5), (1, 5)),
        (lambda: assert_(template("{{ x }}"), "len(y) > 1", attempts=3), (1, 3)),
        (lambda: parallel(u=template("{{ x }}"), v=dspy.Predict("x -> v")), (2, 3)),
        (lambda: dx.step(dspy.Predict(ASK), retries=2), (1, 6)),
        (lambda: dx.step(dspy.Predict(ASK), cache=True), (0, 2)),
        (lambda: dx.step(loop(template("{{ x }}"), until="len(y) > 1", limit=5), retries=1, idempotent=True), (1, 10)),
        (lambda: dx.step(lambda x: x, on_error="fallback", fallback=dspy.Predict(ASK), outputs=["y"]), (0, 2)),
        (lambda: each("xs", template("{{ x }}")), (1, None)),
        (lambda: each("xs", lambda x: x), (0, 0)),
        (lambda: dx.pipeline("inner", y=template("{{ x }}"), z=template("{{ y }}")), (2, 2)),
    ],
)
def test_calls_are_counted_by_the_kind_of_step(made: Any, calls: tuple[float, float | None]) -> None:
    report = dx.pipeline("p", y=made()).check()
    assert tuple(report.calls) == calls
    assert tuple(report.steps["y"].spend.calls) == calls


def test_an_each_over_a_known_list_is_counted_by_its_items(lab: dx.Lab) -> None:
    whole = dx.pipeline("p", y=each("xs", template("{{ x }}")), n=lambda y: len(y))
    report = lab.check(whole, {"xs": ["a", "b", "c"]}, rows=10)
    assert report.calls == Bounds(3, 3)
    assert report.all_rows.calls == Bounds(30, 30)
    assert not any("how many" in a for a in report.assumptions)
    assert any("how many there are is not known" in a for a in lab.check(whole).assumptions)
    assert whole.with_defaults(xs=["a", "b"]).check().calls == Bounds(2, 2)
    assert lab.check(whole, {"xs": []}).calls == Bounds(0, 0)


def test_the_calls_of_a_real_run_lie_within_the_bounds(lab: dx.Lab) -> None:
    lab.use(scripted_lm(["no", "no", "yes", "fine"]))
    whole = dx.pipeline(
        "p", y=loop(template("{{ x }}"), until="y == 'yes'", limit=5), z=when("y == 'yes'", template("{{ y }}"))
    )
    report = lab.check(whole, {"x": "a"})
    lab.run(whole, x="a").raise_for_status()
    calls = lab.sql("SELECT count(*) AS n FROM lm_calls")["n"][0]
    assert report.calls == Bounds(1, 6)
    assert calls == 4


def test_what_cannot_be_told_is_said_until_it_was_measured(lab: dx.Lab) -> None:
    class Twice(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ask = dspy.Predict(ASK)

        def forward(self, x: str) -> dspy.Prediction:
            self.ask(x=x)
            return self.ask(x=x)

    def talks(x: str) -> str:
        return dspy.Predict("x -> z")(x=x).z

    lab.use(scripted_lm({"y": "b", "z": "c"}))
    whole = dx.pipeline("p", a=Twice(), z=talks)
    before = lab.check(whole)
    assert before.calls == Bounds(0, None)
    assert texts(before, "note", "a") == ["how often Twice asks a model cannot be told from outside"]
    assert texts(before, "note", "z") == ["its code names dspy; model calls that it may make are not counted"]
    lab.run(whole, x="a").raise_for_status()
    lab.run(whole, x="b").raise_for_status()
    after = lab.check(whole)
    assert after.calls == Bounds(3, 3)
    assert after.steps["a"].basis.startswith("measured in 2 executions")
    assert not texts(after, "note", "a")


# --- tokens and cost ------------------------------------------------------------------------------------------------


def test_tokens_of_a_known_question_are_those_of_the_prompt(lab: dx.Lab) -> None:
    lm = lab.use(scripted_lm({"y": "word"}))
    ask = dspy.Predict("x -> y: Literal['a', 'bb']")
    ask.demos = [dspy.Example(x="one " * 50, y="a")]
    question = "why " * 200
    found = lab.check(dx.pipeline("p", a=ask), {"x": question})
    messages = dspy.ChatAdapter().format(ask.signature, ask.demos, {"x": question})
    sent = sum(len(m["content"]) for m in messages) / 4
    assert found.tokens.least == pytest.approx(sent + 8 + 0.5)
    assert found.assumptions
    assert lm.engine.calls == 0


def test_sizes_of_answers_go_by_their_types() -> None:
    from dspex_lab.pipelines.dryrun import _tokens as t

    assert t._size(int) == t.NUMBER
    assert t._size(Literal["abcd", "a"]) == 1
    assert t._size(list[int]) == t.ITEMS * t.NUMBER
    assert t._size(list) == t.TEXT
    assert t._size(dspy.Image) == t.TEXT
    assert t._size(tuple[int, ...]) == t.ITEMS * t.NUMBER


def test_an_adapter_that_takes_no_stand_ins_still_gives_an_estimate() -> None:
    class Picky(dspy.ChatAdapter):
        def format(self, signature: Any, demos: Any, inputs: Any) -> Any:
            raise TypeError("no stand-ins")

    with dspy.context(adapter=Picky()):
        assert dx.pipeline("p", a=dspy.Predict("x, h: dspy.History -> y")).check().tokens.least > 100


def test_costs_are_tokens_times_the_price_and_what_was_measured_goes_before(lab: dx.Lab) -> None:
    set_price("scripted/one", input=10, output=20)
    lm = scripted_lm({"y": "b"}, model="scripted/one")
    whole = dx.pipeline("p", a=dspy.Predict(ASK))
    with lab.context(lm):
        assert lab.check(whole).cost == Bounds(0, 0), "a scripted engine costs nothing"
    paid = dx.pipeline("p", a=dx.step(dspy.Predict(ASK), lm=dspy.LM("mine/paid", api_key="none")))
    set_price("mine/paid", input=10, output=20)
    report = lab.check(paid, {"x": "a" * 400}, rows=1000)
    messages = dspy.ChatAdapter().format(dspy.Signature(ASK), [], {"x": "a" * 400})
    sent = sum(len(m["content"]) for m in messages) / 4
    one = (sent * 10 + 108 * 20) / 1e6
    assert report.cost == pytest.approx((one, 2 * one))
    assert report.all_rows.cost == pytest.approx((1000 * one, 2000 * one))
    assert "set_price" in report.steps["a"].basis


def test_measured_averages_of_this_step_and_model_are_taken(lab: dx.Lab) -> None:
    lm = lab.use(scripted_lm({"y": "b"}))
    whole = dx.pipeline("p", a=dspy.Predict(ASK))
    for text in ("a", "b" * 1000):
        lab.run(whole, x=text).raise_for_status()
    told = lab.sql("SELECT avg(prompt_tokens + completion_tokens) AS n FROM lm_calls")["n"][0]
    report = lab.check(whole)
    assert report.tokens.least == pytest.approx(told)
    assert report.steps["a"].basis == "measured in 2 executions; simulated, costs nothing"
    lab.use(scripted_lm({"y": "b"}))
    assert "estimated" in lab.check(whole).steps["a"].basis, "another model was not measured"
    lab.use(lm)
    assert "estimated" in lab.check(dx.pipeline("q", a=dspy.Predict(ASK))).steps["a"].basis, "nor another pipeline"


def test_a_measured_cost_goes_before_the_price(lab: dx.Lab) -> None:
    from dspex_lab.events import LMCall, RunRecord

    lab.store.write(RunRecord("r1", None, "run", "p", "complete", 1.0, 1.0))
    for number, (cost, hit) in enumerate([(0.5, False), (0.25, False), (0.0, True)]):
        lab.store.write(LMCall(f"c{number}", f"s{number}", "r1", "a", "mine/paid", 1.0, 1.0, 100, 10, cost, hit, False))
    lab.store.write(LMCall("c9", "s9", "r1", "a", "mine/paid", 1.0, 1.0, None, None, None, False, False, "it failed"))
    whole = dx.pipeline("p", a=dx.step(dspy.Predict(ASK), lm=dspy.LM("mine/paid", api_key="none")))
    report = lab.check(whole)
    assert report.cost == pytest.approx((0.375, 0.75))
    assert report.tokens == pytest.approx((110, 220))


def test_an_unknown_price_is_unknown_and_not_nothing(lab: dx.Lab) -> None:
    whole = dx.pipeline("p", a=dx.step(dspy.Predict(ASK), lm=dspy.LM("mine/own", api_key="none")), b=dspy.Predict("x -> b"))
    report = lab.check(whole, rows=3)
    assert report.cost is None
    assert report.all_rows.cost is None
    assert "cost unknown" in repr(report)
    assert "price unknown" in report.steps["a"].basis


# --- kinds of the user's own ----------------------------------------------------------------------------------------


class Poll(Kind):
    name = "poll_of_dry_run"

    def accepts(self, target: Any) -> bool:
        return isinstance(target, _Poll)

    def shape(self, name: str, item: Step) -> Shape:
        return Shape({"x": StepField("x")}, {"votes": StepField("votes", list[str])})

    def parts(self, item: Step) -> dict[str, Step]:
        return {"one": dx.step(template("{{ x }}"))}

    def asks(self, item: Step) -> tuple[float, float]:
        return (2, 2)


class _Poll:
    text = "Vote on it."


def test_a_kind_of_the_users_own_is_counted_by_what_it_says(lab: dx.Lab) -> None:
    step_kind(Poll)
    report = lab.check(dx.pipeline("p", a=_Poll()))
    assert report.calls == Bounds(3, 3)
    assert report.tokens.least > 0


# --- sums -----------------------------------------------------------------------------------------------------------


def test_sums_are_written_as_precisely_as_they_are_large() -> None:
    from dspex_lab.pipelines.dryrun._spend import dollars

    assert dollars(Bounds(0, 0)) == "$0.00"
    assert dollars(Bounds(1, 1250)) == "$1.00-$1,250.00"
    assert dollars(Bounds(0.0123, None)) == "$0.0123 or more"
    assert dollars(Bounds(0.000012, 0.000013)) == "$0.000012-$0.000013"


bounds = st.builds(
    lambda least, more: Bounds(least, None if more is None else least + more), st.integers(0, 9), st.none() | st.integers(0, 9)
)


@given(bounds, bounds, st.integers(0, 9), st.integers(0, 9))
def test_bounds_hold_for_what_lies_in_them(one: Bounds, other: Bounds, a: int, b: int) -> None:
    def clip(value: int, into: Bounds) -> float:
        return min(max(value, into.least), into.most if into.most is not None else 10**6)

    def holds(value: float, into: Bounds) -> bool:
        return into.least <= value and (into.most is None or value <= into.most)

    x, y = clip(a, one), clip(b, other)
    assert holds(x + y, one.plus(other))
    assert holds(x * y, one.times(other)) or one.most == 0 or other.most == 0
    assert holds(x, one.either(other))
    assert holds(y, one.either(other))
    assert holds(x, one.up_to(3))
    assert Spend(one, one, None).plus(Spend(one, one, one)).cost is None


def test_a_program_is_checked_with_what_it_learned(lab: dx.Lab) -> None:
    whole = dx.pipeline("p", a=dspy.Predict(ASK))
    program = whole.as_module(lab)
    program.a.demos = [dspy.Example(x="long " * 400, y="b")]
    assert lab.check(program).tokens.least > lab.check(whole).tokens.least + 400
