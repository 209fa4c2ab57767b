"""What keeps jobs: the book in memory and the store's table do the same; what was sealed by others is not read."""

from __future__ import annotations

import os
import pickle
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dspex_lab.errors import JobError
from dspex_lab.events import Event, TrialRecord
from dspex_lab.jobs import JobBook, MemoryBook, Shelf, user_key
from dspex_lab.jobs._shelf import Unkept
from dspex_lab.store import JobRow, JobTable, Store


@pytest.fixture(params=["memory", "store"])
def two(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Any, Any, Callable[[Any], None], Callable[[], None]]]:
    """The books of two Labs on one store, what writes a record, and what closes the first Lab."""
    if request.param == "memory":
        first = MemoryBook("one")
        yield first, MemoryBook("two", first), first.write, first.close
        return
    with Store(tmp_path / "two.duckdb") as store, Store(tmp_path / "two.duckdb") as other:
        yield JobTable(store), JobTable(other), store.write, store.close


def row(**changes: Any) -> JobRow:
    return replace(JobRow("j1", "count", "a name", "waiting", 1_800_000_000.0), **changes)


def test_a_job_is_kept_with_its_number_and_lab(two: Any) -> None:
    book, other, *_ = two
    added = book.add(row(settings={"seed": 1, "deep": {"x": [1, 2]}}, total=5.0, note="n"))
    assert (added.number, added.lab_id) == (1, book.lab_id)
    assert other.row("j1") == added
    assert book.row("none") is None
    second = other.add(row(job_id="j2"))
    assert (second.number, second.lab_id) == (2, other.lab_id)
    assert [r.job_id for r in book.rows()] == ["j2", "j1"]
    assert [r.job_id for r in book.rows(limit=1)] == ["j2"]


def test_only_who_knows_the_last_version_and_state_writes(two: Any) -> None:
    book, other, *_ = two
    made = book.add(row())
    running = replace(made, version=1, state="running", started=1_800_000_001.5, done=2.0, best=0.5, cost=0.25, calls=3)
    assert book.save(running, ("waiting",))
    assert other.row("j1") == running
    assert not book.save(replace(running, version=1), ("running",)), "a version that was written already"
    assert not book.save(replace(running, version=3), ("running",)), "one that skips"
    assert not book.save(replace(running, version=2), ("waiting", "stopping")), "another state"
    assert not book.save(replace(running, job_id="none", version=2), ("running",))
    assert other.save(replace(running, version=2, state="stopping"), ("running",))
    assert book.row("j1").lab_id == other.lab_id


def test_of_two_who_write_at_once_one_does(two: Any) -> None:
    book, other, *_ = two
    made = book.add(row())
    start, wrote = threading.Barrier(8), []

    def write(at: int) -> None:
        start.wait(60)
        mine = replace(made, version=1, state="running", note=str(at))
        if (book if at % 2 else other).save(mine, ("waiting",)):
            wrote.append(str(at))

    threads = [threading.Thread(target=write, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrote == [book.row("j1").note]


def test_jobs_of_a_lab_that_is_gone_are_abandoned(two: Any) -> None:
    book, other, _, close = two
    for at, state in enumerate(("waiting", "running", "stopping", "complete", "interrupted")):
        book.add(row(job_id=f"j{at}", state=state))
    other.add(row(job_id="theirs", state="running"))
    assert other.abandoned() == []
    close()
    assert [r.job_id for r in other.abandoned()] == ["j0", "j1", "j2"]


def test_bytes_trials_and_events_are_kept(two: Any) -> None:
    book, _, write, _ = two
    book.keep("j1", "state", b"\x00one")
    book.keep("j1", "state", b"\x00two")
    assert book.kept("j1", "state") == b"\x00two"
    assert book.kept("j1", "work") is None
    for score in (0.1, 0.2):
        write(TrialRecord("j1", 1, None, "complete", 5.0, 1.0, score, {"f1": score}, {"t": 1}))
    write(TrialRecord("j1", 0, None, "failed", 4.0, 1.0, error="x"))
    write(TrialRecord("j2", 0, None, "complete", 4.0, 1.0))
    trials = book.trials("j1")
    assert [(t.number, t.score, t.status) for t in trials] == [(0, None, "failed"), (1, 0.2, "complete")]
    assert trials[1].scores == {"f1": 0.2}
    for seq, name in ((2, "job.stop"), (1, "job.start")):
        write(Event(name, 5.0 + seq, data={"job_id": "j1", "seq": seq}))
    write(Event("job.start", 5.0, data={"job_id": "j2", "seq": 1}))
    assert [e.name for e in book.events("j1")] == ["job.start", "job.stop"]


# ---- the shelf -----------------------------------------------------------------------------------------------------


def shelf(book: JobBook | None = None, key: bytes = b"k" * 32) -> Shelf:
    return Shelf(book or MemoryBook(), key=key)


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    def local(x: int) -> int:
        return x + 1

    one = shelf()
    one.put("j1", "work", {"function": local})
    assert one.get("j1", "work")["function"](1) == 2
    assert one.has("j1", "work")
    assert not one.has("j1", "state")
    with pytest.raises(JobError, match="The state of job j1 is not kept"):
        one.get("j1", "state")
    assert Shelf(MemoryBook(), tmp_path / "jobs").home("j1") == tmp_path / "jobs" / "j1"


class Bomb:
    ran: list[str] = []  # noqa: RUF012

    def __reduce__(self) -> Any:
        return Bomb.ran.append, ("it ran",)


def test_a_pickle_that_this_user_did_not_seal_is_never_read() -> None:
    book = MemoryBook()
    mine, theirs = shelf(book), shelf(book, b"another key of 32 bytes, no more")
    theirs.put("j1", "work", Bomb())
    book.keep("j1", "plain", pickle.dumps(Bomb()))
    book.keep("j1", "empty", b"")
    mine.put("j1", "result", Bomb())
    sealed = book.kept("j1", "result")
    assert sealed is not None
    book.keep("j2", "result", sealed)  # of another job
    book.keep("j1", "state", sealed)  # for another thing
    book.keep("j1", "result", sealed[:-1] + b"!")
    for job_id, what in (("j1", "work"), ("j1", "plain"), ("j1", "empty"), ("j2", "result"), ("j1", "state"), ("j1", "result")):
        with pytest.raises(JobError, match="a pickle can run anything"):
            mine.get(job_id, what)
    assert Bomb.ran == []


def test_what_cannot_be_read_any_more_says_so() -> None:
    book = MemoryBook()
    one = shelf(book)
    data = b"not a pickle"
    book.keep("j1", "work", b"dspex1\n" + one._seal("j1", "work", data) + data)
    with pytest.raises(JobError, match="cannot be read any more: UnpicklingError"):
        one.get("j1", "work")


def test_secrets_and_what_cannot_be_pickled_are_not_kept() -> None:
    with pytest.raises(Unkept, match="it holds a secret"):
        shelf().put("j1", "work", {"key": "sk-abcdefghij0123456789"})
    with pytest.raises(Unkept, match="cannot be pickled"):
        shelf().put("j1", "work", threading.Lock())


def test_the_key_is_this_users_alone_and_made_once(tmp_path: Path) -> None:
    key = user_key()
    file = Path(os.environ["XDG_STATE_HOME"]) / "dspex_lab" / "jobs.key"
    assert key == file.read_bytes() == user_key()
    assert len(key) == 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]
    one = Shelf(MemoryBook())
    one.put("j1", "work", 3)
    assert one.get("j1", "work") == 3


def test_processes_that_begin_at_once_share_one_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "k" / "jobs.key"
    link = os.link

    def beaten(source: Any, target: Any) -> None:
        file.write_bytes(b"the other one's key")
        link(source, target)

    monkeypatch.setattr(os, "link", beaten)
    assert user_key(file) == b"the other one's key"
    assert list(file.parent.iterdir()) == [file]


def test_a_home_that_cannot_be_written_gives_a_key_for_this_process(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    assert len(user_key(tmp_path / "file" / "jobs.key")) == 32
    assert "jobs cannot be resumed after this process" in caplog.text
