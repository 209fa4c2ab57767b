"""The dry run: what is told before anything runs is what then happens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import dspy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dspex_lab as dx
from dspex_lab.events import RunOptions
from dspex_lab.lms import set_price
from dspex_lab.lms.choice import _prices
from dspex_lab.pipelines import CheckReport, Kind, Shape, Step, StepField, Surroundings, each, loop, parallel, step_kind, when
from dspex_lab.pipelines.dryrun import Bounds, Spend, _shape
from dspex_lab.pipelines.kinds import assert_, suggest, template
from dspex_lab.testing import scripted_lm


@pytest.fixture(autouse=True)
def _prices_as_before() -> Iterator[None]:
    yield
    _prices._own.clear()


def forbidden(prompt: Any) -> dict[str, Any]:
    raise AssertionError("a dry run asked a model")


def texts(report: CheckReport, severity: str, step: str | None = None) -> list[str]:
    return [f.text for f in report.findings if f.severity == severity and (step is None or f.step == step)]


def count(n: int) -> int:
    return n


def left(x):  # type: ignore[no-untyped-def]
    return {"left": 1}


def right(x):  # type: ignore[no-untyped-def]
    return {"right": 2}


def more(x):  # type: ignore[no-untyped-def]
    return {"x": x + 1}


def text_and_used(x):  # type: ignore[no-untyped-def]
    return {"t": x, "used": x}


# --- nothing runs ------------------------------------------------------------------------------------------------


def test_nothing_is_run_and_nothing_is_recorded(lab: dx.Lab) -> None:
    ran: list[str] = []
    lm = lab.use(scripted_lm(forbidden))
    whole = dx.pipeline("p", a=lambda x: ran.append(x), b=dspy.Predict("a -> b"), c=when(lambda b: ran.append(b), count))
    report = lab.check(whole, {"x": "1", "n": 1}, rows=7)
    assert report.ok, report
    assert not ran
    assert lm.engine.calls == 0
    assert lab.sql("SELECT count(*) AS n FROM runs")["n"][0] == 0


def test_bad_inputs_are_refused_as_a_run_would(lab: dx.Lab) -> None:
    whole = dx.pipeline("p", a=count)
    with pytest.raises(dx.PipelineError, match=r"input 'n' \(int\) is missing.*'m' is not an input"):
        lab.check(whole, {"m": 1})
    with pytest.raises(dx.PipelineError, match="expected int, found '1'"):
        whole.check({"n": "1"})
    with pytest.raises(dx.PipelineError, match="expected int"):
        lab.accept(whole, {"n": "1"})
    with pytest.raises(dx.ConfigurationError, match="There is no pipeline 'q'"):
        lab.check("q")


@pytest.mark.parametrize("rows", [0, -1, 1.5, True, "3"])
def test_what_is_no_number_of_rows_is_refused(rows: Any) -> None:
    with pytest.raises(dx.PipelineError, match="is no number of rows"):
        dx.pipeline("p", a=count).check(rows=rows)


# --- types -------------------------------------------------------------------------------------------------------


def test_every_connection_is_listed_with_its_types_and_whether_they_were_checked() -> None:
    def typed(n: int) -> list[str]:
        return [str(n)]

    report = dx.pipeline("p", a=typed, b=lambda a: a, c=parallel(d=lambda b: b)).check()
    found = {(c.source, c.field, c.target): (c.given, c.wanted, c.checked) for c in report.connections}
    assert found == {
        ("", "n", "a"): ("int", "int", True),
        ("a", "a", "b"): ("list[str]", "any", False),
        ("b", "b", "c"): ("any", "any", False),
        ("", "b", "c.d"): ("any", "any", False),
    }
    assert texts(report, "note")[0].startswith("2 of 2 connections between steps are not checked")


def test_an_input_that_no_value_fits_is_told() -> None:
    def other(n: str) -> str:
        return n

    report = dx.pipeline("p", a=count, b=other).check()
    assert texts(report, "warning") == ["no value of the input 'n' fits both step 'a' (int) and step 'b' (str)"]


# --- what is never reached ---------------------------------------------------------------------------------------


def test_a_branch_behind_a_constant_is_unreachable_and_its_fields_are_always_none() -> None:
    whole = dx.pipeline(
        "p",
        a=when("1 > 2", left, right),
        b=lambda left: left,
        c=count_left,
        d=lambda right: right,
        e=when("True", lambda x: x),
    )
    report = whole.check()
    assert report.ok
    assert texts(report, "warning", "a") == ["its branch 'then' is never reached: 1 > 2 is always false"]
    assert texts(report, "warning", "e") == ["its condition decides nothing: True is always true"]
    for reader in ("b", "c"):
        (said,) = texts(report, "warning", reader)
        assert said == "it needs 'left', which is always None: step 'a' always takes its branch 'otherwise'"
    assert not texts(report, "warning", "d")


def count_left(left: int) -> int:
    return left


def test_a_condition_that_can_never_be_computed_is_an_error() -> None:
    report = dx.pipeline("p", a=when("1 < 'a'", lambda x: x), b=loop(lambda x: x, until="len(3)")).check()
    assert not report.ok
    assert texts(report, "error", "a")[0].startswith("its condition fails always:")
    assert texts(report, "error", "b")[0].startswith("its condition fails always:")


@pytest.mark.parametrize(
    ("until", "said"),
    [
        ("False", "it never ends early: all 4 rounds, and then partial, as False is always false"),
        ("1 == 1", "it ends after the first round, as 1 == 1 is always true"),
        ("other > 3", "no round changes what other > 3 reads (other)"),
    ],
)
def test_a_loop_whose_condition_no_round_changes_is_told(until: str, said: str) -> None:
    report = dx.pipeline("p", a=loop(more, until=until, limit=4)).check()
    assert texts(report, "warning", "a")[0].startswith(said)


def test_a_loop_that_can_end_early_is_not_told() -> None:
    thinking = loop(dspy.ChainOfThought("x -> y"), until="contains(reasoning, 'sure')")
    report = dx.pipeline("p", a=loop(more, until="x > 3"), b=thinking).check()
    assert not texts(report, "warning")


def test_checks_that_say_always_the_same_are_told() -> None:
    whole = dx.pipeline(
        "p",
        a=assert_(lambda x: x, "1 > 2"),
        b=suggest(lambda x: x, "1 > 2"),
        c=assert_(lambda x: x, "True"),
        d=assert_(lambda x: x, "1 < 'a'"),
        e=assert_(lambda x: x, lambda e: bool(e)),
    )
    report = whole.check()
    assert texts(report, "error", "a") == ["it is never fulfilled: 1 > 2 is always false"]
    assert texts(report, "warning", "b") == ["it is never fulfilled: 1 > 2 is always false"]
    assert texts(report, "warning", "c") == ["it checks nothing: True is always true"]
    assert texts(report, "error", "d")[0].startswith("its check fails always")
    assert not [f for f in report.findings if f.step == "e" and f.severity != "note"]


def test_what_follows_from_a_step_that_cannot_run_is_never_run(lab: dx.Lab) -> None:
    whole = dx.pipeline(
        "p",
        a=dx.step(count, pool="genral"),
        b=lambda a: a,
        c=lambda b: b,
        d=dx.step(lambda n: n, pool="gpu", on_error="continue"),
        e=lambda d: d,
        f=dx.step(lambda n: n, pool="gpu", on_error="fallback", fallback=1),
        g=lambda f: f,
    )
    report = lab.check(whole)
    assert texts(report, "error", "a") == ["there is no pool 'genral'. Did you mean 'general'?"]
    assert texts(report, "error", "b")[0].startswith(
        "it is never run: it needs 'a', which step 'a' cannot give: there is no pool"
    )
    assert texts(report, "error", "c") == ["it is never run: it needs 'b', which step 'b' would give"]
    assert texts(report, "warning", "e")[0].startswith("it needs 'd', which is always None: step 'd' cannot give")
    assert not [f for f in report.findings if f.step == "g"]
    assert whole.check().ok, "without a Lab the pools are not known"


def test_an_inner_step_on_an_unknown_pool_is_found(lab: dx.Lab) -> None:
    inner = dx.pipeline("inner", y=dx.step(lambda x: x, pool="nowhere"), z=lambda y: y)
    report = lab.check(dx.pipeline("p", a=when("x > 1", inner)))
    assert texts(report, "error", "a.then.y")
    assert texts(report, "error", "a.then.z")[0].startswith("it is never run")


# --- what is read by nobody --------------------------------------------------------------------------------------


def test_a_field_that_is_replaced_before_anybody_reads_it_is_told_and_results_are_listed() -> None:
    whole = dx.pipeline(
        "p",
        a=text_and_used,
        b=dx.step(lambda x: x, outputs=["t"], replaces=True),
        c=lambda t: t,
        d=lambda used: used,
    )
    report = whole.check()
    assert texts(report, "warning", "a") == ["its 't' is replaced by step 'b' before anybody reads it"]
    assert report.results == ("c", "d")


def test_steps_of_a_nested_pipeline_are_looked_at_too() -> None:
    inner = dx.pipeline("inner", a=text_and_used, b=dx.step(lambda x: x, outputs=["t"], replaces=True))
    report = dx.pipeline("p", whole=inner).check()
    assert texts(report, "warning", "whole.a") == ["its 't' is replaced by step 'b' before anybody reads it"]


# --- what runs at once -------------------------------------------------------------------------------------------


def test_levels_width_and_critical_path() -> None:
    whole = dx.pipeline(
        "p", a=lambda x: x, b=lambda a: a, c=lambda a: a, d=lambda b, c: b, slow=lambda x: x, e=dspy.Predict("slow -> e")
    )
    report = whole.check()
    assert report.levels == (("a", "slow"), ("b", "c", "e"), ("d",))
    assert report.width == 3
    assert report.path == ("slow", "e"), "an LM call outweighs three functions"
    assert report.path_seconds is None


def test_width_counts_steps_of_different_levels() -> None:
    whole = dx.pipeline("p", a=lambda x: x, b=lambda a: a, c=lambda a: a, alone=lambda x: x)
    assert whole.check().width == 3


def test_the_critical_path_goes_by_measured_times_where_there_are_some(lab: dx.Lab) -> None:
    whole = dx.pipeline("p", a=lambda x: x, b=lambda a: a, c=lambda x: x)
    lab.run(whole, x=1).raise_for_status()
    report = lab.check(whole)
    took = lab.sql("SELECT name, seconds FROM spans WHERE kind = 'step'").set_index("name")["seconds"]
    best = ("a", "b") if took["a"] + took["b"] > took["c"] else ("c",)
    assert report.path == best
    assert report.path_seconds == pytest.approx(sum(took[n] for n in best))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sets(st.integers(0, 6), max_size=3), min_size=1, max_size=7))
def test_width_is_that_of_the_largest_set_of_steps_of_which_none_waits_for_another(needs: list[set[int]]) -> None:
    made = {}
    for index, earlier in enumerate(needs):
        fields = [f"s{i}" for i in sorted(earlier) if i < index] or ["x"]
        made[f"s{index}"] = eval(f"lambda {', '.join(fields)}: 1")  # noqa: S307 - our own text
    whole = dx.pipeline("p", **made)
    before: list[set[int]] = []
    for node in whole.structure.nodes:
        before.append(set(node.needs).union(*(before[n] for n in node.needs)))
    groups = [{i for i in range(len(made)) if mask >> i & 1} for mask in range(1, 1 << len(made))]
    assert _shape.width(whole.structure) == max(len(g) for g in groups if not any(g & before[i] for i in g))
    assert sorted(n for level in _shape.levels(whole.structure) for n in level) == sorted(made)


# --- models ------------------------------------------------------------------------------------------------------


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


# --- calls -------------------------------------------------------------------------------------------------------

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


# --- tokens and cost ---------------------------------------------------------------------------------------------


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


# --- kinds of the user's own -------------------------------------------------------------------------------------


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


# --- shown -------------------------------------------------------------------------------------------------------


def test_it_is_shown_as_text_and_as_a_table_with_everything_escaped(lab: dx.Lab) -> None:
    whole = dx.pipeline("p", a=dx.step(dspy.Predict("x -> a"), pool="<b>"), y=each("xs", template("{{ x }}")))
    report = lab.check(whole, rows=2)
    text, html = repr(report), report._repr_html_()
    assert html.startswith('<div class="dspex-check mathjax_ignore tex2jax_ignore">')  # else "$0 … $1" is shown as a formula
    assert text.startswith("p: cannot run as it is: 1 error · ")
    assert "2 rows: " in text
    assert "error: a: there is no pool '<b>'." in text
    assert "gives: a, y" in text
    assert "<b>&#x27;" not in html
    assert "&lt;b&gt;" in html
    assert "<table>" in html
    free = dx.pipeline("q", a=count).check()
    assert repr(free).startswith("q: can run · no LM calls")
    assert "<table>" not in free._repr_html_()
    assert "<ul>" not in free._repr_html_()


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


def test_a_run_goes_on_as_the_report_said_where_it_found_no_error(lab: dx.Lab) -> None:
    whole = dx.pipeline("p", a=when("1 > 2", left, right), b=lambda left: left)
    assert lab.check(whole, {"x": 1}).ok
    result = lab.run(whole, x=1, options=RunOptions())
    assert result.status == "complete"
    assert result["b"] is None
