"""The ledger and the journal of a map by themselves."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from map_helpers import DATA, PIPELINE, outcome

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines.maps._compose import compose
from dspex_lab.pipelines.maps._journal import Journal, kept_rows, out_file
from dspex_lab.pipelines.maps._ledger import Ledger
from dspex_lab.pipelines.maps._outcome import Outcome, letter


def line(made: Outcome) -> dict[str, Any]:
    return {**made.outputs, "row_index": made.row_index}


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


@settings(deadline=None, max_examples=60)
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
