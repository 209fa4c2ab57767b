"""GEPA: instructions by reflection on what went wrong."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from dspex_lab.jobs.optimize._driver import Base, Estimate, Resume, Task, refuse

if TYPE_CHECKING:
    from dspex_lab.jobs.optimize._course import Course

_AUTO = {"light": 6, "medium": 12, "heavy": 18}
_BUDGETS = ("auto", "max_full_evals", "max_metric_calls")


class GEPA(Base):
    """GEPA. Its events are the trials, also those of proposals that were rejected; its state is kept after each iteration."""

    name = "gepa"
    path = "dspy.teleprompt:GEPA"
    resume: ClassVar[Resume] = "state"
    measures = True
    evaluates = False

    def defaults(self, task: Task) -> Mapping[str, Any]:
        """The smallest of its budgets."""
        if not isinstance(task.given, type) or any(task.init.get(name) is not None for name in _BUDGETS):
            return {}
        return {"auto": "light"}

    def check(self, task: Task) -> Sequence[str]:
        """Refuse what it would refuse itself, in its words or better ones."""
        notes = []
        if task.compile.get("teacher") is not None:
            raise refuse(self.name, "it has no teacher.", "teacher", "None")
        if isinstance(task.given, type):
            chosen = [name for name in _BUDGETS if task.init.get(name) is not None]
            if len(chosen) > 1:
                raise refuse(self.name, f"{' and '.join(chosen)} are both given.", chosen[1], "one of " + ", ".join(_BUDGETS))
            if (auto := task.init.get("auto")) is not None and auto not in _AUTO:
                raise refuse(self.name, f"auto={auto!r}.", "auto", "'light', 'medium' or 'heavy'", auto)
            for name in ("max_full_evals", "max_metric_calls"):
                if (most := task.init.get(name)) is not None and most < 1:
                    raise refuse(self.name, f"{name}={most!r}: it could not begin.", name, "1 or more", most)
            if task.init.get("reflection_lm") is None and task.init.get("instruction_proposer") is None:
                notes.append("The model in use reflects; a stronger one (reflection_lm=) proposes better instructions.")
        if not task.own_val:
            notes.append("The rows of training are those of validation too: what it gains may not hold on others.")
        return notes

    def estimate(self, task: Task) -> Estimate:
        """Its budget in calls of the metric, and a reflection for each pair of minibatches. It looks at the budget before each
        iteration, and one evaluates two minibatches (a merge: five rows) and, if that is better, all rows of validation."""
        rows = self._calls(task)
        size = max(1, int(task.get("reflection_minibatch_size", 3) or 3))
        return Estimate(rows + max(2 * size, 5) + task.val - 1, max(0, rows - task.val) // (2 * size) + 1, most=True)

    def make(self, course: Course, task: Task) -> Any:
        """Return one that tells of its candidates, stops when it should, and remembers what was rejected."""
        import dspy

        from dspex_lab.jobs.optimize._gepa_memory import remembering
        from dspex_lab.jobs.optimize._gepa_watch import Following, Stopper

        if isinstance(task.given, type):
            usual = {"seed": course.seed or 0, "reflection_lm": dspy.settings.lm}
            if task.init.get("instruction_proposer") is not None and "reflection_lm" not in task.init:
                del usual["reflection_lm"]
            made = task.given(**{"metric": course.judge, **usual, **task.init})
        else:
            made = copy.copy(task.given)
            made.metric_fn = course.judge
        kwargs = dict(made.gepa_kwargs)
        stoppers = kwargs.get("stop_callbacks") or []
        kwargs["stop_callbacks"] = [*(stoppers if isinstance(stoppers, list | tuple) else [stoppers]), Stopper(course)]
        kwargs["use_cloudpickle"] = True
        if not course.nested:
            following = Following(course)
            following.restore()
            kwargs["callbacks"] = [*(kwargs.get("callbacks") or []), following]
            made.log_dir = str(course.folder / "gepa")
            made.custom_instruction_proposer = remembering(made.custom_instruction_proposer, following.rejected)
        made.gepa_kwargs = kwargs
        made.warn_on_score_mismatch = False
        return made

    def compile(self, course: Course, task: Task, optimizer: Any) -> Any:
        """The validation rows only where some were given: without, it compares by those of training."""
        val = None if course.work.val is None else course.val
        return optimizer.compile(course.student, trainset=course.train, valset=val, **task.compile)

    def _calls(self, task: Task) -> int:
        if (most := task.get("max_metric_calls")) is not None:
            return int(most)
        if (full := task.get("max_full_evals")) is not None:
            return int(full) * (task.train + (task.val if task.own_val else 0))
        # Its own arithmetic, ``GEPA.auto_budget``.
        candidates, val = _AUTO[task.get("auto", "light")], task.val
        trials = int(max(4 * task.predictors * math.log2(candidates), 1.5 * candidates))
        return val + candidates * 5 + trials * 35 + ((trials + 1) // 5 + 1 + (1 if trials < 5 else 0)) * val
