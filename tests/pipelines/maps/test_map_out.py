"""Maps into a file: what is in it, what comes back, what is refused, and how it goes on."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

import dspex_lab as dx
from dspex_lab.pipelines import MapResult

FORMATS = ["jsonl", "parquet", "csv"]


def half(n: int) -> float:
    if n % 2:
        raise ValueError(f"{n} is odd")
    return n / 2


ROWS = [{"n": n, "note": f"row {n}"} for n in range(10)]


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


# --- going on -----------------------------------------------------------------------------------------------------------


def test_what_is_done_is_found_done(lab: dx.Lab, caplog: pytest.LogCaptureFixture) -> None:
    ran = []

    def note(n: int) -> int:
        ran.append(n)
        return n

    first = lab.map(note, ROWS, out="out.parquet")
    assert not (Path(".out.parquet.map") / "rows").exists(), "a whole file needs no journal"
    with caplog.at_level(logging.WARNING):
        again = lab.map(note, ROWS, out="out.parquet")
    assert len(ran) == 10
    assert "all 10 rows are done" in caplog.text
    assert (again.status, again.rows, again.ran, again.run_id) == ("complete", 10, 0, None)
    assert again.frame().equals(first.frame())
    Path("out.parquet").unlink()
    assert lab.map(note, ROWS, out="out.parquet").ran == 10, "where the file is gone, it is made again"


def test_failed_rows_run_again_and_have_one_outcome(lab: dx.Lab, caplog: pytest.LogCaptureFixture) -> None:
    broken, ran = {3, 5}, []

    def work(n: int) -> int:
        ran.append(n)
        if n in broken:
            raise ValueError("down")
        return n

    def other(n: int) -> int:
        if n == 7 and broken:
            raise ValueError("down too")
        return n

    p = dx.pipeline("p", work=work, other=other)
    first = lab.map(p, ROWS, out="out.jsonl")
    assert first.counts == {"complete": 7, "partial": 3, "failed": 0}
    assert "3 rows failed or lack an output" in first.hint
    assert "retry_failed=True" in first._repr_html_()
    assert lab.map(p, ROWS, out="out.jsonl").ran == 0
    broken.clear()
    ran.clear()
    with caplog.at_level(logging.WARNING):
        second = lab.map(p, ROWS, out="out.jsonl", retry_failed=True)
    assert sorted(ran) == [3, 5, 7]
    assert "continuing: 7 of 10 rows are done" in caplog.text
    assert second.counts == {"complete": 10, "partial": 0, "failed": 0}
    assert second.continued == 7
    assert second.frame()["row_index"].tolist() == list(range(10))
    assert lab.map(p, ROWS, out="out.jsonl", retry_failed=True).ran == 0


def test_a_file_that_was_changed_by_hand_is_not_replaced(lab: dx.Lab) -> None:
    path = lab.map(half, ROWS, out="out.jsonl").path
    assert path is not None
    path.write_text("edited")
    with pytest.raises(dx.PipelineError, match="was changed since"):
        lab.map(half, ROWS, out="out.jsonl", retry_failed=True)
    assert path.read_text() == "edited"


def test_a_torn_line_is_cut_and_its_row_runs_again(lab: dx.Lab) -> None:
    def boom(upto: int) -> Iterator[dict[str, Any]]:
        yield from ROWS[:upto]
        if upto < 10:
            raise RuntimeError("boom")

    with pytest.raises(dx.PipelineError, match=r"broke off after 6 rows.*outcomes of 6 rows are kept"):
        lab.map(half, boom(6), out="out.jsonl")
    assert lab.last_map is not None
    assert lab.last_map.frame()["n"].tolist() == list(range(6)), "what is done can be looked at"
    rows = Path(".out.jsonl.map/rows")
    whole = rows.read_bytes()
    lines = whole.splitlines(keepends=True)
    rows.write_bytes(b"".join(lines[:-1]) + b"\x00garbage in between\n999999999999999999999 c {}\n" + lines[-1][:-9])
    result = lab.map(half, boom(10), out="out.jsonl")
    assert (result.rows, result.ran) == (10, 5)
    assert result.frame()["row_index"].tolist() == list(range(10))


def test_a_damaged_manifest_is_told(lab: dx.Lab) -> None:
    lab.map(half, ROWS, out="out.jsonl")
    Path(".out.jsonl.map/manifest.json").write_text("{")
    with pytest.raises(dx.PipelineError, match="is damaged"):
        lab.map(half, ROWS, out="out.jsonl")
    Path(".out.jsonl.map/manifest.json").write_text('{"format": 99}')
    with pytest.raises(dx.PipelineError, match="newer dspex_lab"):
        lab.map(half, ROWS, out="out.jsonl")


def test_a_file_that_came_meanwhile_is_not_replaced(lab: dx.Lab) -> None:
    def boom() -> Iterator[dict[str, Any]]:
        yield {"n": 2}
        raise RuntimeError("boom")

    with pytest.raises(dx.PipelineError, match="boom"):
        lab.map(half, boom(), out="out.jsonl")
    Path("out.jsonl").write_text("precious")
    with pytest.raises(dx.PipelineError, match="came to be while"):
        lab.map(half, iter([{"n": 2}, {"n": 4}]), out="out.jsonl")
    assert Path("out.jsonl").read_text() == "precious"


def test_an_interrupt_keeps_what_is_done_and_says_how_to_go_on(lab: dx.Lab, caplog: pytest.LogCaptureFixture) -> None:
    go_on = threading.Event()

    def stop(n: int) -> int:
        if n == 300 and not go_on.is_set():
            os.kill(os.getpid(), signal.SIGINT)
            assert go_on.wait(30)
        return n

    p = dx.pipeline("p", stopped=stop)
    rows = [{"n": n} for n in range(2_000)]
    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
        lab.map(p, rows, out="out.jsonl", concurrency=1)
    go_on.set()
    last = lab.last_map
    assert last is not None
    assert last.status == "cancelled"
    assert last.rows == 300
    assert "same out=" in last.hint
    assert last.hint in caplog.text
    assert len(last.frame()) == last.rows
    assert list(lab.sql("SELECT status FROM runs WHERE kind = 'map'")["status"]) == ["cancelled"]
    done = lab.map(p, rows[:300] + [{"n": n} for n in range(300, 2_000)], out="out.jsonl")
    assert done.rows == 2_000
    assert done.continued == last.rows


def test_a_full_disk_is_told_and_the_map_goes_on_later(lab: dx.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"n": n} for n in range(1_000)]
    write, written = os.write, 0

    def full(handle: int, data: Any) -> int:
        nonlocal written
        if b" c {" in bytes(data[:20]):
            if written > 20_000:
                raise OSError(28, "No space left on device")
            written += len(data)
            return write(handle, data[: max(len(data) // 2, 1)])
        return write(handle, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(dx.PipelineError, match=r"No space left on device.*rows are kept"):
            lab.map(lambda n: n, rows, out="out.jsonl")
    kept = lab.last_map
    assert kept is not None
    assert 0 < kept.rows < 1_000
    result = lab.map(lambda n: n, rows, out="out.jsonl")
    assert (result.rows, result.continued) == (1_000, kept.rows)


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


def test_progress_counts_what_was_done_before(lab: dx.Lab, capsys: pytest.CaptureFixture[str]) -> None:
    def boom(upto: int) -> Iterator[dict[str, Any]]:
        yield from ROWS[:upto]
        if upto < 10:
            raise RuntimeError("boom")

    with pytest.raises(dx.PipelineError):
        lab.map(half, boom(6), out="out.jsonl")
    capsys.readouterr()
    lab.map(half, boom(10), out="out.jsonl", progress=True)
    assert "half: 10row" in capsys.readouterr().err
    lab.map(half, ROWS, progress=True)
    assert "10/10" in capsys.readouterr().err
