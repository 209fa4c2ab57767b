"""The variable board as a picture: HTML and text without a script or a request, for saved notebooks and reports."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from dspex_lab.widgets._board_text import HEIGHT, WIDTH
from dspex_lab.widgets._picture import SVG, escape, said, tag

__all__ = ["COLUMNS", "board_html", "board_text"]

COLUMNS = ("Variable", "Value", "May be", "Version", "Changed by", "Score", "Past", "Leased to")

Rows = Mapping[str, Mapping[str, Any]]


@cache
def _style() -> str:
    return f"<style>{(files('dspex_lab') / 'static' / 'board.css').read_text(encoding='utf-8').strip()}</style>"


def _spark(points: str) -> str:
    if not points:
        return ""
    box = f'viewBox="0 0 {WIDTH:g} {HEIGHT:g}" width="{WIDTH:g}" height="{HEIGHT:g}" aria-hidden="true"'
    return f'<svg {SVG} class="dspex-spark" {box}><polyline points="{escape(points)}"/></svg>'


def _value(row: Mapping[str, Any]) -> str:
    value = said("span", "dspex-value", row["text"])
    if row["full"]:
        value = f"<details><summary>{value}</summary>{said('pre', 'dspex-whole', row['full'])}</details>"
    return value + said("span", "dspex-formula", f"= {row['derived']}" if row["derived"] else "")


def _row(row: Mapping[str, Any]) -> str:
    marks = [mark for mark, holds in (("pinned", row["pinned"]), ("does not count now", not row["counts"])) if holds]
    name = said("span", "dspex-variable", row["name"]) + said("span", "dspex-mark", ", ".join(marks))
    name += said("div", "dspex-remark", row["note"]) if row["note"] else ""
    cells = (
        *(name, _value(row), escape(row["range"]), str(row["version"]), escape(row["by"]), escape(row["score"])),
        *(_spark(row["spark"]), escape(row["leased"])),
    )
    css = "" if row["counts"] else ' class="dspex-resting"'
    return f"<tr{css}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>\n"


def board_html(rows: Rows, head: Mapping[str, Any]) -> str:
    """Return the board as it stands: all text escaped, values that are long unfold."""
    titles = "".join(f"<th>{title}</th>" for title in COLUMNS)
    body = "".join(_row(row) for row in rows.values())
    top = tag(
        "div",
        "dspex-head",
        said("strong", "dspex-name", f"Variables of {head['space']}"),
        said("span", "dspex-muted", head["said"]),
    )
    table = f'<table class="dspex-board-table"><thead><tr>{titles}</tr></thead><tbody>\n{body}</tbody></table>'
    nothing = said("p", "dspex-muted", "There are no variables yet.") if not rows else table
    inside = f"{_style()}{top}{tag('div', 'dspex-scroll', nothing)}"
    return f'<div class="dspex-run dspex-board" role="group" aria-label="Variables">{inside}</div>'


def board_text(rows: Rows, head: Mapping[str, Any]) -> str:
    """Return the board as lines of text."""
    lines = [f"Variables of {head['space']}: {head['said']}"]
    for row in rows.values():
        marks = f" ({row['by']})" if row["by"] else ""
        marks += " pinned" if row["pinned"] else ""
        marks += f" leased to {row['leased']}" if row["leased"] else ""
        marks += f" · {row['note']}" if row["note"] else ""
        lines.append(f"  {row['name']} = {row['text']}  [{row['range']}]  v{row['version']}{marks}")
    return "\n".join(lines)
