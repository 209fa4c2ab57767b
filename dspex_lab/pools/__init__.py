"""Named pools of worker processes on Dask distributed.

``Pool.call`` carries a callable to a worker process and brings its result home; failures have names
(:class:`~dspex_lab.errors.OutOfMemory`, ``WorkerKilled``, ``TaskTimeout``, ``Unserialisable``). The way of a call:

    _pool.Pool.call → _carry.pack → _dispatch.Dispatcher.run → (TLS) → _host.Host.run → _carry.decode

``_cluster`` is the only module that imports distributed, and is itself imported when a pool starts.
"""

from dspex_lab.pools._pool import Pool
from dspex_lab.pools._pools import Pools
from dspex_lab.pools._spec import MINIMUM_MEMORY, Machine, PoolSpec, default_spec, machine

__all__ = ["MINIMUM_MEMORY", "Machine", "Pool", "PoolSpec", "Pools", "default_spec", "machine"]
