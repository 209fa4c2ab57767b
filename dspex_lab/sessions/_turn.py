"""One at a time, in the order in which they asked: threads and tasks of any event loop alike."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future

from dspex_lab.errors import SessionError


class Turn:
    """A queue for what may only be done by one at a time. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Future[None]] = deque()
        self._taken = False

    @property
    def taken(self) -> bool:
        """Whether somebody has it now."""
        return self._taken

    def _ask(self) -> Future[None]:
        mine: Future[None] = Future()
        with self._lock:
            if self._taken:
                self._waiting.append(mine)
            else:
                self._taken = True
                mine.set_running_or_notify_cancel()
                mine.set_result(None)
        return mine

    def leave(self) -> None:
        """Give it to who waits longest."""
        with self._lock:
            while self._waiting:
                following = self._waiting.popleft()
                if following.set_running_or_notify_cancel():
                    following.set_result(None)
                    return
            self._taken = False

    async def acquire(self) -> None:
        """Wait for it; who is cancelled does not get it."""
        mine = self._ask()
        try:
            await asyncio.wrap_future(mine)
        except asyncio.CancelledError:
            if not mine.cancelled() and not mine.cancel():
                self.leave()
            raise

    def take(self, session: str) -> None:
        """Wait for it in this thread.

        Raises:
            SessionError: somebody has it, and this thread runs an event loop, which must not wait: it could wait for itself.
        """
        mine = self._ask()
        if not mine.done():
            if _on_a_loop() and mine.cancel():
                raise SessionError(
                    f"Session {session!r} is in a call; this has to wait for its end.",
                    session=session,
                    hint="What the call changes of the state comes home when it ends: await it first.",
                )
            try:
                mine.result()
            except BaseException:  # an interrupt
                if not mine.cancel():
                    self.leave()
                raise

    def try_take(self) -> bool:
        """Take it if nobody has it."""
        with self._lock:
            if self._taken:
                return False
            self._taken = True
            return True


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
