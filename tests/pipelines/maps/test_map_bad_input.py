"""Data that is broken: told before anything runs, as a row's error, or with the line where a file breaks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dspex_lab as dx
from dspex_lab.pipelines.maps._files import CHUNK, CsvTable
from dspex_lab.pipelines.maps._sources import inputs_from, open_source, plain


def double(n: int) -> int:
    return 2 * n


def chunked(data: Any, **how: Any) -> list[Any]:
    return [row for chunk in open_source(data, **how).chunks() for row in chunk]


def test_a_row_of_the_wrong_type_fails_alone(lab: dx.Lab) -> None:
    rows: list[Any] = [{"n": 1}, {"n": "x"}, {"m": 1}, "no row", {"n": None}, {"n": 6}]
    frame = lab.map(double, rows, out="out.jsonl").frame()
    assert frame["status"].tolist() == ["complete", "failed", "failed", "failed", "failed", "complete"]
    assert "expected int, found 'x'" in frame["error"][1]
    assert "expected int, found None" in frame["error"][2]
    assert frame["error"][3] == "Row 3 of the data is str, not a dict."
    assert frame["run_id"].notna().all()
    assert lab.sql("SELECT count(*) AS n FROM runs WHERE kind = 'row'")["n"][0] == 6


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("rows.jsonl", '{"n": 1}\n\n{"n": 2}\n{"n": \n{"n": 4}\n', "line 4"),
        ("rows.jsonl", '{"n": 1}\n{"n": 2}\n[3]\n', "line 3: it holds list, not an object"),
        ("rows.jsonl", '{"n": 1}\n{"n": 2}\n"\udcff"\n', "line 3"),
        ("rows.csv", "n,m\n1,a\n2,b\n3,c,d\n", "line 4: it has 3 fields, the first line 2"),
        ("rows.csv", 'n,m\n1,a\n2,b\n3,"c\n', "line 4: Error: unexpected end of data"),
        ("rows.csv", "n,m\n1,a\n2,b\n3,\udcff\n", "line 4: UnicodeDecodeError"),
    ],
)
def test_a_file_that_breaks_keeps_the_rows_before_and_goes_on_when_mended(
    lab: dx.Lab, name: str, text: str, where: str
) -> None:
    path = Path(name)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(dx.PipelineError) as caught:
        lab.map(double, path, out="out.jsonl")
    assert where in str(caught.value)
    assert "outcomes of 2 rows are kept" in str(caught.value)
    record = lab.sql("SELECT status, error FROM runs WHERE kind = 'map'").iloc[0]
    assert record["status"] == "partial"
    assert where in record["error"]
    path.write_text('{"n": 1}\n{"n": 2}\n{"n": 3}\n' if name == "rows.jsonl" else "n,m\n1,a\n2,b\n3,c\n")
    done = lab.map(double, path, out="out.jsonl")
    assert (done.rows, done.ran) == (3, 1)
    assert done.frame()["double"].tolist() == [2, 4, 6]


def test_without_out_a_broken_file_is_told_before_anything_runs(lab: dx.Lab) -> None:
    Path("rows.jsonl").write_text('{"n": 1}\nnonsense\n')
    with pytest.raises(dx.PipelineError, match=r"rows\.jsonl cannot be read as jsonl: line 2"):
        lab.map(double, "rows.jsonl")

    def boom() -> Iterator[dict[str, int]]:
        yield {"n": 1}
        raise RuntimeError("boom")

    with pytest.raises(dx.PipelineError, match="broke off after 1 rows: RuntimeError: boom"):
        lab.map(double, boom())
    assert lab.sql("SELECT count(*) AS n FROM runs")["n"][0] == 0


def test_a_parquet_file_that_breaks_in_the_middle(lab: dx.Lab) -> None:
    with pq.ParquetWriter("rows.parquet", pa.schema([("n", pa.int64())]), compression="none", use_dictionary=False) as writer:
        for start in (0, 5_000):
            writer.write_table(pa.table({"n": list(range(start, start + 5_000))}))
    meta = pq.ParquetFile("rows.parquet").metadata
    place = meta.row_group(1).column(0).data_page_offset
    whole = bytearray(Path("rows.parquet").read_bytes())
    whole[place : place + 60] = b"\xff" * 60
    Path("rows.parquet").write_bytes(whole)
    with pytest.raises(dx.PipelineError, match=r"beyond row 5,000.*outcomes of 5,000 rows are kept"):
        lab.map(double, "rows.parquet", out="out.jsonl")
    assert lab.last_map is not None
    assert lab.last_map.rows == 5_000


@pytest.mark.parametrize("out", [None, "out.jsonl"])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "There are no rows"),
        (iter([]), "There are no rows"),
        ("empty.csv", "no rows"),
        ("nothing.csv", "no rows|cannot be read"),
        ("empty.jsonl", "There are no rows"),
        ("empty.parquet", "no rows"),
        ("SELECT 1 AS n WHERE false", "no rows"),
        ("twice.csv", "two columns 'n'"),
        ("twice.parquet", "two columns 'n'"),
        ("broken.parquet", "cannot be read as parquet"),
        ("other.csv", r"needs the column 'n'; the data has 'm'"),
        ("SELECT 1 AS m", "needs the column 'n'"),
        ("gone.csv", "There is no file gone.csv"),
        ("rows.txt", "is not a file of rows"),
        (42, "cannot be read as rows"),
        ([{"m": 1}], "needs the column 'n'"),
    ],
)
def test_data_that_does_not_fit_is_refused_first(lab: dx.Lab, data: Any, message: str, out: str | None) -> None:
    Path("empty.csv").write_text("n\n")
    Path("nothing.csv").write_text("")
    Path("empty.jsonl").write_text("\n")
    Path("twice.csv").write_text("n,n\n1,2\n")
    Path("broken.parquet").write_text("no parquet")
    Path("other.csv").write_text("m\n1\n")
    pd.DataFrame({"n": pd.Series([], dtype="int64")}).to_parquet("empty.parquet")
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["n", "n"]), "twice.parquet")
    if out is None and data == "twice.parquet":
        message = "two columns 'n'|cannot be read"
    with pytest.raises(dx.PipelineError, match=message):
        lab.map(double, data, **({"out": out} if out else {}))
    assert lab.sql("SELECT count(*) AS n FROM runs")["n"][0] == 0
    assert not Path(".out.jsonl.map").exists()


def test_a_csv_file_keeps_text_and_whole_numbers() -> None:
    Path("rows.csv").write_text(
        '\ufeffcode,n,x,b,mixed,gap,long\n00501,4,1.5,True,1,,9223372036854775808\n"N/A",,2,false,one,3,1\n\nNone,6,1e3,TRUE,,,2\n'
    )
    assert chunked("rows.csv", text=["code"]) == [
        {"code": "00501", "n": 4, "x": 1.5, "b": True, "mixed": "1", "gap": None, "long": 9223372036854775808.0},
        {"code": "N/A", "n": None, "x": 2.0, "b": False, "mixed": "one", "gap": 3, "long": 1.0},
        {"code": "None", "n": 6, "x": 1000.0, "b": True, "mixed": None, "gap": None, "long": 2.0},
    ]
    Path("rows.csv").write_text("a,b\n1_0,٣\n2\n")
    assert chunked("rows.csv") == [{"a": "1_0", "b": "٣"}, {"a": "2", "b": None}]
    Path("rows.csv").write_text("n\n" + "".join(f"{n}\n" for n in range(CHUNK + 5)))
    table = CsvTable(Path("rows.csv"))
    assert table.total == CHUNK + 5
    assert [len(c) for c in table.rows()] == [CHUNK, 5]
    Path("rows.csv").write_text('n,text\n1,"' + "long " * 100_000 + '"\n')
    assert len(chunked("rows.csv")[0]["text"]) == 500_000


def test_json_lines_keep_text_that_looks_like_something_else(lab: dx.Lab) -> None:
    Path("rows.jsonl").write_text('\ufeff{"n": 1, "code": "00501", "date": "2024-01-01"}\n')
    frame = lab.map(double, "rows.jsonl")
    assert frame[["code", "date"]].iloc[0].tolist() == ["00501", "2024-01-01"]
    assert chunked("rows.jsonl") == [{"n": 1, "code": "00501", "date": "2024-01-01"}]
    Path("deep.jsonl").write_text("[" * 100_000 + "\n")
    with pytest.raises(dx.PipelineError, match="line 1"):
        open_source("deep.jsonl")


def test_cells_are_plain_values() -> None:
    given = [np.int64(3), np.float64("nan"), np.str_("a"), pd.NA, pd.NaT, float("nan"), None, True, np.bool_(True), 1.5]
    assert [plain(v) for v in given] == [3, None, "a", None, None, None, None, True, True, 1.5]
    assert plain(np.array([1, 2])).tolist() == [1, 2]
    stamp = pd.Timestamp("2024-01-01")
    assert plain(stamp) is stamp


def test_inputs_are_taken_as_the_pipeline_declares_them() -> None:
    def take(n: int, tags: list[str], k: int | None = 3, x: float = 1.0) -> int:
        return n

    found = inputs_from(dx.pipeline("p", take=take))({"n": 2.0, "tags": np.array(["a"]), "k": None, "x": 2.0, "more": 1})
    assert found == {"n": 2, "tags": ["a"], "x": 2.0}
    assert type(found["n"]) is int
    assert type(found["x"]) is float


def test_rows_of_async_steps_are_refused_one_by_one_too(lab: dx.Lab) -> None:
    async def later(n: int) -> int:
        return n

    frame = lab.map(later, [{"n": 1}, {"n": "x"}, {"n": 3}])
    assert frame["status"].tolist() == ["complete", "failed", "complete"]


def test_a_field_that_only_later_rows_have_is_taken(lab: dx.Lab) -> None:
    def add(n: int, more: int = 0) -> int:
        return n + more

    rows = [{"n": n} for n in range(1_500)] + [{"n": 1, "more": 10}]
    assert lab.map(add, iter(rows), out="out.jsonl").frame()["add"].tolist()[-2:] == [1_499, 11]


def test_a_pipeline_without_inputs_runs_once_for_each_row(lab: dx.Lab) -> None:
    assert lab.map(lambda: 1, pd.DataFrame({"a": [1, 2]}))["status"].tolist() == ["complete"] * 2


def test_lists_in_a_frame_are_known_again(lab: dx.Lab) -> None:
    def count(tags: list[str]) -> int:
        return len(tags)

    frame = pd.DataFrame({"tags": [["a"], ["b", "c"]]})
    assert lab.map(count, frame)["count"].tolist() == [1, 2]
    assert lab.map(count, frame, out="out.jsonl").rows == 2
    assert lab.map(count, frame, out="out.jsonl").ran == 0
    with pytest.raises(dx.PipelineError, match="data hash"):
        lab.map(count, pd.DataFrame({"tags": [["a"], ["b", "d"]]}), out="out.jsonl")
