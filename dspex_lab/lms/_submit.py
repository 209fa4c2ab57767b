"""Work on a pool of workers, as models and embedders ask for it.

Pools and models are siblings and do not import each other: what is here is what a model needs of a pool (:class:`Workers`,
which ``dspex_lab.pools.Pool`` is), and who wires a Lab says where pools are found (:func:`use_pools`).
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, Protocol, TypeVar, cast

from dspex_lab._loop import LoopThread
from dspex_lab.errors import ConfigurationError

T = TypeVar("T")
_END: Any = object()


class Workers(Protocol):
    """A pool. ``call`` and ``stream`` may be used on any event loop; what a call is given and gives must be picklable."""

    name: str

    def call(self, fn: Callable[..., Any], /, *args: Any, **options: Any) -> Awaitable[Any]:
        """Run ``fn(*args)``, a function or coroutine function, in a worker; cancelling the caller stops it there.

        Options used here: ``label`` (text), ``idempotent`` (it may be run again on another worker if its own dies before
        anything was passed on), ``place`` (what :func:`use_pools` was given makes), ``told`` (called once with an outcome that
        has ``.worker``, a name or None).
        """

    def stream(self, fn: Callable[..., Any], /, *args: Any, **options: Any) -> AsyncIterator[Any]:
        """Yield what ``fn(*args)``, an async generator, yields in a worker, in order; closing the iterator stops it there."""


Find = Callable[[str], "Workers | None"]
Hint = Callable[[str], Any]

_find: list[tuple[Find, Hint | None]] = []
_staying = threading.Event()
_lock = threading.Lock()


def use_pools(find: Find | None, hint: Hint | None = None) -> None:
    """Say where the pools of this process are.

    Args:
        find: gives the pool of a name; None where work is done on the spot: in a worker, which is in a pool already. It raises
            ConfigurationError for a name that no pool has.
        hint: makes, of a worker's name, what :meth:`Workers.call` takes as ``place``, to prefer that worker if it is free.
    """
    with _lock:
        _find[:] = [] if find is None else [(find, hint)]


def stay() -> None:
    """Say that this process is a worker: models that it loads stay for the next call, though what loaded them is gone."""
    _staying.set()


def stays() -> bool:
    """Say whether this process keeps what it has loaded."""
    return _staying.is_set()


def submit_to(pool: str | Workers) -> Submit | None:
    """Return the way to a pool, by name or the pool itself; None where the work is to be done in this process.

    Raises:
        ConfigurationError: no such pool.
    """
    find, hint = _find[0] if _find else (None, None)
    workers = (find(pool) if find is not None else None) if isinstance(pool, str) else pool
    if workers is None:
        return None
    with _lock:
        known = _ways.get(workers)
        if known is None:
            known = _ways[workers] = Submit(workers)
        known.hint = hint
        return known


def name_of_pool(pool: object) -> str | None:
    """Return the name of a pool that was given by its name, or as itself.

    Raises:
        ConfigurationError: it is neither.
    """
    name = pool if pool is None or isinstance(pool, str) else getattr(pool, "name", None)
    if pool is not None and (not isinstance(name, str) or not name.strip()):
        raise ConfigurationError(
            f"pool={pool!r} is no pool.",
            key="pool",
            expected="the name of a pool, or a pool",
            actual=pool,
            hint="Try pool='neural'.",
        )
    return name


class Submit:
    """Calls on a pool that know which worker has what loaded. Thread-safe.

    Args:
        workers: the pool; not kept alive by this.
    """

    def __init__(self, workers: Workers) -> None:
        self.name = workers.name
        self.hint: Hint | None = None
        self._workers = weakref.ref(workers)
        self._at: dict[str, str] = {}

    async def call(self, fn: Callable[..., Any], /, *args: Any, key: str, label: str) -> Any:
        """Run ``fn(*args)``, which may be run twice, in a worker, rather in the one that last worked for ``key``.

        Raises:
            PoolError: what the pool has to say (``OutOfMemory``, ``WorkerKilled``, ``PoolBusy`` …).
        """
        return await self._pool().call(fn, *args, **self._options(key, label))

    def stream(self, fn: Callable[..., Any], /, *args: Any, key: str, label: str) -> AsyncIterator[Any]:
        """Yield what the async generator function ``fn`` yields in a worker, chosen as by :meth:`call`; raises as it does."""
        return self._pool().stream(fn, *args, **self._options(key, label))

    def call_here(self, fn: Callable[..., Any], /, *args: Any, key: str, label: str) -> Any:
        """As :meth:`call`, waiting in the calling thread, which may have a running loop of its own."""
        return self.wait(self.call(fn, *args, key=key, label=label))

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Do work that awaits calls, waiting in the calling thread; an interrupt cancels it."""
        return _bridge().run(work)

    def stream_here(self, fn: Callable[..., Any], /, *args: Any, key: str, label: str) -> Iterator[Any]:
        """As :meth:`stream`, waiting in the calling thread."""
        loop = _bridge()
        items = self.stream(fn, *args, key=key, label=label)
        try:
            while (item := loop.run(_next(items))) is not _END:
                yield item
        finally:
            # The garbage collector may close a stream in any thread, also the loop's own, which cannot wait for itself.
            (loop.submit if loop.is_current() else loop.run)(_close(items))

    def last(self, key: str) -> str | None:
        """Return the name of the worker that last worked for ``key``; None where none did."""
        return self._at.get(key)

    def _pool(self) -> Workers:
        workers = self._workers()
        if workers is None:
            raise ConfigurationError(f"Pool {self.name!r} is gone.", key="pool", actual=self.name, hint="Get the model anew.")
        return workers

    def _options(self, key: str, label: str) -> dict[str, Any]:
        options: dict[str, Any] = {"label": label, "idempotent": True, "told": functools.partial(self._note, key)}
        if self.hint is not None and key in self._at:
            options["place"] = self.hint(self._at[key])
        return options

    def _note(self, key: str, outcome: Any) -> None:
        if outcome.worker is not None:
            self._at[key] = outcome.worker


_ways: weakref.WeakKeyDictionary[Any, Submit] = weakref.WeakKeyDictionary()


@functools.cache
def _bridge() -> LoopThread:
    """Return the loop on which sync callers wait; one a process, its thread idle but for them."""
    return LoopThread("model-calls")


async def _next(items: AsyncIterator[Any]) -> Any:
    return await anext(items, _END)


async def _close(items: AsyncIterator[Any]) -> None:
    await cast("Any", items).aclose()
