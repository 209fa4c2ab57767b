"""Several metrics as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from dspex_lab.errors import ConfigurationError
from dspex_lab.native.metrics._base import Metric, Outcome, check_options, is_number
from dspex_lab.native.metrics._lookup import metric

#: Part of a combination: a name, a function, a metric.
Part: TypeAlias = str | Metric | Callable[..., Any]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Combination(Metric):
    """What metrics made of others share: each part may compare a field of its own, else that of the whole.

    Args:
        parts: pairs of a metric and its weight or threshold.
    """

    parts: tuple[tuple[Metric, float], ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        inherited = ("field", "reference", "several")
        made = []
        for part, number in self.parts:
            missing = {o: getattr(self, o) for o in inherited if getattr(part, o) is None and getattr(self, o) is not None}
            made.append((dataclasses.replace(part, **missing) if missing else part, number))
        object.__setattr__(self, "parts", tuple(made))

    def join(self, outcomes: list[Outcome]) -> Outcome:
        """Return what the outcomes of the parts, in their order, come to."""
        raise NotImplementedError

    def measure(self, prediction: Any, reference: Any, context: Mapping[str, Any] | None = None) -> Outcome:
        """Ask every part."""
        return self._joined(lambda part: part.measure(prediction, reference, context))

    def assess(self, example: Any, prediction: Any) -> Outcome:
        """Ask every part about its own field."""
        return self._joined(lambda part: part.assess(example, prediction))

    def _joined(self, ask: Callable[[Metric], Outcome]) -> Outcome:
        outcomes = [ask(part) for part, _ in self.parts]
        for (part, _), outcome in zip(self.parts, outcomes, strict=True):
            part._checked(outcome)
        return self.join(outcomes)

    def __repr__(self) -> str:
        parts = ", ".join(f"{part!r}: {number:g}" for part, number in self.parts)
        return f"{type(self).__name__}({{{parts}}})"

    def _each(self, outcomes: list[Outcome]) -> str:
        return " ".join(part._told(outcome) for (part, _), outcome in zip(self.parts, outcomes, strict=True))


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class WeightedMean(Combination):
    """The mean of several metrics, weighted; made by :func:`combine`."""

    name: ClassVar[str] = "combine"

    def join(self, outcomes: list[Outcome]) -> Outcome:
        """Return the weighted mean."""
        total = sum(weight for _, weight in self.parts)
        terms = [outcome.score * weight / total for (_, weight), outcome in zip(self.parts, outcomes, strict=True)]

        def why() -> str:
            shares = ", ".join(f"{part.name} {weight / total:.0%}" for part, weight in self.parts)
            return f"weighted mean ({shares}). {self._each(outcomes)}"

        return Outcome(min(sum(terms), 1.0), why)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class AllOf(Combination):
    """1 where every metric reaches its threshold, else 0; made by :func:`all_of`."""

    name: ClassVar[str] = "all_of"
    usual_threshold: ClassVar[float] = 1.0

    def join(self, outcomes: list[Outcome]) -> Outcome:
        """Return whether all pass."""
        failed = [part.name for (part, least), outcome in zip(self.parts, outcomes, strict=True) if outcome.score < least]
        told = f"too low: {', '.join(failed)}." if failed else "all pass."
        return Outcome(float(not failed), lambda: f"{told} {self._each(outcomes)}")


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class AnyOf(Combination):
    """1 where one metric at least reaches its threshold, else 0; made by :func:`any_of`."""

    name: ClassVar[str] = "any_of"
    usual_threshold: ClassVar[float] = 1.0

    def join(self, outcomes: list[Outcome]) -> Outcome:
        """Return whether one passes."""
        passed = [part.name for (part, least), outcome in zip(self.parts, outcomes, strict=True) if outcome.score >= least]
        told = f"passed: {', '.join(passed)}." if passed else "none passes."
        return Outcome(float(bool(passed)), lambda: f"{told} {self._each(outcomes)}")


def combine(weights: Mapping[Part, float], /, **options: Any) -> Metric:
    """Return the weighted mean of several metrics: ``combine({"f1": 0.7, "contains": 0.3})``.

    Args:
        weights: a weight above 0 for each metric (a name, a function, a metric); they need not add up to 1.
        options: ``field``, ``reference``, ``threshold`` and ``several`` of every metric; a part that has its own keeps it.

    Raises:
        ConfigurationError: there is no metric, or a weight is no number above 0.
    """
    check_options(Metric, options)
    parts = [(metric(part), weight) for part, weight in _pairs(weights).items()]
    for part, weight in parts:
        if not is_number(weight) or weight <= 0:
            raise _bad("weight", part, weight, "a number above 0")
    return WeightedMean(parts=tuple(parts), **options)


def all_of(*parts: Part | Mapping[Part, float], **options: Any) -> Metric:
    """Return a metric that is 1 where every part passes: ``all_of("contains", {"rouge_l": 0.5})``.

    Args:
        parts: metrics, each of which passes at its own threshold, or mappings from metric to the threshold it has here.
        options: as for :func:`combine`.

    Raises:
        ConfigurationError: there is no metric, or a threshold is not above 0 and at most 1.
    """
    check_options(Metric, options)
    return AllOf(parts=tuple(_thresholds(parts)), **options)


def any_of(*parts: Part | Mapping[Part, float], **options: Any) -> Metric:
    """Return a metric that is 1 where one part at least passes; otherwise like :func:`all_of`."""
    check_options(Metric, options)
    return AnyOf(parts=tuple(_thresholds(parts)), **options)


def _thresholds(parts: Iterable[Part | Mapping[Part, float]]) -> list[tuple[Metric, float]]:
    made: list[tuple[Metric, float]] = []
    for part in parts:
        if isinstance(part, Mapping):
            made += [(metric(p), least) for p, least in part.items()]
        else:
            found = metric(part)
            made.append((found, found.usual_threshold if found.threshold is None else found.threshold))
    for found, least in made:
        if not is_number(least) or not 0 < least <= 1:
            raise _bad("threshold", found, least, "a number above 0 and at most 1")
    if not made:
        raise _none()
    return made


def _pairs(weights: Mapping[Part, float]) -> Mapping[Part, float]:
    if not isinstance(weights, Mapping) or not weights:
        raise _none()
    return weights


def _none() -> ConfigurationError:
    return ConfigurationError(
        "A combination needs one metric at least.", key="metric", hint='For instance combine({"f1": 0.7, "contains": 0.3}).'
    )


def _bad(what: str, part: Metric, found: object, expected: str) -> ConfigurationError:
    return ConfigurationError(
        f"The {what} of {part.name!r} is {found!r}, not {expected}.", key=part.name, expected=expected, actual=found
    )
