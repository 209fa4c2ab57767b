"""How a call of a session reaches a worker that has the session's state."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex_lab.errors import PoolBusy, PoolError
from dspex_lab.events import new_id
from dspex_lab.sessions._book import STATE
from dspex_lab.sessions._seats import gone
from dspex_lab.sessions._state import Changes
from dspex_lab.sessions._worker import Answer, OnState

if TYPE_CHECKING:
    from dspex_lab.sessions._session import Session


class Came(NamedTuple):
    """What came home of a call: the pool it ran on, the stamp of the new state, what changed in it, and the value."""

    pool: str
    stamp: str
    changes: Changes
    value: Any


async def call_on_worker(session: Session, fn: Callable[..., Any], args: tuple[Any, ...], how: dict[str, Any]) -> Came:
    """Call ``fn`` on the session's worker; nothing is saved yet.

    The worker is asked first whether it has the state, where it should; only where it has not, the state is sent.
    """
    name = str(how.pop("pool", None) or session.pool)
    work = OnState(fn)
    how.setdefault("label", work.__name__)
    stamp = new_id()
    known = session.keeping.living == (name, session.book.stamp) and session.seats.of(name) is not None
    answer = await _ask(session, name, work, stamp, args, how, send=not known)
    if answer.missing:
        answer = await _ask(session, name, work, stamp, args, how, send=True)
    return Came(name, stamp, answer.changed or {}, answer.value)


async def _ask(
    session: Session, name: str, work: OnState, stamp: str, args: tuple[Any, ...], how: dict[str, Any], *, send: bool
) -> Answer:
    pool = session.around.pool(name)
    given = (
        (session.id, session.name),
        (session.book.stamp, stamp),
        dict(session.keeping.entries(STATE)) if send else None,
        session.around.limits.state_bytes,
        args,
    )
    told: list[Any] = []
    place = session.seats.placement(name, session.affinity, session.name)
    tags = {"session_id": session.id, "session": session.name}
    # The stamps make every call another one; what kills its worker is the same function on the same state.
    who = f"{session.id} {session.version} {how['label']}"
    seat = session.seats.of(name)
    try:
        answer: Answer = await pool.call(
            work, *given, **{"identity": who, **how, "place": place, "tags": tags, "told": told.append}
        )
    except PoolError as error:
        never = type(error) in (PoolError, PoolBusy) and place is not None and place.strict
        names = {worker["name"] for worker in pool.status()} if never else set()
        if seat is None or not names or seat.worker in names:
            raise
        # The pool was made smaller: that worker will not come back.
        session.seats.left(name, names, session.affinity)
        if session.affinity == "strict-fail":
            raise gone(session.name, name, seat) from error
        return await _ask(session, name, work, stamp, args, how, send=True)
    pid = told[-1].pid if told else None
    if answer.missing and session.affinity == "strict-fail" and seat is not None and pid != seat.pid:
        session.seats.died(name, seat.worker, seat.pid)
        raise gone(session.name, name, seat)
    if told and not answer.missing:
        session.moved(name, told[-1].worker, pid)
    return answer
