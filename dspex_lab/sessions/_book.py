"""What is kept of one session, here and in the store: its row, its state, and what of it may not be written."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import replace

from dspex_lab.errors import SessionError
from dspex_lab.events import new_id
from dspex_lab.security import Redactor, one_line
from dspex_lab.sessions._around import Around
from dspex_lab.sessions._state import Changes
from dspex_lab.sessions._values import joined, memory_of, parted, texts_in
from dspex_lab.sessions._worker import check_room
from dspex_lab.store import SessionRow

log = logging.getLogger("dspex_lab")

#: The two namespaces of a session.
STATE, OPTIMIZATION = "state", "optimization"

#: Seconds after which it is written down that a session was used, where nothing else is written of it.
_NOTED = 5.0

Entries = dict[str, dict[str, str]]


class Book:
    """The keeping of a session. Thread-safe, by ``lock``, which is held while the store is written.

    Args:
        row: what the store has of it.
        around: the Lab's parts.
        entries: its state by namespace, where it is new.

    Attributes:
        row: what the store has of it, as far as is known here.
        stamp: names the present state; another state has another one.
    """

    def __init__(self, row: SessionRow, around: Around, entries: Entries | None = None) -> None:
        self.row, self._around, self._entries = row, around, entries
        self.stamp = new_id()
        self.lock = threading.RLock()
        self._touched = row.touched
        self._secret: set[tuple[str, str]] = set()

    @property
    def touched(self) -> float:
        """When it was used last."""
        return max(self._touched, self.row.touched)

    @property
    def loaded(self) -> bool:
        """Whether the state is in memory."""
        return self._entries is not None

    @property
    def size(self) -> int:
        """The bytes of the state."""
        loaded = self._entries
        return self.row.size if loaded is None else sum(map(memory_of, loaded.values()))

    @property
    def holds_secret(self) -> bool:
        """Whether something of the state is here alone, because it may not be written."""
        return bool(self._secret)

    def check_open(self) -> None:
        """Refuse what a closed session cannot do.

        Raises:
            SessionError: it is closed.
        """
        if self.row.closed is not None:
            how = "expired" if self.row.reason == "expired" else "is closed"
            hint = "lab.sessions.open(name) opens a new one; its history stays."
            raise SessionError(f"Session {self.row.name!r} {how}.", session=self.row.name, hint=hint)

    def entries(self) -> Entries:
        """Return the state, read from the store where it is not here; not to be changed.

        Raises:
            SessionError: it is closed.
        """
        with self.lock:
            self.check_open()
            if self._entries is None:
                found = self._around.table.state(self.row.session_id)
                if found is None or found[0].closed is not None:
                    raise self._closed_elsewhere()
                self.row = replace(found[0], touched=max(self.touched, found[0].touched))
                self._entries = {STATE: parted(found[1]), OPTIMIZATION: parted(found[2])}
            return self._entries

    def commit(self, changes: Mapping[str, Changes], stamp: str | None = None, called: bool = False) -> None:
        """Make changes the state, on the disk when this returns; or raise, and it is as it was.

        Args:
            changes: by namespace.
            stamp: what a worker calls the new state; None where none has it.
            called: they are those of a call.

        Raises:
            SessionError: the state would be too large, or another Lab changed or closed the session.
        """
        with self.lock:
            new = {what: _with(entries, changes.get(what, {})) for what, entries in self.entries().items()}
            self._check_room(new, changes)
            secret = self._secrets(changes)
            row = replace(
                self.row,
                version=self.row.version + 1,
                calls=self.row.calls + called,
                touched=self._around.clock(),
                unkept=self._unkept(secret, new),
            )
            texts = [
                joined({k: v for k, v in new[what].items() if (what, k) not in secret}) if changes.get(what) else None
                for what in (STATE, OPTIMIZATION)
            ]
            if not self._around.table.save(row, self.row.version, *texts):
                raise self.overtaken()
            self._say(secret - self._secret)
            self.row, self._entries, self._secret, self.stamp = row, new, secret, stamp or new_id()

    def touch(self, worker: str | None) -> None:
        """Take note that it is used now; that is written down now and then."""
        with self.lock:
            self._touched = self._around.clock()
            often = min(_NOTED, (self.row.ttl or _NOTED * 20) / 20)
            if self.row.closed is None and self._touched - self.row.touched >= often:
                self.note(worker=worker or self.row.worker)

    def note(self, **changed: object) -> bool:
        """Write down when it was used, and what else changed but the state; return False where another Lab changed it."""
        with self.lock:
            row = replace(self.row, touched=self.touched, **changed)  # type: ignore[arg-type]
            if not self._around.table.save(row, row.version, None, None):
                return False
            self.row = row
            return True

    def moved(self) -> None:
        """Take note that it went to another worker; written with what is written next."""
        with self.lock:
            self.row = replace(self.row, moves=self.row.moves + 1)

    def rename(self, name: str) -> None:
        """Give it another name."""
        with self.lock:
            self.check_open()
            self._around.table.rename(self.row.session_id, name, self._around.clock())
            self.row = replace(self.row, name=name)

    def close(self, reason: str) -> bool:
        """Close it; return False where it was."""
        with self.lock:
            if self.row.closed is not None:
                return False
            at = self._around.clock()
            self._around.table.close(self.row.session_id, at, reason)
            self.row = replace(self.row, closed=at, reason=reason, size=0)
            self.forget()
            return True

    def forget(self) -> None:
        """Let the store alone have the state."""
        with self.lock:
            self.row = replace(self.row, size=self.size)
            self._entries, self._secret, self.stamp = None, set(), new_id()

    def overtaken(self) -> SessionError:
        """Return the error for what another Lab did meanwhile."""
        found = self._around.table.state(self.row.session_id)
        if found is None or found[0].closed is not None:
            return self._closed_elsewhere()
        name, theirs = self.row.name, found[0].version
        return SessionError(
            f"Session {name!r} was changed by another Lab: its version is {theirs}, and not {self.row.version}.",
            session=name,
            hint="session.refresh() reads it anew; nothing of yours was saved.",
        )

    def _closed_elsewhere(self) -> SessionError:
        return SessionError(f"Session {self.row.name!r} was closed by another Lab.", session=self.row.name)

    def _check_room(self, new: Entries, changes: Mapping[str, Changes]) -> None:
        mine, other = (OPTIMIZATION, STATE) if changes.get(OPTIMIZATION) else (STATE, OPTIMIZATION)
        check_room(new[mine], self._around.limits.state_bytes, self.row.name, memory_of(new[other]), mine)

    def _secrets(self, changes: Mapping[str, Changes]) -> set[tuple[str, str]]:
        mask, found = Redactor(), set(self._secret)
        for what, texts in changes.items():
            for key, text in texts.items():
                found.discard((what, key))
                if text is not None and _holds(mask, joined({key: text}), text):
                    found.add((what, key))
        return found

    def _unkept(self, secret: set[tuple[str, str]], new: Entries) -> tuple[str, ...]:
        """Return what is not kept, and what an earlier kernel did not keep and nobody has set since."""
        mask = Redactor()
        now, before = ({mask(f"{what}[{key!r}]") for what, key in keys} for keys in (secret, self._secret))
        here = {mask(f"{what}[{key!r}]") for what, entries in new.items() for key in entries}
        return tuple(sorted(now | (set(self.row.unkept) - before - here)))

    def _say(self, secret: set[tuple[str, str]]) -> None:
        for what, key in sorted(secret):
            log.warning(
                "session %s: %s holds a secret and is not kept in the store; it is gone with the kernel",
                one_line(self.row.name),
                one_line(f"{what}[{key!r}]"),
            )


def _with(entries: Mapping[str, str], changes: Changes) -> dict[str, str]:
    out = {key: text for key, text in entries.items() if changes.get(key, text) is not None}
    out.update({key: text for key, text in changes.items() if text is not None})
    return out


def _holds(mask: Redactor, entry: str, text: str) -> bool:
    """Say whether an entry holds a secret: in what is read, or in what base64 hides."""
    return any(mask.may_hold(each) and mask(each) != each for each in (entry, *texts_in(text)))
