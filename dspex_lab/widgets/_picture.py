"""A graph's boxes, lines and details as markup, for pipelines and runs alike."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from dspex_lab.widgets import _format, _text
from dspex_lab.widgets._nodes import walk

__all__ = [
    "SVG",
    "State",
    "css_of",
    "drawing",
    "error_of",
    "escape",
    "fields",
    "legend",
    "lines",
    "nodes_of",
    "said",
    "stage",
    "style",
    "svg",
    "tag",
]

State = Mapping[str, Any]
SVG = 'xmlns="http://www.w3.org/2000/svg"'


#: What XML has no way to write.
_UNWRITABLE = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


def escape(text: str) -> str:
    """Return text as markup that says just that, in HTML and in XML."""
    return html.escape(_UNWRITABLE.sub("\ufffd", text))


@cache
def style() -> str:
    """Return the style sheet of the widgets, as an element."""
    return f"<style>{(files('dspex_lab') / 'static' / 'run.css').read_text(encoding='utf-8').strip()}</style>"


def tag(name: str, css: str, *content: str) -> str:
    """Return an element around markup."""
    return f'<{name} class="{css}">{"".join(content)}</{name}>\n'


def said(name: str, css: str, text: str) -> str:
    """Return an element around text, or nothing for no text."""
    return tag(name, css, escape(text)) if text else ""


def svg(css: str, width: float, height: float, more: str, content: str) -> str:
    """Return an SVG element of that size in pixels."""
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    return f'<svg {SVG} class="{css}" {size}{more}>{content}</svg>'


def nodes_of(graph: State) -> dict[str, State]:
    """Return a graph's nodes by their full names."""
    return dict(walk(graph))


# --- boxes and lines ------------------------------------------------------------------------------------------------


def _bars(step: State, rows: State | None, width: float, height: float) -> str:
    if not rows or not rows["total"]:
        return ""
    room, total = width - 16, rows["total"]
    done = min(room * (step["complete"] + step["partial"] + step["skipped"]) / total, room)
    bad = min(room * step["failed"] / total, room - done)
    at = f'y="{height - 4:g}" height="2"'
    return (
        f'<rect class="dspex-done" x="8" {at} width="{done:.1f}" rx="1"/>'
        f'<rect class="dspex-bad" x="{8 + done:.1f}" {at} width="{bad:.1f}"/>'
    )


def _badge(place: State) -> str:
    if not place["badge"]:
        return ""
    width = place["badge_width"]
    return (
        f'<g class="dspex-pool" transform="translate({place["width"] - width - 9:g} 24)">'
        f'<rect width="{width:g}" height="14" rx="7" fill="#eee"/>'
        f'<text x="{width / 2:g}" y="10.5" font-size="10" text-anchor="middle">{escape(place["badge"])}</text></g>'
    )


def drawing(place: State, node: State, step: State | None, rows: State | None, within: str = "") -> str:
    """Return a step's box, its upper left corner at 0, 0; ``within`` stands between the box and its words.

    Fills and strokes are given twice, for programs that know no style sheets.
    """
    width, height = place["width"], place["height"]
    failed = f"{step['failed']} ✕" if rows and step and step["failed"] else ""
    icon = _text.ICONS[step["status"]] if step else place["icon"]
    line = _text.step_line(node, step, rows is not None) if step else place["line"]
    line = place["nature"] if line == _text.nature(node) else line  # the same, fitted
    count = f'<text class="dspex-count" x="{width - 10:g}" y="19" text-anchor="end">{failed}</text>' if failed else ""
    behind = f'<path class="dspex-behind" transform="translate(4 4)" d="{place["shape"]}" fill="#fff" stroke="#aaa"/>'
    return (
        f"{behind if place['folded'] else ''}"
        f'<path class="dspex-box" d="{place["shape"]}" fill="#fff" stroke="#888"/>{within}'
        f'<g transform="translate(9 8)"><path class="dspex-icon" d="{icon}" fill="none" stroke="#666"/></g>'
        f'<text class="dspex-label" x="29" y="19" font-size="13">{escape(place["label"])}</text>: '
        f'<text class="dspex-line" x="29" y="34" font-size="11">{escape(line)}</text> '
        f"{_badge(place) if step is None else ''}{count}{_bars(step, rows, width, height) if step else ''}"
    )


def _input(place: State) -> str:
    width, height = place["width"], place["height"]
    return (
        f'<g class="dspex-input" transform="translate({place["x"]:g} {place["y"]:g})">'
        f"<title>{escape(place['name'])}</title>"
        f'<rect width="{width:g}" height="{height:g}" rx="{height / 2:g}" fill="#eee"/>'
        f'<text x="{width / 2:g}" y="15" font-size="11" text-anchor="middle">{escape(place["label"])}</text>; </g>'
    )


def _edge(edge: State, steps: State, x: float, y: float) -> str:
    status = steps[edge["to"]]["status"] if edge["to"] in steps else "waiting"
    dx, dy = edge["dx"] - x, edge["dy"] - y
    moved = f' transform="translate({dx:g} {dy:g})"' if dx or dy else ""
    return (
        f'<g class="dspex-link"{moved}><title>{escape(", ".join(edge["fields"]))}</title>'
        f'<path class="dspex-edge dspex-to-{status}" d="{edge["path"]}" fill="none" stroke="#999"/>'
        f'<path class="dspex-hit" d="{edge["path"]}" fill="none"/></g>'
    )


def lines(geometry: State, steps: State, parent: State | None = None) -> str:
    """Return the lines between steps, and the pipeline's inputs; or the lines in an outer step's box, seen from it."""
    name, x, y = (parent["name"], parent["x"], parent["y"]) if parent else ("", 0.0, 0.0)
    edges = "".join(_edge(edge, steps, x, y) for edge in geometry["edges"] if edge["parent"] == name)
    return edges if parent else edges + "".join(_input(place) for place in geometry["inputs"])


def css_of(place: State, step: State | None) -> str:
    """Return the classes of a step's box: its kind, its state, whether it holds others."""
    group = " dspex-group" if place["group"] else ""
    return f"dspex-node dspex-is-{step['status'] if step else 'waiting'} dspex-kind-{place['kind']}{group}"


def error_of(step: State | None) -> str:
    """Return a step's most frequent error, escaped, or nothing."""
    return escape(step["errors"][0]["text"]) if step and step["errors"] else ""


def legend(geometry: State) -> str:
    """Return what icons and colours mean, for the kinds there are."""
    parts = []
    for kind in geometry["legend"]:
        icon = f'<svg width="14" height="14" aria-hidden="true"><path class="dspex-icon" d="{kind["icon"]}"/></svg>'
        parts.append(tag("span", f"dspex-kind-{kind['kind']}", icon, escape(kind["word"])))
    return tag("div", "dspex-legend", *parts) if parts else ""


# --- details ----------------------------------------------------------------------------------------------------------


def _term(term: str, value: str) -> str:
    return f"<div><dt>{escape(term)}</dt><dd>{value}</dd></div>"


def fields(names: list[str]) -> str:
    """Return the names of fields."""
    return "".join(f"<code>{escape(n)}</code>" for n in names) or "–"


def _facts(place: State, node: State, step: State | None, is_map: bool) -> str:
    terms = [_term("Takes", fields(node.get("inputs") or [])), _term("Gives", fields(node.get("outputs") or []))]
    if step is not None:
        many = is_map or step["times"] > 1
        if many and _text.outcomes(step):
            terms.append(_term("Rows" if is_map else "Times", _text.outcomes(step)))
        if step["seconds"] is not None:
            terms.append(_term("Mean time" if many else "Time", escape(_format.seconds(step["seconds"]))))
        if step["calls"]:
            terms.append(_term("LM", " · ".join(t for t in (_text.calls_text(step), _text.cost_text(step)) if t)))
            prompt, completion = step["prompt_tokens"], step["completion_tokens"]
            text = f"{_format.count(prompt + completion)} ({_format.count(prompt)} in, {_format.count(completion)} out)"
            terms.append(_term("Tokens", text))
        terms += [_term(t, escape(step[k])) for t, k in (("Ran by", "implementation"), ("Worker", "worker")) if step[k]]
    terms += [_term(term, escape(value)) for term, value in place["facts"]]
    return f"<dl>{''.join(terms)}</dl>"


def _error(error: State) -> str:
    times = f"{_format.count(error['count'])} × " if error["count"] > 1 else ""
    return f"<pre>{escape(times + error['text'])}</pre>"


def _details(place: State, node: State, step: State | None, is_map: bool) -> str:
    words = " · ".join(t for t in (_text.WORDS[step["status"]].lower() if step else "", _text.nature(node)) if t)
    errors = [_error(e) for e in (step["errors"] if step else ())]
    name = said("strong", "dspex-name", str(place["name"]))
    head = tag("div", "dspex-details-head", name, said("span", "dspex-muted", words))
    return tag("div", "dspex-details", head, _facts(place, node, step, is_map), *errors)


def stage(graph: State, geometry: State, steps: State, rows: State | None) -> str:
    """Return the graph as HTML: the box of a step is the summary of its details, which unfold under the graph."""
    nodes = nodes_of(graph)
    width, height = geometry["width"], geometry["height"]
    parts = [svg("dspex-graph", width, height, ' aria-hidden="true"', lines(geometry, steps))]
    for place in geometry["nodes"]:
        node, step = nodes[place["name"]], steps.get(place["name"])
        within = lines(geometry, steps, place) if place["group"] else ""
        content = drawing(place, node, step, rows, within)
        box = svg("dspex-graph", place["width"], place["height"], ' aria-hidden="true"', content)
        label = escape(_text.step_label({**node, "name": place["name"]}, step, rows is not None))
        where = f"left:{place['x']:g}px;top:{place['y']:g}px"
        parts.append(
            f'<details class="{css_of(place, step)}"><summary style="{where}" aria-label="{label}" title="{error_of(step)}">'
            f"{box}</summary>{_details(place, node, step, rows is not None)}</details>\n"
        )
    content = "".join(parts)
    return tag(
        "div",
        "dspex-scroll",
        f'<div class="dspex-stage" data-lm-suppress-shortcuts="true" style="width:{width:g}px">{content}</div>',
    )
