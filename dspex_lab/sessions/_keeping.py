"""The state of one session, changed by one at a time: a call on its worker, a run, or whoever sets a value here."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from dspex_lab.security import one_line
from dspex_lab.sessions._around import Around
from dspex_lab.sessions._book import OPTIMIZATION, STATE, Book, Entries
from dspex_lab.sessions._state import Changes, Optimization, State
from dspex_lab.sessions._turn import Turn
from dspex_lab.store import SessionRow

log = logging.getLogger("dspex_lab")


class Keeping:
    """Keeps values here and their texts in the book the same; see :class:`~dspex_lab.sessions._state.Keeper`. Thread-safe.

    Args:
        row: what the store has of the session.
        around: the Lab's parts.
        entries: its state by namespace, where it is new.

    Attributes:
        turn: held by whoever changes the state, a call for as long as it takes.
        living: the pool on whose worker a state of ours is, and its stamp; None where there is none.
    """

    def __init__(self, row: SessionRow, around: Around, entries: Entries | None = None) -> None:
        self.book = Book(row, around, entries)
        self.turn = Turn()
        self.living: tuple[str, str] | None = None
        self.state, self.optimization = State(STATE, self), Optimization(OPTIMIZATION, self)
        self.parts: dict[str, State] = {STATE: self.state, OPTIMIZATION: self.optimization}
        self._users = 0

    @property
    def name(self) -> str:
        """The session's name."""
        return self.book.row.name

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self.book.row.closed is not None

    @property
    def busy(self) -> bool:
        """Whether it is in a call or run."""
        return self.turn.taken or self._users > 0

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """Held while the state changes."""
        return self.book.lock

    @property
    def fixed(self) -> bool:
        """Whether the state has to stay here: the store has not all of it (a secret), or a list, dict or array of it was handed
        out, in which somebody may yet change something."""
        return self.book.holds_secret or any(part.lent for part in self.parts.values())

    def entries(self, what: str) -> dict[str, str]:
        """Return the entries of a namespace (``state`` or ``optimization``) as they are kept; not to be changed."""
        return self.book.entries()[what]

    def write(self, what: str, changes: Changes) -> None:
        """Take over changes of a namespace; they are in the store when this returns."""
        with self._my_turn():
            self.settle({what: changes})

    def save(self) -> None:
        """Save what was changed inside values."""
        with self._my_turn():
            self.settle()

    def settle(self, more: Mapping[str, Changes] | None = None) -> None:
        """Save ``more`` and what was changed inside values; who calls it has the turn."""
        given = more or {}
        with self.book.lock:
            entries = self.book.entries()
            found: dict[str, Changes] = {}
            for what, part in self.parts.items():
                changes = {**part.altered(entries[what]), **given.get(what, {})}
                found[what] = {key: text for key, text in changes.items() if entries[what].get(key) != text}
            if any(found.values()):
                self.book.commit(found)
            for what, changes in given.items():
                self.parts[what].taken(changes)

    def take_home(self, pool: str, stamp: str, changes: Changes) -> None:
        """Make what a call changed the state, and give the turn up.

        Args:
            pool: where the call was.
            stamp: what its worker calls the new state.
        """
        try:
            with self.book.lock:
                self._warn_of_lost(changes)
                self.book.commit({STATE: changes}, stamp=stamp, called=True)
                self.state.taken(changes)
                self.living = pool, stamp
        finally:
            self.turn.leave()

    def refresh(self) -> None:
        """Read the state from the store anew; what was not saved is lost."""
        with self._my_turn(), self.book.lock:
            self._forget()
            self.book.entries()

    def suspend(self) -> bool:
        """Let the store alone hold the state; return whether it does: not in a call or run, nor where it is :attr:`fixed`."""
        if self._users or not self.turn.try_take():
            return False
        try:
            with self.book.lock:
                if self.fixed:
                    return False
                if self.book.loaded:
                    self._forget()
                return True
        finally:
            self.turn.leave()

    def put_down(self) -> None:
        """Save what is not saved yet and forget all, if no call is under way: its Lab is closed."""
        if self.book.loaded and self.turn.try_take():
            try:
                with self.book.lock:
                    self.settle()
                    self._forget()
            finally:
                self.turn.leave()

    def end(self, reason: str, *, patient: bool = True) -> bool:
        """Close it in the store and here; return whether it was not closed before.

        Args:
            patient: wait for a call that is under way; else leave a session that is in use alone.
        """
        if patient:
            self.turn.take(self.name)
        elif self._users or not self.turn.try_take():
            return False
        try:
            with self.book.lock:
                ended = self.book.close(reason)
                self._forget()
                return ended
        finally:
            self.turn.leave()

    @contextmanager
    def used(self) -> Iterator[None]:
        """Keep it from being put away or expiring in the block."""
        with self.book.lock:
            self.book.check_open()
            self._users += 1
        try:
            yield
        finally:
            with self.book.lock:
                self._users -= 1

    @contextmanager
    def _my_turn(self) -> Iterator[None]:
        self.turn.take(self.name)
        try:
            yield
        finally:
            self.turn.leave()

    def _forget(self) -> None:
        self.book.forget()
        self.living = None
        for part in self.parts.values():
            part.forget()

    def _warn_of_lost(self, changes: Changes) -> None:
        """Say where a call changed a value that was also changed here, inside, while it ran: the call's is taken."""
        both = sorted(self.state.altered(self.entries(STATE), changes))
        if both:
            log.warning(
                "session %s: %s was changed here while a call changed it too; the call's value is kept",
                one_line(self.name),
                one_line(", ".join(f"state[{key!r}]" for key in both)),
            )
