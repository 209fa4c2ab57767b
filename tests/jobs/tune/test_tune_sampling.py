"""Samplers and pruners by name: each that is installed searches, and none gives another result for the same seed."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import pytest
from tune_programs import MANY, ROWS, program, space_of, worth

from dspex_lab.errors import ConfigurationError
from dspex_lab.jobs import Jobs
from dspex_lab.jobs.tune import Tuned, tune
from dspex_lab.jobs.tune._sampling import PRUNERS, SAMPLERS, make_pruner, make_sampler, pruner_name, rungs, sampler_name

HERE = [name for name, needs in SAMPLERS.items() if all(importlib.util.find_spec(each) for each in needs)]


def tuned(jobs: Jobs, tmp_path: Path, variables: Any, trials: int, rows: Any = ROWS, seed: int = 1, **more: Any) -> Tuned:
    work = tune(program, variables, worth, rows, trials, space=space_of(), parallel=1, folder=tmp_path, **more)
    found = jobs.start(work, seed=seed).result(120)
    assert isinstance(found, Tuned)
    return found


@pytest.mark.parametrize("sampler", [name for name in HERE if name not in ("grid", "gp")])
def test_each_sampler_finds_better_values_and_the_same_ones_for_a_seed(jobs: Jobs, tmp_path: Path, sampler: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = tuned(jobs, tmp_path, ["x", "k"], 8, sampler=sampler)
        other = tuned(jobs, tmp_path, ["x", "k"], 8, sampler=sampler)
    assert one.score is not None
    assert one.tried[0].origin == "present"
    assert one.score > next(iter(one.tried[0].scores.values()))
    assert [t.values for t in one.tried] == [t.values for t in other.tried]
    assert len({str(t.values) for t in one.tried}) > 4
    if sampler != "qmc":
        third = tuned(jobs, tmp_path, ["x", "k"], 8, sampler=sampler, seed=2)
        assert [t.values for t in one.tried] != [t.values for t in third.tried]


def test_a_grid_is_tried_whole_and_then_it_ends(jobs: Jobs, tmp_path: Path) -> None:
    found = tuned(jobs, tmp_path, ["k", "mode"], 100, sampler="brute")
    assert sorted((t.values["k"], t.values["mode"]) for t in found.tried) == [
        (k, mode) for k in range(1, 9) for mode in ("plain", "rich")
    ]
    assert found.values == {"k": 5, "mode": "rich"}


def test_a_grid_of_what_cannot_be_counted_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="those of 'x' cannot be counted"):
        tune(program, ["k", "x"], worth, ROWS, space=space_of(), sampler="grid")


def test_samplers_are_known_by_several_names() -> None:
    assert [sampler_name(name) for name in ("TPESampler", "NSGA-II", "BruteForce", "nsga_2")] == [
        "tpe",
        "nsga2",
        "grid",
        "nsga2",
    ]
    with pytest.raises(ConfigurationError, match="Did you mean 'random'"):
        sampler_name("randm")


def test_a_sampler_whose_package_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SAMPLERS, "cmaes", ("no_such_package_here",))
    with pytest.raises(ConfigurationError, match=r"'no_such_package_here' is needed for the sampler 'cmaes'.*pip install"):
        sampler_name("cmaes")


def test_what_a_pruner_cannot_do_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'median'"):
        pruner_name("medain", 10, 1)
    with pytest.raises(ConfigurationError, match="2 objectives cannot be pruned"):
        pruner_name("median", 10, 2)
    assert [pruner_name(None, rows, aims) for rows, aims in ((15, 1), (16, 1), (99, 2))] == ["none", "median", "none"]
    assert type(make_pruner("wilcoxon")).__name__ == "WilcoxonPruner"
    assert [rungs(32, "none"), rungs(32, "median"), rungs(1, "median"), rungs(5, "wilcoxon")] == [
        (32,),
        (4, 8, 16, 32),
        (1,),
        (1, 2, 3, 5),
    ]


@pytest.mark.parametrize("pruner", ["median", "wilcoxon"])
def test_trials_that_are_behind_are_given_up_early(jobs: Jobs, tmp_path: Path, pruner: str) -> None:
    found = tuned(jobs, tmp_path, ["x", "k"], 16, MANY, pruner=pruner)
    pruned = [t for t in found.tried if t.status == "pruned"]
    assert pruned
    assert {t.rows for t in pruned} <= {4, 8, 16}
    assert all(t.note == f"Given up after {t.rows} rows." for t in pruned)
    best = found.best
    assert best is not None
    assert best.rows == 32
    assert found.tried[0].status == "complete"  # what there is is never given up
    told = jobs.list()[0].trials
    assert [t.rows for t in told if t.status == "pruned"] == [t.rows for t in pruned]


def test_cmaes_takes_one_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SAMPLERS, "cmaes", ())
    with pytest.raises(ConfigurationError, match="takes one objective"):
        tune(program, ["x"], worth, ROWS, space=space_of(), sampler="cmaes", objectives=["score", "cost"])


@pytest.mark.parametrize(
    ("name", "kind"), [("cmaes", "CmaEsSampler"), ("gp", "GPSampler"), ("qmc", "QMCSampler"), ("grid", "BruteForceSampler")]
)
def test_each_name_is_the_sampler_of_optuna_that_it_says(name: str, kind: str) -> None:
    assert type(make_sampler(name, 1, 2, trials=20, parallel=False)).__name__ == kind


def test_a_pruner_whose_package_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRUNERS, "wilcoxon", ("no_such_package_here",))
    with pytest.raises(ConfigurationError, match="needed for the pruner 'wilcoxon'"):
        pruner_name("wilcoxon", 20, 1)
