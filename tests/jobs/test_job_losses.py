"""What jobs do where something around them is gone: their folder, the book, threads and loops, or the result itself."""

from __future__ import annotations

import gc
import resource
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from job_works import Count, gate

from dspex_lab.errors import JobError
from dspex_lab.jobs import Bare, Job, Jobs, MemoryBook, Reporter, Shelf, Work
from dspex_lab.jobs._account import Account
from dspex_lab.jobs._jobs import RESTING
from dspex_lab.jobs._shelf import LARGE

KEY = b"k" * 32


def _stopped(jobs: Jobs, until: Any) -> Job:
    """Return a job that was stopped when it had counted to three."""
    gate("losses").clear()
    job = jobs.start(Count(5, wait_before=3, gate="losses"))
    until(job, "job.progress", note="at the gate")
    job.stop(wait=True)
    gate("losses").set()
    return job


# ---- the folder ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ruins(Work):
    """Puts a file in the place of the folder of all jobs, and gives something large."""

    folder: Path = Path()
    kind: str = "ruins"

    def run(self, reporter: Reporter) -> Any:
        shutil.rmtree(self.folder)
        self.folder.write_text("in the way")
        reporter.keep("x" * LARGE)
        return "y" * LARGE


def test_a_result_that_cannot_be_put_into_its_folder_is_there_all_the_same(place: Any, tmp_path: Path) -> None:
    folder = tmp_path / "n.jobs"
    book = MemoryBook("lab")
    jobs = place.jobs(shelf=Shelf(book, folder, KEY))
    job = jobs.start(Ruins(folder)).wait(60)
    assert (job.state, job.error) == ("complete", None)
    assert len(job.result()) == LARGE
    assert "cannot be made" in job.settings["unkept"]["result"]


def test_a_job_whose_folder_was_tidied_away_is_stopped_and_closed(place: Any, tmp_path: Path, until: Any) -> None:
    book = MemoryBook("lab")
    jobs = place.jobs(shelf=Shelf(book, tmp_path / "n.jobs", KEY))
    gate("tidied").clear()
    made = [jobs.start(Count(5, wait_before=3, gate="tidied")) for _ in range(2)]
    for job in made:
        until(job, "job.progress", note="at the gate")
    shutil.rmtree(tmp_path / "n.jobs")
    assert made[0].stop(wait=True).state == "stopped"
    shutil.rmtree(tmp_path / "n.jobs")
    (tmp_path / "n.jobs").write_text("in the way")
    jobs.close()
    assert made[1].state == "interrupted"


def test_what_is_kept_at_last_is_not_said_to_be_unkept(jobs: Jobs, place: Any) -> None:
    job = jobs.start(Count(1)).wait(60)
    assert not job._account.keep("result", threading.Lock())
    assert "result" in job.settings["unkept"]
    assert job._account.keep("result", 1)
    assert job.settings["unkept"] == {}


# ---- threads, loops, the book ----------------------------------------------------------------------------------------


# Python's event loop is half made then, and complains when it is collected: here.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_job_for_which_there_is_no_event_loop_has_failed_and_can_be_resumed(jobs: Jobs) -> None:
    jobs.start(Count(1)).wait(60)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # not one more file may be opened
    try:
        job = jobs.start(Count(2)).wait(60)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert job.state == "failed"
    assert "Too many open files" in str(job.error)
    assert job.resume().result(60) == 2
    gc.collect()


class Unread(MemoryBook):
    """A book that cannot be read when it is told so."""

    unread = False

    def kept(self, job_id: str, what: str) -> bytes | None:
        if self.unread:
            raise OSError(5, "Input/output error")
        return super().kept(job_id, what)


def test_the_next_job_begins_though_the_book_cannot_be_read(place: Any, until: Any) -> None:
    book = Unread("lab")
    jobs = Jobs(book, shelf=Shelf(book, key=KEY), emit=place.told.append, limit=1)
    place.opened.append(jobs)
    for _ in range(RESTING + 1):
        jobs.start(Count(1)).wait(60)
    gate("unread").clear()
    first = jobs.start(Count(2, wait_before=1, gate="unread"))
    until(first, "job.progress", note="at the gate")
    second = jobs.start(Count(1))
    book.unread = True
    gate("unread").set()
    assert second.wait(60).state == "complete"


def test_what_a_job_goes_on_from_stays_while_it_is_taken_up_again(
    jobs: Jobs, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = _stopped(jobs, until)
    for _ in range(RESTING - 1):
        jobs.start(Count(1)).wait(60)
    act = Account.act

    def one_more_ends() -> None:
        ended = jobs.start(Count(1)).wait(60)
        for thread in threading.enumerate():
            if thread.name == f"dspex-job-{ended.number}":
                thread.join()

    def between(account: Account, action: Any, **changes: Any) -> None:
        if action == "resume":
            other = threading.Thread(target=one_more_ends, daemon=True)
            other.start()
            other.join(0.2)  # it ends when this has gone on
        act(account, action, **changes)

    monkeypatch.setattr(Account, "act", between)
    job.resume()
    assert job.result(60) == 5
    assert job.progress.repeated == 0


# ---- several Labs, and what is said ----------------------------------------------------------------------------------


def test_what_another_lab_has_ended_can_be_put_to_use_here(place: Any, until: Any) -> None:
    mine, other = place.jobs(), place.jobs()
    gate("ended").clear()
    job = mine.start(Count(5, wait_before=3, gate="ended"))
    until(job, "job.progress", note="at the gate")
    seen = other[job.id]
    job.stop(wait=True)
    gate("ended").set()
    assert seen.resume().result(60) == 5


def test_a_job_is_called_by_its_name_as_it_is_written(jobs: Jobs) -> None:
    job = jobs.start(Count(1), name="MyTickets").wait(60)
    with pytest.raises(JobError, match=r"^Job 1 \(count 'MyTickets'\) was not adopted"):
        job.rollback()


def test_a_part_of_a_job_does_not_wait_for_others(place: Any, until: Any) -> None:
    jobs = place.jobs(limit=1)
    gate("part").clear()
    whole = jobs.start(Count(5, wait_before=3, gate="part"))
    until(whole, "job.progress", note="at the gate")
    waits = jobs.start(Count(1))
    assert jobs.start(Count(2), parent=whole.id).result(60) == 2
    assert (whole.state, waits.state) == ("running", "waiting")
    gate("part").set()
    assert waits.result(60) == 1


def test_what_is_around_a_work_is_the_same_after_a_restart(place: Any, until: Any) -> None:
    asked: list[dict[str, Any]] = []

    def around(**said: Any) -> Bare:
        asked.append(said)
        return Bare()

    first = place.jobs(surroundings=around)
    gate("around").clear()
    job = first.start(Count(5, wait_before=3, gate="around"), around={"fresh": True})
    until(job, "job.progress", note="at the gate")
    first.close()
    place.books[0].close()
    gate("around").set()
    again = place.jobs(surroundings=around)[job.id]
    assert again.resume().result(60) == 5
    assert asked == [{"fresh": True}, {"fresh": True}]
