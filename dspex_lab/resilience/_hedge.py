"""Hedged requests: where an answer is late, ask once more and take the first answer.

Dean & Barroso, The Tail at Scale (Communications of the ACM 56(2), 2013, "Hedged requests"): a second request after the
95th percentile of the latency costs about 5 % more load and takes most of the tail away. The share of hedges has a limit,
so that a provider that has become slow does not get twice the load.
"""

from __future__ import annotations

import contextvars
import queue
import re
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from dspex_lab.errors import ConfigurationError
from dspex_lab.resilience._change import Change, Observer, describe, log, tell
from dspex_lab.resilience._checks import number, whole
from dspex_lab.resilience._windows import Latencies

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

#: The number of a request, its answer, and its failure.
_Answer = tuple[int, Any, BaseException | None]
Take = Callable[["queue.SimpleQueue[_Answer]", float | None], _Answer]
AsyncWait = Callable[["Sequence[asyncio.Future[Any]]", float | None], Awaitable[None]]

#: Latencies kept, and how many there must be before a quantile of them is believed.
_KEPT, _ENOUGH = 400, 20

#: Hedges that may be saved up while none is needed.
_SAVED = 10.0

#: Seconds for which a winner waits for the cancelled to end, so that their places are free when the answer is there.
_FAREWELL = 0.1


@dataclass(frozen=True)
class Hedge:
    """When to ask once more.

    Attributes:
        after: seconds without an answer, or a quantile of the latencies seen so far such as ``"p95"`` (no hedge before 20
            answers were seen).
        most: further requests of one call; the next follows after the same time again.
        share: further requests per call, over many calls; 0.05 is the paper's.
    """

    after: float | str = "p95"
    most: int = 1
    share: float = 0.1

    def __post_init__(self) -> None:
        if isinstance(self.after, str):
            self.quantile()
        else:
            number("Hedge", "after", self.after, 0)
        whole("Hedge", "most", self.most, 1, 10)
        number("Hedge", "share", self.share, 0, 1)

    def quantile(self) -> float | None:
        """Return the quantile that ``after`` names as a share, or None where it is seconds.

        Raises:
            ConfigurationError: it is text and no quantile.
        """
        if not isinstance(self.after, str):
            return None
        found = re.fullmatch(r"p(\d{1,2}(?:\.\d{1,3})?)", self.after)
        if found is None or not 0 < float(found[1]) < 100:
            raise ConfigurationError(
                f"Hedge(after={self.after!r}): it is seconds, or a quantile such as 'p95'.", key="after", actual=self.after
            )
        return float(found[1]) / 100


class Hedger:
    """What one target's calls taught: how long an answer takes, and how many hedges may still be sent.

    Threads and event loops may share it. Hedges never exceed 1 + ``share`` × calls.

    Args:
        target: what the calls go to.
        hedge: when to ask once more.
        told: told of each further request (``hedge.start``) and each that answered first (``hedge.win``).
        clock: seconds that only grow.
    """

    def __init__(
        self, target: str, hedge: Hedge, told: Observer | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.target, self.hedge = target, hedge
        self._told, self._clock = told, clock
        self._lock = threading.Lock()
        self._seen = Latencies(_KEPT)
        self._saved = 1.0

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.target, self.hedge))

    def begin(self) -> float | None:
        """Count a call; return after how many seconds it may be hedged, or None where it may not."""
        with self._lock:
            self._saved = min(self._saved + self.hedge.share, _SAVED)
            if self._saved < 1.0:
                return None
            if not isinstance(self.hedge.after, str):
                return self.hedge.after
            if len(self._seen) < _ENOUGH:
                return None
            return self._seen.quantile(self.hedge.quantile() or 0.0)

    def seen(self, seconds: float) -> None:
        """Learn how long an answer took."""
        with self._lock:
            self._seen.add(seconds)

    def spend(self, number: int, after: float) -> bool:
        """Take hedge ``number`` (from 1) of a call out of the budget; False where there is none left."""
        with self._lock:
            if self._saved < 1.0:
                return False
            self._saved -= 1.0
        reason = f"no answer after {after:.3g} s"
        self._tell("hedge.start", "request 1", number, reason, {"after": after})
        return True

    def won(self, number: int) -> None:
        """Tell that hedge ``number`` answered first."""
        self._tell("hedge.win", "request 1", number, "it answered first", {})

    def _tell(self, event: str, before: str, number: int, reason: str, details: dict[str, Any]) -> None:
        change = Change(event, self.target, before, f"request {number + 1}", reason, details={"hedge": number, **details})
        tell(self._told, change)


async def hedged(
    work: Callable[[int], Awaitable[T]],
    hedger: Hedger,
    *,
    when: Callable[[], bool] | None = None,
    wait: AsyncWait | None = None,
) -> T:
    """Await ``work(0)``, and where it is late ``work(1)`` beside it; the first that succeeds is the answer.

    The others are then cancelled. One that fails does not end the others; where all fail, the failure of the first request
    is raised. A call that may be hedged runs in tasks of its own, so it cannot set its caller's context variables.

    Args:
        work: called with the number of the request. It must be safe to do twice.
        hedger: what is known about the target, and the budget.
        when: asked before each further request; False ends the hedging of this call.
        wait: in place of ``asyncio.wait`` until the first of the tasks is done or so many seconds are over.
    """
    after = hedger.begin()
    started = hedger._clock()
    answer = await work(0) if after is None else await _race(work, _Turns(hedger, after, when), wait)
    hedger.seen(hedger._clock() - started)
    return answer


def hedged_sync(
    work: Callable[[int], T],
    hedger: Hedger,
    *,
    when: Callable[[], bool] | None = None,
    take: Take | None = None,
) -> T:
    """Call ``work`` as `hedged` does. Each request of a call that may be hedged runs in a daemon thread of its own.

    A thread cannot be cancelled: who lost is abandoned. It goes on to its end, and its answer or failure is dropped, so
    give ``work`` a timeout of its own.

    Args:
        work: as of `hedged`; it sees a copy of the caller's context variables.
        hedger: as of `hedged`.
        when: as of `hedged`.
        take: in place of ``queue.get(timeout=seconds)``; raises ``queue.Empty`` where the seconds are over.
    """
    after = hedger.begin()
    started = hedger._clock()
    answer = work(0) if after is None else _race_sync(work, _Turns(hedger, after, when), take or _take)
    hedger.seen(hedger._clock() - started)
    return answer


class _Turns:
    """Whose turn it is: the numbers of the requests of one call, and for how long to wait before the next."""

    def __init__(self, hedger: Hedger, after: float, when: Callable[[], bool] | None) -> None:
        self._hedger, self._after, self._when = hedger, after, when
        self._left = hedger.hedge.most
        self.sent = 1

    def wait(self) -> float | None:
        """Return the seconds until the next request, None where there will be none."""
        return self._after if self._left else None

    def next(self) -> int | None:
        """Return the number of the further request to send now, or None where none may be sent in this call any more."""
        if (self._when is None or self._when()) and self._hedger.spend(self.sent, self._after * self.sent):
            self._left -= 1
            self.sent += 1
            return self.sent - 1
        self._left = 0
        return None

    def won(self, number: int) -> None:
        if number > 0:
            self._hedger.won(number)


async def _race(work: Callable[[int], Awaitable[T]], turns: _Turns, wait: AsyncWait | None) -> T:
    import asyncio

    requests = [asyncio.ensure_future(work(0))]
    try:
        while True:
            running = [each for each in requests if not each.done()]
            if not running:
                return await requests[0]
            await (wait or _wait)(running, turns.wait())
            for number, each in enumerate(requests):
                if each.done() and not each.cancelled() and each.exception() is None:
                    turns.won(number)
                    return each.result()
            if not any(each.done() for each in running) and (number := turns.next() or 0):
                requests.append(asyncio.ensure_future(work(number)))
    finally:
        await _end(requests)


async def _wait(tasks: Sequence[asyncio.Future[Any]], seconds: float | None) -> None:
    import asyncio

    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)


async def _end(requests: Sequence[asyncio.Future[Any]]) -> None:
    """Cancel who still runs, and wait a moment until they have ended; who takes longer ends alone."""
    import asyncio

    running = [each for each in requests if not each.done()]
    for each in running:
        each.cancel()
    if running:
        await asyncio.wait(running, timeout=_FAREWELL)
    for each in requests:
        _ending.add(each)
        each.add_done_callback(_ended)


#: Requests that were cancelled and have not ended yet: a loop itself keeps only weak references.
_ending: set[asyncio.Future[Any]] = set()


def _ended(request: asyncio.Future[Any]) -> None:
    _ending.discard(request)
    if not request.cancelled() and (error := request.exception()) is not None:
        log.debug("a hedged request that was not needed any more failed: %s", describe(error))


def _race_sync(work: Callable[[int], T], turns: _Turns, take: Take) -> T:
    answers: queue.SimpleQueue[_Answer] = queue.SimpleQueue()

    def request(number: int) -> None:
        try:
            answers.put((number, work(number), None))
        except BaseException as error:
            answers.put((number, None, error))

    def start(number: int) -> None:
        context = contextvars.copy_context()
        name = f"dspex-hedge-{number}"
        threading.Thread(target=context.run, args=(request, number), name=name, daemon=True).start()

    start(0)
    failures: dict[int, BaseException] = {}
    while True:
        try:
            number, answer, error = take(answers, turns.wait())
        except queue.Empty:
            further = turns.next()
            if further is not None:
                start(further)
            continue
        if error is None:
            turns.won(number)
            return answer
        failures[number] = error
        if len(failures) == turns.sent:
            raise failures[0]


def _take(answers: queue.SimpleQueue[_Answer], seconds: float | None) -> _Answer:
    return answers.get(timeout=seconds)
