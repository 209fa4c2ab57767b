"""The page on pools: what it shows, that it follows, and that nothing in it is run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from browser_helpers import Seen
from guarded import EVIL, KEY
from page_helpers import draws_each, followed, opened_at, there_and_back

from dspex_lab import dashboards
from dspex_lab.dashboards import _format as fmt
from dspex_lab.dashboards._base import POOLS
from dspex_lab.dashboards._pools import MEASURES
from dspex_lab.dashboards._snapshot import Filters, take
from dspex_lab.events import Event
from dspex_lab.pools import PoolSpec
from dspex_lab.store import Store
from dspex_lab.testing import FakePool

GB = 10**9


class Held:
    """The pools of a Lab, whose workers are threads of this process."""

    address, joined = "", False

    def __init__(self, emit: Callable[[Event], None]) -> None:
        general = PoolSpec("general", 2, GB, scaling=f"2 workers of 1 GB: as wanted {EVIL}.")
        self.made = {"general": FakePool(spec=general, emit=emit)}

    names = ("general",)

    def get(self, name: str) -> FakePool:
        return self.made[name]

    def table(self) -> Any:
        from dspex_lab.pools._table import pools_table

        return pools_table(self)  # type: ignore[arg-type]


@dataclass
class PooledLab:
    """What the page on pools needs of a Lab."""

    store: Store
    name: str = "tickets.ipynb"
    pools: Held = field(init=False)

    def __post_init__(self) -> None:
        self.pools = Held(self.store.write)

    def tell(self, name: str, at: float | None = None, pool: str = "general", **data: Any) -> None:
        """Record an event of a pool."""
        self.store.write(Event(name, at or time.time(), data={"pool": pool, **data}))
        self.store.flush()

    def back(self, at: float | None = None, pool: str = "general", **data: Any) -> None:
        """Record a call that came back."""
        about = {"worker": "general-0", "status": "complete", "seconds": 0.5, "waited": 0.25, "cpu_seconds": 2.0}
        size = {"sent_protocol": "inline", "sent_bytes": 88_000, "received_protocol": "shared", "received_bytes": 10**8}
        self.tell("pool.checkin", at, pool, **{**about, "peak_memory": 62_000_000, **size, **data})


@pytest.fixture
def pooled() -> Iterator[PooledLab]:
    with Store(":memory:") as store:
        made = PooledLab(store)
        yield made
        made.pools.get("general").close()


opened = partial(opened_at, POOLS)


def test_an_empty_store_is_said_to_be_empty(lab) -> None:
    page = opened(lab)
    assert "No call went to a pool in this window" in page.pools.view.object
    assert "%dspex pools warm" in page.pools.view.object
    assert page.pools_time.charts["calls"].chart is None
    assert not page.pools_now.view.visible, "this Lab has no pools"
    assert not page.pools_now.alive
    page._beat()


def test_a_person_goes_from_page_to_page(pooled: PooledLab) -> None:
    there_and_back(POOLS, pooled, "pools", "pools_now")


def test_workers_are_shown_as_they_are_and_go_on_without_a_commit(pooled: PooledLab) -> None:
    page = opened(pooled)
    html = page.pools_now.view.object
    assert "not started" in html
    assert "No worker is up" in html
    assert "<img" not in html
    pool = pooled.pools.get("general").warm()
    page._beat()
    html = page.pools_now.view.object
    assert "2 idle" in html
    assert all(worker["name"] in html for worker in pool.status())


def test_what_each_worker_has_of_its_memory_is_a_bar(pooled: PooledLab, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = {"name": f"w{EVIL}", "state": "idle", "pss": 900_000_000, "calls": 3}
    monkeypatch.setattr(FakePool, "status", lambda self: [worker])
    html = opened(pooled).pools_now.view.object
    assert "900 MB of 1 GB" in html
    assert "width:90.0%" in html
    assert "<img" not in html


def test_a_pool_has_a_row_and_its_traffic(pooled: PooledLab) -> None:
    pooled.back()
    pooled.back(status="timeout", seconds=60.0)
    pooled.back(status="cancelled")
    pooled.back(pool=EVIL)
    pooled.tell("pool.restart", worker="general-1")
    pooled.tell("pool.recycle", worker="general-1")
    html = opened(pooled).pools.view.object
    row = html[html.index("general") : html.index("How values travelled")]
    for part in ("<td", "1, 1 cancelled", "500 ms", "250 ms", "6.00 s", "62 MB", "1 + 1 + 0"):
        assert part in row, part
    for part in ("to the workers", "back", "inline", "shared", "264 kB", "300 MB"):
        assert part in html, part
    assert "<img" not in html


def test_each_measure_has_a_chart_over_time(pooled: PooledLab) -> None:
    pooled.back(time.time() - 100)
    pooled.back(pool="neural")
    pooled.tell("pool.restart")
    page = opened(pooled)
    draws_each(page.pools_time, MEASURES)
    rows = page.pools_time.charts["bytes received"].chart["data"]["values"]
    assert {(row["pool"], row["value"], row["label"]) for row in rows if row["value"]} == {
        ("general", 1e8, "100 MB"),
        ("neural", 1e8, "100 MB"),
    }


def test_what_befell_the_pools_is_told_in_words(pooled: PooledLab) -> None:
    pooled.tell("pool.start", workers=2)
    pooled.tell("pool.resize", before=2, workers=4)
    pooled.tell("pool.restart", worker="general-1", reason=f"killed {EVIL} {KEY}")
    pooled.tell("pool.stuck", worker="general-1", reason="no answer for 30 s")
    pooled.tell("pool.refuse", label="bomb", reason="it killed its worker twice")
    pooled.tell("pool.refuse", label="other")
    html = opened(pooled).befell._text.object
    for part in ("started", "2 workers", "from 2 to 4 workers", "worker replaced", "worker stuck", "no answer for 30 s"):
        assert part in html, part
    assert "bomb: it killed its worker twice" in html
    assert "<img" not in html
    assert KEY not in html


def test_the_window_is_that_of_the_filter(pooled: PooledLab) -> None:
    pooled.back(time.time() - 7200, pool="old")
    page = opened(pooled)
    assert "old" in page.pools.view.object
    page.filters.window.value = 3600
    assert "No call went to a pool in this window" in page.pools.view.object


def test_a_snapshot_asks_for_pools_only_where_they_are_shown(pooled: PooledLab) -> None:
    assert take(pooled, Filters()).pools is None
    assert take(pooled, Filters(), page=POOLS).pools is not None


def test_it_follows_the_store_and_the_workers_while_it_is_shown(pooled: PooledLab, eventually) -> None:
    with followed(POOLS, pooled) as page:
        pool = pooled.pools.get("general").warm()  # its start is told, and that its workers are up is seen
        eventually(lambda: "2 idle" in page.pools_now.view.object)
        assert asyncio.run(pool.call(abs, -3)) == 3
        pooled.store.flush()
        eventually(lambda: "to the workers" in page.pools.view.object)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (None, "–"),
        (0, "0 B"),
        (88_000, "88 kB"),
        (1_500_000, "1.5 MB"),
        (62_000_000, "62 MB"),
        (4_290_000_000, "4.3 GB"),
        (10**12, "1,000 GB"),
    ],
)
def test_sizes_are_said_short(size: int | None, said: str) -> None:
    assert fmt.size(size) == said


def test_a_person_sees_it_in_a_browser_and_nobody_else_is_asked(pooled, browser, asked, eventually) -> None:
    pool = pooled.pools.get("general").warm()
    pooled.back(time.time() - 60)
    pooled.back(pool=f"evil {EVIL}")
    with dashboards.serve(pooled, refresh=0.1) as served:
        page = Seen(served.url, browser, asked, eventually)
        page.press("button.bk-btn", "Pools")
        page.reads("Pools in this window")
        page.draws(1)
        for part in ("Pools now", "2 idle", "How values travelled", "Pools over time: calls", "What befell the pools", EVIL):
            assert part in page.text, part
        pool.close()
        page.reads("No worker is up")
        page.leave()
