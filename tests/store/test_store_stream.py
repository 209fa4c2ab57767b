"""A query's rows in pieces, and what is recorded of a map."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from store_records import begin, end

from dspex_lab.errors import StoreError
from dspex_lab.events import Event
from dspex_lab.store import Store


def test_rows_come_in_pieces_with_their_types(store: Store) -> None:
    with store.stream("SELECT range AS n, 'x' || range AS t FROM range($n)", {"n": 2500}, rows=1000) as stream:
        assert stream.schema.names == ["n", "t"]
        sizes, rows = [], []
        for batch in stream:
            sizes.append(batch.num_rows)
            rows += batch.to_pylist()
    assert max(sizes) <= 1000
    assert [r["n"] for r in rows] == list(range(2500))
    with store.stream("SELECT 1 AS n WHERE false") as stream:
        assert sum(b.num_rows for b in stream) == 0
        assert stream.schema.names == ["n"]
        assert list(stream) == [], "an end is an end"


def test_what_was_written_before_is_read(store: Store) -> None:
    store.write(end("a"))
    with store.stream("SELECT run_id FROM runs") as stream:
        assert [r["run_id"] for b in stream for r in b.to_pylist()] == ["a"]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT 1; SELECT 2", "several statements"),
        ("DROP TABLE runs", "not a query"),
        ("WITH x AS (INSERT INTO meta VALUES ('a', 'b') RETURNING *) SELECT * FROM x", "read-only|not a query|Syntax|syntax"),
        ("SELECT nope FROM runs", "nope"),
        ("SELECT * FROM '/etc/passwd'", "disabled|No such|does not exist"),
        ("SELEC 1", "SELEC"),
        ("", "no SQL statement"),
        ("SELECT 1 / CAST(t AS INT) FROM (SELECT 'a' AS t)", "Could not convert"),
    ],
)
def test_only_one_query_is_read(store: Store, sql: str, message: str) -> None:
    def read() -> None:
        with store.stream(sql) as stream:
            list(stream)

    with pytest.raises(StoreError, match=message):
        read()
    assert not store._core._queries, "nothing of it is left open"


def test_a_file_in_exports_is_read_as_a_query_may(store: Store) -> None:
    folder = Path(store.path).parent / "exports"
    folder.mkdir()
    (folder / "rows.csv").write_text("n\n1\n2\n")
    with store.stream("SELECT * FROM read_csv($path) ORDER BY n", {"path": str(folder / "rows.csv")}) as stream:
        assert [r["n"] for b in stream for r in b.to_pylist()] == [1, 2]


def test_a_stream_left_early_stops_its_query(store: Store) -> None:
    with store.stream("SELECT range AS n FROM range(1000000000)") as stream:
        assert next(stream).num_rows == 0
        assert next(stream).num_rows > 0
    assert not store._core._queries
    assert not stream._thread.is_alive()
    stream.close()
    assert list(stream) == []


ENDLESS = "SELECT count(*) FROM range(1000000000) a, range(1000000000) b"


def once_it_reads(work: Callable[[], object]) -> threading.Thread:
    """Call ``work`` in a thread as soon as a stream is under way."""
    before = set(threading.enumerate())

    def wait() -> None:
        while not any(t.name == "dspex-store-stream" and t.is_alive() for t in set(threading.enumerate()) - before):
            os.sched_yield()
        work()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_an_interrupt_stops_the_query(store: Store) -> None:
    once_it_reads(lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        store.stream(ENDLESS)
    assert not store._core._queries


def test_closing_the_store_ends_a_stream(path: Path) -> None:
    store = Store(path)
    closer = once_it_reads(store.close)
    with pytest.raises(StoreError, match=r"being closed|Connection"):
        store.stream(ENDLESS)
    closer.join()
    with pytest.raises(StoreError, match="closed"):
        store.stream("SELECT 1")


# --- maps ---------------------------------------------------------------------------------------------------------------


def row(index: int, status: str = "complete", parent: str = "m", **fields: object) -> object:
    told = {
        "parent_id": parent,
        "kind": "row",
        "row_index": index,
        "status": status,
        "prompt_tokens": 3,
        "cost": None,
        **fields,
    }
    return end(f"{parent}{index}{status}", **told)


def test_what_is_recorded_of_a_map(store: Store) -> None:
    store.write(Event("run.start", 5.0, "m", data={"kind": "map", "name": "p", "rows": 4}))
    store.write_many([row(0), row(1, "failed", error="no", outputs=None), row(2, "cancelled"), row(2, started=9.0)])
    store.write(row(3, "complete", parent="other"))
    store.write(end("m", kind="map", name="p", status="interrupted", started=5.0, seconds=2.0))
    found = store.recorded_map("m")
    assert (found.run_id, found.name, found.status, found.started, found.seconds) == ("m", "p", "interrupted", 5.0, 2.0)
    assert found.told["rows"] == 4
    assert {i: (r.run_id, r.status, r.error) for i, r in found.rows.items()} == {
        0: ("m0complete", "complete", None),
        1: ("m1failed", "failed", "no"),
        2: ("m2complete", "complete", None),
    }
    assert found.rows[0].outputs == {"intent": "card"}
    assert found.rows[1].outputs is None
    assert found.doubled == ("m2cancelled",)
    assert found.prompt_tokens == 12, "its rows know what it spent"
    store.write(end("n", kind="map", prompt_tokens=5, cost=0.5))
    assert (store.recorded_map("n").prompt_tokens, store.recorded_map("n").cost) == (5, 0.5)
    assert store.recorded_map("n").rows == {}


def test_a_reopened_map_has_no_end_until_it_ends_again(path: Path) -> None:
    with Store(path) as store:
        store.write_many([begin("m", "map", "p"), row(0), row(1, "failed"), end("m", kind="map", name="p", status="cancelled")])
        store.reopen_map("m", ["m1failed"])
        found = store.query("SELECT run_id FROM runs")["run_id"].tolist()
        assert found == ["m0complete"]
        with pytest.raises(StoreError, match="has not ended"):
            store.recorded_map("m")
        assert store.last_map("p") is None
    with Store(path) as store:
        assert store.recovery is not None
        assert store.recovery.run_ids == ("m",)
        assert store.last_map("p") == "m"
        assert set(store.recorded_map("m").rows) == {0}


def test_the_last_map_is_the_newest_that_ended_so_and_wrote_no_file(store: Store) -> None:
    for number, status in enumerate(["interrupted", "cancelled", "complete", "partial"]):
        store.write(end(f"m{number}", kind="map", name="p", status=status, started=float(number)))
    store.write(end("other", kind="map", name="q", status="cancelled", started=9.0))
    store.write(Event("run.start", 9.0, "filed", data={"kind": "map", "name": "p", "out": "x.jsonl"}))
    store.write(end("filed", kind="map", name="p", status="cancelled", started=9.0))
    assert store.last_map("p") == "m1"
    assert store.last_map("p", ("partial",)) == "m3"
    assert store.last_map("nobody") is None


def test_a_map_that_is_not_there_is_told(store: Store) -> None:
    with pytest.raises(StoreError, match="There is no map 'm1'"):
        store.recorded_map("m1")
    store.write_many([end("m123", kind="map"), end("r")])
    with pytest.raises(StoreError, match=r"Did you mean 'm123'.*The latest: m123"):
        store.recorded_map("m124")
    with pytest.raises(StoreError, match="r is a run, not a map"):
        store.recorded_map("r")


def test_a_failure_while_reopening_takes_nothing_away(store: Store) -> None:
    store.write(end("m", kind="map"))
    with pytest.raises(Exception, match="Unable to transform"):
        store.reopen_map("m", [object()])  # type: ignore[list-item]
    assert store.query("SELECT run_id FROM runs")["run_id"].tolist() == ["m"]
