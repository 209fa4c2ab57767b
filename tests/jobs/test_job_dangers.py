"""What happens to jobs at the worst moments, and what a store that came from somebody else may not do."""

from __future__ import annotations

import pickle
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from job_works import Count, gate

from dspex_lab.errors import JobError
from dspex_lab.jobs import Found, Jobs, MemoryBook, Shelf
from dspex_lab.jobs._jobs import RESTING
from dspex_lab.jobs._running import Running
from dspex_lab.jobs._shelf import LARGE, Unkept

KEY = b"k" * 32
SECRET = "sk-" + "aB3" * 16


class Book(MemoryBook):
    """A book that fails when it is told to."""

    states: tuple[str, ...] = ()

    def save(self, row: Any, states: Any) -> bool:
        if row.state in self.states:
            raise OSError(28, "No space left on device")
        return super().save(row, states)


# ---- folders and files -----------------------------------------------------------------------------------------------


def test_where_no_folder_can_be_made_nothing_begins_and_nothing_is_listed(place: Any, tmp_path: Path) -> None:
    (tmp_path / "n.jobs").write_text("in the way")
    book = MemoryBook("lab")
    jobs = place.jobs(shelf=Shelf(book, tmp_path / "n.jobs", KEY))
    with pytest.raises(JobError, match=r"folder .* of the job cannot be made: .*possible to write there"):
        jobs.start(Count(3))
    assert len(jobs) == 0
    (tmp_path / "n.jobs").unlink()
    job = jobs.start(Count(5, fails_at=2)).wait(60)
    (tmp_path / "n.jobs").rmdir()
    (tmp_path / "n.jobs").write_text("in the way")
    with pytest.raises(JobError, match="cannot be made"):
        job.resume()
    assert job.state == "failed"


@pytest.mark.parametrize("job_id", ["..", ".", "", "../x", "/etc/x", "a/b", "a\0b", "x" * 101])
def test_the_id_of_a_job_in_a_store_is_no_way_out_of_the_folder(job_id: str, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="is no id of a job"):
        Shelf(MemoryBook(), tmp_path / "jobs", KEY).home(job_id)
    assert not (tmp_path / "jobs").exists()


def test_a_job_that_has_ended_leaves_no_empty_folder_and_no_stop_file(place: Any, tmp_path: Path, until: Any) -> None:
    book = MemoryBook("lab")
    jobs = place.jobs(shelf=Shelf(book, tmp_path / "jobs", KEY))
    jobs.start(Count(3)).wait(60)
    gate("tidy").clear()
    job = jobs.start(Count(5, wait_before=3, gate="tidy"))
    until(job, "job.progress", note="at the gate")
    job.stop(wait=True)
    assert list((tmp_path / "jobs").iterdir()) == []
    gate("tidy").set()
    assert job.resume().result(60) == 5
    assert list((tmp_path / "jobs").iterdir()) == []


def test_what_is_large_lies_in_the_jobs_folder_sealed_as_well(tmp_path: Path) -> None:
    book = MemoryBook("lab")
    shelf = Shelf(book, tmp_path, KEY)
    shelf.put("j", "result", "x" * LARGE)
    shelf.put("j", "work", "small")
    assert len(book.kept("j", "result") or b"") < 100
    assert [file.name for file in (tmp_path / "j").iterdir()] == ["result.kept"]
    file = tmp_path / "j" / "result.kept"
    assert file.stat().st_mode & 0o077 == 0
    assert Shelf(book, tmp_path, KEY).get("j", "result") == "x" * LARGE
    shelf.put("j", "result", "y" * LARGE)
    assert shelf.get("j", "result") == "y" * LARGE
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(JobError, match="this user did not seal it"):
        shelf.get("j", "result")
    file.write_bytes(pickle.dumps(threading.Event))
    with pytest.raises(JobError, match="this user did not seal it"):
        shelf.get("j", "result")
    file.unlink()
    assert not shelf.has("j", "result")
    with pytest.raises(JobError, match="is not kept"):
        shelf.get("j", "result")
    assert shelf.get("j", "work") == "small"


def test_where_a_large_thing_cannot_be_written_it_is_not_kept(tmp_path: Path) -> None:
    shelf = Shelf(MemoryBook(), tmp_path, KEY)
    (shelf.home("j") / "result.kept").mkdir()
    with pytest.raises(Unkept, match="cannot be written"):
        shelf.put("j", "result", "x" * LARGE)


@pytest.mark.parametrize("length", [46, 48, 51, 65, 100, 122])
def test_a_secret_is_not_kept_whatever_its_length_looks_like(length: int, tmp_path: Path) -> None:
    # In a pickle it stands behind its length: chr(51) is "3", and a key does not begin in the middle of a word.
    with pytest.raises(Unkept, match="holds a secret"):
        Shelf(MemoryBook(), tmp_path, KEY).put("j", "work", {"key": ("sk-1" + "aB3" * 50)[:length]})


# ---- the book cannot be written --------------------------------------------------------------------------------------


def test_a_job_whose_start_cannot_be_written_fails_and_is_in_nobodys_way(place: Any) -> None:
    book = Book("lab")
    jobs = Jobs(book, shelf=Shelf(book, key=KEY), emit=place.told.append, limit=1)
    place.opened.append(jobs)
    book.states = ("running", "failed")
    job = jobs.start(Count(3))
    with pytest.raises(JobError, match="No space left on device"):
        job.result(60)
    book.states = ()
    assert jobs.start(Count(3)).result(60) == 3


def test_a_lab_that_cannot_write_ends_its_jobs_all_the_same(place: Any, until: Any) -> None:
    book = Book("lab")
    jobs = Jobs(book, shelf=Shelf(book, key=KEY), emit=place.told.append, limit=1)
    gate("end").clear()
    running = jobs.start(Count(5, wait_before=1, gate="end"))
    until(running, "job.progress", note="at the gate")
    waiting = jobs.start(Count(3))
    book.states = ("interrupted",)
    jobs.close()
    assert waiting.wait(0) is waiting
    assert running.wait(0).state == "interrupted"
    assert not [thread.name for thread in threading.enumerate() if thread.name == f"dspex-job-{running.number}"]


# ---- at the same moment ----------------------------------------------------------------------------------------------


def test_a_lab_that_is_closed_while_a_job_begins_interrupts_it(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Running.start

    def closed_before(running: Running) -> None:
        closing = threading.Thread(target=jobs.close)
        closing.start()
        closing.join(60)
        assert not closing.is_alive()
        begin(running)

    monkeypatch.setattr(Running, "start", closed_before)
    book = MemoryBook("lab")
    jobs = Jobs(book, shelf=Shelf(book, key=KEY), emit=place.told.append)
    job = jobs.start(Count(3))
    assert job.wait(60).state == "interrupted"
    kept = book.row(job.id)
    assert kept is not None
    assert kept.state == "interrupted"
    assert not [thread.name for thread in threading.enumerate() if thread.name == f"dspex-job-{job.number}"]


def test_the_job_of_another_lab_is_waited_for_and_not_taken_from_it(place: Any, until: Any) -> None:
    mine, other = place.jobs(), place.jobs()
    gate("theirs").clear()
    job = mine.start(Count(5, wait_before=3, gate="theirs"))
    until(job, "job.progress", note="at the gate")
    seen = other[job.id]
    with pytest.raises(JobError, match="is running in another Lab on this store"):
        seen.stop()
    with pytest.raises(TimeoutError):
        seen.wait(0.01)
    assert [event.name for event in seen.events()][:1] == ["job.start"], "they end with what is known"
    threading.Timer(0.0, gate("theirs").set).start()
    assert seen.result(60) == 5
    assert job.result(60) == 5
    assert seen.state == "complete"


# ---- what is said ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Broken(Count):
    """Nobody knows what it had found."""

    def partial(self, found: Found) -> Any:
        raise KeyError("trials")


def test_a_work_that_cannot_say_what_it_had_found_ends_all_the_same(jobs: Jobs) -> None:
    job = jobs.start(Broken(5, fails_at=2))
    assert job.wait(60).state == "failed"
    assert "What it had found cannot be had: KeyError: 'trials'" in job.progress.note


def test_what_was_said_of_an_end_is_not_said_of_the_job_that_went_on(jobs: Jobs) -> None:
    job = jobs.start(Broken(5, fails_at=2)).wait(60)
    assert job.progress.note
    assert jobs.resume(job, work=Count(5)).wait(60).state == "complete"
    assert job.progress.note == ""


def test_a_number_is_one_in_plain_digits(jobs: Jobs) -> None:
    job = jobs.start(Count(1)).wait(60)
    assert jobs["1"] is jobs[1] is job
    for word in ("²", "١", "01"):
        with pytest.raises(JobError, match="There is no job"):
            jobs[word]


def test_only_the_last_results_stay_in_memory_and_the_others_are_read_back(jobs: Jobs) -> None:
    made = [jobs.start(Count(3)).wait(60) for _ in range(RESTING + 3)]
    jobs.start(Count(1, fails_at=0)).wait(60)
    assert made[0].id not in jobs._last
    assert len(jobs._last) <= RESTING + 2
    assert made[0].result() == 3
    assert [trial.number for trial in made[0].trials] == [0, 1, 2]
    assert made[0].progress.best == 3.0
