"""The optimizers that train a model: BootstrapFinetune and GRPO. Only where a trainer is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from dspex_lab.jobs.optimize._driver import Base, Estimate, Judged, Resume, Task, refuse

if TYPE_CHECKING:
    from dspex_lab.jobs.optimize._course import Course


class Finetune(Base):
    """BootstrapFinetune: the program's own answers that pass the metric, as training data of its model."""

    name = "finetune"
    other = ("bootstrap_finetune", "bootstrapfinetune")
    path = "dspy.teleprompt:BootstrapFinetune"
    resume: ClassVar[Resume] = "again"
    differs = "the trainer decides what it draws"
    evaluates = False
    #: What the model's provider must be able to do, and in words.
    ability: ClassVar[str] = "finetunable"
    words: ClassVar[str] = "be finetuned"

    def check(self, task: Task) -> Sequence[str]:
        """Every predictor needs a model of its own whose provider can train it."""
        for path, predictor in task.program.named_predictors():
            lm = predictor.lm
            if lm is None:
                raise refuse(
                    self.name,
                    f"predictor {path!r} has no model of its own, and the one in use is not trained.",
                    f"{path}.lm",
                    "a dspy.LM with a trainer",
                    None,
                    "Set it: program.set_lm(lm).",
                )
            provider = getattr(lm, "provider", None)
            if not getattr(provider, self.ability, False):
                raise refuse(
                    self.name,
                    f"no trainer: {getattr(lm, 'model', lm)!r} (provider {type(provider).__name__}) cannot {self.words}.",
                    f"{path}.lm.provider",
                    f"a provider with {self.ability}=True",
                    type(provider).__name__,
                    "Give the model one: dspy.LM(…, provider=dspy.OpenAIProvider()).",
                )
        return ()

    def estimate(self, task: Task) -> Estimate:
        """Every row once, by each teacher; what training costs nobody says."""
        teachers = task.compile.get("teacher")
        return Estimate(task.train * (len(teachers) if isinstance(teachers, list) else 1))

    def compile(self, course: Course, task: Task, optimizer: Any) -> Any:
        """It changes the student: a copy is, which has the models themselves."""
        from dspy.teleprompt.bootstrap_finetune import copy_program_with_lms

        student = copy_program_with_lms(course.student)
        return optimizer.compile(student, **{"trainset": course.train, **self.more(course, task), **task.compile})

    def more(self, course: Course, task: Task) -> dict[str, Any]:
        """Nothing more."""
        return {}


class GRPO(Finetune):
    """GRPO: reinforcement learning of the program's model."""

    name = "grpo"
    path = "dspy.teleprompt.grpo:GRPO"
    ability: ClassVar[str] = "reinforceable"
    words: ClassVar[str] = "learn by reinforcement"

    def defaults(self, task: Task) -> Mapping[str, Any]:
        """What it demands: DSPy's own default is refused by itself."""
        return {"exclude_demos": True} if isinstance(task.given, type) and "exclude_demos" not in task.init else {}

    def estimate(self, task: Task) -> Estimate:
        """Rollouts of each step, and the validations."""
        steps, examples, rollouts = (
            int(task.get(name, usual))
            for name, usual in (
                ("num_train_steps", 100),
                ("num_dspy_examples_per_grpo_step", 1),
                ("num_rollouts_per_grpo_step", 1),
            )
        )
        every = max(1, int(task.get("num_steps_for_val", 5)))
        return Estimate(steps * examples * rollouts + (steps // every + 1) * task.val)

    def arguments(self, course: Course, task: Task) -> dict[str, Any]:
        """With the seed."""
        return {"seed": course.seed or 0, **super().arguments(course, task)}

    def more(self, course: Course, task: Task) -> dict[str, Any]:
        """It reports on validation rows of its own."""
        return {"valset": course.val} if course.work.val is not None else {}


class Unknown(Base):
    """An optimizer that is not known here: a third party's, or any object with ``compile``.

    It is given what it takes of student, trainset, valset, metric and seed. Its evaluations by ``dspy.Evaluate`` are its
    trials, and so are rows that it scores in turn.
    """

    name = "other"
    by_hand = True
    resume: ClassVar[Resume] = "best"
    judged: ClassVar[Judged] = "either"
    differs = "it is not known here what it draws its choices from"

    def cls(self) -> Any:
        """There is no one class."""
        return object

    def accepts(self) -> Sequence[str]:
        """Whatever it says, and behind ``**kwargs`` anything."""
        return ("*",)

    def estimate(self, task: Task) -> Estimate:
        """Nobody knows."""
        return Estimate(0)

    def arguments(self, course: Course, task: Task) -> dict[str, Any]:
        """The metric, where it takes one."""
        takes = course.parameters(task.given, "__init__")
        return {**{name: course.judge for name in ("metric", "metric_fn") if name in takes}, **task.init}

    def compile(self, course: Course, task: Task, optimizer: Any) -> Any:
        """Give it what it takes, by name; the program first, whatever it is called."""
        takes = course.parameters(optimizer)
        given = {"trainset": course.train, "valset": course.val, "metric": course.judge, "seed": course.seed}
        chosen = {name: value for name, value in given.items() if name in takes and value is not None}
        return optimizer.compile(course.student, **{**chosen, **task.compile})
