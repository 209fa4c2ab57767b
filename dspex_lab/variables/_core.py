"""The heart of a space: the lock, the journal, the observers, the leases, and the one block in which anything changes.

What may be written is decided by :class:`~dspex_lab.variables._values.Values`, which is pure; here a commit is one block under
the lock: leases, versions, values, what is derived, constraints, journal, and only then the new state. Observers are told after
it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dspex_lab.errors import VariableError
from dspex_lab.events import Event, VariableRecord
from dspex_lab.variables._entry import Cell, Entry
from dspex_lab.variables._history import MemoryJournal, records
from dspex_lab.variables._lease import Lease, foreign
from dspex_lab.variables._leases import Leases
from dspex_lab.variables._loading import load
from dspex_lab.variables._names import listed
from dspex_lab.variables._observers import Observers
from dspex_lab.variables._protocols import Author, Commit, Journal, Snapshot
from dspex_lab.variables._values import Expected, Plan, Values
from dspex_lab.variables._variable import Variable

log = logging.getLogger("dspex_lab")

Emit = Callable[[Event | VariableRecord], None]

#: Names that an event lists.
LISTED = 50


class Core:
    """What changes a space; see :class:`~dspex_lab.variables.Space`."""

    def __init__(
        self,
        name: str = "default",
        *,
        journal: Journal | None = None,
        clock: Callable[[], float] = time.time,
        emit: Emit | None = None,
    ) -> None:
        self.name = name
        self._journal: Journal = MemoryJournal() if journal is None else journal
        self._clock, self._emit_to = clock, emit
        # Re-entrant, so that a function which derives may read; that it does not write is seen to by _deciding.
        self._lock = threading.RLock()
        self._deciding = False
        self._values = Values()
        self._snapshot: Snapshot | None = None
        self._variables: dict[str, Variable] = {}
        self._observers = Observers()
        self._unsaid: deque[Event] = deque()
        self.damaged, empty, above = load(self._values, self._journal, name)
        self._leases = Leases(name, self._lock, clock, self._emit, self._commit_leased, above)
        if emit is not None:
            self._observers.add(self._tell_of)
        for each in empty:
            self._begin(each)

    # ---- reading without a lock -------------------------------------------------------------------------------------

    def cell(self, name: str) -> Cell:
        """Return a variable's value, its version, and whether it counts: together, and without a lock."""
        found = self._values.cells.get(name)
        if found is None:
            self._values.entry(name)
            raise VariableError(f"Variable {name!r} is being defined.", name=name)
        return found

    def entry(self, name: str) -> Entry:
        """Return what a variable is."""
        return self._values.entry(name)

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _begin(self, name: str) -> None:
        """Give its first value to a variable whose definition is all that was kept."""
        try:
            with self._alone():
                author = Author("program", why="defined")
                self._do(self._values.plan_defined({name: None}, author=author, time=self._clock()))
        except VariableError as error:
            log.warning("variable %r of the space %r has no value: %s", name, self.name, error)
            self.damaged[name] = str(error)
            self._values.cells[name] = Cell(None, 0, active=False)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock for a change; afterwards tell of it."""
        with self._lock:
            if self._deciding:
                raise VariableError(
                    "A function that derives, constrains or says what counts has written to its space, which waits for it.",
                    hint="Let it only return a value; to follow changes there is space.observe(…).",
                )
        try:
            with self._lock:
                self._deciding = True
                try:
                    yield
                finally:
                    self._deciding = False
        finally:
            self._leases.tend()
        self._tell_unsaid()
        self._observers.tell()

    def _tell_unsaid(self) -> None:
        while True:
            try:
                event = self._unsaid.popleft()
            except IndexError:  # asked before, it may be another thread that takes the last one
                return
            self._emit(event)

    def _commit(
        self, values: Mapping[str, Any], expect: Expected, author: Author, lease: Lease | None, undone: int | None = None
    ) -> Commit:
        if not isinstance(author, Author):
            raise VariableError(f"An author is an Author, found {author!r:.80}.", hint="Author('person', name=…, why=…)")
        if lease is not None and not lease.given_by(self._leases):
            raise foreign(lease, self.name)
        fence = None if lease is None else lease.fence
        with self._alone():
            if fence is not None:
                self._leases.check(values, fence)
            plan = self._values.plan(values, author=author, time=self._clock(), expect=expect, fence=fence, undone=undone)
            self._do(plan)
        return plan.commit

    def _commit_leased(self, values: Mapping[str, Any], *, expect: Any, author: Author, lease: Lease) -> Commit:
        return self._commit(values, expect, author, lease)

    def _do(self, plan: Plan) -> None:
        """Check leases, write, and make the plan true."""
        commit = plan.commit
        if commit.changes:
            if commit.fence is None:
                self._leases.check([name for name, change in commit.changes.items() if change.who != "derived"], None)
            self._journal.write(records(self.name, commit, self._values.entries))
        self._values.apply(plan)
        self._snapshot = None
        if commit.changes:
            self._observers.put(commit)

    def _names(self, names: str | Iterable[str]) -> tuple[str, ...]:
        found = listed(names)
        for name in found:
            self._values.entry(name)
        return found

    def _emit(self, event: Event) -> None:
        if self._emit_to is not None:
            self._emit_to(event)

    def _say(self, name: str, data: dict[str, Any]) -> None:
        """Emit an event when the lock is free again."""
        if self._emit_to is not None:
            self._unsaid.append(Event(name, self._clock(), data={"space": self.name, **data}))

    def _tell_of(self, commit: Commit) -> None:
        author = commit.author
        data = {
            "space": self.name,
            "version": commit.version,
            "names": list(commit.changes)[:LISTED],
            "count": len(commit.changes),
            "who": author.who,
            "author": author.name,
            "why": author.why,
            "score": author.score,
            "fence": commit.fence,
            "undone": commit.undone,
        }
        self._emit(Event("variable.commit" if commit.undone is None else "variable.rollback", commit.time, data=data))
