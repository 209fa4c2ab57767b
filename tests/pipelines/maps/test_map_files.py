"""What a map writes: values as lines, and finished files."""

from __future__ import annotations

import csv
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from map_helpers import DATA, PIPELINE, outcome

from dspex_lab.pipelines.maps import _compose
from dspex_lab.pipelines.maps._compose import compose
from dspex_lab.pipelines.maps._journal import Journal
from dspex_lab.pipelines.maps._json import decode, encode


def journal_of(rows: Sequence[dict[str, Any]], ending: str, folder: str) -> tuple[Journal, Path]:
    journal = Journal(Path(folder) / f"out.{ending}", 1)
    journal.begin(PIPELINE, DATA, None, False)
    for start in range(0, len(rows), 2):
        piece = [outcome(i, x=1) for i in range(start, min(start + 2, len(rows)))]
        journal.write(list(reversed(piece)), lambda o: {**rows[o.row_index], "row_index": o.row_index})
    return journal, compose(journal, ("row_index",), {})


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
