"""Named pools of worker processes on Dask distributed.

``Pool.call`` carries a callable to a worker process and brings its result home; failures have names
(:class:`~dspex_lab.errors.OutOfMemory`, ``WorkerKilled``, ``TaskTimeout``, ``Unserialisable``). The way of a call:

    _pool.Pool.call → _carry.pack → _dispatch.Dispatcher.run → (TLS) → _host.Host.run → _carry.decode

distributed is imported when a pool starts: by ``_cluster`` or ``_joined``, and what is theirs.
"""

from dspex_lab.pools._carry import decode, encode_error
from dspex_lab.pools._certificates import make_certificates
from dspex_lab.pools._channel import ClusterChannel
from dspex_lab.pools._config import PoolsConfig, PoolSettings, default_spec, settle
from dspex_lab.pools._culprit import find_culprit, unserialisable_part
from dspex_lab.pools._devices import Device, devices
from dspex_lab.pools._frames import dumps
from dspex_lab.pools._job import Outcome
from dspex_lab.pools._options import CallOptions
from dspex_lab.pools._placement import Affinity, Placement
from dspex_lab.pools._poison import fingerprint
from dspex_lab.pools._pool import Pool
from dspex_lab.pools._pools import Pools
from dspex_lab.pools._reservation import Reservation
from dspex_lab.pools._serializers import leave_behind, reduces, register_serializer, unregister_serializer
from dspex_lab.pools._spec import MINIMUM_MEMORY, Machine, PoolSpec, Recycle, machine
from dspex_lab.pools._task import Progress, Task, TaskCancelled, current_task, progress, tell
from dspex_lab.pools._wire import Usage

__all__ = [
    "MINIMUM_MEMORY",
    "Affinity",
    "CallOptions",
    "ClusterChannel",
    "Device",
    "Machine",
    "Outcome",
    "Placement",
    "Pool",
    "PoolSettings",
    "PoolSpec",
    "Pools",
    "PoolsConfig",
    "Progress",
    "Recycle",
    "Reservation",
    "Task",
    "TaskCancelled",
    "Usage",
    "current_task",
    "decode",
    "default_spec",
    "devices",
    "dumps",
    "encode_error",
    "find_culprit",
    "fingerprint",
    "leave_behind",
    "machine",
    "make_certificates",
    "progress",
    "reduces",
    "register_serializer",
    "settle",
    "tell",
    "unregister_serializer",
    "unserialisable_part",
]
