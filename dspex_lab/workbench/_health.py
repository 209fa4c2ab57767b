"""What a Lab watches of itself: its models, its load, its store and its pools."""

from __future__ import annotations

from collections.abc import Callable

from dspex_lab.events import Event, Record
from dspex_lab.lms import Gateway
from dspex_lab.pools import Pools
from dspex_lab.resilience import Finding, Health, Level
from dspex_lab.store import Store

#: The component that an event makes doubtful.
_DOUBTFUL = {
    "breaker.open": "models",
    "breaker.half_open": "models",
    "breaker.close": "models",
    "degradation.change": "load",
    "error.pool": "pools",
    "pool.restart": "pools",
}


def watch(health: Health, gateway: Gateway, store: Store, pools: Pools) -> None:
    """Have ``health`` watch the rooms of a Lab.

    Nothing is helped up from here: a pool replaces its workers itself, and the next call of a model is its circuit's probe (one
    of our own would cost money). What is ill is looked at until it is well.
    """
    health.add("models", lambda: _models(gateway))
    health.add("load", lambda: _load(gateway))
    health.add("store", lambda: _store(store))
    health.add("pools", lambda: _pools(pools))


def suspicions(health: Health) -> Callable[[Record], None]:
    """Return an observer of events that has doubtful components looked at."""

    def observe(record: Record) -> None:
        if isinstance(record, Event) and record.name in _DOUBTFUL:
            health.suspect(_DOUBTFUL[record.name])

    return observe


def _models(gateway: Gateway) -> Finding:
    rows = [row for row in gateway.guards.snapshot() if row.state is not None]
    ill = [row for row in rows if row.state != "closed"]
    if not ill:
        return Finding("healthy")
    said = "; ".join(f"the circuit of {row.target} is {row.state} ({row.last_error or 'opened by hand'})" for row in ill)
    return Finding("unhealthy" if len(ill) == len(rows) else "degraded", said)


def _load(gateway: Gateway) -> Finding:
    level = gateway.measure()
    if level == Level.NORMAL:
        return Finding("healthy")
    return Finding("degraded", f"{level}: {gateway.degradation.reason}")


def _store(store: Store) -> Finding:
    store.query("SELECT 1", timeout=5.0)
    return Finding("degraded", f"{store.dropped:,} records were dropped") if store.dropped else Finding("healthy")


def _pools(pools: Pools) -> Finding:
    workers = pools.status()
    gone = [f"{worker['pool']} {worker['name']}" for worker in workers if worker["state"] == "dead"]
    if not gone:
        return Finding("healthy")
    said = f"{', '.join(gone)} ended and {'is' if len(gone) == 1 else 'are'} being replaced"
    return Finding("unhealthy" if len(gone) == len(workers) else "degraded", said)
