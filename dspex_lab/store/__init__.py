"""The store: one DuckDB file of runs, spans, model calls, events and decisions. The only room with SQL in it.

Tables (all times are ``TIMESTAMP`` in UTC): ``runs spans lm_calls events decisions labs meta``.
"""

from __future__ import annotations

from dspex_lab.store._queries import costs, errors, latency_by_step, run_tree, running, runs
from dspex_lab.store._recovery import Recovery
from dspex_lab.store._store import Store

__all__ = ["Recovery", "Store", "costs", "errors", "latency_by_step", "run_tree", "running", "runs"]
