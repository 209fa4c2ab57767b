"""Looks of the dashboards: one set of colours that follows JupyterLab's theme, or else the system's light or dark."""

from __future__ import annotations

#: Colours of status, readable on light and on dark ground.
STATUS_COLOURS = {
    "complete": "#2a9d68",
    "partial": "#d9902f",
    "failed": "#d64550",
    "cancelled": "#8a8f98",
    "interrupted": "#9b5fc0",
}
#: Colours of kinds of span and of paired values.
INK, PALE, THIRD = "#3b7dd8", "#9cc1f0", "#e0a03b"
#: Grey that reads on both grounds, for the text and the lines of charts.
GREY, LINE = "#838a95", "#83889533"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

VARIABLES = """
:host {
  --dx-fg: var(--jp-content-font-color1, light-dark(#1f2430, #e4e7ec));
  --dx-dim: var(--jp-content-font-color2, light-dark(#667080, #9aa3b0));
  --dx-bg: var(--jp-layout-color1, light-dark(#ffffff, #1d2026));
  --dx-ground: var(--jp-layout-color0, light-dark(#f5f6f8, #14161a));
  --dx-line: var(--jp-border-color2, light-dark(#dfe3e8, #343943));
  --dx-hover: var(--jp-layout-color2, light-dark(#eef1f5, #2a2f38));
  --dx-chosen: color-mix(in srgb, #3b7dd8 24%, var(--dx-bg));
  color: var(--dx-fg); font-family: FONT; font-size: 13px;
}
""".replace("FONT", FONT)

PAGE = (
    VARIABLES
    + """
:host { background: var(--dx-ground); padding: 14px 18px 22px; box-sizing: border-box; gap: 12px; }
"""
)

CARD = (
    VARIABLES
    + """
:host { background: var(--dx-bg); border: 1px solid var(--dx-line); border-radius: 8px;
  padding: 12px 14px; box-sizing: border-box; }
"""
)

GRID = (
    VARIABLES
    + """
:host { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(340px, 100%), 1fr)); gap: 12px; }
"""
)

TEXT = (
    VARIABLES
    + """
h1 { font-size: 19px; margin: 0; font-weight: 650; overflow-wrap: anywhere; }
h2 { font-size: 14px; margin: 0; font-weight: 620; overflow-wrap: anywhere; }
p { margin: 6px 0 0; } .dim { color: var(--dx-dim); font-weight: 400; }
.top { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 14px; }
.facts { display: flex; flex-wrap: wrap; gap: 10px; margin-top: 12px; }
.fact { background: var(--dx-bg); border: 1px solid var(--dx-line); border-radius: 8px; padding: 8px 14px; min-width: 96px; }
.fact b { display: block; font-size: 20px; font-weight: 620; font-variant-numeric: tabular-nums; white-space: nowrap; }
.fact span { color: var(--dx-dim); font-size: 12px; }
.bad b { color: #d64550; }
.note { border-left: 3px solid #d9902f; padding: 6px 10px; margin-top: 12px; background: var(--dx-bg); }
.empty { text-align: center; padding: 28px 12px; } .empty pre { display: inline-block; text-align: left; }
pre, code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 12px; }
pre { background: var(--dx-ground); color: var(--dx-fg); border: 1px solid var(--dx-line); border-radius: 6px;
  padding: 8px 10px;
  margin: 6px 0; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 320px; overflow: auto; }
details { border-top: 1px solid var(--dx-line); padding: 7px 0; } summary { cursor: pointer; overflow-wrap: anywhere; }
.role { color: var(--dx-dim); font-size: 11px; text-transform: uppercase; letter-spacing: .04em; margin-top: 8px; }
.error { color: #d64550; overflow-wrap: anywhere; white-space: pre-wrap; }
table.plain { border-collapse: collapse; width: 100%; margin-top: 6px; }
table.plain td, table.plain th { text-align: left; padding: 4px 10px 4px 0; font-weight: 400; overflow-wrap: anywhere; }
table.plain th { color: var(--dx-dim); font-size: 12px; } table.plain td { border-top: 1px solid var(--dx-line); }
.live { display: inline-block; width: 8px; height: 8px; border-radius: 50%; background: #3b7dd8; margin-right: 6px; }
"""
)

TABLE = (
    VARIABLES
    + """
.tabulator { background: var(--dx-bg); border: none; font-size: 13px; color: var(--dx-fg); }
.tabulator .tabulator-header, .tabulator .tabulator-header .tabulator-header-contents,
.tabulator .tabulator-header .tabulator-col {
  background: var(--dx-bg) !important; color: var(--dx-dim) !important; border-color: var(--dx-line); font-weight: 500; }
.tabulator .tabulator-header .tabulator-col { border-right: none !important; }
.tabulator .tabulator-tableholder { background: var(--dx-bg); }
.tabulator .tabulator-tableholder .tabulator-table { background: var(--dx-bg); color: var(--dx-fg); }
.tabulator .tabulator-row, .tabulator .tabulator-row.tabulator-row-even {
  background: var(--dx-bg); color: var(--dx-fg); border-bottom: 1px solid var(--dx-line); min-height: 28px; }
.tabulator .tabulator-row .tabulator-cell { border-right: none; padding: 5px 8px; }
.tabulator .tabulator-row:hover { background: var(--dx-hover) !important; color: var(--dx-fg); cursor: pointer; }
"""
)

PAGES = (
    VARIABLES
    + """
.bk-btn-group .bk-btn { background: var(--dx-bg) !important; color: var(--dx-fg) !important;
  border: 1px solid var(--dx-line) !important; box-shadow: none !important; font-size: 13px; }
.bk-btn-group .bk-btn:hover { background: var(--dx-hover) !important; }
.bk-btn-group .bk-btn.bk-active { background: var(--dx-chosen) !important; font-weight: 600; outline: none; }
.bk-btn-group .bk-btn:focus-visible { outline: 2px solid #3b7dd8; }
"""
)

#: A page among others: its sections stand apart as those of the whole do.
SHEET = (
    VARIABLES
    + """
:host { gap: 12px; }
"""
)

FIELD = (
    VARIABLES
    + """
.bk-input { background: var(--dx-bg); color: var(--dx-fg); border: 1px solid var(--dx-line); border-radius: 6px; }
select.bk-input { appearance: auto; background-image: none; }
label { color: var(--dx-dim); font-size: 12px; }
"""
)

#: For a page of its own; a page inside a notebook has the notebook's ground.
DOCUMENT = """
:root { color-scheme: light dark; }
html, body { margin: 0 !important; padding: 0 !important; background: light-dark(#f5f6f8, #14161a) !important; }
"""
