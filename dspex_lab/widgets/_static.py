"""Pictures of pipelines and runs as plain strings: HTML for a cell's saved output and for reports, SVG for files.

No widget library, no script, no request: what is not markup of ours is escaped, and styles are inlined. The look is
that of the live widget, whose style sheet and geometry they share. Steps unfold without a script. A
notebook that is not trusted is shown without styles and drawings but with their text, so there is some between the
parts, where a drawing does not show it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from dspex_lab.widgets import _format, _text
from dspex_lab.widgets._layout import layout

__all__ = ["graph_html", "graph_svg", "run_html", "run_svg", "run_text"]

_State = Mapping[str, Any]
_SVG = 'xmlns="http://www.w3.org/2000/svg"'


@cache
def _style() -> str:
    return f"<style>{(files('dspex_lab') / 'static' / 'run.css').read_text(encoding='utf-8').strip()}</style>"


def _tag(name: str, css: str, *content: str) -> str:
    return f'<{name} class="{css}">{"".join(content)}</{name}>\n'


def _said(name: str, css: str, text: str) -> str:
    return _tag(name, css, escape(text)) if text else ""


def _bars(step: _State, rows: _State | None, width: float, height: float) -> str:
    if not rows or not rows["total"]:
        return ""
    room, total = width - 16, rows["total"]
    done = min(room * (step["complete"] + step["skipped"]) / total, room)
    bad = min(room * step["failed"] / total, room - done)
    place = f'y="{height - 4:g}" height="2"'
    return (
        f'<rect class="dspex-done" x="8" {place} width="{done:.1f}" rx="1"/>'
        f'<rect class="dspex-bad" x="{8 + done:.1f}" {place} width="{bad:.1f}"/>'
    )


def _drawing(place: _State, node: _State, step: _State | None, rows: _State | None) -> str:
    width, height = place["width"], place["height"]
    failed = f"{step['failed']} ✕" if rows and step and step["failed"] else ""
    icon = f'<g transform="translate(9 8)"><path class="dspex-icon" d="{_text.ICONS[step["status"]]}"/></g>' if step else ""
    left = 29 if step else 12
    return (
        f'<rect class="dspex-box" width="{width:g}" height="{height:g}" rx="7"/>{icon}'
        f'<text class="dspex-label" x="{left}" y="19">{escape(place["label"])}</text>: '
        f'<text class="dspex-line" x="{left}" y="34">{escape(_text.step_line(node, step, rows is not None))}</text> '
        f'<text class="dspex-count" x="{width - 10:g}" y="19" text-anchor="end">{failed}</text>'
        f"{_bars(step, rows, width, height) if step else ''}"
    )


def _input(place: _State) -> str:
    width, height = place["width"], place["height"]
    return (
        f'<g class="dspex-input" transform="translate({place["x"]:g} {place["y"]:g})">'
        f'<rect width="{width:g}" height="{height:g}" rx="{height / 2:g}"/>'
        f'<text x="{width / 2:g}" y="15" text-anchor="middle">{escape(place["label"])}</text>; </g>'
    )


def _class(step: _State | None) -> str:
    return f"dspex-node dspex-is-{step['status'] if step else 'waiting'}"


def _error_of(step: _State | None) -> str:
    return escape(step["errors"][0]["text"]) if step and step["errors"] else ""


def _lines(geometry: _State, steps: _State) -> str:
    """The edges and the pipeline's inputs."""
    parts = []
    for edge in geometry["edges"]:
        status = steps[edge["to"]]["status"] if edge["to"] in steps else "waiting"
        parts.append(f'<path class="dspex-edge dspex-to-{status}" d="{edge["path"]}"/>')
    return "".join([*parts, *(_input(place) for place in geometry["inputs"])])


def _svg(css: str, width: float, height: float, more: str, content: str) -> str:
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    return f'<svg {_SVG} class="{css}" {size}{more}>{content}</svg>'


def _document(graph: _State, steps: _State, rows: _State | None) -> str:
    """The whole graph as one SVG document, styles included."""
    geometry = layout(graph)
    nodes = _nodes(graph)
    parts = [_style(), _lines(geometry, steps)]
    for place in geometry["nodes"]:
        step, error = steps.get(place["name"]), _error_of(steps.get(place["name"]))
        title = f"<title>{error}</title>" if error else ""
        drawing = _drawing(place, nodes[place["name"]], step, rows)
        parts.append(f'<g class="{_class(step)}" transform="translate({place["x"]:g} {place["y"]:g})">{title}{drawing}</g>')
    name = f"Steps of {graph.get('name', '')}"
    label = f' role="img" aria-label="{escape(name)}"'
    return _svg("dspex-run dspex-graph", geometry["width"], geometry["height"], label, "".join(parts))


def _stage(graph: _State, steps: _State, rows: _State | None) -> str:
    """The graph as HTML: the box of a step is the summary of its details, which unfold under the graph."""
    geometry = layout(graph)
    nodes = _nodes(graph)
    width, height = geometry["width"], geometry["height"]
    parts = [_svg("dspex-graph", width, height, ' aria-hidden="true"', _lines(geometry, steps))]
    for place in geometry["nodes"]:
        node, step = nodes[place["name"]], steps.get(place["name"])
        drawing = _svg("dspex-graph", place["width"], place["height"], ' aria-hidden="true"', _drawing(place, node, step, rows))
        label = escape(_text.step_label(node, step, rows is not None))
        where = f"left:{place['x']:g}px;top:{place['y']:g}px"
        parts.append(
            f'<details class="{_class(step)}"><summary style="{where}" aria-label="{label}" title="{_error_of(step)}">{drawing}'
            f"</summary>{_step(node, step, rows is not None)}</details>\n"
        )
    stage = f'<div class="dspex-stage" data-lm-suppress-shortcuts="true" style="width:{width:g}px">{"".join(parts)}</div>'
    return _tag("div", "dspex-scroll", stage)


def _nodes(graph: _State) -> dict[str, _State]:
    return {str(n["name"]): n for n in graph.get("nodes", ())}


def _head(summary: _State) -> str:
    status = summary["status"]
    icon = f'<svg width="14" height="14" aria-hidden="true"><path class="dspex-icon" d="{_text.ICONS[status]}"/></svg>'
    return _tag(
        "div",
        "dspex-head",
        _said("strong", "dspex-name", summary["name"]),
        _tag("span", f"dspex-state dspex-is-{status}", icon, _text.WORDS[status]),
        _said("span", "dspex-time", _format.seconds(summary["seconds"])),
        '<span class="dspex-spring"></span>',
        _said("span", "dspex-lm", summary["lm"] or ""),
        _said("span", "dspex-badge", "offline, simulated" if summary["simulated"] else ""),
        _said("span", "dspex-tokens", _text.tokens_text(summary)),
        _said("span", "dspex-cost", _text.cost_text(summary)),
    )


def _rows(rows: _State | None) -> str:
    if rows is None:
        return ""
    kinds = zip(("complete", "partial", "failed"), _text.shares(rows), strict=True)
    parts = "".join(f'<i class="dspex-part-{kind}" style="width:{share:.2f}%"></i>' for kind, share in kinds)
    return _tag("div", "dspex-rows", _tag("div", "dspex-bar", parts), _said("div", "dspex-rows-text", _text.rows_text(rows)))


def _term(term: str, value: str) -> str:
    return f"<div><dt>{term}</dt><dd>{value}</dd></div>"


def _fields(names: list[str]) -> str:
    return "".join(f"<code>{escape(n)}</code>" for n in names) or "–"


def _facts(node: _State, step: _State | None, is_map: bool) -> str:
    terms = [_term("Takes", _fields(node.get("inputs") or [])), _term("Gives", _fields(node.get("outputs") or []))]
    if step is not None:
        if is_map and _text.outcomes(step):
            terms.append(_term("Rows", _text.outcomes(step)))
        if step["seconds"] is not None:
            terms.append(_term("Mean time" if is_map else "Time", escape(_format.seconds(step["seconds"]))))
        if step["calls"]:
            terms.append(_term("LM", " · ".join(t for t in (_text.calls_text(step), _text.cost_text(step)) if t)))
            prompt, completion = step["prompt_tokens"], step["completion_tokens"]
            text = f"{_format.count(prompt + completion)} ({_format.count(prompt)} in, {_format.count(completion)} out)"
            terms.append(_term("Tokens", text))
        terms += [_term(t, escape(step[k])) for t, k in (("Ran by", "implementation"), ("Worker", "worker")) if step[k]]
    return f"<dl>{''.join(terms)}</dl>"


def _error(error: _State) -> str:
    times = f"{_format.count(error['count'])} × " if error["count"] > 1 else ""
    return f"<pre>{escape(times + error['text'])}</pre>"


def _step(node: _State, step: _State | None, is_map: bool) -> str:
    words = " · ".join(t for t in (_text.WORDS[step["status"]].lower() if step else "", _text.nature(node)) if t)
    errors = [_error(e) for e in (step["errors"] if step else ())]
    name = _said("strong", "dspex-name", str(node["name"]))
    head = _tag("div", "dspex-details-head", name, _said("span", "dspex-muted", words))
    return _tag("div", "dspex-details", head, _facts(node, step, is_map), *errors)


def _frame(label: str, *content: str) -> str:
    return f'<div class="dspex-run" role="group" aria-label="{escape(label)}">{_style()}{"".join(content)}</div>'


def graph_html(graph: _State) -> str:
    """Return the picture of a pipeline (as ``Pipeline.graph()`` gives it), whose steps unfold their fields."""
    name = str(graph.get("name", ""))
    produced = _fields(list(graph.get("outputs") or []))
    head = _tag(
        "div",
        "dspex-head",
        _said("strong", "dspex-name", name),
        _tag("span", "dspex-muted", f"takes {_fields(list(graph.get('inputs') or []))} gives {produced}"),
    )
    return _frame(f"Pipeline {name}", head, _stage(graph, {}, None))


def graph_svg(graph: _State) -> str:
    """Return the picture of a pipeline as one SVG document, styles included."""
    return _document(graph, {}, None)


def run_html(graph: _State, steps: _State, summary: _State) -> str:
    """Return a run or a map as it stands: header, progress, graph with details to unfold, error."""
    return _frame(
        f"Run of {summary['name']}",
        _head(summary),
        _rows(summary["rows"]),
        _stage(graph, steps, summary["rows"]),
        _said("div", "dspex-error", _text.error_text(summary)),
    )


def run_svg(graph: _State, steps: _State, summary: _State) -> str:
    """Return the graph of a run as it stands as one SVG document, styles included."""
    return _document(graph, steps, summary["rows"])


def run_text(summary: _State) -> str:
    """Return a run in one line: ``support: complete · 3.2 s · 1,204 tokens · exemplar (offline, simulated)``."""
    lm = summary["lm"] or ""
    if summary["simulated"]:
        lm = f"{lm} (offline, simulated)".strip()
    rows = _text.rows_text(summary["rows"]) if summary["rows"] is not None else ""
    parts = [
        f"{summary['name']}: {_text.WORDS[summary['status']].lower()}",
        _format.seconds(summary["seconds"]),
        rows,
        _text.tokens_text(summary),
        _text.cost_text(summary),
        lm,
        _text.error_text(summary),
    ]
    return " · ".join(p for p in parts if p)
