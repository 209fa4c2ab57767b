"""Requests that wait together are answered together."""

from __future__ import annotations

import asyncio
import inspect
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from dspex_lab.lms.engines._local_request import Answer, Ask, Begun, Piece


class Job:
    """One request on its way to a model.

    Args:
        ask: what is asked.
        tell: takes ``Begun`` and each :class:`Piece` where ``streams``, and at the end the :class:`Answer` or the error;
            called in the model's thread, and not any more after :meth:`cancel`.
        tokens: the most it may be answered with where ``ask`` does not say.
        window: seconds it may wait for others to come; ``most`` requests are answered together.
    """

    def __init__(
        self,
        ask: Ask,
        tell: Callable[[Begun | Piece | Answer | BaseException], None],
        *,
        streams: bool = False,
        tokens: int = 1024,
        window: float = 0.0,
        most: int = 1,
    ) -> None:
        self.ask = ask
        self.streams = streams
        self.tokens = tokens
        self.window = window
        self.most = most
        self.told = False  # some of its text is out: it cannot be begun again
        self.over = False
        self._tell = tell
        self._cancelled = False

    def cancel(self) -> None:
        """Have the model stop before its next token."""
        self._cancelled = True

    def cancelled(self) -> bool:
        """Say whether nobody waits for the answer any more."""
        return self._cancelled

    def begin(self, begun: Begun) -> None:
        """Tell that the answer is about to be written."""
        if self.streams and not self._cancelled:
            self._tell(begun)

    def piece(self, piece: Piece) -> None:
        """Pass on some of the text."""
        self.told = True
        if not self._cancelled:
            self._tell(piece)

    def end(self, outcome: Answer | BaseException) -> None:
        """Pass on the outcome, once."""
        if not self.over:
            self.over = True
            if not self._cancelled:
                self._tell(outcome)


def mailbox() -> tuple[asyncio.Queue[Any], Callable[[Any], None]]:
    """Return a queue of the running loop, and what puts into it from the model's thread."""
    loop = asyncio.get_running_loop()
    heard: asyncio.Queue[Any] = asyncio.Queue()

    def tell(item: Any) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(heard.put_nowait, item)

    return heard, tell


Run = Callable[[list[Job]], list[Job]]


class Batcher:
    """Hands waiting requests to ``run``, several at a time, in a thread that lives while there are any.

    Args:
        run: answers the jobs it is given and returns those it left for later, in their order; raises nothing. The object of a
            bound method is not kept alive but while there are requests: a model that has a queue is freed when it is dropped.
        name: the thread's.
    """

    def __init__(self, run: Run, name: str) -> None:
        self._run: Callable[[], Run | None] = weakref.WeakMethod(run) if inspect.ismethod(run) else lambda: run
        self._name = name
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._busy = False

    def submit(self, job: Job) -> None:
        """Have ``job`` answered."""
        with self._changed:
            self._waiting.append(job)
            self._changed.notify_all()
            if self._busy:
                return
            self._busy = True
        # The thread holds the model; it ends with the work, so that a model nobody uses can be freed.
        threading.Thread(target=self._serve, args=(self._run(),), name=self._name, daemon=True).start()

    def idle(self, timeout: float | None = None) -> bool:
        """Wait until nothing is being done or waits, and say whether that is so; ``timeout`` is in seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._busy, timeout)

    def _serve(self, run: Run) -> None:
        while True:
            batch = self._next()
            if batch is None:
                return
            left = run(batch)
            for job in left:
                job.window = 0.0  # it has waited for others already
            with self._changed:
                self._waiting.extendleft(reversed(left))

    def _next(self) -> list[Job] | None:
        with self._changed:
            self._drop_cancelled()
            if self._waiting:
                first = self._waiting[0]
                self._changed.wait_for(lambda: len(self._waiting) >= first.most, first.window)
                self._drop_cancelled()
            if not self._waiting:
                self._busy = False
                self._changed.notify_all()
                return None
            return [self._waiting.popleft() for _ in range(min(self._waiting[0].most, len(self._waiting)))]

    def _drop_cancelled(self) -> None:
        self._waiting = deque(job for job in self._waiting if not job.cancelled())
