"""The sections of the page on models and health."""

from __future__ import annotations

from typing import Any

import pandas as pd

from dspex_lab.dashboards import _format as fmt
from dspex_lab.dashboards import _model_charts
from dspex_lab.dashboards._account import bars
from dspex_lab.dashboards._base import Source
from dspex_lab.dashboards._over_time import Measure, OverTime
from dspex_lab.dashboards._parts import ChartCard, card, show, text
from dspex_lab.dashboards._sheet import Sheet, Table, words
from dspex_lab.dashboards._snapshot import Snapshot
from dspex_lab.dashboards._standing import Guarded, Standing, changed_rows, standing
from dspex_lab.security import Redactor

_COLUMNS = ("Model", "Calls", "Failed", "p50", "p95", "First token", "Tokens", "Cost", "Retries", "In JSON", "For others")


class Now:
    """How components, circuits, places, load and budget stand; hidden where the Lab has none of these.

    Args:
        source: the Lab.
    """

    def __init__(self, source: Source) -> None:
        self._source = source if isinstance(source, Guarded) else None
        self.view = text(card=True, visible=self._source is not None)

    @property
    def alive(self) -> bool:
        """Whether it shows what changes without a commit of the store."""
        return self._source is not None

    def update(self, snapshot: Snapshot) -> None:
        """Show what the snapshot found."""
        if snapshot.standing is not None:
            self._show(snapshot.standing)

    def beat(self) -> None:
        """Show how the Lab stands this moment, without a look at the components and without a query."""
        if self._source is not None:
            self._show(standing(self._source, look=False, changes=False))

    def _show(self, now: Standing) -> None:
        assert self._source is not None  # noqa: S101 - for the type checker: who has a standing has a source
        budget: list[Any] = [*bars(self._source.ledger)] or ["no limit is set"]
        parts: list[Any] = [now.load_line, now.components_table(), now.targets_table()]
        html = Sheet("", [*parts]).inner_html() + '<div style="margin-top:8px"><b>Budget of this Lab</b></div>'
        show(self.view, f"<h2>Now</h2>{html}{Sheet('', budget).inner_html()}")


class Models:
    """A row for each model: what it was asked, how it did, what it cost."""

    def __init__(self) -> None:
        self.view = text(card=True)

    def update(self, snapshot: Snapshot) -> None:
        """Show the models of the window."""
        if snapshot.models is None:
            return
        mask = Redactor()
        rows = [_model(row, mask) for row in snapshot.models.models.itertuples(index=False)]
        table = Table("", _COLUMNS, rows, "No language model was called in this window.")
        hint = "p50 and p95 of answered calls; retries: requests beyond the first, hedges too; in JSON: asked a second time"
        hint += " because the answer could not be read; for others: answers in the place of another model."
        show(self.view, f"<h2>Models in this window</h2>{table.html()}" + (f'<p class="dim">{hint}</p>' if rows else ""))


def _model(row: Any, mask: Redactor) -> tuple[str, ...]:
    rate = "" if fmt.missing(row.failure_rate) else f" ({float(row.failure_rate):.1%})"
    refused = f", {fmt.count(row.refused)} never made" if row.refused else ""
    simulated = bool(row.simulated) and (fmt.missing(row.cost) or not row.cost)
    return (
        words(row.model, mask),
        fmt.count(row.calls) + (f" + {fmt.count(row.cache_hits)} cached" if row.cache_hits else ""),
        (f"{fmt.count(row.failed)}{rate}{refused}" if row.failed else "0"),
        fmt.duration(row.p50),
        fmt.duration(row.p95),
        fmt.duration(row.first_token),
        fmt.count(row.tokens),
        "simulated" if simulated else "no price" if fmt.missing(row.cost) else fmt.dollars(row.cost),
        fmt.count(row.retries),
        fmt.count(row.second_calls),
        fmt.count(row.fallbacks),
    )


MEASURES = {
    "calls": Measure("calls", fmt.count, "d"),
    "failure rate": Measure("failure_rate", lambda v: f"{float(v):.1%}", ".0%"),
    "latency, median": Measure("p50", fmt.duration, "~s"),
    "latency, p95": Measure("p95", fmt.duration, "~s"),
    "first token, median": Measure("first_token", fmt.duration, "~s"),
    "cost": Measure("cost", fmt.dollars, "$~s"),
    "tokens": Measure("tokens", fmt.count, "~s"),
    "retries": Measure("retries", fmt.count, "d"),
    "second calls (JSON)": Measure("second_calls", fmt.count, "d"),
    "answers for another model": Measure("fallbacks", fmt.count, "d"),
}


def models_over_time() -> OverTime:
    """Return the section that draws one measure of all models over time."""
    return OverTime("Models", "model", MEASURES, lambda snapshot: snapshot.models.over_time if snapshot.models else None)


class States:
    """A line of time of circuits and of the degradation level, and the last changes of state."""

    def __init__(self) -> None:
        nothing = "No circuit opened and nothing was left out in this window."
        self.timeline = ChartCard("Circuits and degradation over time", nothing, _model_charts.states, framed=False)
        self._changes = text()
        self.view = card(self.timeline.view, self._changes)

    def update(self, snapshot: Snapshot) -> None:
        """Draw what changed."""
        if snapshot.models is None:
            return
        self.timeline.update(_shown(snapshot))
        rows = changed_rows(snapshot.models.changes)
        table = Table("Last changes of state", ("When", "What", "From", "To", "Why"), rows, "none in this window.")
        show(self._changes, table.html())


def _shown(snapshot: Snapshot) -> pd.DataFrame:
    """Return the states as they are drawn: cut off where the window begins, and without secrets in what a provider said."""
    assert snapshot.models is not None  # noqa: S101 - for the type checker
    frame, mask = snapshot.models.states, Redactor()
    since = snapshot.models.since
    return frame.assign(
        begin=[at if since is None else max(at, pd.Timestamp(since)) for at in frame["begin"]],
        target=[words(target, mask) for target in frame["target"]],
        reason=[words(reason, mask) for reason in frame["reason"]],
    )
