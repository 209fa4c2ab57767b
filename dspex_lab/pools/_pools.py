"""The pools of a Lab, by name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.events import Event
from dspex_lab.pools._pool import Pool
from dspex_lab.pools._spec import WANTED, PoolSpec, default_spec


class Pools:
    """Pools by name, each made when first asked for. Thread-safe.

    Args:
        specs: what there is; by default the ``general`` pool, scaled to the machine.
        emit: given to every pool.
    """

    def __init__(self, specs: Iterable[PoolSpec] | None = None, emit: Callable[[Event], None] | None = None) -> None:
        self._specs: dict[str, PoolSpec | None] = dict.fromkeys(WANTED) if specs is None else {s.name: s for s in specs}
        self._emit = emit
        self._pools: dict[str, Pool] = {}
        self._lock = threading.Lock()
        self._closed = False

    @property
    def names(self) -> list[str]:
        """The names there are."""
        return list(self._specs)

    def get(self, name: str) -> Pool:
        """Return a pool; it is started by its first call.

        Raises:
            ConfigurationError: no such pool, a setting that makes no sense, or the pools are closed.
        """
        with self._lock:
            if name not in self._specs:
                raise ConfigurationError(
                    f"There is no pool {name!r}.{did_you_mean(name, self._specs)}",
                    key="pool",
                    expected=self.names,
                    actual=name,
                    hint=f"Pools here: {', '.join(self.names)}.",
                )
            if name not in self._pools:
                pool = Pool(self._specs[name] or default_spec(name), self._emit)
                if self._closed:
                    pool.close()
                self._pools[name] = pool
            return self._pools[name]

    def status(self) -> list[dict[str, Any]]:
        """Return the workers of all pools that are up, each as in :meth:`Pool.status`, with its ``pool``."""
        with self._lock:
            pools = list(self._pools.values())
        return [{"pool": pool.name, **worker} for pool in pools for worker in pool.status()]

    def close(self) -> None:
        """Close every pool. Idempotent."""
        with self._lock:
            self._closed = True
            pools = list(self._pools.values())
        for pool in pools:
            pool.close()
