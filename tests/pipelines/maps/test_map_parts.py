"""The parts of a map by themselves: ledger, journal, finished files, feed and gate."""

from __future__ import annotations

import asyncio
import csv
import functools
import json
import math
import operator
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines.maps import _compose
from dspex_lab.pipelines.maps._compose import compose
from dspex_lab.pipelines.maps._feed import Feed, Todo
from dspex_lab.pipelines.maps._gate import Gate, Keep
from dspex_lab.pipelines.maps._journal import Journal, kept_rows, out_file
from dspex_lab.pipelines.maps._json import decode, encode
from dspex_lab.pipelines.maps._ledger import Ledger
from dspex_lab.pipelines.maps._outcome import Outcome, letter

PIPELINE = {"kind": "pipeline", "name": "p"}
DATA = {"kind": "iterable"}


def outcome(index: int, status: str = "complete", **outputs: Any) -> Outcome:
    return Outcome(index, status, outputs, None, f"run{index}", {})


def line(made: Outcome) -> dict[str, Any]:
    return {**made.outputs, "row_index": made.row_index}


def journal_of(rows: Sequence[dict[str, Any]], ending: str, folder: str) -> tuple[Journal, Path]:
    journal = Journal(Path(folder) / f"out.{ending}", 1)
    journal.begin(PIPELINE, DATA, None, False)
    for start in range(0, len(rows), 2):
        piece = [outcome(i, x=1) for i in range(start, min(start + 2, len(rows)))]
        journal.write(list(reversed(piece)), lambda o: {**rows[o.row_index], "row_index": o.row_index})
    return journal, compose(journal, ("row_index",), {})


# --- ledger and journal -------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from("cplf")), max_size=80))
def test_the_ledger_has_the_last_outcome_of_each_row(marks: list[tuple[int, str]]) -> None:
    ledger, last = Ledger(), dict[int, tuple[int, str]]()
    for place, (index, mark) in enumerate(marks):
        ledger.mark(index, place, mark)
        last[index] = (place, mark)
    assert len(ledger) == len(last)
    assert list(ledger.places()) == [last[i][0] for i in sorted(last)]
    assert {i for i in range(50) if ledger.done(i)} == set(last)
    assert {i for i in range(50) if ledger.done(i, retry=True)} == {i for i, (_, m) in last.items() if m in "cp"}
    for marked in "cplf":
        assert ledger.count(marked) == Counter(m for _, m in last.values())[marked]


def test_a_partial_outcome_without_every_output_lacks_one() -> None:
    assert letter("partial", {"a": 1}, 2) == "l"
    assert letter("partial", {"a": 1, "b": None}, 2) == "p"
    assert [letter(s, {}, 1) for s in ("complete", "failed", "cancelled")] == ["c", "f", "f"]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_journal_cut_anywhere_gives_back_whole_rows(data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(12)))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.jsonl"
        journal = Journal(out, 1)
        journal.begin(PIPELINE, DATA, None, False)
        for start in range(0, 12, 3):
            journal.write([outcome(i, x=f"value {i}\n") for i in order[start : start + 3]], line)
        journal.close()
        rows = journal.folder / "rows"
        whole = rows.read_bytes()
        cut = data.draw(st.integers(0, len(whole)))
        rows.write_bytes(whole[:cut])
        kept = whole[:cut].count(b"\n")
        assert [r["row_index"] for r in kept_rows(out)] == sorted(order[:kept])
        again = Journal(out, 1)
        again.begin(PIPELINE, DATA, None, False)
        assert {i for i in range(12) if again.ledger.done(i)} == set(order[:kept])
        missing = [i for i in range(12) if not again.ledger.done(i)]
        again.write([outcome(i, x=f"value {i}\n") for i in missing], line)
        again.finish("complete", compose(again, ("row_index",), {}))
        again.close()
        assert [json.loads(t) for t in out.read_text().splitlines()] == [
            {"x": f"value {i}\n", "row_index": i} for i in range(12)
        ]


def test_a_kill_between_the_file_and_its_note_is_no_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.jsonl"
    journal = Journal(out, 1)
    journal.begin(PIPELINE, DATA, None, False)
    journal.write([outcome(0, x=1)], line)
    whole = compose(journal, ("row_index",), {})
    saved = journal.save

    def killed(**changes: Any) -> None:
        if "state" in changes:
            raise SystemExit
        saved(**changes)

    monkeypatch.setattr(journal, "save", killed)
    with pytest.raises(SystemExit):
        journal.finish("complete", whole)
    journal.close()
    assert out.exists()
    again = Journal(out, 1)
    again.begin(PIPELINE, DATA, None, False)
    again.finish("complete", compose(again, ("row_index",), {}))
    assert again.ended
    again.close()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".out.jsonl.map").write_text("a file in its place")
    with pytest.raises(PipelineError, match="cannot be written: File exists"):
        Journal(tmp_path / "out.jsonl", 1)
    assert kept_rows(tmp_path / "other.jsonl") == []
    (tmp_path / "data").mkdir()
    with pytest.raises(PipelineError, match="Did you mean 'data'"):
        out_file(tmp_path / "dta" / "out.csv")


def test_the_finished_file_needs_room_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "out.jsonl", 1)
    journal.begin(PIPELINE, DATA, None, False)
    journal.write([outcome(0, x=1)], line)

    def full(*a: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PipelineError, match=r"No space left.*1 rows are kept"):
        compose(journal, ("row_index",), {})
    assert not list(journal.folder.glob("whole*"))
    monkeypatch.undo()

    def interrupted() -> Iterator[bytes]:
        yield b"{}"
        raise KeyboardInterrupt

    monkeypatch.setattr(journal, "lines", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compose(journal, ("row_index",), {})
    assert not list(journal.folder.glob("whole*"))
    journal.close()


# --- values and finished files ------------------------------------------------------------------------------------------

plain = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8)
values = st.recursive(
    plain, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=3), v, max_size=3), max_leaves=6
)
tables = st.lists(st.dictionaries(st.sampled_from("abc"), values, max_size=3), min_size=1, max_size=7)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return type(a) is type(b) and a == b


@settings(deadline=None)
@given(values)
def test_a_value_comes_back_from_its_line(value: Any) -> None:
    line = encode(value)
    assert b"\n" not in line
    assert same(decode(line), value)


@settings(deadline=None)
@given(values)
def test_a_strict_line_is_json(value: Any) -> None:
    json.loads(encode(value, strict=True), parse_constant=lambda c: pytest.fail(c))


def test_any_value_has_a_line() -> None:
    import dspy
    import numpy as np
    import pandas as pd
    from pydantic import BaseModel

    class Model(BaseModel):
        a: str

    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError

    circle: list[Any] = []
    circle.append(circle)
    given = {
        "array": np.array([[1, 2]]),
        "scalar": np.int64(3),
        "na": pd.NA,
        "nat": pd.NaT,
        "time": pd.Timestamp("2024-01-01"),
        "model": Model(a="x"),
        "prediction": dspy.Prediction(a=1),
        "error": ValueError("no"),
        "rude": Rude(),
        "bytes": b"\x00\xff",
        "lone": "\ud800",
        ("a", 1): {"b"},
        "circle": circle,
    }
    for value in (given, *given.values(), {"deep": Model.model_construct(a="\ud800")}, type("M", (dict,), {})(a="\ud800")):
        encode(value)
    made = decode(encode(given))
    assert made["array"] == [[1, 2]]
    assert made["scalar"] == 3
    assert made["na"] is made["nat"] is None
    assert made["model"] == {"a": "x"}
    assert made["error"] == "ValueError: no"
    assert "raised RuntimeError" in made["rude"]
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    assert b"deep" in encode(deep)


@settings(deadline=None, max_examples=60)
@given(tables)
def test_finished_files_hold_every_row(rows: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal, path = journal_of(rows, "jsonl", folder)
        found = [json.loads(t) for t in path.read_bytes().splitlines()]
        assert [r.pop("row_index") for r in found] == list(range(len(rows)))
        assert [r.keys() for r in found] == [r.keys() for r in rows]
        journal.close()
    for ending in ("parquet", "csv"):
        with tempfile.TemporaryDirectory() as folder:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(_compose, "_PIECE", 2)  # so that types of several pieces are joined
                journal, path = journal_of(rows, ending, folder)
            journal.close()
            names = {n for r in rows for n in r}
            if ending == "parquet":
                table = pq.read_table(path)
                assert table.num_rows == len(rows)
                assert set(table.column_names) == {*names, "row_index"}
                assert table["row_index"].to_pylist() == list(range(len(rows)))
                for name in names:
                    back = table[name].to_pylist()
                    assert [v is None for v in back] == [r.get(name) is None for r in rows]
            else:
                with path.open(encoding="utf-8", newline="") as file:
                    found = list(csv.DictReader(file))
                assert [int(r["row_index"]) for r in found] == list(range(len(rows)))


def test_columns_take_the_type_that_all_their_values_fit(tmp_path: Path) -> None:
    rows = [
        {
            "whole": 1,
            "number": 1,
            "mixed": True,
            "text": "a",
            "list": [1],
            "many": {f"k{i}": 1 for i in range(70)},
            "empty": {},
        },
        {"whole": None, "number": 2.5, "mixed": 1, "text": 2, "list": [2.5], "many": {}, "empty": {}},
        {"whole": 2**40, "number": None, "mixed": "x", "text": None, "list": None, "many": None, "empty": None},
    ]
    journal = Journal(tmp_path / "out.parquet", 1)
    journal.begin(PIPELINE, DATA, None, False)
    journal.write([outcome(i, x=1) for i in range(3)], lambda o: {**rows[o.row_index], "row_index": o.row_index})
    patch = pytest.MonkeyPatch()
    patch.setattr(_compose, "_PIECE", 1)
    table = pq.read_table(compose(journal, ("row_index",), {}))
    patch.undo()
    journal.close()
    kinds = {f.name: str(f.type) for f in table.schema}
    assert kinds == {
        "whole": "int64", "number": "double", "mixed": "string", "text": "string", "list": "list<element: double>",
        "many": "string", "empty": "string", "row_index": "int64",
    }  # fmt: skip
    assert table["mixed"].to_pylist() == ["true", "1", "x"]
    assert table["list"].to_pylist() == [[1.0], [2.5], None]


def test_values_take_the_type_that_their_column_has_in_all_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"x": 2**60, "list": [2**60], "object": {"a": 2**60}, "texts": ["a"]},
        {"x": 1.5, "list": [1.5, None], "object": {"a": 1.5, "b": 1}, "texts": []},
    ]
    journal = Journal(tmp_path / "out.parquet", 1)
    journal.begin(PIPELINE, DATA, None, False)
    journal.write([outcome(i, x=1) for i in range(2)], lambda o: {**rows[o.row_index], "row_index": o.row_index})
    monkeypatch.setattr(_compose, "_PIECE", 1)
    table = pq.read_table(compose(journal, ("row_index",), {})).to_pydict()
    journal.close()
    assert table["x"] == [2.0**60, 1.5]
    assert table["list"] == [[2.0**60], [1.5, None]]
    assert table["object"] == [{"a": 2.0**60, "b": None}, {"a": 1.5, "b": 1}]
    assert table["texts"] == [["a"], []]


def test_types_of_the_data_live_on_where_the_values_fit(tmp_path: Path) -> None:
    import datetime as dt
    import decimal

    kinds = {
        "price": pa.decimal128(10, 2), "raw": pa.binary(), "day": pa.date32(), "time": pa.time64("us"),
        "when": pa.timestamp("us"), "zoned": pa.timestamp("us", "UTC"), "odd": pa.timestamp("us"), "lasts": pa.duration("us"),
    }  # fmt: skip
    moment = dt.datetime(2024, 1, 2, 3, 4, 5, 6)
    row = {
        "price": decimal.Decimal("1.50"), "raw": b"\x00\xff>?", "day": moment.date(), "time": moment.time(), "when": moment,
        "zoned": moment.replace(tzinfo=dt.UTC), "odd": moment.replace(tzinfo=dt.UTC), "lasts": dt.timedelta(seconds=3),
    }  # fmt: skip
    journal = Journal(tmp_path / "out.parquet", 1)
    journal.begin(PIPELINE, DATA, None, False)
    journal.write([outcome(0, x=1), outcome(1, x=1)], lambda o: {**(row if o.row_index else {}), "row_index": o.row_index})
    table = pq.read_table(compose(journal, ("row_index",), kinds))
    journal.close()
    assert {n: table.schema.field(n).type for n in kinds} == {**kinds, "odd": pa.string(), "lasts": pa.string()}
    back = table.to_pylist()
    assert {n: back[1][n] for n in row} == {**row, "odd": "2024-01-02T03:04:05.000006Z", "lasts": "PT3S"}
    assert all(back[0][n] is None for n in row)


# --- feed and gate ------------------------------------------------------------------------------------------------------


def run(work: Callable[[ThreadPoolExecutor], Any]) -> Any:
    with ThreadPoolExecutor(8) as executor:
        return asyncio.run(work(executor))


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(0, 5), max_size=8), done=st.sets(st.integers(0, 30)), width=st.integers(1, 9), cut=st.booleans()
)
def test_every_row_that_is_not_done_is_handed_out_once(sizes: list[int], done: set[int], width: int, cut: bool) -> None:
    chunks = [[{"n": n} for n in range(sum(sizes[:i]), sum(sizes[: i + 1]))] for i in range(len(sizes))]

    def given() -> Iterator[list[Any]]:
        yield from chunks
        if cut:
            raise PipelineError("cut")

    async def work(executor: ThreadPoolExecutor) -> tuple[list[Todo], Feed]:
        feed = Feed(given(), lambda row: {"taken": row["n"]}, done.__contains__)
        got: list[Todo] = []

        async def worker() -> None:
            while (item := await feed.get()) is not None:
                got.append(item)
                await asyncio.sleep(0)

        await asyncio.gather(*(worker() for _ in range(width)))
        feed.close()
        return got, feed

    got, feed = run(work)
    assert sorted(t.row_index for t in got) == [i for i in range(sum(sizes)) if i not in done]
    assert all(t.inputs == {"taken": t.row_index} for t in got)
    assert feed.read == sum(sizes)
    assert (feed.problem is not None) == cut


def test_whatever_a_source_raises_is_told_with_its_place() -> None:
    def given() -> Iterator[list[Any]]:
        yield [{"n": 1}]
        raise OSError("the disk is gone")

    async def work(executor: ThreadPoolExecutor) -> None:
        feed = Feed(given(), dict, lambda index: False)
        assert await feed.get() is not None
        assert await feed.get() is None
        assert "beyond row 1: OSError: the disk is gone" in str(feed.problem)

    run(work)


class Slow(Keep):
    """Takes a batch only when it is told to."""

    def __init__(self, batch: int, linger: float | None = None) -> None:
        self.batch, self.linger = batch, linger
        self.flushed: list[list[int]] = []
        self.go = threading.Semaphore(0)
        self.first = threading.Event()
        self.problem: Exception | None = None

    def add(self, outcome: Outcome) -> None:
        pass

    def flush(self, outcomes: Sequence[Outcome]) -> None:
        assert self.go.acquire(timeout=30)
        if self.problem is not None:
            raise self.problem
        self.flushed.append([o.row_index for o in outcomes])
        self.first.set()


def test_no_more_than_a_batch_waits_and_rows_go_on_beside_a_flush() -> None:
    async def work(executor: ThreadPoolExecutor) -> None:
        keep = Slow(4, linger=60.0)
        gate = Gate(keep, executor)
        for i in range(3):
            assert not gate.full
            gate.add(outcome(i))
        assert not gate.full, "two are being flushed, one waits"
        gate.add(outcome(3))
        assert gate.full
        waiting = asyncio.create_task(gate.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        keep.go.release()
        assert await waiting
        assert keep.flushed == [[0, 1]]
        keep.go.release(10)
        gate.add(outcome(4))
        await gate.close()
        assert functools.reduce(operator.iadd, keep.flushed, []) == [0, 1, 2, 3, 4]

    run(work)


def test_few_outcomes_are_flushed_after_a_while() -> None:
    async def work(executor: ThreadPoolExecutor) -> None:
        keep = Slow(100, linger=0.0)
        keep.go.release(10)
        gate = Gate(keep, executor)
        gate.add(outcome(0))
        assert await asyncio.to_thread(keep.first.wait, 30)
        gate.add(outcome(1))
        await gate.close()
        assert keep.flushed == [[0], [1]]

    run(work)


def test_a_flush_that_fails_lets_no_row_begin_and_is_raised_at_the_end() -> None:
    async def work(executor: ThreadPoolExecutor) -> None:
        keep = Slow(2, linger=60.0)
        keep.problem = OSError("full")
        gate = Gate(keep, executor)
        gate.add(outcome(0))
        gate.add(outcome(1))
        keep.go.release(10)
        assert not await gate.room()
        assert gate.full
        with pytest.raises(OSError, match="full"):
            await gate.close()

    run(work)


def test_what_flushes_itself_is_not_waited_for() -> None:
    async def work(executor: ThreadPoolExecutor) -> None:
        keep = Slow(10)
        gate = Gate(keep, executor)
        gate.add(outcome(0))
        await gate.close()
        assert keep.flushed == []
        for i in range(10):
            gate.add(outcome(i))
        keep.go.release(10)
        assert await gate.room()
        assert keep.flushed

    run(work)
