"""Jobs are started, stopped, resumed, and lose their Labs, in any order: nothing is lost, and what is done again says so."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from job_works import gate

from dspex_lab.errors import JobError
from dspex_lab.jobs import Job, Jobs, MemoryBook, Reporter, Shelf, Work
from dspex_lab.jobs._state import ENDED, LIVE


@dataclass(frozen=True)
class Steps(Work):
    """Takes a step each time it is let, six in all."""

    name: str = ""
    kind: str = "steps"
    continues: bool = True

    def run(self, reporter: Reporter) -> Any:
        at = reporter.state or 0
        while at < 6:
            step = gate(f"{self.name}-{at}")
            while not step.wait(0.005):
                if reporter.stopping:
                    return at or None
            at += 1
            reporter.trial(float(at))
            reporter.progress(at, 6)
            reporter.keep(at)
        return at


class Machine(RuleBasedStateMachine):
    runs = 0

    def __init__(self) -> None:
        super().__init__()
        Machine.runs += 1
        self.books: list[MemoryBook] = []
        self.names: list[str] = []
        self.let: dict[str, int] = {}
        self.open()

    def open(self) -> None:
        book = MemoryBook(f"lab-{len(self.books)}", self.books[0] if self.books else None)
        self.books.append(book)
        self.jobs = Jobs(book, shelf=Shelf(book, key=b"k" * 32), emit=book.write, limit=2)

    def teardown(self) -> None:
        """In the end every job can be brought to its end."""
        for name in self.names:
            for at in range(6):
                gate(f"{name}-{at}").set()
        for name in self.names:
            job = self.jobs.get(name)
            if job.state in ("stopped", "interrupted"):
                job.resume()
            assert job.result(60) == 6
            assert [trial.score for trial in job.trials] == [1, 2, 3, 4, 5, 6]
        self.jobs.close()

    def one(self, at: int) -> tuple[str, Job]:
        name = self.names[at % len(self.names)]
        return name, self.jobs.get(name)

    @precondition(lambda self: len(self.names) < 4)
    @rule()
    def start(self) -> None:
        name = f"machine-{Machine.runs}-{len(self.names)}"
        self.names.append(name)
        self.let[name] = 0
        self.jobs.start(Steps(name), name=name)

    @precondition(lambda self: self.names)
    @rule(at=st.integers(0, 9))
    def step(self, at: int) -> None:
        name, _ = self.one(at)
        gate(f"{name}-{self.let[name]}").set()
        self.let[name] += 1

    @precondition(lambda self: self.names)
    @rule(at=st.integers(0, 9))
    def stop(self, at: int) -> None:
        _, job = self.one(at)
        with suppress(JobError):  # it rests, or has come to meanwhile
            job.stop()
        assert job.wait(60).state in ENDED

    @precondition(lambda self: self.names)
    @rule(at=st.integers(0, 9))
    def resume(self, at: int) -> None:
        _, job = self.one(at)
        if job.state in ("stopped", "interrupted"):
            assert job.resume() is job

    @rule()
    def restart(self) -> None:
        self.jobs.close()
        self.books[-1].close()
        self.open()
        assert not [row for row in self.books[-1].rows() if row.state in LIVE]

    @invariant()
    def what_was_done_is_done_in_order_and_once_but_for_closed_labs(self) -> None:
        for name in self.names:
            job = self.jobs.get(name)
            scores = [trial.score for trial in job.trials]
            assert scores == [float(at + 1) for at in range(len(scores))]
            assert len(scores) <= min(self.let[name], 6)
            # A Lab may close after a trial was told and before the work has kept how far it is.
            assert {trial.status for trial in job.trials} <= {"complete", "repeated"}
            assert job.progress.repeated < len(self.books)
            if job.state == "complete":
                assert job.result() == 6


TestJobs = Machine.TestCase
TestJobs.settings = settings(max_examples=25, stateful_step_count=20)
