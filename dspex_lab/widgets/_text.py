"""What the widget says, in words. ``widgets/src/text.js`` says the same in the browser; a test compares the two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_lab.widgets import _format

__all__ = [
    "ICONS",
    "WORDS",
    "budget_text",
    "calls_text",
    "cost_text",
    "error_text",
    "nature",
    "notes_text",
    "outcomes",
    "rows_text",
    "shares",
    "step_label",
    "step_line",
    "tokens_text",
]

WORDS = {
    "waiting": "Waiting",
    "running": "Running",
    "complete": "Complete",
    "partial": "Partial",
    "fallback": "Fallback",
    "failed": "Failed",
    "skipped": "Skipped",
    "cancelled": "Cancelled",
    "interrupted": "Interrupted",
}

#: Icons in a 14 × 14 box, drawn as strokes; the shape tells the state apart without its colour.
ICONS = {
    "waiting": "M7 3.2A3.8 3.8 0 1 1 7 10.8A3.8 3.8 0 1 1 7 3.2",
    "running": "M7 2.2A4.8 4.8 0 1 1 2.2 7",
    "complete": "M2.8 7.6L5.7 10.5L11.4 4",
    "partial": "M7 2.6V7.8M7 10.9V11.1",
    "fallback": "M7 2.6V7.8M7 10.9V11.1",
    "failed": "M3.6 3.6L10.4 10.4M10.4 3.6L3.6 10.4",
    "skipped": "M3.2 7H10.8",
    "cancelled": "M4.2 4.2H9.8V9.8H4.2Z",
    "interrupted": "M4.2 4.2H9.8V9.8H4.2Z",
}

#: Where the outputs of a step that was not carried out came from, by what its record calls the implementation.
KEPT = {"cache": "from cache", "checkpoint": "from checkpoint"}

_State = Mapping[str, Any]


def _join(parts: list[str | None]) -> str:
    return " · ".join(p for p in parts if p)


def _plural(n: int, noun: str) -> str:
    return f"{_format.count(n)} {noun if n == 1 else noun[:-1] + 'ies' if noun.endswith('y') else noun + 's'}"


def _tokens(state: _State) -> int:
    return int(state["prompt_tokens"] + state["completion_tokens"])


def _ended(step: _State) -> int:
    return int(step["complete"] + step["partial"] + step["failed"] + step["skipped"])


def nature(node: _State) -> str:
    """What a step is: ``dspy · general pool``."""
    return _join([node.get("kind"), f"{node['pool']} pool" if node.get("pool") else None])


def step_line(node: _State, step: _State | None, is_map: bool) -> str:
    """The second line of a step's box."""
    if step is None or step["status"] == "waiting":
        return nature(node)
    tokens = f"{_format.count(_tokens(step))} tok" if _tokens(step) else KEPT.get(step["implementation"])
    if is_map:
        mean = "" if step["seconds"] is None else f"{_format.seconds(step['seconds'])}/row"
        return _join([mean, tokens]) or nature(node)
    if step["times"] > 1 and step["seconds"] is not None:
        return _join([f"{_format.count(step['times'])} × {_format.seconds(step['seconds'])}", tokens])
    return _join([_format.seconds(step["seconds"]), tokens]) or WORDS[step["status"]].lower()


def step_label(node: _State, step: _State | None, is_map: bool) -> str:
    """A step in words, for those who hear it."""
    parts: list[str] = [f"Step {node['name']}", nature(node)]
    if step is not None:
        parts.append(WORDS[step["status"]].lower())
        many = step["times"] > 1
        if (is_map or many) and _ended(step):
            parts.append(outcomes(step))
        if step["seconds"] is not None:
            parts.append(_format.seconds(step["seconds"]) + (" a row" if is_map else " each" if many else ""))
        if _tokens(step):
            parts.append(_plural(_tokens(step), "token"))
        parts += [e["text"] for e in step["errors"][:1]]
    return ", ".join(p for p in parts if p)


def outcomes(step: _State) -> str:
    """How a step ended in all rows, or all times: ``296 complete, 3 failed, 1 skipped``."""
    return ", ".join(f"{_format.count(step[k])} {k}" for k in ("complete", "partial", "failed", "skipped") if step[k])


def tokens_text(state: _State) -> str:
    """The tokens of the whole: ``1,204 tokens``; nothing where no language model was asked."""
    return _plural(_tokens(state), "token") if state["calls"] or _tokens(state) else ""


def cost_text(state: _State) -> str:
    """The cost of the whole, or of a step; a sum that lacks the price of some calls says so."""
    if state["cost"] is None:
        return "cost unknown" if state["unpriced"] else ""
    if not state["calls"] and not state["cost"]:
        return ""
    return ("≥ " if state["unpriced"] else "") + _format.cost(state["cost"])


def calls_text(state: _State) -> str:
    """Language model calls: ``12 calls, 3 cached``."""
    return _plural(state["calls"], "call") + (f", {_format.count(state['cached'])} cached" if state["cached"] else "")


def notes_text(notes: _State) -> str:
    """What went another way than planned: ``2 retries · asked again in JSON 1 × · b/model answered instead 3 ×``."""
    instead = [f"{i['name']} answered instead {_format.count(i['count'])} ×" for i in notes["instead"]]
    circuits = [f"circuit of {target} is open" for target in notes["open"]]
    return _join(
        [
            _plural(notes["retried"], "retry") if notes["retried"] else None,
            f"asked again in JSON {_format.count(notes['again'])} ×" if notes["again"] else None,
            *instead,
            _plural(notes["hedged"], "hedge") + " won" if notes["hedged"] else None,
            *circuits,
            f"under load: {notes['level'].replace('_', ' ')}" if notes["level"] else None,
        ]
    )


def budget_text(budgets: list[dict[str, Any]]) -> str:
    """How much of each budget is spent: ``41% of $2.00 (this run)``."""
    return _join([f"{int(100 * b['share'] + 1e-9)}% of {b['limit']} ({b['of']})" for b in budgets])


def rows_text(rows: _State) -> str:
    """The rows of a map: ``120 / 300 rows · 3 failed · 41/s · 5 s left``."""
    done = _format.count(rows["done"])
    whole = f"{done} rows" if rows["total"] is None else f"{done} / {_format.count(rows['total'])} rows"
    bad = [f"{_format.count(rows[k])} {k}" if rows[k] else None for k in ("partial", "failed", "cancelled")]
    speed = None if rows["rate"] is None else _format.rate(rows["rate"])
    return _join([whole, *bad, speed, None if rows["eta"] is None else f"{_format.left(rows['eta'])} left"])


def shares(rows: _State) -> list[float]:
    """Percentages of complete, partial and failed rows (cancelled ones count as failed); zeros while the total is unknown."""
    total = 0 if rows["total"] is None else max(rows["total"], rows["done"])
    numbers = [rows["complete"], rows["partial"], rows["failed"] + rows["cancelled"]]
    return [100 * n / total if total else 0 for n in numbers]


def error_text(summary: _State) -> str:
    """The error of the whole run in one line, or nothing."""
    if not summary["error"]:
        return ""
    return f"{summary['error_step']}: {summary['error']}" if summary["error_step"] else str(summary["error"])
