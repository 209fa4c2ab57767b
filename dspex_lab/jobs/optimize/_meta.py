"""The optimizers that are made of others: Ensemble and BetterTogether."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from dspex_lab.errors import ConfigurationError
from dspex_lab.jobs.optimize._driver import Base, Estimate, Resume, Task, refuse, shuffled, with_metric

if TYPE_CHECKING:
    from dspex_lab.jobs.optimize._course import Course


class Ensemble(Base):
    """Ensemble: several programs as one.

    The programs are given (``programs=[…]``), or else the best of a random search, whose settings it takes too.
    """

    name = "ensemble"
    path = "dspy.teleprompt:Ensemble"
    differs = "which members it asks is drawn from Python's shared random numbers, where size= is fewer than there are"

    def accepts(self) -> Sequence[str]:
        """The members, or what they are looked for with."""
        return ("programs", "top", *self._search())

    def check(self, task: Task) -> Sequence[str]:
        """Members there must be."""
        programs, search = task.init.get("programs"), [n for n in task.init if n in self._search() or n == "top"]
        if programs is None:
            return (f"Its members are the best {self._top(task)} of a random search.",)
        if not isinstance(programs, list | tuple) or not programs or not all(callable(p) for p in programs):
            raise refuse(self.name, f"programs={programs!r}.", "programs", "a list of DSPy modules", programs)
        if search:
            raise refuse(self.name, f"{search[0]}= is for a random search.", search[0], "not both programs= and this", search)
        size = task.get("size")
        if size is not None and not 1 <= size <= len(programs):
            raise refuse(self.name, f"size={size!r}.", "size", f"1 to {len(programs)}", size)
        return ()

    def estimate(self, task: Task) -> Estimate:
        """That of the random search, where there is one."""
        return Estimate(0) if "programs" in task.init else self._searcher().estimate(task)

    def make(self, course: Course, task: Task) -> Any:
        """Return DSPy's own, which checks its settings."""
        if not isinstance(task.given, type):
            return task.given
        own = {name: task.init[name] for name in ("reduce_fn", "size", "deterministic") if name in task.init}
        return task.given(**own)

    def compile(self, course: Course, task: Task, optimizer: Any) -> Any:
        """Bring the members together."""
        from dspex_lab.jobs.optimize._programs import Ensembled, bare, unfrozen

        members = task.init.get("programs")
        if members is None:
            searched = {n: v for n, v in task.init.items() if n in self._search()}
            found = (
                self._searcher()
                .cls()(metric=course.judge, **searched)
                .compile(course.student, trainset=shuffled(course.train, course.seed), valset=course.val)
            )
            members = [each["program"] for each in found.candidate_programs[: self._top(task)]]
        copies = [unfrozen(bare(member.deepcopy())) for member in members]
        reduce = optimizer.reduce_fn
        if reduce is None:
            import dspy

            reduce = dspy.majority
        return Ensembled(copies, reduce, optimizer.size)

    def _top(self, task: Task) -> int:
        return int(task.init.get("top") or task.get("size") or 3)

    def _searcher(self) -> Base:
        from dspex_lab.jobs.optimize._fewshot import RandomSearch

        return RandomSearch()

    def _search(self) -> tuple[str, ...]:
        import inspect

        known = inspect.signature(self._searcher().cls().__init__).parameters
        return tuple(name for name in known if name not in ("self", "metric"))


class Together(Base):
    """BetterTogether: one optimizer after another.

    Each is a setting whose name stands in ``strategy``: ``p="miprov2"``, ``p={"optimizer": "gepa", "auto": "light"}``, or an
    instance. Without any it is a random search (``p``), and with a ``w`` in the strategy a finetuning.
    """

    name = "better_together"
    other = ("bettertogether",)
    path = "dspy.teleprompt:BetterTogether"
    resume: ClassVar[Resume] = "replay"
    measures = True

    def accepts(self) -> Sequence[str]:
        """Any name: its parts are settings."""
        return ("*",)

    def defaults(self, task: Task) -> Mapping[str, Any]:
        """All its parts in their order; without any, prompts only: weights need a trainer."""
        if "strategy" in task.compile:
            return {}
        return {"strategy": " -> ".join(_parts(task)) or "p"}

    def check(self, task: Task) -> Sequence[str]:
        """Its parts must be optimizers, and the strategy one of them."""
        from dspex_lab.errors import did_you_mean

        notes: list[str] = []
        parts, steps = _parts(task), _steps(task)
        known = list(parts or {"p": None, "w": None})
        for step in steps:
            if step not in known:
                strategy = task.compile["strategy"]
                raise refuse(
                    self.name,
                    f"strategy={strategy!r} has no optimizer {step!r}.{did_you_mean(step, known)}",
                    "strategy",
                    " -> ".join(known),
                    strategy,
                    f"Give it as a setting: {step}='miprov2'.",
                )
        for key in set(steps):
            driver, inner = self._part(task, parts.get(key), key)
            notes.extend(f"{key}: {note}" for note in driver.check(inner))
        return notes

    def divided(self, train: list[Any], val: list[Any] | None, seed: int | None) -> tuple[list[Any], list[Any]]:
        """As it divides them itself: a tenth is for validation, one row at least."""
        if val is not None:
            return train, val
        cut = max(1, int(0.1 * len(train)))
        return (train[cut:], train[:cut]) if len(train) > 1 else (train, train)

    def estimate(self, task: Task) -> Estimate:
        """Those of its parts, and an evaluation after each."""
        parts, steps = _parts(task), _steps(task)
        found = [driver.estimate(inner) for driver, inner in (self._part(task, parts.get(key), key) for key in steps)]
        rows = sum(each.rows for each in found) + (len(steps) + 1) * task.val
        return Estimate(rows, sum(each.calls for each in found), most=True)

    def make(self, course: Course, task: Task) -> Any:
        """Return one whose parts have the job's metric."""
        if not isinstance(task.given, type):
            return with_metric(task.given, course.judge)
        parts, made = _parts(task), {}
        for key in dict.fromkeys((*parts, *_steps(task))):
            driver, inner = self._part(task, parts.get(key), key)
            made[key] = driver.make(course.within(), inner)
        return task.given(metric=course.judge, **made)

    def compile(self, course: Course, task: Task, optimizer: Any) -> Any:
        """It wants a model on every predictor. Where there was none, the one in use is lent."""
        import dspy

        without = {name for name, part in course.student.named_predictors() if part.lm is None}
        lent = dspy.settings.lm

        def cleaned(program: Any) -> Any:
            for name, part in program.named_predictors():
                # It is copied on the way; one that was trained is another one.
                if name in without and getattr(part.lm, "model", None) == lent.model:
                    part.lm = None
            return program

        for name, part in course.student.named_predictors():
            part.lm = lent if name in without else part.lm
        course.tried.cleaned = cleaned
        parts, steps = _parts(task), _steps(task)
        inner = {key: dict(self._part(task, parts.get(key), key)[1].compile) for key in dict.fromkeys(steps)}
        given = {"optimizer_compile_args": {key: args for key, args in inner.items() if args}, "seed": course.seed}
        found = optimizer.compile(course.student, trainset=course.train, valset=course.val, **{**given, **task.compile})
        if getattr(found, "flag_compilation_error_occurred", False):
            course.note("A step of it failed, and those after it were left out; its log says why.")
        return cleaned(found)

    def _part(self, task: Task, part: Any, key: str) -> tuple[Any, Task]:
        from dspex_lab.jobs.optimize._settings import task_of

        usual = {"p": "random_search", "w": "finetune"}
        given = part if part is not None else usual.get(key, key)
        settings: dict[str, Any] = {}
        if isinstance(given, Mapping):
            settings = dict(given)
            given = settings.pop("optimizer", None)
        if given is None or given == self.name:
            raise ConfigurationError(
                f"{self.name}: {key}= names no optimizer.", key=key, expected="an optimizer's name, instance, or a dict of both"
            )
        return task_of(task.program, given, settings, train=task.train, val=task.val, own_val=True, seed=task.seed)


def _parts(task: Task) -> dict[str, Any]:
    """Return its optimizers by name."""
    if not isinstance(task.given, type):
        return dict(task.given.optimizers)
    return {name: value for name, value in task.init.items() if name != "metric"}


def _steps(task: Task) -> list[str]:
    return [step.strip() for step in str(task.compile.get("strategy", "p -> w -> p")).split("->")]
