"""The sections of the page on pools."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from dspex_lab.dashboards import _format as fmt
from dspex_lab.dashboards._base import Source
from dspex_lab.dashboards._over_time import Measure, OverTime
from dspex_lab.dashboards._parts import card, show, text
from dspex_lab.dashboards._sheet import Bar, Sheet, Table, words
from dspex_lab.dashboards._snapshot import Snapshot
from dspex_lab.security import Redactor

_USE = (
    "Pool",
    "Calls",
    "Failed",
    "p50",
    "p95",
    "Waited p50",
    "Waited p95",
    "CPU time",
    "Peak memory",
    "GPU memory",
    "Restarts",
    "Refused",
)
_TRAFFIC = ("Pool", "Way", "Protocol", "Calls", "Bytes")
_WAYS = {"sent": "to the workers", "received": "back"}
_BEFELL = {
    "pool.start": "started",
    "pool.resize": "resized",
    "pool.restart": "worker replaced",
    "pool.recycle": "worker renewed",
    "pool.stuck": "worker stuck",
    "pool.refuse": "call refused",
}
_NEVER = 'No call went to a pool in this window. A step goes there with pool="general"; %dspex pools warm starts the workers.'


@runtime_checkable
class Pooled(Source, Protocol):
    """A Lab with pools, as far as this room needs it."""

    @property
    def pools(self) -> Any:
        """Its pools; ``table()`` is how they are now."""


class PoolsNow:
    """The pools and their workers as they are; hidden where the Lab has none.

    Args:
        source: the Lab.
    """

    def __init__(self, source: Source) -> None:
        self._source = source if isinstance(source, Pooled) else None
        self.view = text(card=True, visible=self._source is not None)

    @property
    def alive(self) -> bool:
        """Whether it shows what changes without a commit of the store."""
        return self._source is not None

    def update(self, snapshot: Snapshot) -> None:
        """Show the pools as they are, where their page is shown."""
        if snapshot.pools is not None:
            self.beat()

    def beat(self) -> None:
        """Show the pools as they are this moment, without a query."""
        if self._source is None:
            return
        table, mask = self._source.pools.table(), Redactor()
        bars = [Bar(words(label, mask), share) for label, share in table.memory()]
        nothing = "No worker is up; the first call to a pool starts its workers."
        parts: list[Any] = [
            Table("", table.POOLS, _masked(table.pools(), mask)),
            Table("Workers", table.WORKERS, _masked(table.workers(), mask), nothing),
            *(["Memory of their own (PSS) of what they may have:", *bars] if bars else []),
            *(words(sentence, mask, longest=600) for sentence in table.sentences()),
        ]
        show(self.view, f"<h2>Pools now</h2>{Sheet('', parts).inner_html()}")


class PoolsUse:
    """What each pool did in the window, and by which protocols values travelled."""

    def __init__(self) -> None:
        self.view = text(card=True)

    def update(self, snapshot: Snapshot) -> None:
        """Show the pools of the window."""
        if snapshot.pools is None:
            return
        mask = Redactor()
        use = [_use(row, mask) for row in snapshot.pools.use.itertuples(index=False)]
        traffic = [
            (
                words(row.pool, mask),
                _WAYS[str(row.direction)],
                words(row.protocol, mask),
                fmt.count(row.calls),
                fmt.size(row.bytes),
            )
            for row in snapshot.pools.traffic.itertuples(index=False)
        ]
        hint = "failed: the worker died or the time was up; what the callable itself raised is its answer and no failure of the"
        hint += " pool. p50 and p95 of calls that ran to their end; restarts: workers replaced + renewed + stuck."
        show(
            self.view,
            f"<h2>Pools in this window</h2>{Table('', _USE, use, _NEVER).html()}"
            + (f'<p class="dim">{hint}</p>' if use else "")
            + (Table("How values travelled", _TRAFFIC, traffic).html() if traffic else ""),
        )


MEASURES = {
    "calls": Measure("calls", fmt.count, "d"),
    "failed calls": Measure("failed", fmt.count, "d"),
    "waiting, median": Measure("waited_p50", fmt.duration, "~s"),
    "waiting, p95": Measure("waited_p95", fmt.duration, "~s"),
    "time in the worker, median": Measure("p50", fmt.duration, "~s"),
    "CPU seconds": Measure("cpu_seconds", fmt.duration, "~s"),
    "peak memory": Measure("peak_memory", fmt.size, "~s"),
    "bytes sent": Measure("sent_bytes", fmt.size, "~s"),
    "bytes received": Measure("received_bytes", fmt.size, "~s"),
    "workers replaced": Measure("restarts", fmt.count, "d"),
    "workers renewed": Measure("recycles", fmt.count, "d"),
    "workers stuck": Measure("stuck", fmt.count, "d"),
    "calls refused": Measure("refusals", fmt.count, "d"),
}


def pools_over_time() -> OverTime:
    """Return the section that draws one measure of all pools over time."""
    return OverTime("Pools", "pool", MEASURES, lambda snapshot: snapshot.pools.over_time if snapshot.pools else None)


class PoolsBefell:
    """What befell pools and workers last."""

    def __init__(self) -> None:
        self._text = text()
        self.view = card(self._text)

    def update(self, snapshot: Snapshot) -> None:
        """Show the last of it."""
        if snapshot.pools is None:
            return
        mask = Redactor()
        rows = [_befell(row, mask) for row in snapshot.pools.changes.itertuples(index=False)]
        table = Table("", ("When", "Pool", "What", "Worker", "Why"), rows, "Nothing befell a pool in this window.")
        show(self._text, f"<h2>What befell the pools</h2>{table.html()}")


def _use(row: Any, mask: Redactor) -> tuple[str, ...]:
    cancelled = f", {fmt.count(row.cancelled)} cancelled" if row.cancelled else ""
    return (
        words(row.pool, mask),
        fmt.count(row.calls),
        f"{fmt.count(row.failed)}{cancelled}",
        fmt.duration(row.p50),
        fmt.duration(row.p95),
        fmt.duration(row.waited_p50),
        fmt.duration(row.waited_p95),
        fmt.duration(row.cpu_seconds),
        fmt.size(row.peak_memory),
        fmt.size(row.gpu_memory),
        f"{fmt.count(row.restarts)} + {fmt.count(row.recycles)} + {fmt.count(row.stuck)}",
        fmt.count(row.refusals),
    )


def _befell(row: Any, mask: Redactor) -> tuple[str, ...]:
    why = "" if fmt.missing(row.reason) else str(row.reason)
    if row.name == "pool.resize" and not fmt.missing(row.before) and not fmt.missing(row.workers):
        why = f"from {int(row.before)} to {int(row.workers)} workers"
    elif row.name == "pool.start" and not fmt.missing(row.workers):
        why = f"{int(row.workers)} workers"
    elif row.name == "pool.refuse" and row.label:
        why = f"{row.label}: {why}" if why else str(row.label)
    return (
        fmt.when(row.at),
        words(row.pool, mask),
        _BEFELL.get(str(row.name), str(row.name)),
        words(row.worker, mask) or fmt.NOTHING,
        words(why, mask) or fmt.NOTHING,
    )


def _masked(rows: Any, mask: Redactor) -> list[tuple[str, ...]]:
    return [tuple(words(cell, mask) for cell in row) for row in rows]
