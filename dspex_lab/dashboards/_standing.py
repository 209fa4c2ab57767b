"""How a Lab's models, components and budget stand now: what ``%dspex health`` and the page on health show."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from dspex_lab.dashboards import _format as fmt
from dspex_lab.dashboards._base import Source
from dspex_lab.dashboards._sheet import Sheet, Table, words
from dspex_lab.resilience import FEATURES, Policy
from dspex_lab.security import Redactor
from dspex_lab.store import views as ask

if TYPE_CHECKING:
    import pandas as pd

    from dspex_lab.lms import Gateway, Ledger
    from dspex_lab.resilience import Component, GuardStatus, Health

#: Changes of state that are listed.
CHANGES = 20

_TARGETS = ("target", "circuit", "failed/calls", "refused", "last error", "retry in", "in use/limit", "waiting", "policy")
#: What is left out, in words.
_LEFT_OUT = {
    "hedging": "hedging",
    "second_opinions": "second opinions",
    "retries": "retries but one",
    "preferred_model": "the preferred model (the cheapest is asked first)",
    "new_calls": "new calls (only caches answer)",
}
STATE_MARKS = {
    "healthy": "✓",
    "degraded": "◐",
    "unhealthy": "✗",
    "unknown": "·",
    "closed": "✓",
    "half_open": "◐",
    "open": "✗",
}


@runtime_checkable
class Guarded(Source, Protocol):
    """A Lab whose models are guarded, as far as this room needs it."""

    @property
    def gateway(self) -> Gateway:
        """What its calls pass."""

    @property
    def health(self) -> Health:
        """What watches its components."""

    @property
    def ledger(self) -> Ledger:
        """What it may spend."""


@dataclass(frozen=True)
class Standing:
    """A Lab at one moment; what others wrote is not redacted yet: the tables below do that.

    Attributes:
        taken: seconds since the epoch.
        level: of degradation, with ``reason``, ``pinned`` (by hand) and ``off``: what is left out.
        components: the Lab's parts.
        targets: what its calls went to, with the policy around each.
        changes: the last changes of state, as ``store.views.state_changes`` gives them; None where they were not asked for.
    """

    taken: float
    level: str
    reason: str
    pinned: bool
    off: tuple[str, ...]
    components: tuple[Component, ...]
    targets: tuple[tuple[GuardStatus, Policy], ...]
    changes: pd.DataFrame | None = None

    @property
    def load_line(self) -> str:
        """The level of degradation in a line."""
        off = f"left out: {', '.join(_LEFT_OUT.get(each, each) for each in self.off)}" if self.off else "nothing is left out"
        why = f" ({'set by hand' if self.pinned else words(self.reason)})" if self.pinned or self.off else ""
        return f"degradation: {self.level}{why}; {off}"

    def components_table(self) -> Table:
        """The components, by name."""
        mask = Redactor()
        rows = [(c.name, marked(c.state), words(c.reason, mask), self._since(c.since)) for c in self.components]
        return Table("Components", ("component", "state", "why", "since"), rows, "none is watched.")

    def targets_table(self) -> Table:
        """The targets, by name."""
        mask = Redactor()
        rows = [self._target(status, policy, mask) for status, policy in self.targets]
        return Table("Models", _TARGETS, rows, "no provider was called yet.")

    def changes_table(self, title: str = "Last changes of state") -> Table:
        """The last changes, newest first."""
        return Table(title, ("when", "what", "from", "to", "why"), changed_rows(self.changes), "none.")

    def sheet(self) -> Sheet:
        """All of it, for a cell."""
        when = datetime.fromtimestamp(self.taken).strftime("%H:%M:%S")
        parts: list[Any] = [self.load_line, self.components_table(), self.targets_table()]
        if self.changes is not None:
            parts.append(self.changes_table())
        return Sheet(f"Health at {when}", parts)

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()

    def __repr__(self) -> str:
        return repr(self.sheet())

    def _since(self, moment: float) -> str:
        return fmt.when(datetime.fromtimestamp(moment, UTC).replace(tzinfo=None))

    def _target(self, status: GuardStatus, policy: Policy, mask: Redactor) -> tuple[str, ...]:
        wait = status.retry_after
        pause = f", paused for {fmt.duration(status.paused_for)}" if status.paused_for else ""
        return (
            words(status.target, mask),
            "no breaker" if status.state is None else f"{marked(status.state)} since {self._since(status.since or self.taken)}",
            f"{status.failures:,}/{status.calls:,}",
            f"{status.refused:,}",
            words(status.last_error, mask) if status.last_error else fmt.NOTHING,
            "when closed by hand" if wait is None else fmt.duration(wait) if wait else fmt.NOTHING,
            fmt.NOTHING if status.limit is None else f"{status.in_use:,}/{status.limit:,}{pause}",
            f"{status.waiting:,}" + (f", {status.rejected:,} rejected" if status.rejected else ""),
            policy_line(policy),
        )


def standing(source: Guarded, *, look: bool = True, changes: bool = True) -> Standing:
    """Return how a Lab stands now.

    Args:
        source: the Lab.
        look: look at the components first; else they are as they were found last.
        changes: read the last changes of state too.

    Raises:
        StoreError: the store is closed, or can no longer be written or read.
    """
    guards, degradation = source.gateway.guards, source.gateway.degradation
    if look:
        source.health.check()
    found = None
    if changes:
        source.store.flush()
        found = ask.state_changes(source.store, lab_id=source.store.lab_id, limit=CHANGES)
    return Standing(
        time.time(),
        str(degradation.level),
        degradation.reason,
        degradation.pinned,
        tuple(feature for feature in FEATURES if not degradation.allows(feature)),
        source.health.snapshot(),
        tuple((status, guards.policy_of(status.target)) for status in guards.snapshot()),
        found,
    )


def marked(state: str) -> str:
    """Return a state with its mark, so that it is not told by colour alone."""
    return f"{STATE_MARKS.get(state, '·')} {state.replace('_', '-')}"


def changed_rows(frame: pd.DataFrame | None) -> list[tuple[str, ...]]:
    """Return changes of state as rows of a table."""
    if frame is None or frame.empty:
        return []
    mask = Redactor()
    return [_changed(row, mask) for row in frame.itertuples(index=False)]


def _changed(row: Any, mask: Redactor) -> tuple[str, ...]:
    about = {"breaker": "circuit of ", "health": "component "}.get(str(row.name).partition(".")[0], "")
    last = "" if fmt.missing(row.last_error) or not row.last_error else f": {row.last_error}"
    what = words(f"{about}{row.target}", mask)
    return (fmt.when(row.at), what, words(row.before, mask), words(row.after, mask), words(f"{row.reason}{last}", mask))


def policy_line(policy: Policy) -> str:
    """Return what stands around the calls of a target, in a line."""
    retry, breaker, places, hedge = policy.retry, policy.breaker, policy.bulkhead, policy.hedge
    parts: Iterable[str] = (
        "no retries" if retry is None or retry.attempts == 1 else f"{retry.attempts} attempts",
        "no breaker"
        if breaker is None
        else f"opens at {breaker.threshold:.0%} of {_window(breaker)} (from {breaker.minimum}), for {breaker.cool_down:g} s",
        "no limit"
        if places is None
        else f"{places.least}–{places.most} at once"
        if places.adaptive
        else f"{places.limit} at once",
        "" if hedge is None else f"hedge after {hedge.after if isinstance(hedge.after, str) else f'{hedge.after:g} s'}",
        "" if policy.timeout is None else f"timeout {policy.timeout:g} s",
        "" if not policy.patience else f"waits {policy.patience:g} s for a circuit",
    )
    return ", ".join(part for part in parts if part)


def _window(breaker: Any) -> str:
    return f"{breaker.window:g} {'calls' if breaker.unit == 'calls' else 's'}"
