"""Which sessions of a store are open here, and which of their states are in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dspex_lab.errors import SessionError
from dspex_lab.sessions._around import Around
from dspex_lab.sessions._session import Session
from dspex_lab.store import SessionRow


class Known:
    """The open sessions of a Lab, read from the store when first asked for. Thread-safe, by ``lock``.

    Args:
        around: the Lab's parts.
        make: makes a session of what the store has of it.
    """

    def __init__(self, around: Around, make: Callable[[SessionRow], Session]) -> None:
        self.lock = threading.RLock()
        self._around, self._make = around, make
        self._sessions: dict[str, Session] | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether their Lab was closed."""
        return self._closed

    def here(self) -> list[Session]:
        """Return those that were read already; reads nothing and waits for nobody."""
        return list((self._sessions or {}).values())

    def all(self) -> dict[str, Session]:
        """Return all by id; to be changed under ``lock`` only.

        Raises:
            SessionError: their Lab was closed.
        """
        with self.lock:
            if self._closed:
                raise SessionError("These sessions are closed with their Lab.", hint="Open another Lab on the same file.")
            if self._sessions is None:
                self._sessions = {row.session_id: self._make(row) for row in self._around.table.rows()}
                self._around.wake()
            return self._sessions

    def by_name(self, name: str) -> Session | None:
        """Return the open session of a name, None where there is none."""
        with self.lock:
            found = next((s for s in self.all().values() if s.name == name), None)
            if found is None:
                # Another Lab of this process may have opened it on the same file.
                rows = [row for row in self._around.table.rows(name=name) if row.session_id not in self.all()]
                if rows:
                    found = self.all()[rows[0].session_id] = self._make(rows[0])
                    self._around.wake()
            return found

    def drop(self, session: Session) -> None:
        """One is no longer open."""
        with self.lock:
            if self._sessions is not None:
                self._sessions.pop(session.id, None)

    def trim(self, but: Session) -> None:
        """Let the store alone hold the states that were used longest ago, where there are too many."""
        loaded = [s for s in self.all().values() if s.book.loaded and s is not but] if self._sessions else []
        over = len(loaded) + 1 - self._around.limits.loaded
        if over > 0:
            free = sorted((s for s in loaded if not s.keeping.fixed), key=lambda s: s.touched)
            for session in free[:over]:
                session.keeping.suspend()

    def close(self) -> list[Session]:
        """Take none and give none any more; return those that were here, the first time."""
        with self.lock:
            found = [] if self._closed else self.here()
            self._closed = True
            return found
