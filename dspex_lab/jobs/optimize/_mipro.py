"""MIPROv2: instructions and demonstrations together, by Bayesian optimization."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dspex_lab.jobs.optimize._driver import Base, Estimate, Task, refuse

if TYPE_CHECKING:
    from dspex_lab.jobs.optimize._course import Course

#: Its own ``AUTO_RUN_SETTINGS`` and constants.
_AUTO = {"light": (6, 100), "medium": (12, 300), "heavy": (18, 1000)}
_SMALL = 50
#: Its own seed; it ignores 0.
SEED = 9


class MIPRO(Base):
    """MIPROv2.

    It draws from one generator that is seeded at its start and asks models with what that gave. So the same seed on a shared
    cache does the same again, until where it was: that is its resume.
    """

    name = "miprov2"
    other = ("mipro", "mipro_v2")
    path = "dspy.teleprompt:MIPROv2"
    measures = True

    def defaults(self, task: Task) -> Mapping[str, Any]:
        """A minibatch no larger than the rows there are."""
        if task.get("auto", "light") is None and task.get("minibatch", True) and "minibatch_size" not in task.compile:
            return {"minibatch_size": min(35, self._val(task))}
        return {}

    def check(self, task: Task) -> Sequence[str]:
        """Refuse what its ``compile`` would, after the models had been asked."""
        auto, trials = task.get("auto", "light"), task.compile.get("num_trials")
        candidates = task.get("num_candidates")
        if auto not in (None, *_AUTO):
            raise refuse(self.name, f"auto={auto!r}.", "auto", "'light', 'medium', 'heavy' or None", auto)
        if auto is None and (candidates is None or trials is None):
            raise refuse(
                self.name,
                "without auto it needs both num_candidates and num_trials.",
                "num_candidates" if candidates is None else "num_trials",
                "a number",
                hint=f"For example num_trials={self._trials(task, candidates or 6)}.",
            )
        if auto is not None and (candidates is not None or trials is not None):
            raise refuse(
                self.name,
                f"auto={auto!r} says how many candidates and trials there are.",
                "auto",
                "None, where num_candidates and num_trials are given",
                auto,
            )
        if self._train(task) < 1 or self._val(task) < 1:
            raise refuse(
                self.name, "it needs two rows, or a row of training and one of validation.", "trainset", "2", task.train
            )
        size = task.compile.get("minibatch_size", 35)
        if auto is None and task.get("minibatch", True) and size > self._val(task):
            raise refuse(
                self.name, "a minibatch is larger than the rows there are.", "minibatch_size", f"≤ {self._val(task)}", size
            )
        return () if task.own_val else (f"Of {task.train} rows it takes {self._val(task)} for validation.",)

    def divided(self, train: list[Any], val: list[Any] | None, seed: int | None) -> tuple[list[Any], list[Any]]:
        """As it divides them itself: four fifths are for validation."""
        if val is not None:
            return train, val
        cut = len(train) - _held(len(train))
        return train[:cut], train[cut:]

    def estimate(self, task: Task) -> Estimate:
        """By its own arithmetic (``_estimate_lm_calls``), with what bootstrapping takes at most."""
        auto, val, fewshot = task.get("auto", "light"), self._val(task), self._fewshot(task)
        if auto is None:
            sets = instructions = int(task.get("num_candidates"))
            trials, minibatch = int(task.compile["num_trials"]), bool(task.get("minibatch", True))
        else:
            sets, most = _AUTO[auto]
            val, instructions = min(val, most), sets // 2 if fewshot else sets
            trials, minibatch = self._trials(task, sets), min(val, most) > _SMALL
        rows = val * (trials + 1)
        if minibatch:
            steps = int(task.compile.get("minibatch_full_eval_steps", 5))
            rows = int(task.compile.get("minibatch_size", 35)) * trials + val * (trials // steps + 2)
        proposals = (
            10 + instructions * task.predictors + (task.predictors + 1 if task.get("program_aware_proposer", True) else 0)
        )
        return Estimate(rows + max(0, sets - 2) * self._train(task), proposals, most=True)

    def arguments(self, course: Course, task: Task) -> dict[str, Any]:
        """A seed that it does not ignore."""
        return {"seed": course.seed or SEED, **super().arguments(course, task)}

    def compile(self, course: Course, task: Task, optimizer: Any) -> Any:
        """The seed again: one that is 0 would be taken for none."""
        seed = {} if "seed" in task.compile else {"seed": course.seed or optimizer.seed or SEED}
        return optimizer.compile(course.student, trainset=course.train, valset=course.val, **{**seed, **task.compile})

    def _trials(self, task: Task, candidates: int) -> int:
        variables = task.predictors * (2 if self._fewshot(task) else 1)
        return int(max(2 * variables * math.log2(max(candidates, 1)), 1.5 * candidates))

    def _fewshot(self, task: Task) -> bool:
        return any(task.get(name, 4) != 0 for name in ("max_bootstrapped_demos", "max_labeled_demos"))

    def _train(self, task: Task) -> int:
        return task.train if task.own_val else task.train - self._val(task)

    def _val(self, task: Task) -> int:
        return task.val if task.own_val else _held(task.train)


def _held(rows: int) -> int:
    return 0 if rows < 2 else min(1000, max(1, int(rows * 0.80)))
