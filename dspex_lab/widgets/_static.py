"""Pictures of pipelines and runs as plain strings: HTML for a cell's saved output and for reports, SVG for files.

No widget library, no script, no request: what is not markup of ours is escaped, and styles are inlined. The look is
that of the live widgets, whose style sheet and geometry they share. Steps unfold without a script. A
notebook that is not trusted is shown without styles and drawings but with their text, so there is some between the
parts, where a drawing does not show it.
"""

from __future__ import annotations

from dspex_lab.widgets import _format, _text
from dspex_lab.widgets._layout import fit, layout, text_width
from dspex_lab.widgets._picture import (
    State,
    css_of,
    drawing,
    error_of,
    escape,
    fields,
    legend,
    lines,
    nodes_of,
    said,
    stage,
    style,
    svg,
    tag,
)

__all__ = ["graph_html", "graph_svg", "graph_text", "run_html", "run_svg", "run_text"]

_MARGIN, _CAPTION, _LEGEND = 8.0, 40.0, 20.0
#: Pixels of a cell's output or a printed page: what is wider there is scrolled, or cut off.
_PAGE = 880.0


def _boxes(graph: State, geometry: State, steps: State, rows: State | None) -> str:
    """Return the graph as the content of an SVG document."""
    nodes = nodes_of(graph)
    parts = [lines(geometry, steps)]
    for place in geometry["nodes"]:
        node, step = nodes[place["name"]], steps.get(place["name"])
        within = lines(geometry, steps, place) if place["group"] else ""
        title = f"<title>{error_of(step) or escape(_about(place, node))}</title>"
        at = f'transform="translate({place["x"]:g} {place["y"]:g})"'
        parts.append(f'<g class="{css_of(place, step)}" {at}>{title}{drawing(place, node, step, rows, within)}</g>')
    return "".join(parts)


def _about(place: State, node: State) -> str:
    """Return all that is known of a step, in lines."""
    takes, gives = (", ".join(map(str, node.get(k) or ())) or "nothing" for k in ("inputs", "outputs"))
    facts = [f"{term}: {value}" for term, value in place["facts"]]
    return "\n".join([f"{place['name']} ({_text.nature(node)})", f"takes {takes}; gives {gives}", *facts])


def _about_all(graph: State, geometry: State) -> str:
    """Return a graph in words, for those who cannot see it."""
    nodes = nodes_of(graph)
    takes, gives = (", ".join(map(str, graph.get(k) or ())) or "nothing" for k in ("inputs", "outputs"))
    steps = [f"{p['name']} ({_text.nature(nodes[p['name']])})" for p in geometry["nodes"]]
    links = [f"{e['from']} to {e['to']} ({', '.join(e['fields'])})" for e in geometry["edges"] if e["from"]]
    joined = f" Lines: {'; '.join(links)}." if links else ""
    return f"Takes {takes}; gives {gives}. {len(steps)} steps: {', '.join(steps) or 'none'}.{joined}"


def _legend_rows(geometry: State, width: float) -> list[list[tuple[float, State]]]:
    """Return the legend in rows of that width: where each kind begins, and the kind."""
    rows: list[list[tuple[float, State]]] = [[]]
    x = 0.0
    for kind in geometry["legend"]:
        wide = text_width(kind["word"], 11) + 38
        if rows[-1] and x + wide > width:
            rows.append([])
            x = 0.0
        rows[-1].append((x, kind))
        x += wide
    return rows


def _legend_svg(rows: list[list[tuple[float, State]]], top: float) -> str:
    parts = []
    for row, entries in enumerate(rows):
        for x, kind in entries:
            parts.append(
                f'<g class="dspex-kind-{kind["kind"]}" transform="translate({_MARGIN + x:g} {top + _LEGEND * row:g})">'
                f'<path class="dspex-icon" d="{kind["icon"]}" fill="none" stroke="#666"/>'
                f'<text class="dspex-line" x="20" y="11" font-size="11">{escape(kind["word"])}</text></g>'
            )
    return "".join(parts)


def _takes_gives(graph: State) -> str:
    takes, gives = (", ".join(map(str, graph.get(k) or ())) or "nothing" for k in ("inputs", "outputs"))
    return f"takes {takes} · gives {gives}"


def graph_svg(graph: State) -> str:
    """Return the picture of a pipeline (as ``Pipeline.graph()`` gives it) as one SVG document, styles included."""
    geometry = layout(graph)
    name = str(graph.get("name", ""))
    width = max(geometry["width"], 240.0) + 2 * _MARGIN
    rows = _legend_rows(geometry, width - 2 * _MARGIN)
    low = _CAPTION + geometry["height"] + _MARGIN
    height = low + (_LEGEND * len(rows) + _MARGIN if rows[0] else 0)
    room = width - 2 * _MARGIN - 8
    caption, fields_line = escape(fit(name, 14, room)), escape(fit(_takes_gives(graph), 11, room))
    content = (
        f"<title>Pipeline {escape(name)}</title><desc>{escape(_about_all(graph, geometry))}</desc>{style()}"
        f'<rect class="dspex-paper" width="{width:g}" height="{height:g}" rx="8" fill="#fff"/>'
        f'<text class="dspex-caption" x="{_MARGIN + 4:g}" y="19" font-size="14">{caption}</text>'
        f'<text class="dspex-line" x="{_MARGIN + 4:g}" y="34" font-size="11">{fields_line}</text>'
        f'<g transform="translate({_MARGIN:g} {_CAPTION:g})">{_boxes(graph, geometry, {}, None)}</g>'
        f"{_legend_svg(rows, low)}"
    )
    label = f' role="img" aria-label="{escape(f"Pipeline {name}")}" font-family="system-ui, sans-serif"'
    return svg("dspex-run dspex-graph dspex-plan", width, height, label, content)


def run_svg(graph: State, steps: State, summary: State) -> str:
    """Return the graph of a run as it stands as one SVG document, styles included."""
    geometry = layout(graph)
    content = style() + _boxes(graph, geometry, steps, summary["rows"])
    name = escape(f"Steps of {graph.get('name', '')}")
    label = f' role="img" aria-label="{name}" font-family="system-ui, sans-serif"'
    return svg("dspex-run dspex-graph", geometry["width"], geometry["height"], label, f"<title>{name}</title>{content}")


def _head(summary: State) -> str:
    status = summary["status"]
    icon = f'<svg width="14" height="14" aria-hidden="true"><path class="dspex-icon" d="{_text.ICONS[status]}"/></svg>'
    return tag(
        "div",
        "dspex-head",
        said("strong", "dspex-name", summary["name"]),
        tag("span", f"dspex-state dspex-is-{status}", icon, _text.WORDS[status]),
        said("span", "dspex-time", _format.seconds(summary["seconds"])),
        '<span class="dspex-spring"></span>',
        said("span", "dspex-lm", summary["lm"] or ""),
        said("span", "dspex-badge", "offline, simulated" if summary["simulated"] else ""),
        said("span", "dspex-tokens", _text.tokens_text(summary)),
        said("span", "dspex-cost", _text.cost_text(summary)),
    )


def _rows(rows: State | None) -> str:
    if rows is None:
        return ""
    kinds = zip(("complete", "partial", "failed"), _text.shares(rows), strict=True)
    parts = "".join(f'<i class="dspex-part-{kind}" style="width:{share:.2f}%"></i>' for kind, share in kinds)
    return tag("div", "dspex-rows", tag("div", "dspex-bar", parts), said("div", "dspex-rows-text", _text.rows_text(rows)))


def _notes(summary: State) -> str:
    notes, budgets = _text.notes_text(summary["notes"]), _text.budget_text(summary["budgets"])
    if not notes and not budgets:
        return ""
    return tag("div", "dspex-notes", said("span", "dspex-noted", notes), said("span", "dspex-budget", budgets))


def _frame(css: str, label: str, *content: str) -> str:
    return f'<div class="{css}" role="group" aria-label="{escape(label)}">{style()}{"".join(content)}</div>'


def graph_html(graph: State) -> str:
    """Return the picture of a pipeline (as ``Pipeline.graph()`` gives it), whose steps unfold their fields and options."""
    name = str(graph.get("name", ""))
    geometry = layout(graph, width=_PAGE)
    takes, produced = (fields([str(n) for n in graph.get(k) or ()]) for k in ("inputs", "outputs"))
    head = tag(
        "div", "dspex-head", said("strong", "dspex-name", name), tag("span", "dspex-muted", f"takes {takes} gives {produced}")
    )
    return _frame("dspex-run dspex-plan", f"Pipeline {name}", head, stage(graph, geometry, {}, None), legend(geometry))


def graph_text(graph: State) -> str:
    """Return a pipeline in one line: ``support: takes message · gives reply · 3 steps``."""
    count = sum(1 for _ in nodes_of(graph))
    return f"{graph.get('name', '')}: {_takes_gives(graph)} · {count} step{'' if count == 1 else 's'}"


def run_html(graph: State, steps: State, summary: State) -> str:
    """Return a run or a map as it stands: header, progress, graph with details to unfold, error."""
    return _frame(
        "dspex-run",
        f"Run of {summary['name']}",
        _head(summary),
        _rows(summary["rows"]),
        _notes(summary),
        stage(graph, layout(graph, width=_PAGE), steps, summary["rows"]),
        said("div", "dspex-error", _text.error_text(summary)),
    )


def run_text(summary: State) -> str:
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
        _text.budget_text(summary["budgets"]),
        lm,
        _text.notes_text(summary["notes"]),
        _text.error_text(summary),
    ]
    return " · ".join(p for p in parts if p)
