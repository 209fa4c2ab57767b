"""A tune job: what it tries, what it never spends on, what it tells, and where it begins."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tune_programs import MANY, ROWS, go, program, space_of, work_of, worth

from dspex_lab.errors import ConfigurationError, ConstraintError, JobError
from dspex_lab.jobs import Jobs
from dspex_lab.jobs.tune import read_study, tune
from dspex_lab.variables import Author, Space

# ---- what comes of it ----------------------------------------------------------------------------------------------


def test_the_best_values_become_the_present_ones_with_who_why_and_score(jobs: Jobs, tmp_path: Path) -> None:
    space = space_of()
    before = space.version
    job = jobs.start(work_of(space, trials=12, folder=tmp_path), seed=1)
    found = job.result(120)
    assert job.state == "complete"
    assert found.best is not None
    assert found.score == max(t.scores["score"] for t in found.tried)
    assert found.score > found.tried[0].scores["score"]
    assert {name: space.get(name) for name in found.values} == found.values
    assert found.committed == space.version == before + 1  # the trials' own values were never the present ones
    record = space.history("x", 1)[0]
    assert (record.who, record.author, record.score) == ("job", f"tune {job.id}", found.score)
    assert f"trial {found.best.number} of 12 of job {job.number}:" in (record.why or "")
    assert space.leases() == ()
    assert found.study == str(tmp_path / job.id / "study.log")
    assert found.rule == "the best score (maximize)"
    assert job.progress.done == job.progress.total == 12
    assert job.progress.note.startswith("The best values: x = ")
    assert job.progress.best == found.score


def test_every_trial_is_told_with_its_values_rows_and_version(place: Any, jobs: Jobs, tmp_path: Path) -> None:
    space = space_of()
    version = space.version
    job = jobs.start(work_of(space, trials=6, folder=tmp_path), seed=1)
    found = job.result(120)
    told = job.trials
    assert [(t.number, t.status, t.score, t.rows) for t in told] == [
        (t.number, "complete", t.scores["score"], 8) for t in found.tried
    ]
    assert all(t.values == dict(f.values) for t, f in zip(told, found.tried, strict=True))
    assert told[0].note == f"From: present. With version {version} of the space."
    assert found.tried[0].values == {"x": 0.1, "k": 2, "mode": "plain"}
    assert {t.version for t in found.tried} == {version}


def test_the_frame_counts_demonstrations_and_the_trials_have_them(jobs: Jobs, tmp_path: Path) -> None:
    def program(q: int, shown: Any = ()) -> dict[str, float]:
        return {"worth": float(len(shown))}

    space = space_of()
    space.demos("shown", [], candidates=[[], [{"q": "a", "label": "b"}] * 3])
    found = go(jobs, work_of(space, ["shown"], trials=2, program=program, sampler="grid", folder=tmp_path))
    assert set(found.trials["shown"]) == {"0 demonstrations", "3 demonstrations"}
    assert sorted(len(each.values["shown"]) for each in found.tried) == [0, 3]


def test_the_result_reads_as_a_table_and_a_frame(jobs: Jobs, tmp_path: Path) -> None:
    found = go(jobs, work_of(space_of(), trials=8, folder=tmp_path))
    frame = found.trials
    assert list(frame.columns[:4]) == ["number", "status", "origin", "score"]
    assert {"x", "k", "mode", "rows", "failed", "seconds", "cost", "version", "error"} <= set(frame.columns)
    assert len(frame) == 8
    assert frame["score"].max() == found.score
    assert "Tuned: trial" in repr(found)
    assert "<table" in found._repr_html_()
    assert found.summary()["statuses"] == {"complete": 8}
    assert found.front == [found.best]
    compared = found.compare(found.best.number, 0)  # type: ignore[union-attr]
    assert compared.difference == pytest.approx(found.score - found.tried[0].scores["score"])  # type: ignore[operator]
    with pytest.raises(JobError, match="There is no trial 99"):
        found.compare(99, 0)
    shares = found.importance()
    assert set(shares) <= {"x", "k", "mode", "extra"}
    assert sum(shares.values()) == pytest.approx(1)
    with pytest.raises(ConfigurationError, match="Did you mean 'score'"):
        found.importance("scor")


def test_few_trials_do_not_say_which_variable_matters(jobs: Jobs, tmp_path: Path) -> None:
    found = go(jobs, work_of(space_of(), trials=2, folder=tmp_path))
    with pytest.raises(JobError, match="Fewer than four"):
        found.importance()


def test_the_same_seed_gives_the_same_result(jobs: Jobs, tmp_path: Path) -> None:
    one, other, third = (go(jobs, work_of(space_of(), folder=tmp_path), seed=seed) for seed in (5, 5, 6))
    assert [t.values for t in one.tried] == [t.values for t in other.tried]
    assert [t.values for t in one.tried] != [t.values for t in third.tried]


def test_several_trials_at_once_say_that_the_seed_does_not_fix_the_result(jobs: Jobs, tmp_path: Path) -> None:
    meet = threading.Barrier(3, timeout=60)

    def together(example: Any, prediction: Any) -> float:
        meet.wait()
        return worth(example, prediction)

    work = tune(program, ["x"], together, ROWS[:1], 6, space=space_of(), parallel=3, folder=tmp_path)
    found = go(jobs, work)
    assert len(found.tried) == 6
    assert "With 3 trials at once" in found.note
    assert "parallel=1" in found.note


# ---- constraints, conditions, what is derived ----------------------------------------------------------------------


def test_nothing_is_ever_spent_on_values_that_break_a_constraint(jobs: Jobs, tmp_path: Path) -> None:
    space = space_of()
    space.constrain("x * k < 3", name="small")
    seen: list[tuple[float, int]] = []

    def watched(q: int, x: float, k: int) -> dict[str, float]:
        seen.append((x, k))
        return program(q, x, k)

    found = go(jobs, work_of(space, ["x", "k"], 15, program=watched, folder=tmp_path, inputs=["q"]))
    assert seen
    assert all(x * k < 3 for x, k in seen)
    assert found.infeasible > 0
    assert f"{found.infeasible} proposals broke a constraint" in found.note
    assert len(found.tried) == 15
    study = read_study(found.study or "")
    assert len(study.trials) == 15 + found.infeasible
    broken = [t for t in study.trials if "constraints:small" in str(t.system_attrs) or t.state.name == "PRUNED"]
    assert len(broken) == found.infeasible


def test_where_the_sampler_finds_nothing_that_meets_the_constraints_it_is_looked_for(jobs: Jobs, tmp_path: Path) -> None:
    space = Space()
    space.int("a", 0, 1000, default=7)
    space.int("b", 0, 1000, default=7)
    space.constrain("a == b")
    found = go(jobs, work_of(space, None, 3, program=lambda q, a, b: {"worth": float(a)}, folder=tmp_path))
    assert len(found.tried) == 3
    assert all(t.values["a"] == t.values["b"] for t in found.tried)


def test_a_space_that_no_values_satisfy_is_found_before_the_start(jobs: Jobs) -> None:
    space = space_of()
    space.constrain("k > 8", name="impossible")
    with pytest.raises(ConstraintError, match=r"Unsatisfiable.*'impossible'"):
        jobs.start(work_of(space, ["k"]))
    assert len(jobs) == 0


def test_present_values_that_break_a_constraint_are_no_obstacle(jobs: Jobs, tmp_path: Path) -> None:
    space = space_of()
    space.constrain("k > 3")
    found = go(jobs, work_of(space, ["k", "x"], 5, folder=tmp_path))
    assert all(t.values["k"] > 3 for t in found.tried)
    assert space.get("k") > 3


def test_a_variable_that_does_not_count_has_no_value_and_what_is_derived_is_computed(jobs: Jobs, tmp_path: Path) -> None:
    space = space_of()
    space.derive("double", "k * 2")
    space.pin("x")

    def seen(q: int, x: float, k: int, mode: str, double: int, extra: float | None = None) -> dict[str, float]:
        assert x == 0.1
        assert double == 2 * k
        assert (extra is None) == (mode == "plain")
        return {"worth": float(double)}

    found = go(jobs, work_of(space, None, 8, program=seen, folder=tmp_path, inputs=["q"]))
    assert all(t.status == "complete" for t in found.tried)
    assert {"extra" in t.values for t in found.tried} == {True, False}
    assert all("double" not in t.values and "x" not in t.values for t in found.tried)
    assert space.get("double") == 2 * space.get("k")


def test_values_that_were_tried_are_not_evaluated_again_unless_asked_for(jobs: Jobs, tmp_path: Path) -> None:
    calls: list[int] = []

    def counted(q: int, k: int) -> dict[str, float]:
        calls.append(k)
        return {"worth": -abs(k - 5.0)}

    space = space_of()
    found = go(jobs, work_of(space, ["k"], 30, program=counted, inputs=["q"], folder=tmp_path))
    assert sorted(set(calls)) == list(range(1, 9))
    assert len(calls) == 8 * len(ROWS)
    assert len(found.tried) <= 30
    known = [t for t in found.tried if t.origin == "known"]
    assert all(t.rows == 0 and "not evaluated again" in (t.note or "") for t in known)
    calls.clear()
    again = go(jobs, work_of(space_of(), ["k"], 12, program=counted, inputs=["q"], folder=tmp_path, again=True))
    assert len(calls) == 12 * len(ROWS)
    assert len(again.tried) == 12


# ---- several objectives --------------------------------------------------------------------------------------------


def test_several_objectives_have_a_front_and_a_rule_for_the_best(jobs: Jobs, tmp_path: Path) -> None:
    aims = {"quality": "maximize", "size": ("minimize", lambda rows: -rows[0].score)}
    found = go(jobs, work_of(space_of(), ["x", "k"], 12, objectives=aims, folder=tmp_path))
    assert found.objectives == {"quality": "maximize", "size": "minimize"}
    assert found.best in found.front
    assert found.scores["quality"] == pytest.approx(-found.scores["size"])
    assert found.rule == "the best quality (maximize), of equal ones the best size"
    study = read_study(found.study or "")
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.metric_names == ["quality", "size"]
    assert len(found.importance("size")) == 2
    assert "quality = " in repr(found)


def test_weights_take_another_one_of_the_front(jobs: Jobs, tmp_path: Path) -> None:
    def priced(q: int, k: int) -> dict[str, float]:
        return {"worth": float(k), "price": float(k * k)}

    aims = {"score": "maximize", "price": ("minimize", lambda rows: rows[0].score ** 2)}
    weighted = work_of(
        space_of(),
        ["k"],
        8,
        program=priced,
        inputs=["q"],
        objectives=aims,
        prefer={"price": 1.0},
        sampler="grid",
        folder=tmp_path,
    )
    found = go(jobs, weighted)
    assert found.values == {"k": 1}
    assert len(found.front) == 8
    assert found.rule.endswith("price 1")


def test_a_first_objective_that_is_made_small_is_told_such_that_higher_is_better(jobs: Jobs, tmp_path: Path) -> None:
    job = jobs.start(work_of(space_of(), ["k"], 8, objectives={"score": "minimize"}, sampler="grid", folder=tmp_path))
    found = job.result(60)
    assert found.values == {"k": 1}
    assert job.progress.best == -found.score


# ---- the start -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"trials": 0}, "trials=0"),
        ({"trials": True}, "trials=True"),
        ({"concurrency": 0}, "concurrency=0"),
        ({"commit": "ends"}, "Did you mean 'end'"),
        ({"metric": 3}, "The metric is 3"),
        ({"objectives": ["qualty"]}, "Did you mean 'quality'"),
        ({"rows": 5}, "A int is no data set"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        work_of(space_of(), **more)


def test_no_trials_at_once_no_space_and_no_study_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="parallel=0"):
        tune(program, None, worth, ROWS, space=space_of(), parallel=0)
    with pytest.raises(ConfigurationError, match="Nobody says where the variables are"):
        tune(program, None, worth, ROWS)
    with pytest.raises(JobError, match="There is no study"):
        work_of(space_of(), studies=[tmp_path / "none.log"])
    (tmp_path / "other.log").write_text("{}\n{}\n")
    with pytest.raises(JobError, match=r"other\.log is no study"):
        work_of(space_of(), studies=[tmp_path / "other.log"])
    (tmp_path / "empty.log").touch()
    with pytest.raises(JobError, match="has no study in it"):
        read_study(tmp_path / "empty.log")


def test_no_rows_a_missing_field_and_no_budget_are_found_before_anything_is_spent(jobs: Jobs) -> None:
    with pytest.raises(ConfigurationError, match="There are no rows"):
        jobs.start(work_of(space_of(), rows=[], inputs=["q"]))
    with pytest.raises(ConfigurationError, match="'q'"):
        jobs.start(work_of(space_of(), rows=[*ROWS, {"label": 1}]))
    with pytest.raises(ConfigurationError, match="budget of calls is 0"):
        jobs.start(work_of(space_of()), budget="0 calls")
    assert len(jobs) == 0


def test_the_plan_says_how_many_calls_and_combinations_there_are(jobs: Jobs, tmp_path: Path) -> None:
    space = space_of()
    space.pin("x")
    job = jobs.start(work_of(space, ["k", "x"], 20, objectives=["score", "latency"], folder=tmp_path))
    plan = job.settings["plan"]
    assert (plan["total"], plan["calls"]) == (20, 0)
    said = " ".join(plan["notes"])
    assert "x is pinned and keeps its value." in said
    assert "only 8 combinations" in said
    assert "Answers from a cache cost nothing" in said
    job.result(60)


# ---- the warm start ------------------------------------------------------------------------------------------------


def test_it_begins_with_the_present_values_and_the_best_of_history(jobs: Jobs, tmp_path: Path) -> None:
    space = space_of()
    for k, score in ((3, 0.2), (6, 0.9), (7, 0.5), (8, None)):
        space.commit({"k": k}, author=Author("person", score=score))
    found = go(jobs, work_of(space, ["k"], 4, history=2, folder=tmp_path))
    assert [(t.values["k"], t.origin) for t in found.tried[:3]] == [(8, "present"), (6, "history"), (7, "history")]
    assert found.tried[3].origin in ("sampler", "known")


def test_it_learns_from_an_earlier_study_of_the_same_thing(jobs: Jobs, tmp_path: Path) -> None:
    first = go(jobs, work_of(space_of(), ["x", "k"], 8, commit="never", folder=tmp_path))
    assert first.committed is None
    second = go(jobs, work_of(space_of(), ["x", "k"], 3, studies=[first], folder=tmp_path))
    assert second.tried[1].origin == "earlier study"
    assert second.tried[1].values == first.values
    assert len(read_study(second.study or "").trials) == 8 + len(second.tried)
    assert second.score is not None
    assert first.score is not None
    assert second.score >= first.score
    other = go(jobs, work_of(space_of(), ["x", "k"], 3, rows=MANY, studies=[first.study], folder=tmp_path))
    assert other.tried[1].values == first.values  # tried, but other rows say nothing of what these scored
    assert len(read_study(other.study or "").trials) == len(other.tried)


def test_without_optuna_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.setitem(sys.modules, "optuna.distributions", None)
    with pytest.raises(ConfigurationError, match=r"'optuna'.*is not installed.*pip install"):
        work_of(space_of())


def test_rows_that_cannot_be_compared_and_a_job_without_a_folder_are_no_obstacle(jobs: Jobs) -> None:
    class Opaque:
        __slots__ = ()

    rows = [{"q": at, "held": Opaque()} for at in range(3)]
    work = work_of(space_of(), ["x"], 2, rows=rows, inputs=["q"])
    assert work.rules == ""
    job = jobs.start(work)
    assert Path(job.result(60).study).parent == jobs.around.shelf.home(job.id)
