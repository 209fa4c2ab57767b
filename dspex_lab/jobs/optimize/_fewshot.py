"""The optimizers that choose demonstrations: bootstrap, labeled, random search, Optuna."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from dspex_lab.jobs.optimize._driver import Base, Estimate, Resume, Task

if TYPE_CHECKING:
    from dspex_lab.jobs.optimize._course import Course


def bootstraps(task: Task) -> int:
    """Return the calls of the program that one round of bootstrapping takes at most."""
    return task.train * int(task.get("max_rounds", 1) or 1)


class Bootstrap(Base):
    """BootstrapFewShot: demonstrations from the answers that pass the metric."""

    name = "bootstrap"
    other = ("bootstrap_few_shot", "bootstrapfewshot")
    path = "dspy.teleprompt:BootstrapFewShot"
    shuffles = True
    evaluates = False

    def estimate(self, task: Task) -> Estimate:
        """Every row of training, in each round, until it has enough."""
        return Estimate(bootstraps(task), most=True)


class Labeled(Base):
    """LabeledFewShot: demonstrations drawn from the rows. It calls no model."""

    name = "labeled"
    other = ("labeled_few_shot", "labeledfewshot")
    path = "dspy.teleprompt:LabeledFewShot"
    resume: ClassVar[Resume] = "again"
    shuffles = True
    evaluates = False

    def arguments(self, course: Course, task: Task) -> dict[str, Any]:
        """It has no metric."""
        return dict(task.init)

    def estimate(self, task: Task) -> Estimate:
        """Nothing."""
        return Estimate(0)


class RandomSearch(Base):
    """BootstrapFewShotWithRandomSearch: the best of several sets of demonstrations."""

    name = "random_search"
    other = ("bootstrap_random_search", "bootstrapfewshotwithrandomsearch")
    path = "dspy.teleprompt:BootstrapFewShotWithRandomSearch"
    shuffles = True

    def estimate(self, task: Task) -> Estimate:
        """Three candidates of its own and those asked for, each evaluated; all but two bootstrapped."""
        asked = int(task.get("num_candidate_programs", task.get("num_candidate_sets", 16)))
        return Estimate((asked + 3) * task.val + (asked + 1) * bootstraps(task), most=True)


class OptunaSearch(Base):
    """BootstrapFewShotWithOptuna: one demonstration for each predictor, chosen by Optuna."""

    name = "optuna"
    other = ("bootstrap_optuna", "bootstrapfewshotwithoptuna")
    path = "dspy.teleprompt:BootstrapFewShotWithOptuna"
    shuffles = True

    def defaults(self, task: Task) -> Mapping[str, Any]:
        """``max_demos`` has no default in DSPy."""
        if task.get("max_demos") is not None:
            return {}
        return {"max_demos": max(1, int(task.get("max_bootstrapped_demos", task.get("max_num_samples", 4)) or 4))}

    def estimate(self, task: Task) -> Estimate:
        """One bootstrapping, and each set evaluated."""
        sets = int(task.get("num_candidate_programs", task.get("num_candidate_sets", 16)))
        return Estimate(sets * task.val + bootstraps(task), most=True)

    def compile(self, course: Course, task: Task, optimizer: Any) -> Any:
        """As DSPy 3.4's own ``compile``, with a sampler that has the seed: its own draws from the clock. A subclass with a
        ``compile`` of its own does as it does."""
        if type(optimizer).compile is not self.cls().compile:
            return super().compile(course, task, optimizer)
        import optuna
        from dspy.teleprompt import BootstrapFewShot

        asked = dict(task.compile)
        teacher = asked.get("teacher")
        optimizer.trainset, optimizer.valset = course.train, course.val
        optimizer.student = course.student.reset_copy()
        optimizer.teacher = teacher.deepcopy() if teacher is not None else course.student.reset_copy()
        sets = BootstrapFewShot(
            metric=optimizer.metric,
            max_bootstrapped_demos=asked["max_demos"],
            max_labeled_demos=optimizer.max_labeled_demos,
            teacher_settings=optimizer.teacher_settings,
            max_rounds=optimizer.max_rounds,
        )
        optimizer.compiled_teleprompter = sets.compile(optimizer.student, teacher=optimizer.teacher, trainset=course.train)
        seed = None if course.seed is None else course.seed % 2**32
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        study.optimize(optimizer.objective, n_trials=optimizer.num_candidate_sets)
        return study.best_trial.user_attrs["program"]
