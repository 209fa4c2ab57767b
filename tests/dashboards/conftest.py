"""A Lab of the two things a dashboard asks for, with a real store, and records as runs leave them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from clocks import eventually
from guarded import GuardedLab

from dspex_lab.events import Event, LMCall, RunRecord, Span, new_id
from dspex_lab.store import Store

MESSAGES = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Where is my <card>?"}]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let pass a warning of pandas 3.1 about what Bokeh 3.9 does to each DataFrame that becomes a table."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame"))


@dataclass
class Lab:
    """What a dashboard needs of a Lab."""

    name: str
    store: Store

    def run(self, name: str = "support", **over: Any) -> str:
        """Record a run of two steps and one model call, and return its id."""
        run_id, root, step, call = (new_id() for _ in range(4))
        started = over.pop("started", time.time() - 5)
        error = over.get("error")
        run = RunRecord(run_id, None, "run", name, "complete", started, 1.5, {"message": "hi"}, {"reply": "yo"}, lm="m/1")
        run = run._replace(**{"prompt_tokens": 100, "completion_tokens": 20, "cost": 0.25, **over})
        failed = "failed" if error else "complete"
        records = [
            Span(root, None, run_id, "run", name, started, 1.5, run.status),
            Span(new_id(), root, run_id, "step", "normalise", started, 0.001, "complete", "native"),
            Span(step, root, run_id, "step", "triage", started + 0.1, 1.0, failed, "dspy", None, error),
            Span(call, step, run_id, "lm", "m/1", started + 0.2, 0.8, "complete"),
            LMCall(new_id(), call, run_id, "triage", "m/1", started + 0.2, 0.8, 100, 20, 0.25, True, run.simulated, None),
        ]
        records[-1] = records[-1]._replace(messages=MESSAGES, outputs=["It <b>comes</b>"])
        self.store.write_many([*records, run])
        self.store.flush()
        return run_id

    def begin(self, name: str, kind: str = "run", started: float | None = None) -> str:
        """Record that a run has begun."""
        run_id = new_id()
        self.store.write(Event("run.start", started or time.time(), run_id, data={"kind": kind, "name": name}))
        self.store.flush()
        return run_id


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A Lab with an empty store in memory."""
    with Store(":memory:") as store:
        yield Lab("tickets.ipynb", store)


@pytest.fixture
def guarded() -> Iterator[GuardedLab]:
    """A Lab with an empty store in memory, whose models are guarded."""
    with Store(":memory:") as store:
        made = GuardedLab(store)
        yield made
        made.health.close()


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("dspex-dashboard")}


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    """No test leaves a thread of a dashboard behind."""
    before = _threads()
    yield
    assert _threads() <= before


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., Any]:
    return eventually
