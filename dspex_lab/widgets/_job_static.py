"""A job as a picture: HTML and text without a script or a request, for saved notebooks and reports."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from dspex_lab.widgets._job_facts import HEIGHT, WIDTH
from dspex_lab.widgets._picture import SVG, escape, said, tag

__all__ = ["COLUMNS", "job_html", "job_text"]

COLUMNS = ("Trial", "From", "Status", "Score", "Rows", "Time", "Cost", "What")
_KEYS = ("number", "parent", "status", "score", "rows", "seconds", "cost", "said")
#: Of the head, in this order.
_WORDS = ("done", "best", "trials", "spent", "left", "repeated")

Facts = Mapping[str, Any]


@cache
def _style() -> str:
    return f"<style>{(files('dspex_lab') / 'static' / 'job.css').read_text(encoding='utf-8').strip()}</style>"


def job_html(facts: Facts) -> str:
    """Return a job as it stands: all text escaped, what is long unfolds."""
    head = facts["head"]
    top = tag(
        "div",
        "dspex-head",
        said("strong", "dspex-name", f"Job {head['number']}: {head['kind']} {head['name']}")
        + said("span", f"dspex-state dspex-is-{head['state']}", head["state"])
        + "".join(said("span", "dspex-muted", head[word]) for word in _WORDS if head[word]),
    )
    words = "".join(said("div", f"dspex-{key}", head[key]) for key in ("note", "adopted", "error") if head[key])
    parts = [_bar(head), words, _curve(facts["curve"]), _candidate(facts["candidate"]), _table(facts)]
    if facts["lineage"]:
        parts.append(_fold("Lineage", said("pre", "dspex-lineage", facts["lineage"])))
    if facts["rejected"]:
        rows = "".join(said("li", "", f"{each['number']}: {each['text']} {each['why']}".strip()) for each in facts["rejected"])
        parts.append(_fold(f"Rejected ({len(facts['rejected'])})", f"<ul>{rows}</ul>"))
    label = escape(f"Job {head['number']}")
    return f'<div class="dspex-run dspex-job" role="group" aria-label="{label}">{_style()}{top}{"".join(parts)}</div>'


def _bar(head: Facts) -> str:
    if head["fraction"] is None:
        return ""
    return f'<div class="dspex-progress"><div style="width:{100 * head["fraction"]:.1f}%"></div></div>'


def _curve(curve: Facts) -> str:
    if len(curve["dots"]) < 2:
        return ""
    dots = "".join(
        f'<circle cx="{dot["x"]}" cy="{dot["y"]}" r="2.5"'
        + ("" if dot["kept"] else ' class="dspex-not"')
        + f"><title>{escape(dot['said'])}</title></circle>"
        for dot in curve["dots"]
    )
    ends = said("span", "dspex-muted", f"{curve['low']} … {curve['high']}")
    box = f'viewBox="0 0 {WIDTH:g} {HEIGHT:g}" width="{WIDTH:g}" height="{HEIGHT:g}" role="img" aria-label="scores"'
    line = f'<polyline points="{escape(curve["line"])}"/>' if curve["line"] else ""
    return tag("div", "dspex-scores", f'<svg {SVG} class="dspex-curve" {box}>{line}{dots}</svg>{ends}')


def _candidate(shown: Facts) -> str:
    if not shown["lines"]:
        return ""
    marks = {"+": "dspex-added", "-": "dspex-removed", "@": "dspex-part"}
    # No line ends between them: blanks are kept here.
    lines = "".join(
        said("div", marks.get(sign, ""), text if sign == "@" else f"{sign} {text}").strip() for sign, text in shown["lines"]
    )
    return _fold(shown["said"], tag("div", "dspex-diff", lines), True)


def _table(facts: Facts) -> str:
    if not facts["trials"]:
        return ""
    titles = "".join(f"<th>{title}</th>" for title in COLUMNS)
    rows = "".join(
        ('<tr class="dspex-best">' if row["best"] else "<tr>")
        + "".join(f"<td>{escape(str(row[key]))}</td>" for key in _KEYS)
        + "</tr>\n"
        for row in facts["trials"]
    )
    table = f'<table class="dspex-trials"><thead><tr>{titles}</tr></thead><tbody>\n{rows}</tbody></table>'
    more = said("div", "dspex-muted", f"{facts['hidden']:,} earlier trials") if facts["hidden"] else ""
    return _fold(f"Trials ({len(facts['trials']) + facts['hidden']:,})", tag("div", "dspex-scroll", more + table))


def _fold(title: str, content: str, opened: bool = False) -> str:
    return f"<details{' open' if opened else ''}>{said('summary', '', title)}{content}</details>"


def job_text(facts: Facts) -> str:
    """Return a job as a few lines of text."""
    head = facts["head"]
    words = [head["state"], *(head[word] for word in _WORDS if head[word])]
    lines = [f"Job {head['number']}: {head['kind']} {head['name']} · {' · '.join(words)}"]
    lines += [f"  {head[key]}" for key in ("note", "adopted", "error") if head[key]]
    return "\n".join(lines)
