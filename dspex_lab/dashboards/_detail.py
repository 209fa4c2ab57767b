"""One run: its values, its spans on a line of time, its calls of language models."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from dspex_lab.dashboards import _charts
from dspex_lab.dashboards import _format as fmt
from dspex_lab.dashboards._parts import ChartCard, card, show, text
from dspex_lab.dashboards._snapshot import Detail as Found
from dspex_lab.dashboards._snapshot import Snapshot

_MOST_TEXT = 20_000


class Detail:
    """The chosen run; hidden until one is chosen."""

    def __init__(self) -> None:
        self._facts = text()
        self.spans = ChartCard("Where the time went", "No spans were kept for this run.", _charts.waterfall, framed=False)
        self._calls = text()
        self.view = card(self._facts, self.spans.view, self._calls, visible=False)

    def update(self, snapshot: Snapshot) -> None:
        """Show the chosen run."""
        found = snapshot.detail
        if found is not None:
            show(self._facts, _facts(found))
            self.spans.update(found.spans)
            show(self._calls, _calls(found.calls))
        if self.view.visible != (found is not None):
            self.view.visible = found is not None


def _facts(found: Found) -> str:
    run = found.run
    facts = [fmt.status(run["status"]), fmt.when(run["started"]), fmt.duration(run["seconds"])]
    facts += [f"{fmt.count(run['tokens'])} tokens", fmt.dollars(run["cost"])]
    if not fmt.missing(run["lm"]):
        facts.append(str(run["lm"]) + (" (simulated)" if bool(run["simulated"]) else ""))
    rows = ""
    if run["kind"] == "map":
        rows = (
            f"<p>{int(run['rows']):,} rows, {int(run['rows_failed']):,} of them not complete. "
            "Choose “rows of maps” above to list them.</p>"
        )
    error = ""
    if not fmt.missing(run["error"]):
        where = "" if fmt.missing(run["error_step"]) else f"<b>{fmt.escape(run['error_step'])}</b>: "
        error = f'<p class="error">{where}{fmt.escape(_short(run["error"]))}</p>'
    return (
        f'<div class="top"><h2>{fmt.escape(run["name"])}</h2><span class="dim">{fmt.escape(" · ".join(facts))}</span></div>'
        f'<p class="dim">{fmt.escape(run["kind"])} {fmt.escape(run["run_id"])}</p>'
        f"{rows}{error}{_values('Inputs', run['inputs_text'])}{_values('Outputs', run['outputs_text'])}"
        f"{_values('Variables it ran with', run['variables_text'])}"
    )


def _values(title: str, content: Any) -> str:
    if fmt.missing(content) or content in ("", "{}", "null"):
        return ""
    return f'<div class="role">{title}</div><pre>{fmt.escape(_short(fmt.pretty(content)))}</pre>'


def _calls(frame: pd.DataFrame) -> str:
    if frame.empty:
        return '<p class="dim">No language model was called.</p>'
    return f'<h2 style="margin-top:14px">Calls of language models ({len(frame)})</h2>' + "".join(
        _call(row) for row in frame.itertuples(index=False)
    )


def _call(row: Any) -> str:
    tokens = f"{fmt.count(row.prompt_tokens)} + {fmt.count(row.completion_tokens)} tokens"
    marks = [fmt.duration(row.seconds), tokens, fmt.dollars(row.cost)]
    marks += ["from cache"] * bool(row.cache_hit) + ["simulated"] * bool(row.simulated)
    step = fmt.NOTHING if fmt.missing(row.step) else row.step
    error = "" if fmt.missing(row.error) else f'<p class="error">{fmt.escape(_short(row.error))}</p>'
    return (
        f"<details><summary><b>{fmt.escape(step)}</b> {fmt.escape(row.model)} "
        f'<span class="dim">{fmt.escape(" · ".join(marks))}</span></summary>{error}'
        f"{''.join(_message(m) for m in _listed(row.messages))}{''.join(_answer(o) for o in _listed(row.outputs))}</details>"
    )


def _listed(content: Any) -> list[Any]:
    if fmt.missing(content):
        return []
    value = json.loads(content)  # a JSON column
    return [] if value is None else value if isinstance(value, list) else [value]


def _message(message: Any) -> str:
    if isinstance(message, dict):
        role, content = message.get("role", "message"), message.get("content", message)
    else:
        role, content = "prompt", message
    return f'<div class="role">{fmt.escape(role)}</div><pre>{fmt.escape(_short(_plain(content)))}</pre>'


def _answer(output: Any) -> str:
    content = output.get("text", output) if isinstance(output, dict) else output
    return f'<div class="role">answer</div><pre>{fmt.escape(_short(_plain(content)))}</pre>'


def _plain(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content, indent=2, ensure_ascii=False)


def _short(content: Any) -> str:
    whole = str(content)
    return whole if len(whole) <= _MOST_TEXT else f"{whole[:_MOST_TEXT]}\n… {len(whole) - _MOST_TEXT:,} more characters"
