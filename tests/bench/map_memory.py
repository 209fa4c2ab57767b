"""Peak memory and speed of a map into a file: it must not grow with the number of rows.

    python tests/bench/map_memory.py [ROWS] [--out jsonl|parquet|csv] [--data rows|parquet] [--concurrency N]

One sync step over ROWS rows (1,000,000), telemetry on, store in a file. Prints the process's resident memory at a tenth and at
all of the rows, the highest ever, what of it DuckDB keeps of the store's file, and rows a second; then what it took to write
the finished file.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

import dspex_lab as dx


def length(text: str) -> int:
    return len(text)


def rows(count: int) -> Iterator[dict[str, Any]]:
    for n in range(count):
        yield {"id": n, "text": f"message {n}: my card has not come yet, what now?"}


def parquet(path: Path, count: int) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("id", pa.int64()), ("text", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        piece: list[dict[str, Any]] = []
        for row in rows(count):
            piece.append(row)
            if len(piece) == 10_000:
                writer.write_table(pa.Table.from_pylist(piece, schema))
                piece = []
        if piece:
            writer.write_table(pa.Table.from_pylist(piece, schema))
    return path


class Watch:
    """Notes the resident memory when the map's counter passes marks."""

    def __init__(self, lab: dx.Lab, marks: list[int]) -> None:
        self.process, self.done, self.marks, self.seen = psutil.Process(), 0, marks, {}
        self.highest = 0
        self.clock = time.perf_counter()
        self.stop = threading.Event()
        lab.bus.subscribe(self.record)
        threading.Thread(target=self.look, daemon=True).start()

    def record(self, record: Any) -> None:
        if getattr(record, "kind", "") == "row":
            self.done += 1
            if self.done in self.marks:
                self.seen[self.done] = (self.rss(), time.perf_counter() - self.clock)

    def look(self) -> None:
        while not self.stop.wait(0.1):
            self.highest = max(self.highest, self.rss())

    def rss(self) -> int:
        return self.process.memory_info().rss >> 20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--out", default="jsonl", choices=["jsonl", "parquet", "csv"])
    parser.add_argument("--data", default="rows", choices=["rows", "parquet"])
    parser.add_argument("--concurrency", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, dx.Lab(Path(folder) / "lab.duckdb") as lab:
        data: Any = rows(options.rows)
        if options.data == "parquet":
            data = parquet(Path(folder) / "data.parquet", options.rows)
        watch = Watch(lab, [options.rows // 10, options.rows])
        out = Path(folder) / f"out.{options.out}"
        result = lab.map(length, data, out=out, concurrency=options.concurrency)
        whole = time.perf_counter() - watch.clock
        watch.stop.set()
        held = lab.sql("SELECT sum(memory_usage_bytes) AS bytes FROM duckdb_memory()")["bytes"][0]
        print(repr(result))
        for done, (mb, seconds) in sorted(watch.seen.items()):
            print(f"{done:>10,} rows: {mb:>6} MB resident after {seconds:8.1f} s, {done / seconds:>8,.0f} rows/s")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(
            f"highest while mapping {watch.highest} MB, of the process {peak} MB; DuckDB keeps {int(held) >> 20} MB of its file"
        )
        print(f"the finished file ({out.stat().st_size >> 20} MB) took {whole - result.seconds:.1f} s more")


if __name__ == "__main__":
    main()
