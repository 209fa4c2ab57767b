"""Maps into a file: what is in it, what comes back, and what is refused."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from map_helpers import ROWS, half

import dspex_lab as dx
from dspex_lab.pipelines import MapResult

FORMATS = ["jsonl", "parquet", "csv"]


@pytest.mark.parametrize("ending", FORMATS)
def test_the_file_has_the_rows_in_order_with_outputs_status_and_error(lab: dx.Lab, ending: str) -> None:
    result = lab.map(half, ROWS, out=f"out.{ending}", concurrency=3)
    assert isinstance(result, MapResult)
    assert (result.status, result.rows, result.failed, result.ran, result.continued) == ("partial", 10, 5, 10, 0)
    assert result.counts == {"complete": 5, "partial": 0, "failed": 5}
    assert result.path == Path(f"out.{ending}").absolute()
    assert lab.last_map is result
    frame = result.frame()
    assert list(frame.columns) == ["n", "note", "half", "row_index", "status", "error", "run_id"]
    assert frame["n"].tolist() == frame["row_index"].tolist() == list(range(10))
    assert frame["status"].tolist() == ["complete", "failed"] * 5
    assert frame["error"][3] == "ValueError: 3 is odd"
    assert pd.isna(frame["error"][2])
    assert frame["half"][4] == 2.0
    assert pd.isna(frame["half"][3])
    stored = lab.sql("SELECT run_id FROM runs WHERE kind = 'row' ORDER BY row_index")
    assert frame["run_id"].tolist() == stored["run_id"].tolist()
    whole = lab.sql("SELECT * FROM runs WHERE kind = 'map'").iloc[0]
    assert whole["status"] == "partial"
    assert json.loads(whole["outputs"])["out"] == str(result.path)


@pytest.mark.parametrize("kind", ["frame", "csv", "parquet", "jsonl", "list", "generator", "query"])
def test_data_of_every_kind(lab: dx.Lab, kind: str) -> None:
    frame = pd.DataFrame(ROWS)
    data: Any = {"frame": frame, "list": ROWS, "generator": (r for r in ROWS)}.get(kind, f"rows.{kind}")
    if kind == "csv":
        frame.to_csv("rows.csv", index=False)
    elif kind == "parquet":
        frame.to_parquet("rows.parquet")
    elif kind == "jsonl":
        frame.to_json("rows.jsonl", orient="records", lines=True)
    elif kind == "query":
        data = "SELECT range::INT AS n, 'row ' || range AS note FROM range(10)"
    for out in ("out.parquet", None):
        if kind == "generator" and out is None:
            data = (r for r in ROWS)
        made = lab.map(half, data, out=out) if out else lab.map(half, data)
        made = made.frame() if out else made
        assert made["n"].tolist() == list(range(10))
        assert made["note"].tolist() == frame["note"].tolist()
        assert made["status"].tolist() == ["complete", "failed"] * 5


def test_a_query_reads_the_stores_tables_and_only_reads(lab: dx.Lab) -> None:
    lab.map(half, ROWS)
    taken = lab.map(
        lambda status: status.upper(), "SELECT status FROM runs WHERE kind = 'row' ORDER BY row_index", out="o.jsonl"
    )
    assert taken.frame()["<lambda>" if "<lambda>" in taken.frame() else "step"].tolist() == ["COMPLETE", "FAILED"] * 5
    with pytest.raises(dx.StoreError, match=r"not a query|read-only"):
        lab.map(half, "WITH x AS (SELECT 1) DELETE FROM runs", out="p.jsonl")
    with pytest.raises(dx.StoreError, match="nope"):
        lab.map(half, "SELECT * FROM nope", out="p.jsonl")
    assert not Path(".p.jsonl.map").exists(), "what was refused leaves nothing behind"


def test_names_of_the_data_give_way_and_a_replaced_input_goes(lab: dx.Lab) -> None:
    rows = [{"n": 2, "status": "open", "row_index": 7, "label": "gold"}]
    frame = lab.map(dx.pipeline("p", label=lambda n: n), rows, out="out.jsonl").frame()
    assert list(frame.columns) == [
        "n", "status_given", "row_index_given", "label_given", "label", "row_index", "status", "error", "run_id",
    ]  # fmt: skip
    tidy = dx.pipeline("p", text=dx.step(lambda text: text.strip(), replaces=True))
    assert lab.map(tidy, [{"text": " a "}], out="tidy.jsonl").frame()["text"].tolist() == ["a"]
    with pytest.raises(dx.PipelineError, match="gives a field 'row_index'"):
        lab.map(dx.pipeline("p", row_index=lambda n: n), rows, out="bad.jsonl")


def test_types_live_on_in_parquet(lab: dx.Lab) -> None:
    frame = pd.DataFrame(
        {
            "n": [1, 2],
            "when": pd.to_datetime(["2024-01-02 03:04:05", None]),
            "at": pd.to_datetime(["2024-01-02 03:04:05Z", "2024-01-02 03:04:05Z"]),
            "tags": [["a", "b"], []],
            "mixed": [1, "one"],
            "nothing": [None, None],
        }
    )

    def make(n: int) -> dict[str, Any]:
        return {"whole": n, "day": dt.date(2024, 1, n), "found": {"score": n / 2, "of": ["x"]}, "raw": b"\x00\xff"}

    made = lab.map(make, frame, out="out.parquet")
    schema = {f.name: str(f.type) for f in pq.read_schema(made.path)}
    assert schema["when"].startswith("timestamp")
    assert "UTC" in schema["at"]
    assert schema["tags"] == "list<element: string>"
    assert schema["mixed"] == schema["nothing"] == "string"
    assert schema["found"].startswith("struct<score: double")
    back = pq.read_table(made.path).to_pylist()
    assert back[0]["when"] == dt.datetime(2024, 1, 2, 3, 4, 5)
    assert back[1]["when"] is None
    assert back[0]["mixed"] == "1"
    assert back[1]["whole"] == 2
    again = lab.map(lambda n: n, "out.parquet", out="again.parquet")
    assert {f.name: str(f.type) for f in pq.read_schema(again.path)}["when"] == schema["when"]


def test_declared_types_hold_also_where_every_row_failed(lab: dx.Lab) -> None:
    def fails(n: int) -> int:
        raise ValueError(n)

    made = lab.map(fails, ROWS[:2], out="out.parquet")
    assert str(pq.read_schema(made.path).field("fails").type) == "int64"
    assert made.status == "failed"


def test_what_json_has_no_word_for(lab: dx.Lab) -> None:
    def odd(n: int) -> dict[str, Any]:
        return {"x": [float("nan"), float("inf"), 1.5][n], "text": ["\ud800", "NaN", "a\nb"][n]}

    line = lab.map(odd, ROWS[:3], out="out.jsonl").path
    assert line is not None
    rows = [json.loads(text, parse_constant=lambda c: pytest.fail(c)) for text in line.read_text().splitlines()]
    assert [r["x"] for r in rows] == [None, None, 1.5]
    assert [r["text"] for r in rows] == ["?", "NaN", "a\nb"]
    table = pq.read_table(lab.map(odd, ROWS[:3], out="out.parquet").path).to_pydict()
    assert table["x"][1] == float("inf")
    assert table["x"][2] == 1.5


def test_rows_with_different_fields_share_one_table(lab: dx.Lab) -> None:
    rows = [{"n": 2, "a": 1}, {"n": 4, "b": {"k": 1}}, {"n": 6, "a": 2.5}]
    for ending in FORMATS:
        frame = lab.map(half, rows, out=f"out.{ending}").frame()
        assert list(frame.columns)[:3] in (["n", "a", "b"], ["n", "a", "half"])
        assert frame["a"][2] == 2.5
        assert pd.isna(frame["a"][1])


# --- refused before anything runs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("out.txt", "is no file that a map writes"),
        ("nowhere/out.jsonl", "There is no folder"),
        ("there.jsonl", "is a folder"),
        ("rows.jsonl", "is the file of the data itself"),
        ("mine.jsonl", "no map that could go on wrote it"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_first(lab: dx.Lab, out: str, message: str) -> None:
    Path("there.jsonl").mkdir()
    Path("rows.jsonl").write_text('{"n": 2}\n')
    Path("mine.jsonl").write_text("precious")
    with pytest.raises(dx.PipelineError, match=message):
        lab.map(half, "rows.jsonl", out=out)
    assert lab.sql("SELECT count(*) AS n FROM runs")["n"][0] == 0
    assert Path("mine.jsonl").read_text() == "precious"
    assert [p.name for p in Path().glob(".*.map")] == []


def test_overwrite_replaces_what_is_there_and_only_at_the_end(lab: dx.Lab) -> None:
    Path("mine.jsonl").write_text("precious")

    def boom() -> Iterator[dict[str, Any]]:
        yield {"n": 2}
        raise RuntimeError("boom")

    with pytest.raises(dx.PipelineError, match="boom"):
        lab.map(half, boom(), out="mine.jsonl", overwrite=True)
    assert Path("mine.jsonl").read_text() == "precious"
    assert lab.map(half, iter([{"n": 2}, {"n": 4}]), out="mine.jsonl", overwrite=True).rows == 2
    assert lab.map(half, [{"n": 6}], out="mine.jsonl", overwrite=True).frame()["half"].tolist() == [3.0]


@pytest.mark.parametrize(
    "how",
    [
        {"overwrite": True},
        {"retry_failed": True},
        {"resume": True, "out": "x.jsonl"},
        {"concurrency": 0, "out": "x.jsonl"},
    ],
)
def test_options_that_do_not_go_together(lab: dx.Lab, how: dict[str, Any]) -> None:
    with pytest.raises(dx.ConfigurationError):
        lab.map(half, ROWS, **how)


def test_another_map_is_not_continued(lab: dx.Lab) -> None:
    lab.map(half, ROWS, out="out.jsonl")
    with pytest.raises(dx.PipelineError, match="data rows: 10 before, 9 now"):
        lab.map(half, ROWS[1:], out="out.jsonl")
    with pytest.raises(dx.PipelineError, match=r"pipeline name: 'half' before, 'other' now.*overwrite=True"):
        lab.map(dx.pipeline("other", half=half), ROWS, out="out.jsonl")
    pd.DataFrame(ROWS).to_csv("rows.csv", index=False)
    with pytest.raises(dx.PipelineError, match="data was a list, and is a file now"):
        lab.map(half, "rows.csv", out="out.jsonl")
    changed = [*ROWS[:-1], {"n": 9, "note": "another"}]
    with pytest.raises(dx.PipelineError, match="data hash"):
        lab.map(half, changed, out="out.jsonl")
    lab.map(half, "rows.csv", out="csv.jsonl")
    os.utime("rows.csv", (1, 1))
    with pytest.raises(dx.PipelineError, match="data changed"):
        lab.map(half, "rows.csv", out="csv.jsonl")


def test_two_maps_do_not_write_one_file(lab: dx.Lab) -> None:
    with lab.plan_map(half, ROWS, out="out.jsonl"), pytest.raises(dx.PipelineError, match="Another map is writing"):
        lab.map(half, ROWS, out="out.jsonl")
    assert lab.map(half, ROWS, out="out.jsonl").rows == 10


def test_a_result_shows_itself(lab: dx.Lab) -> None:
    result = lab.map(half, ROWS, out="out.csv")
    shown = repr(result)
    assert shown.startswith("<half: partial · 10 rows (5 complete, 5 failed) · ")
    assert "rows/s" in shown
    assert str(result.path) in shown
    assert "<td>5</td>" in result._repr_html_()
    lab.map(half, ROWS)
    assert lab.last_map is not None
    with pytest.raises(dx.PipelineError, match="are in the store"):
        lab.last_map.frame()
    slow = MapResult("p", "complete", {"complete": 3}, seconds=2.0, ran=3)
    assert "1.5 rows/s" in repr(slow)
    assert MapResult("p", "complete", {}).rate is None
