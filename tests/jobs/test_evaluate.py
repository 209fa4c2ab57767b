"""A program on many rows: what fails is kept and counted, never taken for a 0."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import dspy
import pandas as pd
import pytest
from evaluate_helpers import ROWS, always_odd, parity, right
from job_works import gate

import dspex_lab as dx
from dspex_lab.errors import BudgetExceeded, ConfigurationError, JobError
from dspex_lab.jobs import Evaluation, Jobs, Models, ScoredRow, evaluate
from dspex_lab.jobs._fields import inputs_of, named_by
from dspex_lab.jobs._scoring import budget_in, score_of
from dspex_lab.native.metrics import metric as ours
from dspex_lab.testing import scripted_lm

WHERE = pytest.mark.parametrize("pool", [None, "optimizer"], ids=["kernel", "worker"])


# ---- the rows ------------------------------------------------------------------------------------------------------


@WHERE
def test_every_row_has_what_came_of_it(jobs: Jobs, pool: str | None) -> None:
    job = jobs.start(evaluate(always_odd, ROWS, right, concurrency=3), pool=pool)
    found = job.result(60)
    assert isinstance(found, Evaluation)
    assert (found.score, found.failed, found.left_out, found.total, found.note) == (0.5, 0, 0, 20, "")
    frame = found.frame()
    assert list(frame.columns[:4]) == ["index", "inputs", "prediction", "score"]
    assert frame["inputs"][3] == {"text": "t3"}
    assert frame["prediction"][3] == {"label": "odd"}
    assert frame["score"].tolist() == [0.0, 1.0] * 10
    assert (frame["seconds"] >= 0).all()
    assert (job.progress.done, job.progress.total, job.progress.best) == (20, 20, 0.5)
    assert [(t.score, t.rows) for t in job.trials] == [(0.5, 20)]
    assert job.settings["result"]["score"] == 0.5


@WHERE
def test_rows_on_which_the_metric_raises_or_gives_no_number_are_failed_and_counted(jobs: Jobs, pool: str | None) -> None:
    def picky(example: Any, prediction: Any) -> Any:
        at = int(example.text[1:])
        if at == 3:
            raise KeyError("gold")
        return {5: math.nan, 7: math.inf, 9: "good", 11: None}.get(at, True)

    job = jobs.start(evaluate(parity, ROWS, picky), pool=pool)
    found = job.result(60)
    assert job.state == "complete"
    assert (found.failed, found.score, len(found.scores)) == (5, 1.0, 15)
    assert found.score_with(0.0) == 0.75
    said = {row.index: (row.status, row.score, row.where, row.error) for row in found.failures}
    assert said[3] == ("failed", None, "metric", "KeyError: 'gold'")
    assert said[5][3].startswith("The metric gave nan, which is no score.")
    assert said[7][3].startswith("The metric gave inf")
    assert said[9][3].startswith("The metric gave 'good' (str), which is no score.")
    assert said[11][3].startswith("The metric gave None (NoneType)")
    assert {row.prediction["label"] for row in found.failures} == {"odd"}  # the answers are there
    assert "5 of 20 rows failed, for instance: KeyError" in job.progress.note
    assert found.frame()["score"].isna().sum() == 5


@WHERE
def test_rows_on_which_the_program_fails_are_kept_with_their_traceback(jobs: Jobs, pool: str | None) -> None:
    def program(text: str) -> Any:
        if text in ("t1", "t2"):
            raise ValueError("this text cannot be read")
        return parity(text)

    found = jobs.start(evaluate(program, ROWS, right), pool=pool).result(60)
    assert found.errors == {"ValueError: this text cannot be read": 2}
    assert found.failures[0].where == "program"
    assert "cannot be read" in (found.failures[0].traceback or "")
    assert found.note == "2 of 20 rows failed: ValueError: this text cannot be read"
    assert "2 of 20 rows failed" in repr(found)
    assert found.summary()["errors"] == {"ValueError: this text cannot be read": 2}


@WHERE
def test_if_every_row_fails_the_job_has_failed_and_the_rows_are_there(jobs: Jobs, pool: str | None) -> None:
    def broken(example: Any, prediction: Any) -> float:
        raise TypeError("no such field")

    job = jobs.start(evaluate(parity, ROWS[:4], broken), pool=pool)
    with pytest.raises(JobError, match=r"All 4 rows failed. 4 of 4 rows failed: TypeError: no such field"):
        job.result(60)
    assert job.state == "failed"
    assert job.partial.failed == 4
    assert job.partial.score is None
    with pytest.raises(JobError, match="No row has a score"):
        job.partial.interval()


@WHERE
def test_async_programs_and_metrics_are_awaited(jobs: Jobs, pool: str | None) -> None:
    async def program(text: str) -> Any:
        await asyncio.sleep(0)
        return parity(text)

    class OnlyAsync(dspy.Module):
        async def aforward(self, text: str) -> Any:
            await asyncio.sleep(0)
            return parity(text)

    async def metric(example: Any, prediction: Any) -> bool:
        await asyncio.sleep(0)
        return right(example, prediction)

    assert jobs.start(evaluate(program, ROWS, metric), pool=pool).result(60).score == 1.0
    assert jobs.start(evaluate(OnlyAsync(), ROWS[:6], right), pool=pool).result(60).score == 1.0


def test_metrics_of_gepa_and_of_dspex_lab_are_metrics(jobs: Jobs) -> None:
    def gepa(example: Any, prediction: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
        return dspy.Prediction(score=0.5, feedback=f"say {example.label}")

    found = jobs.start(evaluate(parity, ROWS[:4], gepa)).result(60)
    assert (found.score, found.rows[1].feedback) == (0.5, "say odd")
    assert jobs.start(evaluate(parity, ROWS[:4], ours("exact_match", field="label"))).result(60).score == 1.0


def test_scores_are_numbers_of_any_kind() -> None:
    import numpy as np

    assert score_of(np.float32(0.5)) == (0.5, None)
    assert score_of(np.array([1])) == (1.0, None)
    assert score_of({"score": True, "feedback": "good"}) == (1.0, "good")
    with pytest.raises(JobError, match="list"):
        score_of([1, 2])


# ---- before anything is spent --------------------------------------------------------------------------------------


def test_a_row_without_a_field_is_named_before_the_start(jobs: Jobs) -> None:
    rows = [*ROWS[:7], {"label": "odd", "txt": "t7"}, *ROWS[8:]]
    called: list[str] = []

    def program(text: str) -> Any:
        called.append(text)

    with pytest.raises(ConfigurationError, match=r"Row 7 of 'data' has no field 'text'. Did you mean 'txt'\?") as refused:
        jobs.start(evaluate(program, rows, right))
    assert refused.value.key == "data[7].text"
    assert "1 of 20 rows lack it. Nothing was run." in str(refused.value)
    assert (called, len(jobs)) == ([], 0)


def test_so_is_one_without_what_the_metric_asks_for(jobs: Jobs) -> None:
    rows = [*ROWS[:3], {"text": "t3"}]
    with pytest.raises(ConfigurationError, match="Row 3 of 'data' has no field 'label'"):
        jobs.start(evaluate(parity, rows, right))


def test_an_empty_cell_of_a_table_is_a_field_that_is_not_there(jobs: Jobs) -> None:
    frame = pd.DataFrame({"text": ["t0", None, "t2"], "label": ["even", "odd", "even"]})
    with pytest.raises(ConfigurationError, match="Row 1 of 'data' has no field 'text'"):
        jobs.start(evaluate(parity, frame, right))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"data": []}, "no rows to evaluate"),
        ({"data": 3}, "A int is no data set"),
        ({"metric": "f1"}, "The metric is 'f1'"),
        ({"program": "x"}, "The program is a str"),
        ({"concurrency": 0}, "concurrency=0"),
    ],
)
def test_what_makes_no_sense_is_refused(jobs: Jobs, change: dict[str, Any], says: str) -> None:
    given = {"program": parity, "data": ROWS, "metric": right, **change}
    with pytest.raises(ConfigurationError, match=says):
        jobs.start(evaluate(**given))


def test_the_inputs_are_found() -> None:
    class Own(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = dspy.Predict("text, context -> label")

        def forward(self, text: str, more: str = "") -> Any: ...

    class Loose(Own):
        def forward(self, **inputs: Any) -> Any: ...

    assert inputs_of(parity, ROWS) == ("text",)
    assert inputs_of(Own(), ROWS) == ("text",)
    assert inputs_of(Loose(), ROWS) == ("text",)  # no row has a context: it is made on the way
    whole = dx.pipeline("p", shorter=lambda text, hint="none": text).as_module()
    assert inputs_of(whole, ROWS) == ("text",)  # what has a default need not be in the rows
    assert inputs_of(whole, [{"text": "t", "hint": "h"}]) == ("text", "hint")
    assert inputs_of(dspy.ChainOfThought("text, hint -> label"), [{"text": 1, "hint": 2, "label": 3}]) == ("text", "hint")
    with pytest.raises(ConfigurationError, match="Nobody says which fields"):
        inputs_of(lambda **inputs: None, ROWS)
    with pytest.raises(ConfigurationError, match="Nobody says which fields"):
        inputs_of(print, ROWS)
    examples = [dspy.Example(q="t1", label="odd").with_inputs("q")]
    assert evaluate(lambda **inputs: None, examples, right).inputs == ("q",)
    assert evaluate(lambda **inputs: None, ROWS, right, inputs=["text"]).inputs == ("text",)


def test_what_a_metric_asks_for_is_read_from_its_code() -> None:
    rows = [{"text": 1, "label": 2, "reason": 3, "hint": 4, "deep": 5}]

    class Called:
        def __call__(self, example: Any, prediction: Any) -> Any:
            return example.label == prediction.reason

        def method(self, example: Any, prediction: Any) -> Any:
            return example["hint"]

    assert named_by(lambda example, prediction: example.label == prediction.reason, rows) == ("label",)
    assert named_by(lambda example, prediction: example["label"] + prediction["reason"], rows) == ("label",)
    assert named_by(lambda example, prediction: example.get("label") or getattr(example, "hint", 0), rows) == ()
    assert named_by(lambda example, prediction: any(example.deep == x for x in (1, 2)), rows) == ("deep",)
    assert named_by(Called(), rows) == ("label",)
    assert named_by(Called().method, rows) == ("hint",)
    assert named_by(ours("exact_match", field="label"), rows) == ("label",)
    assert named_by(ours("exact_match", field="label", reference="text"), rows) == ("text",)
    assert named_by(lambda: 1.0, rows) == ()
    assert named_by(max, rows) == ()


# ---- models, budgets, stops ----------------------------------------------------------------------------------------


@WHERE
def test_calls_are_counted_for_the_job_and_each_row(place: Any, jobs: Jobs, pool: str | None) -> None:
    lm = scripted_lm({"label": "odd"})
    job = jobs.start(evaluate(dspy.Predict("text -> label"), ROWS, right), pool=pool, surroundings=Models(lm))
    found = job.result(60)
    assert found.score == 0.5
    assert [row.calls for row in found.rows] == [1] * 20
    assert (job.progress.spent.calls, job.progress.spent.cost) == (20, 0.0)
    plan = job.settings["plan"]
    assert (plan["calls"], plan["answer_tokens"], plan["cost"]) == (20, 4000, 0.0)
    assert plan["prompt_tokens"] > 100
    calls = [r for r in place.told if type(r).__name__ == "LMCall"]
    assert {call.run_id for call in calls} == {job.id}


@WHERE
@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_budget_is_kept_to_and_what_was_done_is_the_result(jobs: Jobs, pool: str | None, concurrency: int) -> None:
    work = evaluate(dspy.Predict("text -> label"), ROWS, right, concurrency=concurrency)
    job = jobs.start(work, pool=pool, surroundings=Models(scripted_lm({"label": "odd"})), budget="7 calls")
    found = job.result(60)
    assert (job.state, job.progress.spent.calls, job.progress.left.calls) == ("stopped", 7, 0)
    assert (len(found.rows), found.left_out, found.failed) == (7, 13, 0)
    assert "Stopped by its budget (7 calls)" in job.progress.note
    with pytest.raises(ConfigurationError, match="The job's budget of calls is spent"):
        job.resume()
    assert job.resume(budget="30 calls").result(60).left_out == 0
    assert job.progress.spent.calls == 20  # those of before are not made again
    assert job.progress.repeated == 0


def test_a_refusal_of_a_budget_is_found_in_what_it_caused() -> None:
    refusal = BudgetExceeded("no more")
    caused, around = ValueError("it failed"), RuntimeError("so did this")
    caused.__cause__, around.__context__ = refusal, caused
    assert budget_in(around) is refusal
    circle = ValueError("a")
    circle.__context__ = circle2 = ValueError("b")
    circle2.__context__ = circle
    assert budget_in(circle) is None


@WHERE
def test_a_stopped_evaluation_has_what_was_done_and_goes_on(jobs: Jobs, until: Callable[..., Any], pool: str | None) -> None:
    name = f"evaluate-{pool}"

    def program(text: str) -> Any:
        if text == "t5":
            gate(name).wait(60)
        return parity(text)

    counted: list[str] = []

    def metric(example: Any, prediction: Any) -> bool:
        counted.append(example.text)
        return right(example, prediction)

    job = jobs.start(evaluate(program, ROWS, metric, concurrency=1), pool=pool)
    until(job, "job.progress", done=5)
    job.stop()
    gate(name).set()
    found = job.result(60)
    assert (job.state, len(found.rows), found.left_out) == ("stopped", 6, 14)
    assert found.note == "14 of 20 rows were not evaluated"
    whole = job.resume().result(60)
    assert (job.state, len(whole.rows), whole.score) == ("complete", 20, 1.0)
    assert job.progress.repeated == 0
    if pool is None:  # a pool's workers have a list of their own
        assert sorted(counted) == sorted(row["text"] for row in ROWS)


def test_one_that_does_not_end_is_ended_and_has_what_was_done(jobs: Jobs, until: Callable[..., Any]) -> None:
    def program(text: str) -> Any:
        if text == "t3":
            gate("endless").wait(60)
        return parity(text)

    job = jobs.start(evaluate(program, ROWS, right, concurrency=1), pool="optimizer")
    until(job, "job.progress", done=3)
    job.stop(patience=0.01)
    found = job.result(60)
    assert (job.state, len(found.rows)) == ("stopped", 3)
    gate("endless").set()


# ---- comparing -----------------------------------------------------------------------------------------------------


def test_two_programs_are_compared_row_by_row(jobs: Jobs) -> None:
    good = jobs.start(evaluate(parity, ROWS, right)).result(60)
    poor = jobs.start(evaluate(always_odd, ROWS, right)).result(60)
    found = good.compare(poor)
    assert (found.difference, found.wins, found.losses, found.verdict) == (0.5, 10, 0, "better")
    assert found.p == pytest.approx(2 / 2**10)
    assert poor.compare(good).verdict == "worse"
    assert good.interval().low == pytest.approx(0.8389, abs=1e-4)


def test_rows_that_failed_in_one_of_both_are_left_out_and_counted() -> None:
    one = Evaluation([ScoredRow(0, "complete", score=1.0), ScoredRow(1, "failed", error="x")], total=2)
    other = Evaluation([ScoredRow(0, "complete", score=0.0), ScoredRow(1, "complete", score=1.0)], total=2)
    found = one.compare(other)
    assert (found.rows, found.left_out) == (1, 1)
    assert "1 rows left out that failed in one of both" in str(found)
    with pytest.raises(JobError, match="No row has a score in both"):
        one.compare(Evaluation([ScoredRow(1, "complete", score=1.0)], total=2))


def test_evaluations_of_different_rows_are_not_compared(jobs: Jobs) -> None:
    one = jobs.start(evaluate(parity, ROWS[:5], right)).result(60)
    other = jobs.start(evaluate(parity, ROWS[5:10], right)).result(60)
    with pytest.raises(JobError, match="evaluations of different rows"):
        one.compare(other)


def test_a_cell_shows_the_score_and_hostile_words_do_no_harm() -> None:
    bad = ScoredRow(0, "failed", error="<script>alert(1)</script>\x1b[31m")
    found = Evaluation([bad, ScoredRow(1, "complete", {"a": "<b>"}, 1.0)], total=2, name="<i>x</i>")
    html = found._repr_html_()
    assert "<script>" not in html
    assert "<i>" not in html
    assert "&lt;script&gt;" in html
    assert "\x1b" not in repr(found)
    assert found.cost == 0.0
    assert Evaluation([ScoredRow(0, "complete", score=1.0, cost=None)], total=1).cost is None
    assert Evaluation([], total=3).score_with(0) is None
