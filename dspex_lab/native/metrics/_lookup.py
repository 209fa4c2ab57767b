"""Metrics by name, and how users add their own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, TypeVar

from dspex_lab.errors import ConfigurationError
from dspex_lab.native._registry import Registry
from dspex_lab.native.metrics._base import Metric, Outcome, check_options, is_number
from dspex_lab.native.metrics._exact import expected_and_found

#: What can be registered: a class of metrics, a metric, or a function of a prediction and a reference.
Registrable: TypeAlias = type[Metric] | Metric | Callable[..., Any]
T = TypeVar("T")

#: All metrics known by name.
registry: Registry[Any] = Registry("metric")


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class FunctionMetric(Metric):
    """A metric made of a function ``(prediction, reference)``.

    Args:
        function: returns a score in 0..1 (True is 1), or a pair of it and a text that says why.
        label: its name.
    """

    name: ClassVar[str] = "function"

    function: Callable[[Any, Any], Any] = None  # type: ignore[assignment]
    label: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.function):
            raise ConfigurationError("A FunctionMetric needs a function.", key="function", expected="a function")
        object.__setattr__(self, "name", self.label or getattr(self.function, "__name__", type(self.function).__name__))

    def compare(self, prediction: Any, reference: Any) -> Outcome:
        """Ask the function."""
        found = self.function(prediction, reference)
        told = None
        if isinstance(found, tuple) and len(found) == 2:
            found, told = found
        if hasattr(found, "item") and not is_number(found):  # a scalar of NumPy
            found = found.item()
        score = float(found) if isinstance(found, bool) else found
        return Outcome(score, lambda: str(told) if told else expected_and_found(score == 1, prediction, reference))


def metric(what: str | Registrable, /, **options: Any) -> Metric:
    """Return a metric.

    Args:
        what: the name of a registered one (see :func:`names`), a function ``(prediction, reference)`` that returns a score in
            0..1, a class of metrics, or a metric, of which a copy with ``options`` is returned.
        options: those of the metric, and ``field``, ``reference``, ``threshold`` and ``several`` of every :class:`Metric`.

    Raises:
        ConfigurationError: nothing has that name, an option does not fit, or it is no metric.
    """
    label = what if isinstance(what, str) else None
    found = registry.get(what) if isinstance(what, str) else what
    if isinstance(found, Metric):
        return found.using(**options) if options else found
    if isinstance(found, type) and issubclass(found, Metric):
        check_options(found, options)
        return found(**options)
    check_function(found)
    options.setdefault("label", label)
    check_options(FunctionMetric, options)
    return FunctionMetric(function=found, **options)


def register_metric(name: str, *, replace: bool = False) -> Callable[[T], T]:
    """Return a decorator that makes a function, a class of metrics or a metric known under ``name``.

    ::

        @register_metric("same_length")
        def same_length(prediction, reference):
            return min(len(prediction), len(reference)) / max(len(prediction), len(reference), 1)

        metric("same_length", field="summary")

    Raises:
        ConfigurationError: the name is taken and ``replace`` is false, or it is no metric.
    """

    def keep(given: T) -> T:
        if not isinstance(given, Metric) and not (isinstance(given, type) and issubclass(given, Metric)):
            check_function(given)
        registry.register(name, given, replace=replace)
        return given

    return keep


def names() -> tuple[str, ...]:
    """Return the names of all registered metrics, sorted."""
    return tuple(registry.names())


def check_function(function: Any) -> None:
    """Refuse what is no function of a prediction and a reference.

    Raises:
        ConfigurationError: says what it is; a metric written for DSPy is told apart by its parameters.
    """
    if isinstance(function, Mapping):
        raise ConfigurationError("Several metrics are joined with combine(…).", key="metric", actual=function)
    if not callable(function) or isinstance(function, type):
        raise ConfigurationError(
            f"{function!r} is no metric.",
            key="metric",
            expected="a name, a function (prediction, reference), or a Metric",
            actual=function,
            hint=f"Known names: {', '.join(names())}.",
        )
    try:
        signature = inspect.signature(function)
    except ValueError:  # written in C: nothing is known
        return
    try:
        signature.bind(None, None)
    except TypeError:
        fits = False
    else:
        fits = next(iter(signature.parameters)) not in ("example", "gold") and "trace" not in signature.parameters
    if not fits:
        raise ConfigurationError(
            f"The function {getattr(function, '__name__', function)!r} takes {signature}; "
            "a metric here takes (prediction, reference), in this order.",
            key="metric",
            expected="(prediction, reference)",
            actual=str(signature),
            hint="A metric written for DSPy, (example, prediction, trace), goes to DSPy as it is.",
        )
