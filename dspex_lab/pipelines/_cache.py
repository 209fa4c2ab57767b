"""Answers of steps kept in memory, so that equal requests to a step are done once."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from concurrent.futures import Future
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex_lab.lms import current_feedback
from dspex_lab.pipelines._cache_key import NoKey, Same, form, model_state, state

if TYPE_CHECKING:
    from dspex_lab.pipelines._step import Step

log = logging.getLogger("dspex_lab")

#: How many others a request waits for, one after the other, before it does the work beside them.
PATIENCE = 2

_PLAIN = frozenset({str, int, float, bool, bytes, complex, type(None)})


class Found(NamedTuple):
    """What the cache held: a copy that belongs to whoever asked."""

    value: dict[str, Any]


class CacheStats(NamedTuple):
    """How a cache did: answers served (those waited for included), answers that had to be made, and answers held now."""

    hits: int
    misses: int
    size: int


class _Entry(NamedTuple):
    value: dict[str, Any]
    expires: float | None
    frozen: bool


#: The requests whose work is being done around the caller; inside one nobody waits for another, so no two wait in a ring.
_leading: ContextVar[bool] = ContextVar("dspex_cache_leading", default=False)


class StepCache:
    """Answers by request, the one not asked for longest dropped first. Thread-safe.

    Args:
        capacity: answers kept at most.
        clock: gives the time in seconds; ``time.monotonic`` unless a test has one of its own.
    """

    def __init__(self, capacity: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        if capacity < 1:
            raise ValueError("a cache holds at least one answer")
        self.capacity = capacity
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._flights: dict[Hashable, Future[Found | None]] = {}
        self._hits = self._misses = 0
        self._said: set[str] = set()

    # --- keys -------------------------------------------------------------------------------------------------

    def key(
        self, item: Step, inputs: Mapping[str, Any], model: Any = None, *, field: str = "", also: Hashable = None
    ) -> Hashable | None:
        """Return what tells this request from others, or None where it cannot be told; why not is logged once.

        It holds the step (a function by identity; a DSPy module by identity and all that changes its answers: demonstrations,
        instructions, settings), the inputs with their types, the model with its settings, and the feedback of a check.

        Args:
            inputs: the step's input fields.
            model: the ``dspy.LM`` the step may ask; None where it asks none.
            field: what a single value of the step is called; the same step may stand in pipelines under several names.
            also: anything else that changes the answer.
        """
        try:
            fields = tuple([(name, form(inputs[name])) for name in sorted(inputs)])
            key = (_step_state(item), fields, model_state(model), current_feedback(), field, also)
            hash(key)
        except NoKey as why:
            self._say(f"Step {item.name or item.how.label(item)!r} is not cached for {why}: it cannot be compared.")
            return None
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            self._say(f"Step {item.name or item.how.label(item)!r} is not cached: its inputs cannot be compared ({what}).")
            return None
        return key

    def _say(self, what: str) -> None:
        with self._lock:
            new = what not in self._said and len(self._said) < 1_000
            self._said.add(what)
        if new:
            log.warning(what)

    # --- answers ----------------------------------------------------------------------------------------------

    def get(self, key: Hashable) -> Found | None:
        """Return a copy of the answer kept under ``key``, or None."""
        found = self._look(key)
        self._count(found is not None)
        return found

    def _look(self, key: Hashable) -> Found | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            if entry.expires is not None and entry.expires <= self._clock():
                del self._entries[key]
                return None
            self._entries.move_to_end(key)
        return Found(dict(entry.value) if entry.frozen else _snapshot(entry.value))

    def _count(self, hit: bool) -> None:
        with self._lock:
            self._hits += hit
            self._misses += not hit

    def put(self, key: Hashable, value: Mapping[str, Any], ttl: float | None = None) -> bool:
        """Keep a copy of ``value`` for ``ttl`` seconds, None for as long as there is room.

        Returns:
            whether it is kept: what cannot be copied is not, which is logged once.
        """
        try:
            kept = _snapshot(value)
        except Exception as error:
            self._say(
                f"An answer with {', '.join(value)} is not cached: it cannot be copied ({type(error).__name__}: {error})."
            )
            return False
        frozen = all(type(v) in _PLAIN for v in kept.values())
        with self._lock:
            self._entries[key] = _Entry(kept, None if ttl is None else self._clock() + ttl, frozen)
            self._entries.move_to_end(key)
            while len(self._entries) > self.capacity:
                self._entries.popitem(last=False)
        return True

    def clear(self) -> None:
        """Forget all answers; what is under way goes on."""
        with self._lock:
            self._entries.clear()

    def stats(self) -> CacheStats:
        """Return hits, misses and the number of answers held."""
        with self._lock:
            return CacheStats(self._hits, self._misses, len(self._entries))

    # --- one at a time ----------------------------------------------------------------------------------------

    async def through(
        self,
        key: Hashable,
        make: Callable[[], Awaitable[Mapping[str, Any]]],
        *,
        ttl: float | None = None,
        keep: Callable[[], bool] = lambda: True,
        block: bool = False,
    ) -> tuple[Mapping[str, Any], bool]:
        """Return the answer to ``key``, made by ``make`` where there is none, and whether it was there.

        Equal requests under way at the same time, in any thread and on any loop, wait for the first one. Where that fails or
        is cancelled, one of those waiting does the work in its place; a failure is neither kept nor shared. A request that
        waited for two that failed does the work itself, so that a row of failures is not paid for one after the other. A
        request made while another one's work is being done around it does not wait.

        Args:
            ttl: seconds the answer is kept; None: as long as there is room.
            keep: asked after ``make``; False: the answer is less than wanted, and is neither kept nor shared.
            block: there is no event loop; wait in this thread.

        Raises:
            Exception: what ``make`` raised.
        """
        # On a loop's own thread nobody may wait for a task of that loop.
        waits = 0 if _leading.get() or (block and _on_a_loop()) else PATIENCE
        while (found := self._look(key)) is None:
            own: Future[Found | None] = Future()
            with self._lock:
                flight = self._flights.setdefault(key, own)
            if flight is own:
                return await self._lead(key, own, make, ttl, keep)
            if waits == 0:
                return (await self._made(key, make, ttl, keep))[0], False
            waits -= 1
            found = await _landing(flight, block)
            if found is not None:
                found = Found(_snapshot(found.value))
                break
        self._count(True)
        return found.value, True

    async def _lead(
        self,
        key: Hashable,
        own: Future[Found | None],
        make: Callable[[], Awaitable[Mapping[str, Any]]],
        ttl: float | None,
        keep: Callable[[], bool],
    ) -> tuple[Mapping[str, Any], bool]:
        token = _leading.set(True)
        landed: Found | None = None
        try:
            # It may have come between the look into the cache and the look for those under way.
            landed = self._look(key)
            if landed is not None:
                self._count(True)
                return Found(_snapshot(landed.value)).value, True
            value, kept = await self._made(key, make, ttl, keep)
            landed = Found(_snapshot(value)) if kept else None
            return value, False
        finally:
            with self._lock:
                del self._flights[key]
            own.set_result(landed)
            # A coroutine that was given up is closed from elsewhere; the context it ran in is gone then.
            with contextlib.suppress(ValueError):
                _leading.reset(token)

    async def _made(
        self, key: Hashable, make: Callable[[], Awaitable[Mapping[str, Any]]], ttl: float | None, keep: Callable[[], bool]
    ) -> tuple[Mapping[str, Any], bool]:
        self._count(False)
        value = await make()
        return value, keep() and self.put(key, value, ttl)


def _on_a_loop() -> bool:
    return asyncio._get_running_loop() is not None


async def _landing(flight: Future[Found | None], block: bool) -> Found | None:
    """Wait for another request; being cancelled here leaves it alone."""
    if block:
        return flight.result()
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not waiter.done():
            waiter.set_result(None)

    def landed(_: Future[Found | None]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(wake)

    flight.add_done_callback(landed)
    await waiter
    return flight.result()


def _step_state(item: Step) -> Hashable:
    """Return what tells a step from others: its own work, or that of the steps in it."""
    parts = item.how.parts(item)
    if parts:
        return (Same(item.target), item.outputs, *[(name, _step_state(part)) for name, part in parts.items()])
    return (item.kind, state(item.target), item.outputs, _lm_of(item))


def _lm_of(item: Step) -> Hashable:
    own = getattr(item, "lm", None)
    return own if own is None or isinstance(own, str) else model_state(own)


def _snapshot(value: Any) -> Any:
    """Return a copy that shares nothing that can be changed."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict:
        return {k: _snapshot(v) for k, v in value.items()}
    if kind is list:
        return [_snapshot(v) for v in value]
    return copy.deepcopy(value)
