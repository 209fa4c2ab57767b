"""What the page on pools asks of the store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from store_records import START, at

from dspex_lab.events import Event
from dspex_lab.store import Store, views


@pytest.fixture
def store() -> Iterator[Store]:
    with Store(":memory:", lab_id="mine") as made:
        yield made


def told(name: str, moment: float, pool: str = "general", /, **data: Any) -> Event:
    return Event(name, START + moment, data={"pool": pool, **data})


def back(moment: float = 0, pool: str = "general", /, **data: Any) -> Event:
    about = {"worker": "general-0", "kind": "call", "status": "complete", "seconds": 1.0, "waited": 0.5, "cpu_seconds": 0.25}
    size = {"sent_protocol": "inline", "sent_bytes": 100, "received_protocol": "buffers", "received_bytes": 1000}
    return told("pool.checkin", moment, pool, **{**about, "peak_memory": 5_000_000, "gpu_memory": None, **size, **data})


def test_a_blank_store_has_no_rows_and_no_error(store: Store) -> None:
    for ask in (views.pool_use, views.pools_over_time, views.pool_traffic, views.pool_changes):
        assert ask(store).empty


def test_a_pool_is_summed_up(store: Store) -> None:
    store.write_many(
        [
            back(1, seconds=1.0, waited=0.0),
            back(2, seconds=3.0, waited=1.0, peak_memory=9_000_000, gpu_memory=7),
            back(3, status="timeout", seconds=60.0),
            back(4, status="failed", seconds=0.1, received_protocol=None, received_bytes=None),
            back(5, status="cancelled", seconds=9.0),
            told("pool.checkout", 6),
            told("pool.restart", 7),
            told("pool.recycle", 8),
            told("pool.recycle", 8),
            told("pool.stuck", 9),
            told("pool.refuse", 10, label="f"),
            back(11, "neural"),
        ]
    )
    store.flush()
    found = views.pool_use(store).set_index("pool")
    assert list(found.index) == ["general", "neural"]
    row = found.loc["general"]
    assert (row["calls"], row["failed"], row["cancelled"]) == (5, 2, 1)
    assert row["p50"] == 2.0, "of those that came to their end"
    assert row["waited_p50"] == 0.5
    assert row["cpu_seconds"] == 1.25
    assert (row["peak_memory"], row["gpu_memory"]) == (9_000_000, 7)
    assert (row["sent_bytes"], row["received_bytes"]) == (500, 4000)
    assert (row["restarts"], row["recycles"], row["stuck"], row["refusals"]) == (1, 2, 1, 1)
    assert len(views.pool_use(store, limit=1)) == 1


def test_spaces_of_time_hold_everything_once(store: Store) -> None:
    store.write_many([back(n, "ab"[n % 2]) for n in range(100)])
    store.write_many([told("pool.restart", 50, "a"), told("pool.restart", 99.5, "b")])
    store.flush()
    frame = views.pools_over_time(store, buckets=10)
    assert frame["calls"].sum() == 100
    assert frame["restarts"].sum() == 2
    assert set(frame["width"]) == {10}
    assert list(frame["at"]) == sorted(frame["at"])
    assert set(views.pools_over_time(store, pools=1)["pool"]) == {"a"}


def test_traffic_is_by_way_and_protocol(store: Store) -> None:
    store.write_many([back(1), back(2, sent_protocol="shared", sent_bytes=10**9), back(3, received_protocol=None)])
    store.flush()
    found = views.pool_traffic(store)
    rows = {(row.direction, row.protocol): (row.calls, row.bytes) for row in found.itertuples()}
    assert rows == {("sent", "shared"): (1, 10**9), ("received", "buffers"): (2, 2000), ("sent", "inline"): (2, 200)}
    assert found.iloc[0]["protocol"] == "shared", "most bytes"


def test_what_befell_pools_is_newest_first(store: Store) -> None:
    store.write_many(
        [
            told("pool.start", 1, workers=2),
            told("pool.resize", 2, before=2, workers=4),
            told("pool.restart", 3, worker="general-1", reason="killed"),
            told("pool.refuse", 3, label="f", reason="it killed its worker twice"),
            back(4),
        ]
    )
    store.flush()
    found = views.pool_changes(store)
    assert list(found["name"]) == ["pool.refuse", "pool.restart", "pool.resize", "pool.start"]
    assert (found.iloc[2]["before"], found.iloc[2]["workers"]) == (2, 4)
    assert (found.iloc[1]["worker"], found.iloc[1]["reason"]) == ("general-1", "killed")
    assert found.iloc[0]["label"] == "f"
    assert len(views.pool_changes(store, limit=2)) == 2


def test_since_leaves_out_what_was_before(store: Store) -> None:
    store.write_many([back(0, "old"), back(10, "new"), told("pool.start", 0), told("pool.resize", 10)])
    store.flush()
    assert set(views.pool_use(store, since=at(5))["pool"]) == {"new", "general"}
    assert list(views.pool_changes(store, since=at(5))["name"]) == ["pool.resize"]
    assert set(views.pool_traffic(store, since=at(5))["pool"]) == {"new"}
    assert "old" not in set(views.pools_over_time(store, since=at(5))["pool"])


def test_what_cannot_be_read_counts_as_not_told(store: Store) -> None:
    store.write_many([Event("pool.checkin", START), back(1, seconds="soon", cpu_seconds={}, peak_memory="much", sent_bytes=[])])
    store.flush()
    found = views.pool_use(store).set_index("pool")
    assert found.loc["general"]["calls"] == 1
    assert found.loc["general"].isna()["p50"]
    assert found.loc[""]["calls"] == 1
