"""The top of the page: whose it is, the sums, and what must not be overlooked."""

from __future__ import annotations

from dspex_lab.dashboards import _format as fmt
from dspex_lab.dashboards._parts import show, text
from dspex_lab.dashboards._snapshot import WINDOWS, Snapshot


class Header:
    """The Lab's name, numbers of runs, failures, tokens, cost, dropped records, and notes."""

    def __init__(self) -> None:
        self.view = text()

    def update(self, snapshot: Snapshot) -> None:
        """Show the sums of the chosen window."""
        totals, window = snapshot.totals, snapshot.filters.window
        shown = next(label for label, seconds in WINDOWS.items() if seconds == window)
        failed = int(totals["failed"])
        facts = [_fact(fmt.count(totals["runs"]), "runs"), _fact(fmt.count(failed), "failed", bad=failed > 0)]
        if int(totals["partial"]):
            facts.append(_fact(fmt.count(totals["partial"]), "partial"))
        if int(totals["rows"]):
            bad = int(totals["rows_failed"])
            facts.append(_fact(fmt.count(totals["rows"]), "map rows" + (f", {fmt.count(bad)} not complete" if bad else "")))
        facts += [_fact(fmt.count(totals["tokens"]), "tokens"), _fact(fmt.dollars(totals["cost"]), "cost")]
        facts.append(_fact(fmt.count(snapshot.dropped), "records dropped", bad=snapshot.dropped > 0))
        show(
            self.view,
            f'<div class="top"><h1>{fmt.escape(snapshot.name)}</h1>'
            f'<span class="dim">{shown} · times in {fmt.escape(fmt.zone())}</span></div>'
            f'<div class="facts">{"".join(facts)}</div>{_notes(snapshot)}',
        )


def _fact(value: str, label: str, bad: bool = False) -> str:
    return f'<div class="fact{" bad" if bad else ""}"><b>{value}</b><span>{label}</span></div>'


def _notes(snapshot: Snapshot) -> str:
    notes = []
    if bool(snapshot.totals["simulated"]):
        notes.append("Some of these runs were answered by the offline engine: their tokens and times are simulated.")
    if snapshot.dropped:
        notes.append(
            f"{fmt.count(snapshot.dropped)} detail records were dropped because they came faster than the store could write; "
            "outcomes of runs and rows are complete."
        )
    return "".join(f'<div class="note">{note}</div>' for note in notes)
