"""Sessions as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dspex_lab.security import one_line
from dspex_lab.sessions._show import Sheet, Table, count, duration, size

if TYPE_CHECKING:
    from dspex_lab.sessions._session import Session

_COLUMNS = ("session", "status", "pool", "worker", "affinity", "used", "closes", "state", "version", "calls", "moves")


class SessionList(Sequence["Session"]):
    """Sessions at one moment; a cell shows them as a table.

    Args:
        sessions: in the order in which they are shown.
        now: seconds since the epoch.
    """

    def __init__(self, sessions: Sequence[Session], now: float) -> None:
        self._sessions, self._now = tuple(sessions), now

    def __getitem__(self, index: Any) -> Any:
        return self._sessions[index]

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions)

    def sheet(self) -> Sheet:
        """The table, for a cell."""
        rows = [self._row(session) for session in self._sessions]
        title = f"{len(rows):,} session{'' if len(rows) == 1 else 's'}"
        return Sheet(title, [Table(_COLUMNS, rows, "lab.sessions.open(name), or %dspex session NAME --use, opens one.")])

    def _row(self, session: Session) -> tuple[str, ...]:
        ended = session.status in ("closed", "expired")
        left = None if session.ttl is None or ended else max(session.touched + session.ttl - self._now, 0.0)
        return (
            one_line(session.name, 60),
            session.status,
            session.pool,
            session.worker or "–",
            session.affinity,
            f"{duration(max(self._now - session.touched, 0.0))} ago",
            "–" if left is None else f"in {duration(left)}",
            "–" if ended else size(session.size),
            count(session.version),
            count(session.calls),
            count(session.moves),
        )

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()

    def __repr__(self) -> str:
        return repr(self.sheet())
