"""Named things that users add their own to: validators, metrics, template filters."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar, overload

from dspex_lab.errors import ConfigurationError, did_you_mean

T = TypeVar("T")
_MISSING: Any = object()


class Registry(Generic[T]):
    """A table from name to object, safe to use from several threads.

    A name is taken once: registering it again is refused, so that a cell that is run twice says what it does
    with ``replace=True``. The same object under the same name is no change and passes.

    Args:
        kind: what is kept here, one lower-case noun for the messages (``"metric"``).
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, T] = {}
        self._lock = threading.Lock()

    @overload
    def register(self, name: str, value: T, *, replace: bool = False) -> T: ...
    @overload
    def register(self, name: str, *, replace: bool = False) -> Callable[[T], T]: ...
    def register(self, name: str, value: Any = _MISSING, *, replace: bool = False) -> Any:
        """Keep ``value`` under ``name`` and return it; without a value, return a decorator that does.

        Raises:
            ConfigurationError: the name is no name, or is taken by something else and ``replace`` is false.
        """
        if not isinstance(name, str) or not name.strip() or name != name.strip():
            raise ConfigurationError(
                f"A {self.kind} is registered under a name, not {name!r}.",
                key=self.kind,
                expected="a text without spaces at its ends",
                actual=name,
                hint=f'Write register("name", {self.kind}) or @register("name").',
            )
        if value is _MISSING:
            return lambda given: self.register(name, given, replace=replace)
        with self._lock:
            held = self._items.get(name, _MISSING)
            if held is not _MISSING and held is not value and not replace:
                raise ConfigurationError(
                    f"There is already a {self.kind} named {name!r}.",
                    key=self.kind,
                    expected="a new name",
                    actual=name,
                    hint="Take another name, or pass replace=True.",
                )
            self._items[name] = value
        return value

    def unregister(self, name: str) -> T:
        """Take ``name`` out and return what it held.

        Raises:
            ConfigurationError: nothing has that name.
        """
        with self._lock:
            if name in self._items:
                return self._items.pop(name)
        raise self._unknown(name)

    def get(self, name: str) -> T:
        """Return what ``name`` holds.

        Raises:
            ConfigurationError: nothing has that name; the nearest name is given.
        """
        held = self._items.get(name, _MISSING) if isinstance(name, str) else _MISSING
        if held is _MISSING:
            raise self._unknown(name)
        return held

    def names(self) -> tuple[str, ...]:
        """Return all names, sorted."""
        with self._lock:
            return tuple(sorted(self._items))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"<Registry of {len(self)} {self.kind}s>"

    def _unknown(self, name: object) -> ConfigurationError:
        known = self.names()
        listed = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
        return ConfigurationError(
            f"There is no {self.kind} named {name!r}.{did_you_mean(str(name), known)}",
            key=self.kind,
            expected=known,
            actual=name,
            hint=f"Known: {listed}." if known else f"No {self.kind} is registered yet.",
        )
