"""A job whose end cannot be written down says so, and what it found is there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from job_works import Count, gate

from dspex_lab.errors import JobError
from dspex_lab.jobs import Job, Jobs, MemoryBook, Shelf


class Book(MemoryBook):
    """A book on a disk that gets full."""

    full = False

    def save(self, row: Any, states: Any) -> bool:
        if self.full:
            raise OSError(28, "No space left on device")
        return super().save(row, states)


@pytest.fixture
def book() -> Book:
    return Book("lab-full")


@pytest.fixture
def jobs(place: Any, book: Book) -> Jobs:
    made = Jobs(book, shelf=Shelf(book, key=b"k" * 32), emit=place.told.append)
    place.opened.append(made)
    return made


def _at_the_gate(jobs: Jobs, until: Any, **how: Any) -> Job:
    gate("full").clear()
    job = jobs.start(Count(5, wait_before=3, gate="full", **how))
    until(job, "job.progress", note="at the gate")
    return job


def test_a_result_that_cannot_be_written_is_there_and_said_so(jobs: Jobs, book: Book, place: Any, until: Any) -> None:
    job = _at_the_gate(jobs, until)
    book.full = True
    gate("full").set()
    assert job.result(60) == 5
    assert job.state == "complete"
    assert "could not be written (OSError: [Errno 28] No space left on device)" in job.progress.note
    assert "listed as interrupted" in job.progress.note
    assert [event.data["state"] for event in place.events("job.error")] == ["complete"]
    book.full = False
    row = book.row(job.id)
    assert row is not None
    assert row.state == "running", "as the note says, the book does not know"


def test_a_failure_that_cannot_be_written_is_a_failure(jobs: Jobs, book: Book, until: Any) -> None:
    job = _at_the_gate(jobs, until, fails_at=4)
    book.full = True
    gate("full").set()
    with pytest.raises(JobError, match=r"failed: ValueError: cannot count past 4") as failed:
        job.result(60)
    assert isinstance(failed.value.__cause__, ValueError)
    assert "could not be written" in job.progress.note


def test_a_job_that_another_lab_has_is_interrupted_here(jobs: Jobs, book: Book, place: Any, until: Any) -> None:
    job = _at_the_gate(jobs, until)
    theirs, row = MemoryBook("lab-other", book), book.row(job.id)
    assert row is not None
    assert theirs.save(replace(row, version=row.version + 1), ("running",))
    gate("full").set()
    assert job.wait(60).state == "interrupted"
    assert "was changed by another Lab" in job.progress.note
    with pytest.raises(JobError, match=r"was interrupted"):
        job.result()
