"""The pools of a Lab, by name: one loop and one cluster for all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.events import Event
from dspex_lab.pools._channel import ClusterChannel, channel_of
from dspex_lab.pools._config import PoolsConfig, PoolSettings, settle
from dspex_lab.pools._pool import Pool
from dspex_lab.pools._runtime import Runtime, local_cluster
from dspex_lab.pools._spec import PoolSpec
from dspex_lab.pools._table import PoolsTable, pools_table

if TYPE_CHECKING:
    from dspex_lab.pools._protocols import Cluster


class Pools:
    """Pools by name, each made when first asked for and started by its first call. Thread-safe.

    Args:
        config: what code says of the pools; the environment, a file of settings and the machine fill in the rest. A list of
            ``PoolSpec`` is all there is.
        emit: given to every pool.
        writable: folders in which the workers of every pool may write, besides those of its settings; made when a pool is.

    Raises:
        ConfigurationError: a setting that there is not, or a value that it cannot take.
    """

    def __init__(
        self,
        config: PoolsConfig | Mapping[str, Any] | Iterable[PoolSpec] | None = None,
        emit: Callable[[Event], None] | None = None,
        *,
        writable: Iterable[str | Path] = (),
    ) -> None:
        self._writable = tuple(str(Path(folder).absolute()) for folder in writable)
        self._settings: PoolSettings | None = None
        self._specs: dict[str, PoolSpec] = {}
        if config is None or isinstance(config, PoolsConfig | Mapping):
            self._settings = settle(config)
        else:
            self._specs = {spec.name: spec for spec in config}
        self._emit = emit
        self._runtime = Runtime(self._cluster)
        self._pools: dict[str, Pool] = {}
        self._lock = threading.Lock()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Pools {', '.join(self.names)}>"

    @property
    def names(self) -> list[str]:
        """The names there are."""
        return list(self._settings.names if self._settings is not None else self._specs)

    @property
    def address(self) -> str:
        """The address of the cluster: of the one that was joined, or of the kernel's own once it runs; else empty."""
        return self._runtime.address or (self._settings.address if self._settings is not None else None) or ""

    @property
    def joined(self) -> bool:
        """Whether the workers are those of a cluster that somebody else has started."""
        return self._settings is not None and self._settings.address is not None

    @property
    def scaling(self) -> dict[str, str]:
        """How the numbers of each pool came about: a sentence, by name."""
        return {name: self._spec(name).scaling for name in self.names}

    def get(self, name: str) -> Pool:
        """Return a pool; it is started by its first call.

        Raises:
            ConfigurationError: no such pool, or a setting that makes no sense.
        """
        with self._lock:
            if name not in self._pools:
                pool = Pool(self._open(self._spec(name)), self._emit, self._runtime)
                if self._closed:
                    pool.close()
                self._pools[name] = pool
            return self._pools[name]

    def warm(self, *names: str, wait: bool = False) -> None:
        """Start pools, all where none is named; at once, side by side.

        Args:
            wait: until all are ready. Do not wait on a loop's thread.

        Raises:
            ConfigurationError: no such pool.
            PoolError: one cannot be started (only when waiting; else its first call raises).
        """
        pools = [self.get(name) for name in names or self.names]
        for pool in pools:
            pool.warm(wait=False)
        if wait:
            for pool in pools:
                pool.warm()

    def resize(self, name: str, workers: int, *, wait: bool = True) -> None:
        """Bring a pool to this number of workers; see :meth:`Pool.resize`."""
        self.get(name).resize(workers, wait=wait)

    def channel(self) -> ClusterChannel:
        """Return what carries messages to other kernels on the cluster; it is closed with the pools."""
        return channel_of(self._runtime)

    def status(self) -> list[dict[str, Any]]:
        """Return the workers of all pools that are up, each as in :meth:`Pool.status`, with its ``pool``."""
        return [{"pool": pool.name, **worker} for pool in self._made() for worker in pool.status()]

    def stop(self, *names: str) -> None:
        """End the workers of pools, of all where none is named; the next call by name starts them again, as many as there were.

        Raises:
            ConfigurationError: no such pool.
        """
        for name in names or self.names:
            with self._lock:
                self._spec(name)
                pool = self._pools.pop(name, None)
                if pool is not None:
                    self._specs[name] = pool.spec
            if pool is not None:
                pool.close()

    def table(self) -> PoolsTable:
        """Return the pools and workers as they are now; a cell shows it as a table. None is started for it."""
        return pools_table(self)

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

    def close(self) -> None:
        """Close every pool and the cluster. Idempotent."""
        with self._lock:
            self._closed = True
        for pool in self._made():
            pool.let_go()  # side by side
        for pool in self._made():
            pool.close()
        self._runtime.close()

    def _made(self) -> list[Pool]:
        with self._lock:
            return list(self._pools.values())

    def _open(self, spec: PoolSpec) -> PoolSpec:
        """Return a spec whose workers may write in the folders of all pools, where they are confined at all."""
        missing = [folder for folder in self._writable if folder not in spec.writable]
        if not spec.confine or not missing:
            return spec
        for folder in missing:
            Path(folder).mkdir(parents=True, exist_ok=True)  # what is not there when a worker is born stays closed to it
        return replace(spec, writable=(*spec.writable, *missing))

    def _spec(self, name: str) -> PoolSpec:
        if name in self._pools:
            return self._pools[name].spec
        if self._settings is not None and name not in self._specs:  # there it is when it was stopped
            return self._settings.spec(name)
        if name not in self._specs:
            raise ConfigurationError(
                f"There is no pool {name!r}.{did_you_mean(name, self._specs)}",
                key="pool",
                expected=self.names,
                actual=name,
                hint=f"Pools here: {', '.join(self.names)}.",
            )
        return self._specs[name]

    def _cluster(self) -> Cluster:
        settings = self._settings
        if settings is None or settings.address is None:
            return local_cluster()
        from dspex_lab.pools._joined import JoinedCluster

        tls = {"tls_ca": settings.tls_ca, "tls_cert": settings.tls_cert, "tls_key": settings.tls_key}
        return JoinedCluster(settings.address, **tls)
