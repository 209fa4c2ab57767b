"""Events per second into a DuckDB file: ``Store.write`` + ``flush`` beside ``executemany`` and bare Arrow batches.

Run it: ``python tests/bench/events_per_second.py [EVENTS]``. All ways run in turns in one process on the same events, so
the ratios hold where absolute figures depend on the machine.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa

from dspex_lab.events import Event, new_id
from dspex_lab.store import Store

TABLE = "CREATE TABLE events (name VARCHAR, time TIMESTAMP, run_id VARCHAR, span_id VARCHAR, step VARCHAR, data JSON)"
BATCH = 1_000
ROUNDS = 5
#: executemany is so slow that a part of the events tells enough.
SAMPLE = 500


def events(count: int) -> list[Event]:
    now = time.time()
    return [
        Event("step.stop", now, new_id(), new_id(), "classify", {"seconds": 0.1, "error": None, "n": n}) for n in range(count)
    ]


def by_store(records: list[Event], path: Path, *, redact: bool = True) -> tuple[float, float]:
    """Return seconds per event in all, and those the caller spent in write()."""
    with Store(path) if redact else Store(path, redact=None) as store:
        write = store.write
        write(records[0])
        store.flush()
        start = time.perf_counter()
        for record in records:
            write(record)
        written = time.perf_counter()
        store.flush()
        end = time.perf_counter()
        if store.dropped:
            raise SystemExit(f"{store.dropped} events were dropped; ask for fewer at once")
    return (end - start) / len(records), (written - start) / len(records)


def by_executemany(records: list[Event], path: Path) -> float:
    con = duckdb.connect(str(path))
    con.execute(TABLE)
    rows = [(r.name, round(r.time * 1e6), r.run_id, r.span_id, r.step, json.dumps(r.data)) for r in records]
    start = time.perf_counter()
    con.execute("BEGIN")
    con.executemany("INSERT INTO events VALUES (?, make_timestamp(?::BIGINT), ?, ?, ?, ?)", rows)
    con.execute("COMMIT")
    end = time.perf_counter()
    con.close()
    return (end - start) / len(records)


def by_arrow(records: list[Event], path: Path) -> float:
    con = duckdb.connect(str(path))
    con.execute(TABLE)
    start = time.perf_counter()
    for first in range(0, len(records), BATCH):
        names, moments, run_ids, span_ids, steps, data = zip(*records[first : first + BATCH], strict=True)
        batch = pa.table(
            {
                "name": pa.array(names),
                "time": pa.array([round(m * 1e6) for m in moments], pa.int64()).cast(pa.timestamp("us")),
                "run_id": pa.array(run_ids),
                "span_id": pa.array(span_ids),
                "step": pa.array(steps),
                "data": pa.array([json.dumps(d) for d in data]),
            }
        )
        con.register("batch", batch)
        con.execute("INSERT INTO events SELECT * FROM batch")
    end = time.perf_counter()
    con.close()
    return (end - start) / len(records)


def main(count: int) -> None:
    records = events(count)
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:

        def fresh(n: int, way: str) -> Path:
            return Path(folder) / f"{way}-{n}.duckdb"

        ways: dict[str, Callable[[int], float]] = {
            "executemany": lambda n: by_executemany(records[:SAMPLE], fresh(n, "many")),
            "bare Arrow batches of 1,000": lambda n: by_arrow(records, fresh(n, "arrow")),
            "Store, not redacted": lambda n: by_store(records, fresh(n, "plain"), redact=False)[0],
        }
        for n in range(ROUNDS):
            for name, way in ways.items():
                seconds.setdefault(name, []).append(way(n))
            whole, caller = by_store(records, fresh(n, "store"))
            seconds.setdefault("Store.write + flush", []).append(whole)
            seconds.setdefault("  of which the caller waits", []).append(caller)
    store = statistics.median(seconds["Store.write + flush"])
    print(f"{count:,} events, median of {ROUNDS}; DuckDB {duckdb.__version__}")
    print(f"{'way':32} {'µs/event':>9} {'events/s':>10} {'Store is … times as fast':>25}")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"{name:32} {median * 1e6:9.2f} {1 / median:10,.0f} {median / store:25.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
