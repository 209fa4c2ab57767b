"""A map into a file holds some rows at a time, whatever their number."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

#: Maps over ROWS rows and prints what Python held at its highest, once with a few rows and once with many.
MAPPER = """
import sys, threading, tracemalloc
import dspex_lab as dx

def rows(count):
    for n in range(count):
        yield {"n": n, "text": f"message {n} " + 200 * "x"}

def parquet(count):
    import pyarrow as pa, pyarrow.parquet as pq
    with pq.ParquetWriter("rows.parquet", pa.schema([("n", pa.int64()), ("text", pa.string())])) as writer:
        for start in range(0, count, 5_000):
            table = [{"n": n, "text": f"message {n} " + 200 * "x"} for n in range(start, start + 5_000)]
            writer.write_table(pa.Table.from_pylist(table))
    return "rows.parquet"

def work(n: int, text: str) -> int:
    with one:
        if n % 500 == 0:
            lab.store.flush()  # its queue is bounded too, but far beyond what is looked for here; all rows wait for the disk
    return len(text)

kind, ending = sys.argv[1:]
one = threading.Lock()
# Started before there are other threads and never stopped: CPython 3.11 crashes where another thread allocates just then
# (gh-128679).
tracemalloc.start()
with dx.Lab("lab.duckdb") as lab:
    lab.map(work, rows(2_000), out="warm." + ending)
    highest = []
    for count in (4_000, 14_000):
        data = rows(count) if kind == "rows" else parquet(count)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        lab.map(work, data, out=f"out{count}.{ending}")
        highest.append(tracemalloc.get_traced_memory()[1] - before)
    print(*highest)
"""


@pytest.mark.parametrize(("kind", "ending"), [("rows", "jsonl"), ("parquet", "parquet")])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, kind: str, ending: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MAPPER, kind, ending], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    few, many = map(int, done.stdout.split())
    # 10,000 rows more, of 220 characters each, are 2 MB as text alone, and 10 MB as rows in Python.
    assert many < few + 10_000 * 200, (few, many)
