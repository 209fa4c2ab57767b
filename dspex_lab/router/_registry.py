"""Which implementations an operation has."""

from __future__ import annotations

import functools
import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.pipelines import Operation

#: Built functions and modules that are kept; the one used longest ago goes first.
_KEPT = 256


@dataclass(frozen=True, eq=False)
class Implementation:
    """One way to carry out an operation.

    Args:
        name: unique within its operation.
        build: given the operation's signature returns a function of its inputs, an object with ``acall`` beside
            ``__call__``, or a ``dspy.Module``. Called once per signature; must not call a model. One that takes ``demos``
            and ``config`` too is given the operation's, and called once per operation that has some.
        pool: the worker pool it runs on; None is in the kernel.
        can_run: says whether it can answer an operation on these inputs; must be fast and have no effect.
        on_request: it is taken only where it is pinned, never as a fallback: a second try by it would cost again and
            mend nothing.
        instead_of: the names of those that do the very same in another way: they are not tried after this one, which
            would cost again and mend nothing, but where this one cannot run or where they are pinned.
    """

    name: str
    build: Callable[[Any], Any]
    pool: str | None = None
    can_run: Callable[[Operation, Mapping[str, Any]], bool] = lambda operation, inputs: True
    on_request: bool = False
    instead_of: tuple[str, ...] = ()

    @functools.cached_property
    def _options(self) -> frozenset[str]:
        try:
            return frozenset(inspect.signature(self.build).parameters) & {"demos", "config"}
        except (TypeError, ValueError):  # a class or built-in that does not say what it takes
            return frozenset()

    def make(self, operation: Operation) -> Any:
        """Return the function or module for ``operation``."""
        return self.build(operation.signature, **{name: getattr(operation, name) for name in self._options})


class Registry:
    """Implementations by operation, in the order in which they are preferred. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_operation: dict[str, dict[str, Implementation]] = {}
        self._built: OrderedDict[tuple[Implementation, Any], Any] = OrderedDict()

    def add(self, operation: str, implementation: Implementation, *, first: bool = False) -> None:
        """Register an implementation; one of the same name is replaced and keeps its place unless ``first``."""
        with self._lock:
            known = self._by_operation.setdefault(operation, {})
            if first:
                known.pop(implementation.name, None)
                self._by_operation[operation] = {implementation.name: implementation, **known}
            else:
                known[implementation.name] = implementation

    def remove(self, operation: str, name: str) -> None:
        """Take an implementation out.

        Raises:
            ConfigurationError: it is not registered.
        """
        with self._lock:
            if name not in self._by_operation.get(operation, {}):
                raise self._unknown(operation, name)
            del self._by_operation[operation][name]

    def names(self, operation: str) -> list[str]:
        """Return the names registered for ``operation``, preferred first."""
        return list(self._by_operation.get(operation, {}))

    def operations(self) -> list[str]:
        """Return the names of all operations."""
        return list(self._by_operation)

    def of(self, operation: Operation) -> list[Implementation]:
        """Return what is registered for this very operation (by its key) and then for its kind (by its name)."""
        own = self._by_operation.get(operation.key, {})
        general = self._by_operation.get(operation.name, {})
        return [*own.values(), *(i for n, i in general.items() if n not in own)]

    def target(self, operation: Operation, implementation: Implementation) -> Any:
        """Return the built function or module, made once per signature, or operation where it carries more than that."""
        key = (implementation, operation if operation.demos or operation.config else operation.signature)
        with self._lock:
            if key in self._built:
                self._built.move_to_end(key)
                return self._built[key]
        made = implementation.make(operation)
        with self._lock:
            if len(self._built) >= _KEPT:
                self._built.popitem(last=False)
            return self._built.setdefault(key, made)

    def _unknown(self, operation: str, name: str) -> ConfigurationError:
        known = self.names(operation)
        return ConfigurationError(
            f"The operation {operation!r} has no implementation {name!r}.{did_you_mean(name, known)}",
            key=operation,
            expected=known,
            actual=name,
            hint=f"It has: {', '.join(known) or 'none'}.",
        )
