"""The page on jobs: all of them, one with its scores, candidates and what these changed, and what was adopted."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

import altair as alt
import pandas as pd
import panel as pn

from dspex_lab.dashboards import _charts
from dspex_lab.dashboards import _format as fmt
from dspex_lab.dashboards._jobs_facts import JobFacts
from dspex_lab.dashboards._parts import ChartCard, card, show, text
from dspex_lab.dashboards._sheet import Table, words
from dspex_lab.dashboards._snapshot import Snapshot
from dspex_lab.events import TrialRecord
from dspex_lab.jobs import lineage
from dspex_lab.security import Redactor

_ALL = ("Job", "Kind", "Name", "State", "Done", "Best", "Trials", "Failed", "Rejected", "Repeated", "Spent", "Took", "Note")
_TRIALS = ("Trial", "From", "Status", "Score", "Rows", "Took", "Cost", "What")
_PROGRAMS = ("Program", "Version", "Score", "State", "Why")
_NONE = "No jobs in this window. lab.evaluate(…), lab.optimize(…) and lab.tune(…) start them."
_HEIGHT = 220

#: Trials that the table shows, the last ones; letters of a change that is shown.
_LAST, _LETTERS = 100, 6_000


class JobsNow:
    """A row for each job, and what was adopted."""

    def __init__(self) -> None:
        self.view = text(card=True)

    def update(self, snapshot: Snapshot) -> None:
        """Show the jobs."""
        facts = snapshot.jobs
        if facts is None:
            return
        mask = Redactor()
        rows = [_job(row, facts, mask) for row in facts.overview.itertuples(index=False)]
        adopted = [_program(each, mask) for each in facts.programs]
        parts = f"<h2>Jobs</h2>{Table('', _ALL, rows, _NONE).html()}"
        if adopted:
            parts += f"<h2>Programs</h2>{Table('', _PROGRAMS, adopted).html()}"
        show(self.view, parts)


def state_of(row: Any, facts: JobFacts) -> str:
    """Return the state of a job; of one whose process has ended under it, that it was interrupted."""
    return "interrupted" if row.job_id in facts.abandoned else str(row.state)


def _job(row: Any, facts: JobFacts, mask: Redactor) -> tuple[str, ...]:
    note = row.error if not fmt.missing(row.error) else row.note
    total = "" if fmt.missing(row.total) else f" of {fmt.count(row.total)}"
    return (
        str(row.number),
        words(row.kind, mask),
        words(row.name, mask),
        state_of(row, facts),
        f"{fmt.count(row.done)}{total}",
        _score(row.best),
        fmt.count(row.trials),
        fmt.count(row.failed),
        fmt.count(row.rejected),
        fmt.count(row.repeated),
        f"{fmt.dollars(row.cost)}, {fmt.count(row.calls)} calls",
        fmt.duration(row.seconds),
        "" if fmt.missing(note) else words(note, mask),
    )


def _program(each: tuple[str, int, float | None, bool, str], mask: Redactor) -> tuple[str, ...]:
    name, version, score, in_use, why = each
    return (words(name, mask), str(version), _score(score), "in use" if in_use else "", words(why, mask))


def _score(score: Any) -> str:
    return fmt.NOTHING if fmt.missing(score) else f"{score:.4g}"


class JobChosen:
    """Which job a person looks at.

    Args:
        changed: called when it is another one.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed, self._setting = changed, False
        self._select = pn.widgets.Select(options={}, label="Job", width=420, margin=0)
        self._select.param.watch(self._chose, "value")
        self.view = card(self._select, visible=False)

    @property
    def value(self) -> int | None:
        """The number of the job, None for the newest."""
        return self._select.value

    def _chose(self, _event: Any) -> None:
        if not self._setting:
            self._changed()

    def update(self, snapshot: Snapshot) -> None:
        """Offer the jobs that are listed."""
        facts = snapshot.jobs
        if facts is None:
            return
        mask = Redactor()
        options = {
            f"{row.number}: {row.kind} {words(row.name, mask, 60)} ({state_of(row, facts)})": int(str(row.number))
            for row in facts.overview.itertuples(index=False)
        }
        self._setting = True
        try:
            chosen = None if facts.chosen is None else facts.chosen.number
            if options != self._select.options:
                self._select.options = options
            if chosen in options.values() and chosen != self._select.value:
                self._select.value = chosen
        finally:
            self._setting = False
        self.view.visible = bool(options)


class JobScores:
    """The scores of the job that is looked at, trial by trial, and the best until then."""

    def __init__(self) -> None:
        self.chart = ChartCard("Scores", "No trial has a score yet.", scores)
        self.view = self.chart.view

    def update(self, snapshot: Snapshot) -> None:
        """Draw them."""
        if snapshot.jobs is not None:
            self.chart.update(drawn(snapshot.jobs.trials))


def drawn(trials: Sequence[TrialRecord]) -> pd.DataFrame:
    """Return what is drawn: ``trial, score, best, status, cost``."""
    rows, best = [], None
    for trial in trials:
        if trial.score is None:
            continue
        if trial.status in ("complete", "repeated"):
            best = trial.score if best is None else max(best, trial.score)
        rows.append((trial.number, float(trial.score), best, trial.status, trial.cost))
    return pd.DataFrame(rows, columns=["trial", "score", "best", "status", "cost"])


def scores(frame: pd.DataFrame) -> dict[str, Any]:
    """Return a dot for each trial and a stepped line of the best."""
    base = alt.Chart(_charts._records(frame)).encode(
        x=alt.X("trial:Q", title="trial", axis=alt.Axis(grid=False, tickMinStep=1, format="d")),
        tooltip=["trial:Q", alt.Tooltip("score:Q", format=".4g"), "status:N", alt.Tooltip("cost:Q", format="$.4g")],
    )
    colour = alt.Color(
        "status:N",
        title=None,
        scale=alt.Scale(
            domain=["complete", "repeated", "pruned", "rejected", "failed"],
            range=["#3b7dd8", "#7fb0ea", "#b9bec5", "#d9902f", "#d64550"],
        ),
        legend=alt.Legend(orient="bottom"),
    )
    dots = base.mark_circle(size=36).encode(y=alt.Y("score:Q", scale=alt.Scale(zero=False)), color=colour)
    line = base.mark_line(interpolate="step-after", strokeWidth=2, color="#2e7d32").encode(y="best:Q")
    return _charts._dress(line + dots, _HEIGHT)


class JobDetail:
    """The best candidate of the job that is looked at, its trials, their lineage, and what was rejected."""

    def __init__(self) -> None:
        self.view = text(card=True)

    def update(self, snapshot: Snapshot) -> None:
        """Show them."""
        facts = snapshot.jobs
        if facts is None or facts.chosen is None:
            return
        mask = Redactor()
        tree = lineage(facts.trials)
        chosen = facts.chosen
        parts = [f"<h2>Job {chosen.number}: {html.escape(words(f'{chosen.kind} {chosen.name}', mask))}</h2>"]
        if tree.best is not None:
            changes = "\n\n".join(map(str, tree.changes(tree.best.number)))
            values = "\n".join(f"{name} = {value}" for name, value in (tree.best.values or {}).items())
            title = f"The best: trial {tree.best.number}, {_score(tree.best.score)}"
            parts.append(_fold(title, "\n\n".join(part for part in (changes, values) if part), mask, opened=True))
        rows = [_trial(trial, mask) for trial in facts.trials[-_LAST:]]
        parts.append(Table(f"Trials ({len(facts.trials):,})", _TRIALS, rows, "It has tried nothing yet.").html())
        if any(trial.parent is not None for trial in facts.trials):
            parts.append(_fold("Lineage", str(tree), mask))
        rejected = [trial for trial in facts.trials if trial.status == "rejected"]
        if rejected:
            said = "\n\n".join(
                f"trial {trial.number} {trial.note or ''}\n" + "\n".join(map(str, tree.changes(trial.number)))
                for trial in rejected[-20:]
            )
            parts.append(_fold(f"Rejected ({len(rejected):,})", said, mask))
        show(self.view, "".join(parts))


def _trial(trial: TrialRecord, mask: Redactor) -> tuple[str, ...]:
    values = ", ".join(f"{name} = {value}" for name, value in (trial.values or {}).items())
    what = " · ".join(part for part in (values, trial.error or "", trial.note or "") if part)
    return (
        str(trial.number),
        fmt.NOTHING if trial.parent is None else str(trial.parent),
        trial.status,
        _score(trial.score),
        fmt.NOTHING if trial.rows is None else fmt.count(trial.rows),
        fmt.duration(trial.seconds),
        fmt.dollars(trial.cost),
        words(what, mask),
    )


def _fold(title: str, content: str, mask: Redactor, *, opened: bool = False) -> str:
    if not content:
        return ""
    shown = mask(content[: 20 * _LETTERS])
    shown = shown if len(shown) <= _LETTERS else f"{shown[:_LETTERS]}…"
    mark = " open" if opened else ""
    return f"<details{mark}><summary>{html.escape(title)}</summary><pre>{html.escape(shown)}</pre></details>"


def job_sections(changed: Callable[[], None]) -> tuple[JobsNow, JobChosen, JobScores, JobDetail]:
    """Return the sections of the page, in order."""
    return JobsNow(), JobChosen(changed), JobScores(), JobDetail()
