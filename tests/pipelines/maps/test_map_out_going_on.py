"""Maps into a file that go on where they were: after failed rows, damage, an interrupt, a full disk."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from map_helpers import ROWS, half

import dspex_lab as dx


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
