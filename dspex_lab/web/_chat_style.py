"""Looks of the chat page: the colours of the dashboards, and its pictures, which are part of the page."""

from __future__ import annotations

from dspex_lab.dashboards import FIELD, VARIABLES

_SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" width="1em" height="1em" fill="none" stroke="currentColor" '
    'stroke-width="2" stroke-linecap="round" stroke-linejoin="round">{}</svg>'
)
_THUMB = (
    '<path d="M7 11v9H4a1 1 0 0 1-1-1v-7a1 1 0 0 1 1-1zm0 0 4-8a2.5 2.5 0 0 1 2.5 2.5V9h5.2a2 2 0 0 1 2 2.3l-1.2 7'
    'a2 2 0 0 1-2 1.7H7"/>'
)
SEND = _SVG.format('<path d="M12 19V5M5 12l7-7 7 7"/>')
STOP = _SVG.format('<rect x="6" y="6" width="12" height="12" rx="2" fill="currentColor"/>')
CLEAR = _SVG.format('<path d="M4 7h16M10 11v6M14 11v6M6 7l1 12a2 2 0 0 0 2 2h6a2 2 0 0 0 2-2l1-12M9 7V4h6v3"/>')
UP = _SVG.format(_THUMB)
DOWN = _SVG.format(f'<g transform="rotate(180 12 12)">{_THUMB}</g>')
PEN = _SVG.format('<path d="M4 20h4L19 9a2.8 2.8 0 0 0-4-4L4 16zM13.5 6.5l4 4"/>')

#: Pixels of a message with its margins, and of what stands in line with it: wider text is hard to read.
WIDTH, COLUMN = 860, 832

PAGE = (
    VARIABLES
    + """
:host { background: var(--dx-ground); padding: 12px 14px 10px; box-sizing: border-box; gap: 10px; overflow: hidden; }
"""
)

HEAD = (
    VARIABLES
    + """
h1 { font-size: 17px; margin: 0; font-weight: 650; overflow-wrap: anywhere; } .dim { color: var(--dx-dim); font-weight: 400; }
p { margin: 2px 0 0; color: var(--dx-dim); overflow-wrap: anywhere; display: -webkit-box; -webkit-line-clamp: 2;
  -webkit-box-orient: vertical; overflow: hidden; }
"""
)

#: The frame, the log and the messages: Panel hands them down to all that is in the chat.
CHAT = (
    VARIABLES
    + """
:host(.chat-interface) { background: var(--dx-bg); border: 1px solid var(--dx-line); border-radius: 10px; box-shadow: none;
  display: flex; flex-direction: column; overflow: hidden; }
.chat-feed-log { max-height: none !important; flex: 1 1 auto !important; min-height: 0; padding-bottom: 12px; }
.chat-interface-input-container { flex: 0 0 auto !important; border-top: 1px solid var(--dx-line); padding: 12px 14px;
  box-sizing: border-box; width: 100%; margin: 0; }
"""
)

INPUT_ROW = """
:host { max-width: WIDTHpx; margin: 0 auto; width: 100%; gap: 8px; }
""".replace("WIDTH", str(COLUMN))

MESSAGE = (
    VARIABLES
    + """
:host(.chat-message) { margin: 16px auto 0 !important; width: 100%; box-sizing: border-box; padding: 0 14px; }
.left { display: none !important; } .right { width: 100%; min-width: 0; margin: 0; }
.center, .placeholder { min-height: 0; width: 100%; min-width: 0; margin: 0; }
.meta { margin: 0 0 4px; min-height: 0; }
.name { font-size: 12px; color: var(--dx-dim); font-weight: 600; margin: 0; height: auto; }
"""
)

TEXT = (
    VARIABLES
    + """
:host(.said), :host(.answer) { font-size: 15px; line-height: 1.5; overflow-wrap: anywhere; max-width: 100%; }
:host(.said) { background: var(--dx-chosen); border-radius: 10px; padding: 8px 14px; white-space: pre-wrap;
  width: fit-content; }
.plain { white-space: pre-wrap; }
p { margin: 0 0 8px; } p:last-child { margin-bottom: 0; }
h1, h2, h3, h4 { font-size: 16px; margin: 12px 0 6px; } a { color: light-dark(#1d5fb8, #7fb2f5); }
ul, ol { margin: 4px 0 8px; padding-left: 24px; }
blockquote { margin: 6px 0; padding-left: 12px; border-left: 3px solid var(--dx-line); color: var(--dx-dim); }
pre, code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 13px; }
code { background: var(--dx-ground); border-radius: 4px; padding: 1px 4px; }
pre { background: var(--dx-ground); border: 1px solid var(--dx-line); border-radius: 6px; padding: 8px 10px; margin: 6px 0;
  white-space: pre-wrap; overflow-wrap: anywhere; max-height: 420px; overflow: auto; }
pre code { background: none; padding: 0; }
table { border-collapse: collapse; } th { color: var(--dx-dim); font-weight: 400; }
td, th { text-align: left; vertical-align: top; padding: 3px 14px 3px 0; overflow-wrap: anywhere; }
table.fields td { white-space: pre-wrap; }
"""
)

STATE = (
    VARIABLES
    + """
:host { font-size: 13px; color: var(--dx-dim); overflow-wrap: anywhere; }
.busy::before { content: ""; display: inline-block; width: 8px; height: 8px; border-radius: 50%; background: #3b7dd8;
  margin-right: 8px; animation: beat 1.2s ease-in-out infinite; }
@keyframes beat { 50% { opacity: .25; } }
@media (prefers-reduced-motion: reduce) { .busy::before { animation: none; } }
.bad { border-left: 3px solid #d64550; padding: 6px 10px; color: var(--dx-fg); font-size: 14px; }
.bad { margin-top: 4px; } .bad ul { margin: 4px 0 0; padding-left: 20px; }
.note { border-left: 3px solid #d9902f; padding: 6px 10px; color: var(--dx-fg); }
.taken { color: light-dark(#1f7d53, #57c795); }
"""
)

DETAILS = (
    VARIABLES
    + """
details { border: 1px solid var(--dx-line); border-radius: 8px; background: var(--dx-ground); }
summary { cursor: pointer; padding: 6px 12px; color: var(--dx-dim); overflow-wrap: anywhere; }
summary:focus-visible { outline: 2px solid #3b7dd8; border-radius: 8px; } summary b { color: var(--dx-fg); font-weight: 600; }
.inside { padding: 2px 12px 10px; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: 4px 12px 4px 0; font-weight: 400; overflow-wrap: anywhere; }
th { color: var(--dx-dim); font-size: 12px; white-space: nowrap; } tr + tr > * { border-top: 1px solid var(--dx-line); }
table.facts { margin-top: 10px; } table.facts td { width: 100%; } table.facts th { width: 92px; font-size: 13px; }
.why { color: light-dark(#b3303a, #f0848c); }
td.how { overflow-wrap: normal; } td.how span { color: var(--dx-dim); white-space: nowrap; }
td.gave code { display: block; max-height: 150px; overflow: auto; }
@media (max-width: 560px) {
  table.steps tr { display: flex; flex-wrap: wrap; border-top: 1px solid var(--dx-line); }
  table.steps tr:first-child { display: none; }
  table.steps td { border: none; } td.gave { flex: 0 0 100%; min-width: 0; }
}
td.time, td.status { white-space: nowrap; font-variant-numeric: tabular-nums; }
code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 12px; white-space: pre-wrap; }
.tag { display: inline-block; border: 1px solid #d9902f; color: light-dark(#8f5a10, #e9b565); border-radius: 9px;
  padding: 0 8px; font-size: 12px; }
"""
)

BUTTON = (
    VARIABLES
    + """
.bk-btn { background: var(--dx-bg) !important; color: var(--dx-fg) !important; border: 1px solid var(--dx-line) !important;
  box-shadow: none !important; font-size: 13px; border-radius: 8px; }
.bk-btn:hover { background: var(--dx-hover) !important; } .bk-btn:focus-visible { outline: 2px solid #3b7dd8; }
@media (max-width: 560px) {
  :host(.tool) { max-width: 44px !important; min-width: 44px; } :host(.tool) .bk-btn { font-size: 0; }
  :host(.tool) .bk-btn * { font-size: 16px; }
}
:host(.chosen) .bk-btn { background: var(--dx-chosen) !important; font-weight: 600; }
:host(.chief) .bk-btn { background: #2f6fc7 !important; border-color: #2f6fc7 !important; color: #fff !important; }
"""
)

INPUT = (
    FIELD
    + """
.bk-input { font-size: 14px; }
.bk-input::placeholder { color: var(--dx-dim); }
"""
)

CARD = (
    VARIABLES
    + """
:host { background: var(--dx-bg); border: 1px solid var(--dx-line); border-radius: 10px; box-sizing: border-box;
  padding: 12px max(14px, calc((100% - WIDTHpx) / 2)); }
""".replace("WIDTH", str(COLUMN))
)
