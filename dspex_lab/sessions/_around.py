"""What a session is given by the Lab it belongs to."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

from dspex_lab.events import Event
from dspex_lab.sessions._limits import SessionLimits
from dspex_lab.store import SessionTable, Store


class Pool(Protocol):
    """A worker pool, as sessions see it; :class:`dspex_lab.pools.Pool` is one."""

    name: str

    async def call(self, fn: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        """Run ``fn`` on a worker."""
        ...

    def reserve(self, *, place: Any = None, patience: float | None = None) -> contextlib.AbstractAsyncContextManager[Any]:
        """Keep a worker for the holder alone."""
        ...

    def status(self) -> list[dict[str, Any]]:
        """Return a dict for each worker."""
        ...


class Runs(Protocol):
    """Runs something in the Lab; the Lab is one."""

    def run(self, x: Any, inputs: Any = None, /, *, options: Any = None, **fields: Any) -> Any:
        """Run it and wait."""
        ...

    async def arun(self, x: Any, inputs: Any = None, /, *, options: Any = None, **fields: Any) -> Any:
        """Run it on this event loop."""
        ...


@dataclass
class Around:
    """What is around a session.

    Args:
        store: where sessions are kept.
        pool: gives the pool of a name.
        emit: takes events.
        wait: runs a coroutine on the Lab's loop and waits for it; called from other threads.
        runs: runs something in the Lab; None where there is none.
        clock: seconds since the epoch.

    Attributes:
        wake: has it looked at when sessions expire, because one has a new time to live.
    """

    store: Store
    pool: Callable[[str], Pool]
    emit: Callable[[Event], None]
    wait: Callable[[Coroutine[Any, Any, Any]], Any]
    runs: Runs | None = None
    clock: Callable[[], float] = time.time
    limits: SessionLimits = field(default_factory=SessionLimits)

    def __post_init__(self) -> None:
        self.table = SessionTable(self.store)
        self.wake: Callable[[], None] = lambda: None

    def tell(self, name: str, session_id: str | None, session: str | None, **data: Any) -> None:
        """Tell of an event of a session that happens now."""
        self.emit(Event(name, time.time(), data={"session_id": session_id, "session": session, **data}))
