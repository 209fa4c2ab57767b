"""What a metric is."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import keyword
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.native.metrics._fields import context_of, pick


class _Absent(enum.Enum):
    ABSENT = "not given"


_ABSENT: Any = _Absent.ABSENT


class Outcome(NamedTuple):
    """What a comparison gave.

    Args:
        score: in 0..1, higher is better.
        why: makes a text that says why; called only where somebody reads it.
    """

    score: float
    why: Callable[[], str]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Metric:
    """How good a prediction is, from 0 to 1; higher is better and it is never NaN. Immutable and thread-safe.

    Args:
        field: the prediction's field that is compared; None is the only one which both sides have.
        reference: the example's field it is compared with; None is the one of the same name.
        threshold: from this score on a prediction passes: what an optimizer that collects demonstrations asks. None is
            the metric's own: 1 where there is only right and wrong, else 0.66 (as in DSPy's ``SemanticF1``).
        several: whether a list as the reference means several right answers, the best of which counts, or is itself the
            one right answer. None is the first, except where the prediction is a list too or the metric compares
            structures. A list without answers says that no answer is the right one, as in SQuAD 2.0.

    It is a DSPy metric. ``metric(example, prediction)`` is the score. With a trace, ``metric(example, prediction, trace)``
    says whether the prediction passes; leave ``metric_threshold`` of ``dspy.BootstrapFewShot`` alone then. With the five
    arguments of ``dspy.GEPA`` it is ``dspy.Prediction(score=…, feedback=…)``. A prediction of None (the program
    failed) scores 0.

    A subclass is a frozen dataclass (``eq=False, kw_only=True, repr=False``) with a ``name`` that overrides
    :meth:`compare`.
    """

    #: The name in the registry.
    name: ClassVar[str] = "metric"
    #: The threshold where none was given.
    usual_threshold: ClassVar[float] = 0.66
    #: Whether a list as the reference is one value.
    structured: ClassVar[bool] = False
    #: Whether it can do without a reference.
    reference_free: ClassVar[bool] = False

    field: str | None = None
    reference: str | None = None
    threshold: float | None = None
    several: bool | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and not (is_number(self.threshold) and 0 < self.threshold <= 1):
            raise bad_option(self, "threshold", "a number above 0 and at most 1")
        for option in ("field", "reference"):
            given = getattr(self, option)
            if given is not None and not isinstance(given, str):
                raise bad_option(self, option, "the name of a field")

    # --- what a subclass says ---------------------------------------------------------------------------------

    def compare(self, prediction: Any, reference: Any) -> Outcome:
        """Compare a prediction with one reference."""
        raise NotImplementedError

    def measure(self, prediction: Any, reference: Any, context: Mapping[str, Any] | None = None) -> Outcome:
        """Compare a prediction with its reference or references.

        Args:
            context: what was asked, where it is known.
        """
        outcomes = [self.compare(prediction, one) for one in self.references(prediction, reference)]
        return max(outcomes, key=lambda o: o.score)

    def assess(self, example: Any, prediction: Any) -> Outcome:
        """Compare a prediction with an example."""
        if prediction is None:
            return Outcome(0.0, lambda: "There is no prediction: the program failed.")
        _, made, hoped = pick(example, prediction, self.field, self.reference, optional=self.reference_free)
        return self.measure(made, hoped, context_of(example))

    # --- what everybody uses ----------------------------------------------------------------------------------

    def score(self, prediction: Any, reference: Any = None) -> float:
        """Return how good ``prediction`` is, in 0..1."""
        return self._checked(self.measure(prediction, reference))

    def explain(self, prediction: Any, reference: Any = None) -> str:
        """Return the score and why it is so, as a text for a person or a model."""
        return self._told(self.measure(prediction, reference))

    def passes(self, score: float) -> bool:
        """Say whether a score reaches the threshold."""
        return score >= (self.usual_threshold if self.threshold is None else self.threshold)

    def using(self, **options: Any) -> Self:
        """Return the same metric with other options.

        Raises:
            ConfigurationError: it has no such option.
        """
        check_options(type(self), options)
        return dataclasses.replace(self, **options)

    def references(self, prediction: Any, reference: Any) -> list[Any]:
        """Return the right answers that ``reference`` stands for; never empty."""
        if not isinstance(reference, list | tuple):
            return [reference]
        several = self.several
        if several is None:
            several = not self.structured and not isinstance(prediction, list | tuple)
        return (list(reference) or [None]) if several else [reference]

    def __call__(
        self, example: Any, prediction: Any, trace: Any = None, pred_name: Any = _ABSENT, pred_trace: Any = _ABSENT
    ) -> Any:
        """Return the score; with ``trace`` whether it passes; with GEPA's arguments score and feedback."""
        outcome = self.assess(example, prediction)
        score = self._checked(outcome)
        if pred_name is not _ABSENT or pred_trace is not _ABSENT:
            import dspy

            return dspy.Prediction(score=score, feedback=self._told(outcome))
        return score if trace is None else self.passes(score)

    def as_function(
        self,
        prediction: str = "prediction",
        reference: str | None = "reference",
        name: str | None = None,
        context: Sequence[str] = (),
    ) -> Callable[..., float]:
        """Return a plain function of the fields named here, fit to be a step of a pipeline or to go to a worker.

        Args:
            prediction: the name of its first parameter: the field that is judged.
            reference: the name of its second; None for a metric that needs no reference.
            name: the function's name; None is the metric's.
            context: the names of further parameters: what was asked, for metrics that judge by it.

        Raises:
            ConfigurationError: a name is none or occurs twice, or this metric needs a reference.
        """
        if reference is None and not self.reference_free:
            raise ConfigurationError(
                f"The metric {self.name!r} needs a reference.", key="reference", expected="the name of a field", actual=None
            )
        names = [prediction, *([] if reference is None else [reference]), *context]
        for given in names:
            if not (isinstance(given, str) and given.isidentifier()) or keyword.iskeyword(given) or names.count(given) > 1:
                raise ConfigurationError(
                    f"{given!r} cannot name a field here.", key="prediction", expected="different names", actual=names
                )
        return _function(self, names, reference is not None, name or _identifier(self.name))

    def __repr__(self) -> str:
        options = [f for f in dataclasses.fields(self) if f.repr]
        told = [f"{f.name}={getattr(self, f.name)!r}" for f in options if getattr(self, f.name) != f.default]
        return f"{type(self).__name__}({', '.join(told)})"

    def _checked(self, outcome: Outcome) -> float:
        score = outcome.score
        if not is_number(score) or not 0 <= score <= 1:
            raise ConfigurationError(
                f"The metric {self.name!r} gave {score!r}; a score lies between 0 and 1.",
                key=self.name,
                expected="0..1",
                actual=score,
                hint="Divide by the highest value it can have, and take 1 - x where lower is better.",
            )
        return float(score)

    def _told(self, outcome: Outcome) -> str:
        return f"{self.name} {self._checked(outcome):.2f}: {outcome.why()}"


def is_number(value: Any) -> bool:
    """Say whether ``value`` is a finite real number (bool counts)."""
    return isinstance(value, int | float) and math.isfinite(value)


def check_options(of: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Refuse options that ``of``, a class of metrics, does not take.

    Raises:
        ConfigurationError: names the option and the nearest known one.
    """
    known = [p.name for p in inspect.signature(of).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise ConfigurationError(
                f"{getattr(of, '__name__', of)} has no option {option!r}.{did_you_mean(option, known)}",
                key=option,
                expected=tuple(known),
                actual=option,
                hint=f"Known: {', '.join(known)}.",
            )


def bad_option(metric: Metric, option: str, expected: str) -> ConfigurationError:
    """Return the error for an option with a value it cannot take."""
    value = getattr(metric, option)
    return ConfigurationError(
        f"{type(metric).__name__}: {option}={value!r} is not {expected}.", key=option, expected=expected, actual=value
    )


def check_choice(metric: Metric, option: str, choices: tuple[str, ...]) -> None:
    """Refuse an option that is none of ``choices``.

    Raises:
        ConfigurationError: names them.
    """
    if getattr(metric, option) not in choices:
        raise bad_option(metric, option, "one of " + ", ".join(map(repr, choices)))


def _identifier(name: str) -> str:
    found = "".join(c if c.isalnum() else "_" for c in name).strip("_")
    return found if found.isidentifier() else "score"


def _function(metric: Metric, names: list[str], referred: bool, name: str) -> Callable[..., float]:
    parameters = [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Any) for n in names]
    signature = inspect.Signature(parameters, return_annotation=float)

    def function(*args: Any, **fields: Any) -> float:
        given = signature.bind(*args, **fields).arguments
        made, *hoped = list(given.values())[: 1 + referred]
        context = {n: given[n] for n in names[1 + referred :]}
        return metric._checked(metric.measure(made, hoped[0] if hoped else None, context))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Return the score of {names[0]!r}" + (f" against {names[1]!r}." if referred else ".")
    function.__annotations__ = {**dict.fromkeys(names, Any), "return": float}
    function.__signature__ = signature  # type: ignore[attr-defined]
    return function
