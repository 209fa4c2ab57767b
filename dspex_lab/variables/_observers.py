"""Who is told of commits: each observer once per commit, in the order of versions, outside the space's lock."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from dspex_lab.variables._protocols import Commit, CommitObserver

log = logging.getLogger("dspex_lab")


class Watcher:
    """One observer, and of which variables it wants to hear; it is told nothing any more once ``live`` is False."""

    __slots__ = ("complained", "live", "names", "number", "tell")

    def __init__(self, number: int, tell: CommitObserver, names: frozenset[str] | None) -> None:
        self.number, self.tell, self.names = number, tell, names
        self.live, self.complained = True, False


class Observers:
    """The observers of a space, by the names that they want to hear of.

    A commit is put into the queue under the space's lock, and the thread that made it tells of it afterwards, unless another
    thread is at it: then that one goes on with this commit too. So the order is that of the versions, a commit that an observer
    makes comes after the one it was told of, and no thread waits for another one's observers.
    """

    def __init__(self) -> None:
        self._all: dict[int, Watcher] = {}
        self._by_name: dict[str, dict[int, Watcher]] = {}
        self._next = 0
        self._lock = threading.Lock()
        self._queue: deque[tuple[Commit, list[Watcher]]] = deque()
        self._telling = False

    def __len__(self) -> int:
        with self._lock:
            return len({*self._all, *(number for told in self._by_name.values() for number in told)})

    def add(self, tell: CommitObserver, names: Iterable[str] | None = None) -> Callable[[], None]:
        """Add one, who is told of commits from now on, and return what takes it away."""
        with self._lock:
            self._next += 1
            watcher = Watcher(self._next, tell, None if names is None else frozenset(names))
            for told in self._places(watcher, make=True):
                told[watcher.number] = watcher

        def remove() -> None:
            watcher.live = False
            with self._lock:
                for told in self._places(watcher):
                    told.pop(watcher.number, None)
                for name in watcher.names or ():
                    if not self._by_name.get(name, True):
                        del self._by_name[name]

        return remove

    def _places(self, watcher: Watcher, make: bool = False) -> list[dict[int, Watcher]]:
        if watcher.names is None:
            return [self._all]
        if make:
            return [self._by_name.setdefault(name, {}) for name in watcher.names]
        return [self._by_name[name] for name in watcher.names if name in self._by_name]

    def put(self, commit: Commit) -> None:
        """Queue a commit for those who want to hear of it now; call it under the space's lock, in the order of versions."""
        with self._lock:
            told = self._told(commit.changes)
            if told:
                self._queue.append((commit, told))

    def _told(self, changes: Mapping[str, object]) -> list[Watcher]:
        by_name = self._by_name
        names = changes if len(changes) <= len(by_name) else [name for name in by_name if name in changes]
        found = dict(self._all)
        for name in names:
            if name in by_name:
                found.update(by_name[name])
        return [found[number] for number in sorted(found)]

    def tell(self) -> None:
        """Tell of what is queued, unless another thread does already; call it without the space's lock."""
        while self._queue:
            with self._lock:
                if self._telling or not self._queue:
                    return
                self._telling = True
                commit, told = self._queue.popleft()
            try:
                while told:
                    _tell(told.pop(0), commit)
            finally:
                with self._lock:
                    self._telling = False
                    if told:  # an interrupt: the others are told next time
                        self._queue.appendleft((commit, told))


def _tell(watcher: Watcher, commit: Commit) -> None:
    if not watcher.live:
        return
    try:
        watcher.tell(commit)
    except Exception:
        if not watcher.complained:
            watcher.complained = True
            log.exception("an observer of variables raised; it will go on being told, and this is said once")
