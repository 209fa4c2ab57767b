"""What a session's runs taught, as sentences with their evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dspex_lab.security import one_line
from dspex_lab.sessions._metrics import series_of
from dspex_lab.sessions._show import Sheet, count, dollars, duration, percent
from dspex_lab.sessions._trend import change_point, trend
from dspex_lab.store import (
    frame_rows,
    session_choices,
    session_durations,
    session_errors,
    session_lm_calls,
    session_steps,
    session_totals,
)

if TYPE_CHECKING:
    from dspex_lab.store import Store

#: A step is named where it takes at least this part of the whole, and a cache where it answers so much.
SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Insight:
    """One thing that was learned.

    Attributes:
        kind: ``"speed"``, ``"error"``, ``"cost"``, ``"time"``, ``"choice"``, ``"cache"`` or ``"score"``.
        text: the sentence.
        evidence: the figures it rests on.
    """

    kind: str
    text: str
    evidence: Mapping[str, Any]

    def __str__(self) -> str:
        return self.text


class Insights(tuple[Insight, ...]):
    """What was learned, the most pressing first; a cell shows it."""

    session: str = ""

    def sheet(self) -> Sheet:
        """All of it, for a cell."""
        nothing = "Nothing yet: there are too few runs, or nothing stands out."
        return Sheet(f"Insights of session {self.session}", [f"• {i.text}" for i in self] or [nothing])

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()

    def __repr__(self) -> str:
        return repr(self.sheet())


def insights_of(store: Store, session_id: str, name: str, optimization: Mapping[str, Any]) -> Insights:
    """Return what a session's runs taught."""
    found = Insights(
        (
            *_speed(session_durations(store, session_id)),
            *_errors(store, session_id),
            *_cost(session_lm_calls(store, session_id)),
            *_time(session_steps(store, session_id)),
            *_choices(session_choices(store, session_id)),
            *_score(optimization),
        )
    )
    found.session = name
    return found


def _speed(durations: Any) -> Iterator[Insight]:
    """Yield since when runs take longer or shorter, a pipeline at a time; of a slow drift that it is one."""
    for name, seconds in series_of(durations).items():
        changed, drift = change_point(seconds), trend({name: seconds})
        if changed is not None and changed.significant and changed.before != changed.after:
            began = durations.loc[durations["name"] == name, "started"].iloc[changed.index].to_pydatetime()
            how = "slower" if changed.after > changed.before else "faster"
            yield Insight(
                "speed",
                f"{one_line(name)} runs {how} since {_local(began)}: {duration(changed.before)} at the median before, "
                f"{duration(changed.after)} since ({changed.index} and {len(seconds) - changed.index} runs; Pettitt, "
                f"p = {changed.p:.2g}).",
                {"name": name, "since": began, "before": changed.before, "after": changed.after, "p": changed.p},
            )
        elif drift.significant and drift.slope is not None:
            yield Insight(
                "speed",
                f"{one_line(name)} becomes {drift.direction}: {drift}.",
                {"name": name, "slope": drift.slope, "p": drift.p, "runs": drift.runs},
            )


def _errors(store: Store, session_id: str) -> Iterator[Insight]:
    errors, totals = session_errors(store, session_id, limit=1), session_totals(store, session_id)
    if errors.empty or totals.empty:
        return
    worst, runs = frame_rows(errors)[0], frame_rows(totals)[0]
    where = f" in step {one_line(worst['step'])}" if worst["step"] else ""
    times = int(worst["times"])
    yield Insight(
        "error",
        f"{count(runs['failed'])} of {count(runs['runs'])} runs failed; the most frequent error{where} is "
        f"{one_line(worst['error'])} ({times} time{'' if times == 1 else 's'}, last {_local(worst['last'].to_pydatetime())}).",
        {"step": worst["step"], "error": worst["error"], "times": times, "failed": runs["failed"], "runs": runs["runs"]},
    )


def _cost(asked: Any) -> Iterator[Insight]:
    rows = frame_rows(asked)
    spent = sum(row["cost"] or 0.0 for row in rows)
    tokens, calls = sum(row["tokens"] for row in rows), sum(row["calls"] for row in rows)
    by = [row for row in rows if row["step"]]
    if by and len(rows) > 1 and (spent or tokens):
        top = max(by, key=lambda row: (row["cost"] or 0.0) if spent else row["tokens"])
        share = (top["cost"] or 0.0) / spent if spent else top["tokens"] / tokens
        if share >= SHARE:
            what = f"the cost ({dollars(top['cost'])} of {dollars(spent)})" if spent else "the tokens"
            yield Insight(
                "cost",
                f"Step {one_line(top['step'])} is the most costly: {percent(share)} of {what}, {count(top['tokens'])} tokens.",
                {"step": top["step"], "share": share, "cost": top["cost"], "tokens": top["tokens"]},
            )
    hits = sum(row["cache_hits"] for row in rows)
    if calls and hits / calls >= SHARE:
        yield Insight(
            "cache",
            f"The cache answered {count(hits)} of {count(calls)} model calls ({percent(hits / calls)}).",
            {"cache_hits": hits, "calls": calls},
        )


def _time(steps: Any) -> Iterator[Insight]:
    rows = [row for row in frame_rows(steps) if "." not in row["step"]]  # the steps in a step are in its time
    whole = sum(row["seconds"] for row in rows)
    if len(rows) > 1 and whole > 0 and rows[0]["seconds"] / whole >= SHARE:
        top, share = rows[0], rows[0]["seconds"] / whole
        yield Insight(
            "time",
            f"Step {one_line(top['step'])} takes the most time: {percent(share)} of that of all steps "
            f"({duration(top['seconds'] / top['calls'])} a call on average, {count(top['calls'])} calls).",
            {"step": top["step"], "share": share, "seconds": top["seconds"], "calls": top["calls"]},
        )


def _choices(choices: Any) -> Iterator[Insight]:
    rows = frame_rows(choices)
    for operation in dict.fromkeys(row["operation"] for row in rows):
        mine = [row for row in rows if row["operation"] == operation]
        times = sum(row["times"] for row in mine)
        top = mine[0]
        yield Insight(
            "choice",
            f"For {one_line(operation)} the preferred implementation is {one_line(top['chosen'])}: {count(top['times'])} of "
            f"{count(times)} choices, {duration(top['seconds'])} at the median.",
            {"operation": operation, "chosen": top["chosen"], "times": top["times"], "of": times, "seconds": top["seconds"]},
        )


def _score(optimization: Mapping[str, Any]) -> Iterator[Insight]:
    best, first = optimization.get("best_score"), optimization.get("first_score")
    if isinstance(best, int | float) and not isinstance(best, bool):
        rounds = optimization.get("iteration", 0)
        up = f", up from {first:.4g}" if isinstance(first, float) and first != best else ""
        yield Insight(
            "score",
            f"The best score of its optimisation is {best:.4g}{up}, after {rounds} iteration{'' if rounds == 1 else 's'}.",
            {"best_score": best, "first_score": first, "iteration": rounds},
        )


def _local(at: datetime) -> str:
    return at.replace(tzinfo=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
