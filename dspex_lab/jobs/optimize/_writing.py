"""The optimizers that write instructions, evaluated by ``dspy.Evaluate`` or on batches: COPRO, InferRules, SIMBA, Avatar."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from dspex_lab.jobs.optimize._driver import Base, Estimate, Judged, Resume, Task, refuse
from dspex_lab.jobs.optimize._fewshot import bootstraps

if TYPE_CHECKING:
    from dspex_lab.jobs.optimize._course import Course


#: As InferRules says it.
_ADHERE = "Please adhere to the following rules when making your prediction:"


class COPRO(Base):
    """COPRO: rewrites instructions, by what was tried and how it did."""

    name = "copro"
    path = "dspy.teleprompt:COPRO"
    judged: ClassVar[Judged] = "train"

    def check(self, task: Task) -> Sequence[str]:
        """Two candidates at least."""
        if (breadth := task.get("breadth", 10)) <= 1:
            raise refuse(self.name, f"breadth={breadth!r}.", "breadth", "2 or more", breadth)
        return ()

    def estimate(self, task: Task) -> Estimate:
        """Every candidate of a depth on all rows; with several predictors, all those before again."""
        breadth, depth, predictors = int(task.get("breadth", 10)), int(task.get("depth", 3)), task.predictors
        candidates = breadth * depth if predictors == 1 else breadth * depth * (depth + 1) // 2
        return Estimate(candidates * predictors * task.train, depth * predictors, most=True)

    def compile(self, course: Course, task: Task, optimizer: Any) -> Any:
        """It takes the keywords of ``Evaluate`` too; their absence would draw a bar of progress."""
        asked = {"eval_kwargs": {"display_progress": False}, **task.compile}
        return optimizer.compile(course.student, trainset=course.train, **asked)


class InferRules(Base):
    """InferRules: rules that examples have in common, added to the instructions."""

    name = "infer_rules"
    other = ("inferrules", "rules")
    path = "dspy.teleprompt:InferRules"
    shuffles = True

    def accepts(self) -> Sequence[str]:
        """What BootstrapFewShot does."""
        return bootstrap_settings()

    def check(self, task: Task) -> Sequence[str]:
        """Rows to learn from and to compare by."""
        if not task.own_val and task.train < 2:
            raise refuse(
                self.name, "it needs two rows, or a row of training and one of validation.", "trainset", "2", task.train
            )
        return () if task.own_val else (f"Of {task.train} rows it takes the second half for validation.",)

    def divided(self, train: list[Any], val: list[Any] | None, seed: int | None) -> tuple[list[Any], list[Any]]:
        """As it divides them itself: in halves."""
        rows, validation = super().divided(train, val, seed)
        if val is not None:
            return rows, validation
        half = len(rows) // 2
        return rows[:half], rows[half:]

    def make(self, course: Course, task: Task) -> Any:
        """Return one that changes candidates and nothing else: DSPy's own sets the instructions of the signature's class,
        which all candidates, and the program that was given, have in common."""
        made = super().make(course, task)

        def update(predictor: Any, rules: str) -> None:
            text = f"{predictor.signature.instructions}\n\n{_ADHERE}\n{rules}"
            predictor.signature = predictor.signature.with_instructions(text)

        made.update_program_instructions = update
        return made

    def estimate(self, task: Task) -> Estimate:
        """Each candidate's rules, and its evaluation."""
        count, val = int(task.get("num_candidates", 10)), task.val if task.own_val else task.train - task.train // 2
        return Estimate(count * val + bootstraps(task), count * task.predictors, most=True)


class SIMBA(Base):
    """SIMBA: rules and demonstrations from the rows on which answers differ most."""

    name = "simba"
    path = "dspy.teleprompt:SIMBA"
    by_hand = True
    judged: ClassVar[Judged] = "train"

    def defaults(self, task: Task) -> Mapping[str, Any]:
        """A batch no larger than the rows there are."""
        return {"bsize": min(32, task.train)} if isinstance(task.given, type) and "bsize" not in task.init else {}

    def check(self, task: Task) -> Sequence[str]:
        """A batch no larger than the rows there are."""
        if not 1 <= (size := task.get("bsize", 32)) <= task.train:
            raise refuse(self.name, "a batch is larger than the rows there are.", "bsize", f"1 to {task.train}", size)
        return ()

    def estimate(self, task: Task) -> Estimate:
        """Trajectories and new candidates of each batch, and the last ones on all rows."""
        size, count, steps = (int(task.get(n, d)) for n, d in (("bsize", 32), ("num_candidates", 6), ("max_steps", 8)))
        rows = steps * size * (2 * count + 1) + (count + 1) * task.train
        return Estimate(rows, steps * (count + 1), most=True)


class Avatar(Base):
    """AvatarOptimizer: how an agent uses its tools, from the rows that went well and ill.

    In DSPy 3.4 it cannot be made: it asks for ``dspy.TypedPredictor``, which is gone. ``dspy.Predict`` does what that did, so
    a subclass with that is used.
    """

    name = "avatar"
    other = ("avatar_optimizer", "avataroptimizer")
    path = "dspy.teleprompt:AvatarOptimizer"
    by_hand = True
    resume: ClassVar[Resume] = "best"
    judged: ClassVar[Judged] = "train"
    differs = "it samples rows from Python's shared random numbers, which other threads of the kernel use too"

    def check(self, task: Task) -> Sequence[str]:
        """It changes an actor and reads its tools."""
        actor = getattr(task.program, "actor", None)
        if not hasattr(actor, "signature") or not hasattr(task.program, "tools"):
            raise refuse(
                self.name,
                f"{type(task.program).__name__} is no agent that it can improve.",
                "program",
                "a module with an 'actor' (a predictor) and 'tools', as dspy.predict.avatar.Avatar",
                type(task.program).__name__,
            )
        return ()

    def estimate(self, task: Task) -> Estimate:
        """All rows in each iteration, and two reflections."""
        iterations = int(task.get("max_iters", 10))
        return Estimate(iterations * task.train, 2 * iterations)

    def make(self, course: Course, task: Task) -> Any:
        """Return one whose evaluations are told of."""
        if not isinstance(task.given, type):
            made = super().make(course, task)
        else:
            made = working(task.given)(metric=course.judge, **task.init)
        from dspy.utils.parallelizer import ParallelExecutor

        def told(devset: Any, actor: Any, return_outputs: bool = False, num_threads: int | None = None) -> Any:
            # Its own threads know nothing of dspy.context, and so of no model.
            threads = ParallelExecutor(num_threads=num_threads, disable_progress_bar=True)
            with course.evaluating(actor, devset) as evaluated:
                results = threads.execute(lambda example: made.process_example(actor, example, True), devset)
                evaluated([float(each) for _, _, each in results], sum(answer is None for _, answer, _ in results))
            score = sum(each for _, _, each in results) / len(results)
            return (score, results) if return_outputs else score

        made.thread_safe_evaluator = told
        return made

    def compile(self, course: Course, task: Task, optimizer: Any) -> Any:
        """It gives the best actor a new instruction after it has judged the old one: what it returns was not evaluated."""
        return optimizer.compile(course.student, trainset=course.train, **task.compile)


def working(given: Any) -> Any:
    """Return AvatarOptimizer, or a subclass, such that it can be made."""
    import dspy
    from dspy.teleprompt.avatar_optimizer import DEFAULT_MAX_EXAMPLES, Comparator, FeedbackBasedInstruction

    if hasattr(dspy, "TypedPredictor"):
        return given

    class Working(given):
        def __init__(
            self,
            metric: Any,
            max_iters: int = 10,
            lower_bound: float = 0,
            upper_bound: float = 1,
            max_positive_inputs: int | None = None,
            max_negative_inputs: int | None = None,
            optimize_for: str = "max",
        ) -> None:
            self.metric, self.max_iters, self.optimize_for = metric, max_iters, optimize_for
            self.lower_bound, self.upper_bound = lower_bound, upper_bound
            self.max_positive_inputs = max_positive_inputs or DEFAULT_MAX_EXAMPLES
            self.max_negative_inputs = max_negative_inputs or DEFAULT_MAX_EXAMPLES
            self.comparator, self.feedback_instruction = dspy.Predict(Comparator), dspy.Predict(FeedbackBasedInstruction)

    return Working


@functools.cache
def bootstrap_settings() -> tuple[str, ...]:
    """Return what BootstrapFewShot is made with."""
    from dspy.teleprompt import BootstrapFewShot

    return tuple(name for name in inspect.signature(BootstrapFewShot.__init__).parameters if name not in ("self", "metric"))
