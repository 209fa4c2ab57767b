"""``assert`` and ``suggest``: a step whose outputs are checked, and which is asked again with what was wrong."""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from dspex_lab import native
from dspex_lab.errors import PipelineError, SignatureError, did_you_mean
from dspex_lab.lms import asking_again
from dspex_lab.pipelines._execution import StepRun
from dspex_lab.pipelines._fields import Shape, StepField
from dspex_lab.pipelines._kinds import Kind, step_kind
from dspex_lab.pipelines._modules import facts_of, module_contract
from dspex_lab.pipelines._result import StepOutcome, message_of
from dspex_lab.pipelines._step import Step, as_step, step, step_shape
from dspex_lab.pipelines.kinds._inner import pass_on
from dspex_lab.pipelines.kinds._tests import Test

#: Characters of an earlier answer that are shown to the model that is asked again.
SHOWN = 1_500
#: The parameter by which a function learns what was wrong with its last answer.
FEEDBACK = "feedback"


class Requirement:
    """One thing that must hold of a step's fields.

    Args:
        check: a condition as text, or a function (sync or async) of named fields or of one value.
        message: what is wrong where it does not hold.
        of_value: the function takes the value of one field; a validator always does.

    Raises:
        PipelineError: it is neither, or a field cannot be told.
    """

    def __init__(self, check: str | Callable[..., Any], message: str | None, of_value: bool) -> None:
        self.check, self.message = check, message
        takes_value = callable(check) and (of_value or isinstance(check, native.Validator))
        self.test = None if takes_value else Test(check, "assert_")

    @property
    def fields(self) -> Mapping[str, StepField]:
        """The fields it reads by name."""
        return {} if self.test is None else self.test.inputs

    @property
    def plain(self) -> bool:
        """Say whether it can be asked without an event loop."""
        return isinstance(self.check, str) or not facts_of(self.check).awaited

    async def problems(self, work: StepRun, fields: Mapping[str, Any], subject: str | None) -> list[str]:
        """Return what is wrong, nothing where it holds.

        Args:
            subject: the field whose value is checked by what takes one value.

        Raises:
            PipelineError: the check gave something else than an answer.
        """
        given = {n: fields[n] for n in self.fields if n in fields}
        if self.test is None:
            found = await work.call(_on_value, {"check": self.check, "value": fields[subject]})  # type: ignore[index]
        elif self.test.condition is not None:
            if self.test.condition.test(given):
                return []
            return [self.message or f"it must hold that {self.test} ({self.test.condition.describe(given)})"]
        else:
            found = await work.call(self.check, given)  # type: ignore[arg-type]
        return self._read(work.name, found)

    def _read(self, name: str, found: Any) -> list[str]:
        found = found.item() if hasattr(found, "item") and not hasattr(found, "__len__") else found  # NumPy's True
        if found is None or found is True or found == "" or found == []:
            return []
        if found is False:
            return [self.message or self._own_words()]
        if isinstance(found, str):
            return [found]
        if isinstance(found, list) and all(isinstance(one, str) for one in found):
            return [one for one in found if one]
        raise PipelineError(
            f"Step {name!r}: the check {self} returned {type(found).__name__}, not whether the answer is right.",
            step=name,
            hint="Return True or False, or a text that says what is wrong (None or '' for nothing).",
        )

    def _own_words(self) -> str:
        told = inspect.getdoc(self.check) if inspect.isfunction(self.check) else None
        return told.splitlines()[0] if told else f"the check {self} failed"

    def __str__(self) -> str:
        return self.check if isinstance(self.check, str) else getattr(self.check, "__name__", None) or repr(self.check)


def _on_value(check: Callable[..., Any], value: Any) -> Any:
    return check(value)


class Check:
    """A step, what must hold of its fields, and how often it is asked; made by :func:`assert_` and :func:`suggest`."""

    def __init__(self, checked: Any, check: Any, message: str | None, attempts: int, on: str | None, strict: bool) -> None:
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
            raise PipelineError(f"attempts={attempts!r} is not 1 or more.", hint="Give how often the step is asked at most.")
        if message is not None and not (isinstance(message, str) and message.strip()):
            raise PipelineError(
                f"message={message!r} says nothing.", hint="Say what is wrong, for the model that is asked again."
            )
        self.step, self.check, self.message = as_step(checked), check, message
        self.attempts, self.on, self.strict = attempts, on, strict
        listed = list(check) if isinstance(check, list | tuple) else [check]
        if not listed:
            raise PipelineError("There is nothing to check.", hint="Give a condition or a function of named fields.")
        self.requirements = [Requirement(one, message, on is not None) for one in listed]

    @property
    def part(self) -> str:
        """The name of the inner step."""
        return self.step.name or "try"

    def subject(self, name: str, shape: Shape) -> str | None:
        """Return the field whose value is checked by what takes one value.

        Raises:
            PipelineError: it cannot be told which one that is.
        """
        if self.on is not None or all(r.test is not None for r in self.requirements):
            return self.on
        if len(shape.outputs) != 1:
            raise PipelineError(
                f"Step {name!r}: which of the fields {', '.join(map(repr, shape.outputs))} is checked cannot be told.",
                step=name,
                hint=f"Name it: on={next(iter(shape.outputs), 'answer')!r}.",
            )
        return next(iter(shape.outputs))

    def hears(self, shape: Shape) -> bool:
        """Say whether the step is a function that wants to know what was wrong."""
        return self.step.kind == "native" and FEEDBACK in shape.inputs


def assert_(
    checked: Any,
    check: str | Callable[..., Any] | Sequence[str | Callable[..., Any]],
    message: str | None = None,
    *,
    attempts: int = 2,
    on: str | None = None,
) -> Step:
    """Return a step that does ``checked`` and fails unless ``check`` holds; before it fails it asks again.

    When it is asked again, every language model called in it sees the answers before and what was wrong with them, and a
    function gets that as a text where it has a parameter ``feedback``. An answer that cannot be read counts as wrong.

    Args:
        checked: a function, module, operation, template, pipeline or step.
        check: a condition over its inputs and outputs (``"len(answer) < 200"``); a function of named fields that returns
            True or None where all is well, and else False, what is wrong, or a list of that; a validator (``max_words(50)``);
            or a list of these. Fields the step has not are inputs of the check.
        message: what is wrong, for the model and for the error. By default the condition with its values, or the first line
            of the function's docstring.
        attempts: how often it is asked, the first time included.
        on: validators and functions in ``check`` get the value of this field and nothing else. Without it a validator gets
            that of the only output, and functions get the fields they name.

    Raises:
        PipelineError: an argument is wrong.
    """
    return step(Check(checked, check, message, attempts, on, strict=True), kind="assert")


def suggest(
    checked: Any,
    check: str | Callable[..., Any] | Sequence[str | Callable[..., Any]],
    message: str | None = None,
    *,
    attempts: int = 2,
    on: str | None = None,
) -> Step:
    """Return a step like that of :func:`assert_`, which does not fail: its best answer is used, and it ends ``partial``.

    The best is the one with the fewest things wrong, of equal ones the last.

    Raises:
        PipelineError: an argument is wrong.
    """
    return step(Check(checked, check, message, attempts, on, strict=False), kind="suggest")


class CheckKind(Kind):
    """Its inputs are those of the step and of the checks, its outputs those of the step."""

    strict: bool

    def accepts(self, target: Any) -> bool:
        """Take what :func:`assert_` or :func:`suggest` made."""
        return isinstance(target, Check) and target.strict is self.strict

    def shape(self, name: str, item: Step) -> Shape:
        """Return the step's fields, and what else the checks read.

        Raises:
            PipelineError: the step does not have the field ``on``.
        """
        target, inner = item.target, step_shape(name, item.target.step)
        inputs = {n: f for n, f in inner.inputs.items() if not (n == FEEDBACK and target.hears(inner))}
        known = {**inputs, **inner.outputs, **dict.fromkeys(_hidden(target.step))}
        subject = target.subject(name, inner)
        if subject is not None and subject not in known:
            raise PipelineError(
                f"Step {name!r}: there is no field {subject!r} to check; there are {', '.join(map(repr, known))}."
                f"{did_you_mean(subject, list(known))}",
                step=name,
                hint="Name an input or output of the step: on='...'.",
            )
        for requirement in target.requirements:
            inputs.update({n: f for n, f in requirement.fields.items() if n not in known})
        return Shape(inputs, dict(inner.outputs))

    async def run(self, work: StepRun, item: Step, inputs: Mapping[str, Any]) -> Mapping[str, Any]:  # type: ignore[override]
        """Ask until all checks hold, or often enough."""
        target, shape = item.target, step_shape(work.field, item.target.step)
        tries: list[_Try] = []
        for attempt in range(1, target.attempts + 1):
            outcome = await _ask(work, target, shape, inputs, tries, attempt)
            unread = _unreadable(outcome, shape)
            if unread is not None:
                tries.append(_Try(outcome, None, [unread]))
                continue
            work.degraded = None
            if outcome.status == "failed" and not target.strict and work.kept:
                break  # what was wrong with the answer before was no reason to have none
            outputs = pass_on(work, outcome)
            if outcome.status == "failed":
                # Its own on_error="continue" gave it up; there is nothing to check.
                return {f: outputs.get(f) for f in shape.outputs}
            problems = await _problems(work, target, {**inputs, **outputs}, target.subject(work.name, shape))
            if not problems:
                return outputs
            if not target.strict:
                work.kept = {n: outputs[n] for n in shape.outputs if n in outputs}
            tries.append(_Try(outcome, outputs, problems))
            if not target.strict and attempt < target.attempts and not work.context.allows("second_opinions"):
                return _give_up(work, target, tries, "not again at the present load")
        return _give_up(work, target, tries)

    def parts(self, item: Step) -> Mapping[str, Step]:
        """Return the step that is checked."""
        return {item.target.part: item.target.step}

    def with_parts(self, item: Step, parts: Mapping[str, Step]) -> Any:
        """Return the same check of another step."""
        target = item.target
        checked = parts.get(target.part, target.step)
        return Check(checked, target.check, target.message, target.attempts, target.on, target.strict)

    def plain(self, item: Step) -> bool:
        """Ask the checks and the step."""
        return item.target.step.plain and all(r.plain for r in item.target.requirements)

    def asks(self, item: Step) -> tuple[float, float] | None:
        """Return the calls of the tries after the first one, which is the inner step's own."""
        most = _most(item.target.step)
        return None if most is None else (0, most * (item.target.attempts - 1))

    def label(self, item: Step) -> str:
        """Return the checks."""
        return " and ".join(map(str, item.target.requirements))


@step_kind
class AssertKind(CheckKind):
    """Fails where the checks never held."""

    name = "assert"
    strict = True


@step_kind
class SuggestKind(CheckKind):
    """Ends ``partial`` where the checks never held."""

    name = "suggest"
    strict = False


class _Try(NamedTuple):
    """One answer that was not accepted; ``outputs`` is None where it could not be read."""

    outcome: StepOutcome
    outputs: Mapping[str, Any] | None
    problems: list[str]


async def _ask(
    work: StepRun, target: Check, shape: Shape, inputs: Mapping[str, Any], tries: list[_Try], attempt: int
) -> StepOutcome:
    """Do the step once, with what was wrong before for whoever can make use of it."""
    given, surroundings = dict(inputs), contextlib.ExitStack()
    if tries:
        feedback = _feedback(tries, shape)
        surroundings.enter_context(asking_again(feedback))
        if target.hears(shape):
            given[FEEDBACK] = feedback
    elif target.hears(shape) and shape.inputs[FEEDBACK].required:
        given[FEEDBACK] = None
    with surroundings:
        return await work.step(target.part, target.step, given, gives=work.field, index=attempt)


async def _problems(work: StepRun, target: Check, fields: Mapping[str, Any], subject: str | None) -> list[str]:
    found: list[str] = []
    for requirement in target.requirements:
        found.extend(await requirement.problems(work, fields, subject))
    return list(dict.fromkeys(found))


def _give_up(work: StepRun, target: Check, tries: list[_Try], spared: str = "") -> Mapping[str, Any]:
    """Return the best answer of a suggestion.

    Args:
        spared: why it was not asked as often as it may be.

    Raises:
        PipelineError: it is no suggestion, or there is no answer.
    """
    read = [t for t in tries if t.outputs is not None]
    if not read:
        return pass_on(work, tries[-1].outcome)
    count = len(tries)
    often = f"asked {count} times" if count > 1 else "asked once"
    often += f", {spared}" if spared else ""
    if target.strict:
        raise PipelineError(
            f"Step {work.name!r}: {'; '.join(tries[-1].problems)} ({often}).",
            step=work.name,
            outcomes=work.parts,
            hint="Raise attempts=, or use dx.suggest(...) to go on with the best answer.",
        )
    best = min(reversed(read), key=lambda t: len(t.problems))
    work.degraded = f"{'; '.join(best.problems)} ({often})"
    return best.outputs or {}


def _feedback(tries: list[_Try], shape: Shape) -> str:
    """Return what a model is told; the answers stand in it as JSON, so that nothing in them is taken for more."""
    lines = ["Earlier answers to this were not accepted." if len(tries) > 1 else "An earlier answer to this was not accepted."]
    for tried in tries:
        if tried.outputs is None:
            lines.append("It could not be read:")
        else:
            lines.append("It was:")
            lines += [f"{name}: {_shown(tried.outputs[name])}" for name in shape.outputs if name in tried.outputs]
            lines.append("What is wrong with it:")
        lines += [f"- {problem}" for problem in tried.problems]
    lines.append("Answer again, in the form asked for, and put this right.")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = json.dumps(repr(value), ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} … ({len(text):,} characters)"


def _unreadable(outcome: StepOutcome, shape: Shape) -> str | None:
    """Return what is wrong with an answer that could not be read, None where there is one or something else failed."""
    if outcome.status != "failed":
        return None
    error = outcome.error
    while isinstance(error, PipelineError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, SignatureError):
        return None if error.field in shape.inputs and error.field not in shape.outputs else error.message
    # DSPy's error of an adapter, which is not loaded for this.
    parsed = any(kind.__name__ == "AdapterParseError" for kind in type(error).__mro__)
    return " ".join(message_of(error).split()) if parsed else None


def _hidden(checked: Step) -> tuple[str, ...]:
    """Return the fields a DSPy module adds to its signature's (``reasoning``), which a check may read."""
    return module_contract(checked.target)[1] if checked.kind == "dspy" else ()


def _most(item: Step) -> float | None:
    calls = item.how.asks(item)
    parts = [_most(part) for part in item.how.parts(item).values()]
    if calls is None or any(p is None for p in parts):
        return None
    return calls[1] + sum(p for p in parts if p is not None)
