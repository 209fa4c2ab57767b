"""A Lab whose models are guarded, of the real parts, for what a dashboard asks of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from dspex_lab.events import Event, LMCall, new_id
from dspex_lab.lms import Gateway, Ledger
from dspex_lab.resilience import Change, Finding, Health
from dspex_lab.store import Store

EVIL = "<img src=x onerror=document.title='broken'>"
KEY = "sk-abcdefgh12345678901234"


@dataclass
class GuardedLab:
    """What the page on models and health needs of a Lab."""

    store: Store
    name: str = "tickets.ipynb"
    ledger: Ledger = field(default_factory=lambda: Ledger(None, "this Lab"))

    def __post_init__(self) -> None:
        self.gateway = Gateway(self.store.write)
        self.health = Health(told=self._told)
        self.health.add("models", lambda: Finding("healthy"))

    def _told(self, change: Change) -> None:
        self.store.write(Event(change.event, change.time, data=change.as_data()))

    def fail(self, target: str, said: str, times: int = 6) -> None:
        """Let calls of a target fail until its circuit opens."""
        breaker: Any = self.gateway.guards.of(target).breaker
        for _ in range(times):
            if breaker.state == "closed":
                breaker.admit().failed(ConnectionError(said))

    def call(self, model: str = "acme/one", **more: Any) -> None:
        """Record a call of a model."""
        started = more.pop("started", time.time() - 5)
        self.store.write(LMCall(new_id(), None, "r", "s", model, started, 0.5, 100, 20, 0.25, False, False)._replace(**more))
        self.store.flush()


def changed(name: str, at: float, before: str, after: str, target: str = "acme/one", **more: Any) -> Event:
    """Return a change of state as the store keeps it."""
    return Event(name, at, data={"target": target, "before": before, "after": after, "reason": "5 of 5 failed", **more})
