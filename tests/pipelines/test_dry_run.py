"""The dry run: what is told before anything runs is what then happens."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from dry_run_helpers import texts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dspex_lab as dx
from dspex_lab._options import RunOptions
from dspex_lab.pipelines import each, loop, parallel, when
from dspex_lab.pipelines.dryrun import _shape
from dspex_lab.pipelines.kinds import assert_, suggest, template
from dspex_lab.testing import scripted_lm


def forbidden(prompt: Any) -> dict[str, Any]:
    raise AssertionError("a dry run asked a model")


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


# --- nothing runs ---------------------------------------------------------------------------------------------------


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


# --- types ----------------------------------------------------------------------------------------------------------


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


# --- what is never reached ------------------------------------------------------------------------------------------


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


# --- what is read by nobody -----------------------------------------------------------------------------------------


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


# --- what runs at once ----------------------------------------------------------------------------------------------


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


# --- shown ----------------------------------------------------------------------------------------------------------


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


def test_a_run_goes_on_as_the_report_said_where_it_found_no_error(lab: dx.Lab) -> None:
    whole = dx.pipeline("p", a=when("1 > 2", left, right), b=lambda left: left)
    assert lab.check(whole, {"x": 1}).ok
    result = lab.run(whole, x=1, options=RunOptions())
    assert result.status == "complete"
    assert result["b"] is None
