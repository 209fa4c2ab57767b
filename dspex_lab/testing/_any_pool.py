"""What the conformance suite of pools uses of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from dspex_lab.pools import PoolSpec
from dspex_lab.pools._placement import Placement


class AnyPool(Protocol):
    """What the tests use of a pool; see :class:`dspex_lab.pools.Pool` for the meaning."""

    name: str
    spec: PoolSpec

    @property
    def waiting(self) -> int: ...

    def warm(self, *, wait: bool = True) -> Any: ...

    async def call(self, fn: Any, /, *args: Any, **options: Any) -> Any: ...

    def stream(self, fn: Any, /, *args: Any, **options: Any) -> AsyncGenerator[Any, None]: ...

    def reserve(self, place: Placement | None = None, patience: float | None = None) -> AbstractAsyncContextManager[Any]: ...

    def resize(self, workers: int, *, wait: bool = True) -> Any: ...

    def restart(self, worker: str | None = None) -> Any: ...

    def status(self) -> list[dict[str, Any]]: ...


def run(pool: AnyPool, function: Any, *args: Any, **options: Any) -> Any:
    """Call a function in the pool and wait for its result."""
    return asyncio.run(pool.call(function, *args, **options))
