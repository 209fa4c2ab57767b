"""What the dashboards need from below, and what a section of a page is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from dspex_lab.dashboards._snapshot import Snapshot
    from dspex_lab.store import Store

#: The pages.
RUNS, MODELS, POOLS, SESSIONS, VARIABLES, JOBS = "runs", "models", "pools", "sessions", "variables", "jobs"


class Source(Protocol):
    """The Lab as a dashboard sees it."""

    @property
    def name(self) -> str:
        """What the Lab is called; any text, it is escaped where shown."""

    @property
    def store(self) -> Store:
        """Where the records are."""


class Section(Protocol):
    """One part of the page: a Panel object and how it takes a new snapshot."""

    @property
    def view(self) -> Any:
        """The Panel object, the same one for the section's life."""

    def update(self, snapshot: Snapshot) -> None:
        """Show the snapshot; leaves alone what has not changed, so that nothing flickers."""
