"""Jobs on threads of this process, with a clock that is set by hand and all that they told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dspex_lab.events import Event, TrialRecord
from dspex_lab.jobs import Job, Jobs, MemoryBook, Shelf
from dspex_lab.testing import FakePool

KEY = b"k" * 32


@dataclass
class Place:
    """Everything a test of jobs looks at."""

    pool: FakePool
    now: float = 1_800_000_000.0
    told: list[Any] = field(default_factory=list)
    books: list[MemoryBook] = field(default_factory=list)
    opened: list[Jobs] = field(default_factory=list)

    def jobs(self, **more: Any) -> Jobs:
        """Return the jobs of a Lab; each is another Lab on the same book."""
        book = MemoryBook(f"lab-{len(self.books)}", self.books[0] if self.books else None)
        self.books.append(book)

        def emit(record: Any) -> None:
            self.told.append(record)
            book.write(record)

        usual = {"shelf": Shelf(book, key=KEY), "pool": lambda name: self.pool, "emit": emit, "clock": lambda: self.now}
        made = Jobs(book, **{**usual, **more})
        self.opened.append(made)
        return made

    def settle(self) -> None:
        """Wait until what jobs have said was told: of a job that has just come to rest, the last may still be under way."""
        for account in [job._account for jobs in self.opened for job in list(jobs._known.values())]:
            account.progress()  # tells it, where nobody else does
            with account._telling:
                pass

    def events(self, name: str | None = None) -> list[Event]:
        self.settle()
        return [r for r in self.told if isinstance(r, Event) and name in (None, r.name)]

    def trials(self) -> list[TrialRecord]:
        self.settle()
        return [r for r in self.told if isinstance(r, TrialRecord)]


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place(FakePool("optimizer", workers=2))
    yield made
    for each in made.opened:
        each.close()


@pytest.fixture
def jobs(place: Place) -> Jobs:
    return place.jobs()


@pytest.fixture
def until() -> Callable[[Job, str], Event]:
    """Wait for an event of a job."""

    def wait(job: Job, name: str, **data: Any) -> Event:
        found: list[Event] = []
        thread = threading.Thread(target=lambda: found.extend(_first(job, name, data)), daemon=True)
        thread.start()
        thread.join(60)
        assert found, f"{name} {data} did not come; the job is {job.state}: {job.error}"
        return found[0]

    return wait


def _first(job: Job, name: str, data: dict[str, Any]) -> list[Event]:
    for event in job.events():
        if event.name == name and data.items() <= (event.data or {}).items():
            return [event]
    return []
