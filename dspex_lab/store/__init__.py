"""The store: one DuckDB file of runs, spans, model calls, events and decisions. The only room with SQL in it.

Tables (all times are ``TIMESTAMP`` in UTC): ``runs spans lm_calls events decisions checkpoints labs meta``.
"""

from __future__ import annotations

from dspex_lab.store._maps import RecordedMap, RecordedRow
from dspex_lab.store._measured import calls_by_step, seconds_by_step
from dspex_lab.store._queries import costs, errors, latency_by_step, run_tree, running, runs
from dspex_lab.store._recovery import Recovery
from dspex_lab.store._store import Store
from dspex_lab.store._stream import Stream

__all__ = [
    "RecordedMap",
    "RecordedRow",
    "Recovery",
    "Store",
    "Stream",
    "calls_by_step",
    "costs",
    "errors",
    "latency_by_step",
    "run_tree",
    "running",
    "runs",
    "seconds_by_step",
]
