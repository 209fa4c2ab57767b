"""When values are put into a program: after a commit, while no call of it is under way."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from dspex_lab.variables._protocols import Commit
from dspex_lab.variables._space import Space


class Bound(Protocol):
    """What is told of a program's calls."""

    def begin(self) -> object:
        """A call is about to begin, and none is under way."""
        ...

    def settle(self) -> None:
        """No call is under way: what waited can be put in."""
        ...


class Gate:
    """Counts the calls of one program; it hangs among the program's callbacks, which neither copies nor pickles take along.

    DSPy calls the first two methods around each call of the program; code that runs it otherwise uses :meth:`open`.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.bound: list[Bound] = []
        self._under_way: set[object] = set()

    @property
    def idle(self) -> bool:
        """Say whether no call is under way; ask with ``lock`` held."""
        return not self._under_way

    def on_module_start(self, call_id: object, instance: Any, inputs: Any) -> None:
        """Count a call; before the first of several at once, changes of the program are told to the space."""
        try:
            with self.lock:
                first, bound = self.idle, list(self.bound)
            for one in bound if first else ():
                one.begin()
        finally:
            with self.lock:
                self._under_way.add(call_id)

    def on_module_end(self, call_id: object, outputs: Any, exception: BaseException | None = None) -> None:
        """Count it no more; after the last one, what waited is put in."""
        with self.lock:
            self._under_way.discard(call_id)
            for one in list(self.bound) if self.idle else ():
                one.settle()

    @contextmanager
    def open(self) -> Iterator[None]:
        """Stand around a run of the program, whatever it is run by."""
        mine = object()
        with self.lock:
            self._under_way.add(mine)
        try:
            yield
        finally:
            self.on_module_end(mine, None)

    def __reduce__(self) -> tuple[Callable[[], Gate], tuple[()]]:
        return (Gate, ())


def gate_of(program: Any, bound: Bound) -> Gate:
    """Return the gate of a program, hung up where it has none, with ``bound`` behind it."""
    hooks = getattr(program, "callbacks", None)  # a pipeline has none, nor has a KNN
    found = next((c for c in hooks or () if isinstance(c, Gate)), None)
    if found is None:
        found = Gate()
        if hooks is not None:
            # Another list: one that was handed to the module may belong to others too.
            program.callbacks = [*hooks, found]
    with found.lock:
        found.bound.append(bound)
    return found


def leave(program: Any, gate: Gate, bound: Bound) -> None:
    """Take ``bound`` from behind the gate, and the gate away where it was the last one."""
    with gate.lock:
        gate.bound = [one for one in gate.bound if one is not bound]
        if not gate.bound and getattr(program, "callbacks", None) is not None:
            program.callbacks = [c for c in program.callbacks if c is not gate]


def listen(space: Space, names: Collection[str], bound: Bound) -> Callable[[], None]:
    """Let ``bound`` hear of commits without the space keeping it, or its program, alive; return what ends that."""
    heard = weakref.ref(bound)

    def told(commit: Commit) -> None:
        found = heard()
        if found is not None:
            found.settle()

    unsubscribe = space.observe(told, names)
    weakref.finalize(bound, unsubscribe).atexit = False
    return unsubscribe
