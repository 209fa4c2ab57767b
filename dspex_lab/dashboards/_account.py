"""What a Lab has spent and may spend: what ``%dspex budget`` shows, and the bar on the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dspex_lab.dashboards import _format as fmt
from dspex_lab.dashboards._sheet import Bar, Sheet, Table, words
from dspex_lab.dashboards._standing import Guarded
from dspex_lab.security import Redactor
from dspex_lab.store import views as ask

if TYPE_CHECKING:
    import pandas as pd

    from dspex_lab.lms import Ledger

#: Runs that are listed.
RUNS = 5


def bars(ledger: Ledger) -> list[Bar]:
    """Return a bar for each limit of an account: what is spent of it, and what calls under way hold."""
    now = ledger.snapshot()
    limits = {
        "money": (now.spent.cost, now.budget.cost, now.held.cost, fmt.dollars, ""),
        "tokens": (now.spent.tokens, now.budget.tokens, now.held.tokens, fmt.count, " tokens"),
        "calls": (now.spent.calls, now.budget.calls, now.held.calls, fmt.count, " calls"),
    }
    made = []
    for name, share in now.fractions.items():
        spent, limit, held, said, unit = limits[name]
        on_hold = f", {said(held)} held by calls under way" if held else ""
        made.append(Bar(f"{share:.0%}: {said(spent)} of {said(limit)}{unit}{on_hold}", share))
    return made


@dataclass(frozen=True)
class Account:
    """What is spent and held, by limit, by model and by the last runs."""

    ledger: Ledger
    models: pd.DataFrame
    runs: pd.DataFrame

    def sheet(self) -> Sheet:
        """All of it, for a cell."""
        now, mask = self.ledger.snapshot(), Redactor()
        limited = str(now.budget) if now.budget.limited else "no limit; %dspex budget '$2, 50k tokens, 100 calls' sets one"
        models = [
            (words(row.model, mask), _asked(row), fmt.count(row.tokens), _price(row))
            for row in self.models.itertuples(index=False)
        ]
        runs = [
            (fmt.when(row.started), words(row.name, mask), str(row.status), fmt.count(row.tokens), fmt.dollars(row.cost))
            for row in self.runs.itertuples(index=False)
        ]
        refused = (
            [f"refused: {fmt.count(now.refused)} call{'' if now.refused == 1 else 's'} that would have crossed a limit"]
            if now.refused
            else []
        )
        return Sheet(
            f"Budget of this Lab: {limited}",
            [
                *bars(self.ledger),
                *([f"counted against the limits: {now}"] if now.budget.limited else []),
                *refused,
                Table("By model", ("model", "calls", "tokens", "cost"), models, "no model was called yet."),
                Table("Last runs", ("started", "run", "status", "tokens", "cost"), runs, "none yet."),
            ],
        )

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()

    def __repr__(self) -> str:
        return repr(self.sheet())


def account(source: Guarded) -> Account:
    """Return what a Lab has spent since it was opened.

    Raises:
        StoreError: the store is closed, or can no longer be written or read.
    """
    store = source.store
    store.flush()
    since = ask.opened(store)
    return Account(source.ledger, ask.model_health(store, since=since), ask.recent_runs(store, since=since, limit=RUNS))


def _asked(row: Any) -> str:
    return fmt.count(row.calls) + (f", {fmt.count(row.cache_hits)} from cache" if row.cache_hits else "")


def _price(row: Any) -> str:
    if row.simulated and (fmt.missing(row.cost) or not row.cost):
        return "simulated"
    return "no price known" if fmt.missing(row.cost) else fmt.dollars(row.cost)
