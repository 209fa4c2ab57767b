"""Sessions of a store in memory, with a clock that is set by hand and the events they told of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from session_functions import GATE, STARTED

from dspex_lab.events import Event
from dspex_lab.sessions import Sessions
from dspex_lab.store import Store
from dspex_lab.testing import FakePool


@dataclass
class Place:
    """Everything a test of sessions looks at."""

    store: Store
    pools: dict[str, Any]
    now: float = 1_800_000_000.0
    events: list[Event] = field(default_factory=list)
    opened: list[Sessions] = field(default_factory=list)

    def sessions(self, **more: Any) -> Sessions:
        """Return the sessions of a Lab on the store; each is another Lab."""
        made = Sessions(self.store, self.pools.__getitem__, self.emit, **{"clock": lambda: self.now, **more})
        self.opened.append(made)
        return made

    def emit(self, event: Event) -> None:
        self.events.append(event)
        self.store.write(event)
        for each in self.opened:
            each.observe(event)

    def told(self, name: str) -> list[dict[str, Any]]:
        """Return the data of the events of a name."""
        return [e.data or {} for e in self.events if e.name == name]


@pytest.fixture(autouse=True)
def _gates() -> None:
    GATE.clear()
    STARTED.clear()


@pytest.fixture
def place() -> Iterator[Place]:
    with Store(":memory:") as store:
        made = Place(store, {})
        made.pools |= {name: FakePool(name, workers=2, emit=made.emit) for name in ("general", "neural")}
        yield made
        for each in made.opened:
            each.close()


@pytest.fixture
def sessions(place: Place) -> Sessions:
    return place.sessions()
