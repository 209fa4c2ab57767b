"""Chooses which implementation answers an operation, and remembers how each one did."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.pipelines import Candidate, Operation
from dspex_lab.router import _fixed
from dspex_lab.router._builtin import with_builtins
from dspex_lab.router._registry import Implementation, Registry
from dspex_lab.router._statistics import Statistics

if TYPE_CHECKING:
    import pandas as pd

F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["Implementation", "Registry", "Router", "Statistics"]


class Router:
    """The Lab's router (``lab.router``).

    It carries out the engine's ``Decide`` contract with the ``fixed`` strategy. Registration and use are thread-safe.
    """

    strategy = "fixed"

    def __init__(self) -> None:
        self.registry = with_builtins()
        self._statistics = Statistics()

    def decide(self, operation: Operation, inputs: Mapping[str, Any], pin: str | None) -> tuple[list[Candidate], str, str]:
        """Return the candidates in order, the strategy's name and its reason.

        Raises:
            ConfigurationError: nothing can run it, or ``pin`` is not registered for it.
        """
        able = {i.name: i for i in self.registry.of(operation) if self._can_run(i, operation, inputs)}
        if pin is not None and pin not in able:
            raise ConfigurationError(
                f"The operation {operation.key!r} cannot be pinned to {pin!r}.{did_you_mean(pin, able)}",
                key="pin",
                expected=list(able),
                actual=pin,
                hint=f"It can be run by: {', '.join(able) or 'none'}.",
            )
        if not able:
            known = self.registry.operations()
            raise ConfigurationError(
                f"No implementation can run the operation {operation.key!r}.{did_you_mean(operation.name, known)}",
                key=operation.name,
                expected=known,
                actual=operation.name,
                hint="Register one: @lab.router.implementation(name).",
            )
        replaced = {name for i in able.values() if not i.on_request for name in i.instead_of}
        names = [n for n, i in able.items() if not i.on_request and n not in replaced] or list(able)
        names, reason = _fixed.order(names, pin)
        candidates = [Candidate(n, partial(self.registry.target, operation, able[n]), able[n].pool) for n in names]
        return candidates, self.strategy, reason

    def _can_run(self, implementation: Implementation, operation: Operation, inputs: Mapping[str, Any]) -> bool:
        try:
            return implementation.can_run(operation, inputs)
        except Exception as error:
            # Counted as a failure of this one; the others are asked all the same.
            self.observe(operation, implementation.name, 0.0, error)
            return False

    def check_pins(self, pins: Mapping[str, str], own: Mapping[str, str]) -> None:
        """Refuse pins that name an operation or an implementation that does not exist.

        Args:
            pins: the implementation by operation; ``own`` are the keys of the operations the pipeline asks for, each with its
                kind.

        Raises:
            ConfigurationError: a pin names none of them.
        """
        known = sorted({*self.registry.operations(), *own})
        for operation, chosen in pins.items():
            if operation not in known:
                raise ConfigurationError(
                    f"There is no operation {operation!r} to pin.{did_you_mean(operation, known)}",
                    key="pin",
                    expected=known,
                    actual=operation,
                    hint=f"Operations: {', '.join(known)}.",
                )
            able = [*self.registry.names(operation), *self.registry.names(own.get(operation, ""))]
            if chosen not in able:
                raise ConfigurationError(
                    f"The operation {operation!r} cannot be pinned to {chosen!r}.{did_you_mean(chosen, able)}",
                    key="pin",
                    expected=able,
                    actual=chosen,
                    hint=f"It can be run by: {', '.join(able) or 'none'}.",
                )

    def observe(self, operation: Operation, implementation: str, seconds: float, error: BaseException | None) -> None:
        """Take note of one execution."""
        self._statistics.observe(operation.key, implementation, seconds, error)

    def register(self, operation: str, implementation: Implementation, *, first: bool = False) -> None:
        """Add an implementation of ``operation`` (a kind such as ``"predict"``, or one operation's key)."""
        self.registry.add(operation, implementation, first=first)

    def implementation(
        self, operation: str, *, name: str | None = None, pool: str | None = None, first: bool = True
    ) -> Callable[[F], F]:
        """Return a decorator that registers a function of the operation's inputs as an implementation.

        Args:
            operation: a kind (``"predict"``) or one operation's key (``"predict(Triage)"``).
            name: the function's own name by default.
            pool: the worker pool it runs on; None is in the kernel.
            first: it is tried before those that are there.
        """

        def add(function: F) -> F:
            label = name or str(getattr(function, "__name__", "implementation"))
            self.register(operation, Implementation(label, lambda signature: function, pool), first=first)
            return function

        return add

    def statistics(self) -> pd.DataFrame:
        """Return calls, errors and latencies (seconds) per operation and implementation, since this Lab was opened."""
        import pandas as pd

        columns = ["operation", "implementation", "calls", "errors", "mean_seconds", "p50_seconds", "p95_seconds", "last_error"]
        return pd.DataFrame(self._statistics.rows(), columns=columns)
