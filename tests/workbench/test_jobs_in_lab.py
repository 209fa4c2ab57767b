"""Evaluate, compare, optimize and tune whatever a Lab can run, in the background."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import dspy
import pytest
from adopting_helpers import own_state, ready
from job_helpers import ROWS, better, clean, exact, model, support

import dspex_lab as dx
from dspex_lab import Lab
from dspex_lab.errors import ConfigurationError, JobError
from dspex_lab.jobs import Dataset
from dspex_lab.testing import scripted_lm

__all__ = ["own_state", "ready"]


# ---- evaluate --------------------------------------------------------------------------------------------------------


def test_a_pipeline_is_evaluated_by_its_name(ready: Lab) -> None:
    job = ready.evaluate("support", data=ROWS, metric=exact)
    found = job.result(60)
    assert found.score == 0.0
    assert len(found.rows) == len(ROWS)
    assert found.rows[0].prediction == {"message": "message 0", "label": "wrong"}
    assert (job.kind, job.name, job.state) == ("evaluate", "support", "complete")
    assert job.settings["settings"]["target"] == {"name": "support", "kind": "pipeline"}
    assert job.settings["settings"]["metric"] == "exact"
    assert job.settings["settings"]["data"] == "12 rows"


@pytest.mark.parametrize("kind", ["pipeline", "program", "step", "module", "signature", "text", "function"])
def test_whatever_can_be_run_can_be_evaluated(ready: Lab, kind: str) -> None:
    def answer(message: str) -> dict[str, str]:
        return {"label": "right"}

    x: Any = {
        "pipeline": support(),
        "program": support().as_module(ready),
        "step": dx.step(answer, name="answer"),
        "module": dspy.Predict("message -> label"),
        "signature": dx.signature("message -> label"),
        "text": "message -> label",
        "function": lambda message: dspy.Prediction(label="right"),
    }[kind]
    found = ready.evaluate(x, data=ROWS[:3], metric=exact).result(60)
    assert found.failed == 0, found.errors
    assert found.score == (1.0 if kind in ("step", "function") else 0.0)


def test_its_runs_are_the_jobs_and_none_of_the_lab(ready: Lab) -> None:
    ready.budget = "1000 calls"
    job = ready.evaluate("support", data=ROWS, metric=exact).wait(60)
    assert job.progress.spent.calls == len(ROWS)
    assert len(ready.sql("SELECT * FROM runs")) == 0
    calls = ready.sql("SELECT run_id, count(*) AS n FROM lm_calls GROUP BY run_id")
    assert dict(zip(calls["run_id"], calls["n"], strict=True)) == {job.id: len(ROWS)}
    assert ready.ledger.snapshot().spent.calls == len(ROWS)


def test_a_budget_ends_it_with_what_was_done(ready: Lab) -> None:
    job = ready.evaluate("support", data=ROWS, metric=exact, budget="4 calls", concurrency=1).wait(60)
    assert job.state == "stopped"
    assert len(job.result().rows) == 4
    with pytest.raises(ConfigurationError, match="budget of calls is 0"):
        ready.evaluate("support", data=ROWS, metric=exact, budget="0 calls")


def test_the_program_is_the_one_of_the_start(ready: Lab) -> None:
    program = dspy.Predict("message -> label")
    job = ready.evaluate(program, data=ROWS[:2], metric=exact)
    program.signature = program.signature.with_instructions("Carefully!")
    assert job.result(60).score == 0.0
    assert ready.evaluate(program, data=ROWS[:2], metric=exact).result(60).score == 1.0


def test_an_exposed_program_has_the_values_of_its_variables(ready: Lab) -> None:
    exposure = ready.expose("support")
    ready.variables["support.triage.instructions"].value = "Carefully!"
    assert exposure.bound
    assert ready.evaluate("support", data=ROWS[:2], metric=exact).result(60).score == 1.0
    module = dspy.Predict("message -> label")
    ready.expose(module, "own")
    ready.variables["own.instructions"].value = "Carefully!"
    assert ready.evaluate(module, data=ROWS[:2], metric=exact).result(60).score == 1.0


def test_rows_and_metrics_have_names(ready: Lab, tmp_path: Path) -> None:
    ready.dataset("tickets", ROWS, split={"train": 0.5, "test": 0.5}, inputs=("message",))
    whole = ready.evaluate("support", data="tickets", metric="exact_match", name="named").result(60)
    part = ready.evaluate("support", data="tickets.test", metric=exact).result(60)
    assert whole.total == 12
    assert part.total == len(ready.dataset("tickets")["test"])
    assert ready.datasets == ["tickets"]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS[:2])))
    assert ready.evaluate("support", data=str(tmp_path / "rows.jsonl"), metric=exact).result(60).total == 2
    data = Dataset.of(ROWS, "mine", inputs=("message",))
    job = ready.evaluate("support", data=data, metric=exact).wait(60)
    assert job.settings["settings"]["data"] == "mine"
    assert ready.jobs.get("named").settings["settings"]["data"] == "tickets"
    with pytest.raises(ConfigurationError, match="no data set 'tickts'"):
        ready.evaluate("support", data="tickts", metric=exact)
    with pytest.raises(ConfigurationError, match="no part 'tst'"):
        ready.evaluate("support", data="tickets.tst", metric=exact)


def test_bad_input_is_refused_before_anything_runs(ready: Lab) -> None:
    with pytest.raises(ConfigurationError, match="no field 'message'"):
        ready.evaluate("support", data=[{"text": "a", "label": "b"}], metric=exact)
    with pytest.raises(ConfigurationError, match="no pipeline 'suport'"):
        ready.evaluate("suport", data=ROWS, metric=exact)
    with pytest.raises(ConfigurationError, match="The metric is 3"):
        ready.evaluate("support", data=ROWS, metric=3)
    assert len(ready.jobs) == 0


def test_failed_rows_are_kept(ready: Lab) -> None:
    def picky(example: Any, prediction: Any) -> float:
        if example.message == "message 1":
            raise ValueError("no score for that")
        return float("nan") if example.message == "message 2" else 1.0

    found = ready.evaluate("support", data=ROWS, metric=picky).result(60)
    assert found.failed == 2
    assert found.score == 1.0
    assert {row.index for row in found.failures} == {1, 2}


def test_steps_on_pools_and_routed_operations_are_the_labs(ready: Lab) -> None:
    @ready.router.implementation("classify")
    def classify(message: str) -> dict[str, str]:
        return {"label": "right"}

    operation = dx.pipeline("routed", label=dx.predict("message -> label"))
    assert ready.evaluate(operation, data=ROWS[:1], metric=exact).result(60).failed == 0


def test_a_part_that_cannot_travel_is_named(ready: Lab) -> None:
    lock = threading.Lock()

    def locked(example: Any, prediction: Any) -> float:
        with lock:
            return 1.0

    with pytest.raises(dx.Unserialisable) as refused:
        ready.evaluate("support", data=ROWS, metric=locked, pool="general")
    assert "metric" in str(refused.value.path)
    assert len(ready.jobs) == 0


# ---- compare ---------------------------------------------------------------------------------------------------------


def test_two_programs_are_compared_row_by_row(ready: Lab) -> None:
    job = ready.compare(better(ready, "support"), "support", data=ROWS, metric=exact)
    found = job.result(60)
    assert found.comparison.verdict == "better"
    assert (found.first.score, found.second.score) == (1.0, 0.0)
    assert found.summary()["difference"] == 1.0
    assert job.settings["result"]["verdict"] == "better"
    assert "12 better" in repr(found)
    assert job.progress.total == 24
    assert [(t.score, t.note) for t in job.trials] == [(1.0, "first"), (0.0, "second")]
    same = ready.compare("support", "support", data=ROWS, metric=exact).result(60)
    assert same.comparison.verdict == "no difference shown"
    assert same._repr_html_().count("<tr>") == 3, "the titles, and both programs"
    assert "no difference shown: +0 (0.95 interval" in same._repr_html_()


def test_half_a_comparison_is_none_and_it_goes_on_where_it_was(ready: Lab) -> None:
    job = ready.compare("support", "support", data=ROWS, metric=exact, budget="15 calls", concurrency=1).wait(60)
    assert job.state == "stopped"
    with pytest.raises(JobError, match="before it had found anything"):
        job.result()
    job.resume(budget="100 calls").wait(60)
    assert job.result().comparison.rows == len(ROWS)
    assert job.progress.spent.calls <= 2 * len(ROWS) + 1


# ---- optimize and tune -----------------------------------------------------------------------------------------------


def test_an_optimizer_improves_a_pipeline_and_its_result_is_adopted(ready: Lab) -> None:
    job = ready.optimize(
        "support", optimizer="labeled", metric=exact, trainset=ROWS[:6], heldout=ROWS[6:], pool=None, seed=1, k=2
    )
    found = job.result(60)
    assert (found.before, found.after) == (0.0, 1.0)
    assert job.settings["settings"]["optimizer"] == "labeled"
    assert ready.run("support", message="a")["label"] == "wrong", "what was given is left as it is"
    job.adopt()
    assert ready.run("support", message="a")["label"] == "right"
    assert ready.adoption is not None
    assert ready.adoption.compared.comparison.verdict == "better"
    assert "demonstration" in repr(ready.adoption)
    job.rollback()
    assert ready.run("support", message="a")["label"] == "wrong"


def test_values_of_variables_are_searched_and_committed_when_they_are_adopted(ready: Lab) -> None:
    ready.use(scripted_lm(lambda prompt: {"label": "right" if "Carefully" in prompt.task.instructions else "wrong"}))
    ready.expose("support")
    name = "support.triage.instructions"
    present = ready.variables[name].value
    ready.variables.text(name, present, candidates=(present, "Carefully!"))
    job = ready.tune(
        "support", variables=[name], metric=exact, data=ROWS[:4], heldout=ROWS[4:], trials=2, pool=None, seed=1, sampler="grid"
    )
    assert job.result(60).values == {name: "Carefully!"}
    assert ready.variables[name].value == present, "a search by itself changes nothing"
    job.adopt()
    assert ready.variables[name].value == "Carefully!"
    assert ready.variables.history(name)[0].who == "job"
    assert ready.run("support", message="a")["label"] == "right"
    job.rollback()
    assert ready.run("support", message="a")["label"] == "wrong"


def test_what_is_searched_is_exposed_where_it_is_not(ready: Lab) -> None:
    job = ready.tune("support", variables=["support.triage.temperature"], metric=exact, data=ROWS[:2], trials=2, pool=None)
    assert set(job.result(60).values) == {"support.triage.temperature"}


class Patient(dspy.Module):
    """Right where it is patient."""

    def __init__(self) -> None:
        super().__init__()
        self.patience = 2

    def forward(self, text: str) -> Any:
        return dspy.Prediction(label="right" if self.patience > 50 and len(text) > 50 else "wrong")


def test_what_is_searched_has_the_range_that_its_variable_was_given(ready: Lab) -> None:
    def padded(message: str, width: int = 2) -> dict[str, str]:
        return {"text": message.rjust(width)}

    wide = dx.pipeline("wide", padded=dx.step(padded), label=dx.step(Patient(), outputs=["label"]))
    ready.pipelines["wide"] = wide
    ready.expose("wide")
    names = ["wide.padded.width", "wide.label.patience"]
    for name in names:
        ready.variables.int(name, 0, 100, step=50, default=0)
    job = ready.tune("wide", variables=names, metric=exact, data=ROWS[:1], trials=9, pool=None, sampler="grid", seed=1)
    assert job.result(60).values == dict.fromkeys(names, 100)
    assert {each.status for each in job.result().tried} == {"complete"}
    job.adopt()
    assert ready.run("wide", message="a")["label"] == "right"


def test_variables_of_a_function_are_committed_and_rolled_back(ready: Lab) -> None:
    def guess(message: str, level: float) -> Any:
        return dspy.Prediction(label="right" if level > 0.5 else "wrong")

    ready.variables.float("level", 0.0, 1.0, default=0.0, step=0.5)
    job = ready.tune(guess, variables=["level"], metric=exact, data=ROWS[:2], trials=3, pool=None, sampler="grid", seed=1)
    assert job.result(60).values == {"level": 1.0}
    job.adopt()
    assert ready.variables["level"].value == 1.0
    job.rollback()
    assert ready.variables["level"].value == 0.0


def test_a_closed_lab_has_no_jobs(lab: Lab) -> None:
    lab.jobs  # noqa: B018 - made, and closed with the Lab
    lab.close()
    with pytest.raises(ConfigurationError, match="closed"):
        lab.evaluate(clean, data=ROWS, metric=exact)
    with pytest.raises(ConfigurationError, match="closed"):
        lab.jobs  # noqa: B018


def test_a_job_runs_on_workers_of_a_pool(tmp_path: Path) -> None:
    """With a real worker: the pipeline travels, and runs there without a Lab."""

    def same(example: Any, prediction: Any, trace: Any = None) -> float:
        return float(prediction.label == example.label)

    with Lab(tmp_path / "lab.duckdb") as lab:
        lab.use("offline")
        known = dx.retrieve(dx.index(["message 1", "another"]), query="message", k=1)
        steps = {"text": dx.step(clean, name="text"), "label": dx.predict("text -> label: Literal['a', 'b']")}
        triage = dx.pipeline("triage", known=known, **steps)
        found = lab.evaluate(triage, data=ROWS[:3], metric=lambda e, p: p.known == ["message 1"], pool="general").result(120)
        assert found.failed == 0, found.errors
        assert found.score == 1.0
        rows = [{"message": f"m{n}", "label": "a"} for n in range(4)]
        job = lab.optimize(triage, optimizer="bootstrap", metric=same, trainset=rows, pool="general", seed=1)
        assert job.result(120).program.pipeline.name == "triage"
        assert (tmp_path / "lab.jobs" / job.id / "optimizer.log").exists(), "its worker may write in the job's folder"
        job.adopt()
        assert lab.run("triage", message="m").status == "complete"
        assert len(lab.sql("SELECT * FROM runs")) == 1


def test_the_folder_of_a_store_in_memory_is_this_users_alone_and_goes_with_the_lab() -> None:
    with Lab(":memory:") as lab:
        folder = lab.jobs_folder
        assert folder.stat().st_mode & 0o077 == 0
        assert folder.is_dir(), "nobody else can take its name"
        lab.evaluate(support(), data=ROWS[:2], metric=exact, fresh=True).wait(60)
    assert not folder.exists()


def test_a_data_set_may_be_called_like_a_file(lab: Lab) -> None:
    lab.use(model())
    lab.dataset("rows.csv", ROWS[:3])
    assert lab.evaluate(support(), data="rows.csv", metric=exact).result(60).total == 3
