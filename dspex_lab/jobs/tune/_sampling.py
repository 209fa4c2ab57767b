"""Optuna's samplers and pruners by name."""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Sequence
from typing import Any

from dspex_lab._lazy import require
from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.jobs.tune._search import Search

#: Samplers by name; what each needs besides Optuna.
SAMPLERS: dict[str, tuple[str, ...]] = {
    "tpe": (),
    "random": (),
    "grid": (),
    "cmaes": ("cmaes",),
    "nsga2": (),
    "nsga3": (),
    "gp": ("torch", "scipy"),
    "qmc": ("scipy",),
}
_ALIASES = {"brute": "grid", "bruteforce": "grid", "cma": "cmaes", "nsgaii": "nsga2", "nsgaiii": "nsga3"}
#: Pruners likewise.
PRUNERS: dict[str, tuple[str, ...]] = {"none": (), "median": (), "wilcoxon": ("scipy",)}
#: Rows below which nothing is pruned unless it is asked for: the first rungs would say too little.
FEW = 16


def sampler_name(given: str) -> str:
    """Return a sampler's own name.

    Raises:
        ConfigurationError: there is none of that name, or a package that it needs is not installed.
    """
    plain = str(given).lower().replace("-", "").replace("_", "").removesuffix("sampler")
    name = _ALIASES.get(plain, plain)
    if name not in SAMPLERS:
        near = did_you_mean(plain, [*SAMPLERS, *_ALIASES])
        raise ConfigurationError(
            f"There is no sampler {given!r}.{near}", key="sampler", expected=sorted(SAMPLERS), actual=given
        )
    _installed(SAMPLERS[name], f"for the sampler {name!r}")
    return name


def _installed(packages: Sequence[str], purpose: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            require(package, purpose)


def pruner_name(given: str | None, rows: int, objectives: int) -> str:
    """Return a pruner's own name; for None the one that fits.

    Raises:
        ConfigurationError: there is none of that name, a package that it needs is not installed, or several objectives are to
            be pruned, which Optuna cannot.
    """
    if given is None:
        return "median" if objectives == 1 and rows >= FEW else "none"
    name = str(given).lower().removesuffix("pruner")
    if name not in PRUNERS:
        raise ConfigurationError(
            f"There is no pruner {given!r}.{did_you_mean(name, PRUNERS)}", key="pruner", expected=sorted(PRUNERS), actual=given
        )
    if name != "none" and objectives > 1:
        raise ConfigurationError(
            f"{objectives} objectives cannot be pruned: on some rows alone nobody can say which trial is behind.",
            key="pruner",
            expected="none",
            actual=given,
        )
    _installed(PRUNERS[name], f"for the pruner {name!r}")
    return name


def check_sampler(name: str, search: Search, objectives: int) -> None:
    """Refuse a sampler that cannot search this.

    Raises:
        ConfigurationError: it needs what can be counted, or takes one objective.
    """
    if name == "cmaes" and objectives > 1:
        raise ConfigurationError(
            "The sampler 'cmaes' takes one objective.", key="sampler", expected=("tpe", "nsga2", "gp"), actual=name
        )
    if name != "grid":
        return
    for each in search.names:
        if search._count(search.distribution(each)) is None:
            raise ConfigurationError(
                f"The sampler 'grid' tries all values, and those of {each!r} cannot be counted.",
                key="sampler",
                expected="variables with a step, or choices",
                actual=each,
                hint=f"Give {each!r} a step, or take sampler='tpe'.",
            )


def make_sampler(name: str, seed: int | None, number: int, *, trials: int, parallel: bool) -> Any:
    """Return the sampler for one trial.

    Its random numbers come from the seed and the trial's number alone: a job that is stopped, or dies, and goes on chooses what
    it would have chosen. What it knows else it reads from the study.

    Args:
        number: the trial's.
        trials: how many there will be: a tenth to a quarter of them are drawn at random first.
        parallel: others are under way at the same time.
    """
    s = require("optuna.samplers", "to tune variables")
    own = None if seed is None else (seed * 1_000_003 + number) % 2**32
    begin = max(4, min(10, math.ceil(trials / 4)))
    match name:
        case "tpe":
            return s.TPESampler(seed=own, n_startup_trials=begin, constant_liar=parallel)
        case "random":
            return s.RandomSampler(seed=own)
        case "grid":
            return settled(s.BruteForceSampler, seed=own)
        case "nsga2":
            return s.NSGAIISampler(seed=own, population_size=max(4, min(50, trials // 4)))
        case "nsga3":
            return settled(s.NSGAIIISampler, seed=own, population_size=max(4, min(50, trials // 4)))
        case "gp":
            return s.GPSampler(seed=own, n_startup_trials=begin)
        case "cmaes":
            return s.CmaEsSampler(seed=own, n_startup_trials=begin, warn_independent_sampling=False)
    # A sequence that is spread evenly is one sequence: its numbers come from the seed alone.
    return settled(s.QMCSampler, seed=0 if seed is None else seed % 2**32, warn_independent_sampling=False)


def make_pruner(name: str) -> Any:
    """Return a pruner of Optuna's."""
    p = require("optuna.pruners", "to tune variables")
    if name == "median":
        return p.MedianPruner(n_startup_trials=4, n_warmup_steps=0)
    return settled(p.WilcoxonPruner, p_threshold=0.1) if name == "wilcoxon" else p.NopPruner()


def settled(kind: Any, **settings: Any) -> Any:
    """Return an object of one of Optuna's experimental classes, without the warning that such a class gives each time: filters
    of warnings belong to the whole process, and other threads have theirs."""
    made = kind.__new__(kind)
    inspect.unwrap(kind.__init__)(made, **settings)
    return made


def rungs(rows: int, pruner: str) -> Sequence[int]:
    """Return after how many rows a trial is looked at: after an eighth, a quarter, a half, all of them."""
    if pruner == "none":
        return (rows,)
    return tuple(dict.fromkeys(max(1, math.ceil(rows / part)) for part in (8, 4, 2, 1)))
