"""``lab.pools`` as a person sees it: a table of the pools and one of their workers, as text and as HTML."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from dspex_lab.pools._sizes import timed, written
from dspex_lab.pools._spec import PoolSpec
from dspex_lab.security import one_line

_NOTHING = "–"
_POOLS = ("pool", "workers", "state", "memory each", "device", "protection", "waiting", "recycled")
_WORKERS = ("worker", "pid", "state", "calls", "memory", "age", "device", "host", "protection", "last seen")
#: States in which a worker takes calls.
_UP = ("idle", "busy", "reserved")
_LONGEST = 60


class PoolLike(Protocol):
    """What is shown of a pool."""

    spec: PoolSpec

    @property
    def started(self) -> bool:
        """Whether its workers are up."""

    @property
    def starting(self) -> bool:
        """Whether they are being started."""

    @property
    def waiting(self) -> int:
        """Calls that wait for a worker."""

    def status(self) -> list[dict[str, Any]]:
        """Return one dict a worker."""


class PoolsLike(Protocol):
    """What is shown of a Lab's pools."""

    @property
    def names(self) -> Sequence[str]:
        """The pools there are."""

    @property
    def address(self) -> str:
        """Where the cluster is; empty where none runs."""

    @property
    def joined(self) -> bool:
        """Whether somebody else has started it, and so says how many workers there are."""

    def get(self, name: str) -> PoolLike:
        """Return a pool, without starting it."""


@dataclass(frozen=True)
class PoolRow:
    """A pool at one moment; ``workers`` are as ``Pool.status`` gives them."""

    spec: PoolSpec
    starting: bool = False
    joined: bool = False
    waiting: int = 0
    workers: tuple[Mapping[str, Any], ...] = ()

    @property
    def up(self) -> int:
        """How many of its workers take calls."""
        return sum(worker.get("state") in _UP for worker in self.workers)

    @property
    def state(self) -> str:
        """What its workers do."""
        if not self.workers:
            return "starting" if self.starting else "not started"
        counted = Counter(str(worker.get("state")) for worker in self.workers)
        return ", ".join(f"{n} {state}" for state, n in sorted(counted.items()))

    @property
    def limit(self) -> int:
        """The bytes that each of its workers may have; 0 where that is the cluster's affair."""
        return 0 if self.joined else self.spec.memory

    def cells(self) -> tuple[str, ...]:
        """Return its row of the table."""
        devices = _distinct(self.workers, "device") if self.workers else [*self.spec.gpus[: self.spec.workers]]
        protection = _distinct(self.workers, "protection")
        waiting = f"{self.waiting:,}" + (f" of {self.spec.queue:,}" if self.waiting else "")
        return (
            self.spec.name,
            f"{self.up}/{len(self.workers) if self.joined else self.spec.workers}",
            self.state,
            "the cluster's" if self.joined else written(self.spec.memory),
            f"GPU {', '.join(devices)}" if devices else "CPU",
            ", ".join(protection) or ("when started" if self.spec.confine else "off"),
            waiting,
            str(self.spec.recycle),
        )


@dataclass(frozen=True)
class PoolsTable:
    """The pools of a Lab at one moment; shown in a cell it is a table."""

    #: The titles of what :meth:`pools` and :meth:`workers` give.
    POOLS: ClassVar = _POOLS
    WORKERS: ClassVar = _WORKERS

    rows: tuple[PoolRow, ...]
    address: str = ""

    def pools(self) -> list[tuple[str, ...]]:
        """Return a row of text for each pool."""
        return [tuple(one_line(cell, _LONGEST) for cell in row.cells()) for row in self.rows]

    def workers(self) -> list[tuple[str, ...]]:
        """Return a row of text for each worker that there is."""
        return [_worker(worker, row.limit) for row in self.rows for worker in row.workers]

    def memory(self) -> list[tuple[str, float]]:
        """Return what each worker has of its memory: in words, and as a share of what it may have."""
        return [
            (one_line(f"{worker.get('name')}: {_of(worker, row.limit)}", 120), _own(worker) / row.limit)
            for row in self.rows
            for worker in row.workers
            if _own(worker) and row.limit
        ]

    def sentences(self) -> list[str]:
        """Return how each pool came to its numbers."""
        return [one_line(f"{row.spec.name}: {row.spec.scaling}", 600) for row in self.rows]

    def _head(self) -> str:
        return one_line(f"Pools, on the cluster at {self.address}" if self.address else "Pools; no cluster runs yet", 300)

    def __repr__(self) -> str:
        lines = [self._head(), *_lines(_POOLS, self.pools())]
        if workers := self.workers():
            lines += ["", *_lines(_WORKERS, workers)]
        return "\n".join([*lines, "", *self.sentences()])

    def _repr_html_(self) -> str:
        parts = [f"<div><b>{html.escape(self._head())}</b></div>", _html(_POOLS, self.pools())]
        if workers := self.workers():
            parts.append(_html(_WORKERS, workers))
        parts += [f"<div>{html.escape(sentence)}</div>" for sentence in self.sentences()]
        # Dollar signs are no formula: the classes keep MathJax away.
        return f'<div class="dspex-pools mathjax_ignore tex2jax_ignore">{"".join(parts)}</div>'


def pools_table(pools: PoolsLike) -> PoolsTable:
    """Return the pools as they are now; none is started for it.

    Raises:
        ConfigurationError: a pool whose settings make no sense.
    """
    rows = []
    for name in pools.names:
        pool = pools.get(name)
        rows.append(PoolRow(pool.spec, pool.starting, pools.joined, pool.waiting, tuple(pool.status())))
    return PoolsTable(tuple(rows), pools.address)


def _own(worker: Mapping[str, Any]) -> int:
    """Return the bytes of a worker's own memory (PSS, else what is resident), 0 where that is not known."""
    pss = worker.get("pss")
    return int(pss if pss is not None else worker.get("rss") or 0)


def _of(worker: Mapping[str, Any], limit: int) -> str:
    own = _own(worker)
    return (f"{written(own)} of {written(limit)}" if limit else written(own)) if own else _NOTHING


def _worker(worker: Mapping[str, Any], limit: int) -> tuple[str, ...]:
    age, seen, pid = (worker.get(key) for key in ("age", "seen", "pid"))
    cells = (
        worker.get("name"),
        _NOTHING if pid is None else pid,
        worker.get("state"),
        f"{worker.get('calls') or 0:,}",
        _of(worker, limit),
        _NOTHING if age is None else timed(age),
        f"GPU {worker['device']}" if worker.get("device") else "CPU",
        worker.get("host") or _NOTHING,
        worker.get("protection") or _NOTHING,
        _NOTHING if seen is None else f"{timed(seen)} ago",
    )
    return tuple(one_line(cell, _LONGEST) for cell in cells)  # a worker of a cluster that was joined is named by others


def _distinct(workers: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    return list(dict.fromkeys(str(worker[key]) for worker in workers if worker.get(key)))


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)]


def _html(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cell: str, texts: Sequence[str]) -> str:
        return "<tr>" + "".join(f'<{cell} style="text-align:left">{html.escape(t)}</{cell}>' for t in texts) + "</tr>"

    return f"<table>{line('th', head)}{''.join(line('td', row) for row in rows)}</table>"
