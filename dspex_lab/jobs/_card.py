"""How jobs are shown in a cell: one as a card, several as a table. Names, notes and errors may be anybody's words."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspex_lab.jobs._progress import Progress, Spent
from dspex_lab.security import one_line

if TYPE_CHECKING:
    from dspex_lab.jobs._job import Job

_NOTHING = "–"
_COLUMNS = ("job", "kind", "name", "state", "done", "best", "spent", "left", "note")


def duration(seconds: float | None) -> str:
    """Return seconds as a person reads them."""
    if seconds is None:
        return _NOTHING
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def number(value: float | None) -> str:
    """Return a count or a score."""
    if value is None:
        return _NOTHING
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"


def spent(what: Spent) -> str:
    """Return what was spent."""
    cost = "" if what.unpriced and not what.cost else f"${what.cost:,.4g}, "
    unknown = f" ({what.unpriced:,} without a known price)" if what.unpriced else ""
    return f"{cost}{what.calls:,} call{'' if what.calls == 1 else 's'}{unknown}"


def done(progress: Progress) -> str:
    """Return how far it is."""
    of = "" if progress.total is None else f" of {number(progress.total)}"
    share = "" if progress.fraction is None else f" ({progress.fraction:.0%})"
    return f"{number(progress.done)}{of}{share}"


def left(progress: Progress) -> str:
    """Return the time and money that are left."""
    parts = [] if progress.eta is None else [f"about {duration(progress.eta)}"] if progress.eta else []
    rest = progress.left
    parts += [] if rest.cost is None else [f"${rest.cost:,.4g}"]
    parts += [] if rest.calls is None else [f"{rest.calls:,} calls"]
    parts += [] if rest.tokens is None else [f"{rest.tokens:,} tokens"]
    return ", ".join(parts) or _NOTHING


@dataclass(frozen=True, slots=True)
class Sheet:
    """Rows under titles; ``nothing`` is said where there are none, ``html_class`` marks it for style sheets."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    nothing: str = ""

    def __repr__(self) -> str:
        if not self.rows:
            return self.nothing or self.title
        lines = [row for row in (self.columns, *self.rows) if any(row)]
        widths = [max(len(row[at]) for row in lines) for at in range(len(self.columns))]
        said = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in lines]
        return "\n".join([self.title, *said])

    def _repr_html_(self) -> str:
        def line(cell: str, texts: Sequence[str]) -> str:
            return "<tr>" + "".join(f'<{cell} style="text-align:left">{html.escape(t)}</{cell}>' for t in texts) + "</tr>"

        head = line("th", self.columns) if any(self.columns) else ""
        body = (
            f"<table>{head}{''.join(line('td', row) for row in self.rows)}</table>" if self.rows else html.escape(self.nothing)
        )
        # Dollar signs are no formula: the classes keep MathJax away.
        return (
            f'<div class="dspex-jobs mathjax_ignore tex2jax_ignore"><div><b>{html.escape(self.title)}</b></div>'
            f'<div style="overflow-x:auto">{body}</div></div>'
        )


def card(job: Job) -> Sheet:
    """Return one job as a card."""
    progress = job.progress
    facts = [
        ("state", job.state),
        ("done", done(progress)),
        ("best", number(progress.best)),
        ("trials", number(len(job.trials))),
        ("spent", spent(progress.spent)),
        ("left", left(progress)),
        ("repeated", number(progress.repeated) if progress.repeated else ""),
        ("note", one_line(progress.note)),
        ("error", one_line(job.error or "", 400)),
    ]
    return Sheet(f"Job {job.number}: {job.kind} {one_line(job.name, 60)}", ("", ""), [fact for fact in facts if fact[1]])


def table(jobs: Sequence[Job]) -> Sheet:
    """Return jobs as a table."""
    rows = []
    for job in jobs:
        progress = job.progress
        rows.append(
            (
                str(job.number),
                job.kind,
                one_line(job.name, 40),
                job.state,
                done(progress),
                number(progress.best),
                spent(progress.spent),
                left(progress),
                one_line(job.error or progress.note, 80),
            )
        )
    title = f"{len(rows):,} job{'' if len(rows) == 1 else 's'}"
    return Sheet(title, _COLUMNS, rows, "No jobs. lab.evaluate(…), lab.optimize(…) and lab.tune(…) start them.")
