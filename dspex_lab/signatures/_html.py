"""A signature in a notebook: a small table. All text is escaped; colours come from JupyterLab's theme."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from ._field import MISSING, Field

if TYPE_CHECKING:
    from ._signature import Signature

_MUTED = "color:var(--jp-ui-font-color2,inherit);opacity:.85"
_CELL = "text-align:left;vertical-align:top;padding:3px 14px 3px 0;background:transparent"
_TABLE = "border-collapse:collapse;margin:4px 0;border:none;color:inherit;font-size:inherit"
_CODE = "font-family:var(--jp-code-font-family,monospace);font-size:.95em;background:transparent;color:inherit"
_RULE = "border-top:1px solid var(--jp-border-color2,rgba(128,128,128,.4))"


def to_html(sig: Signature) -> str:
    """Return the table."""
    head = f"<b>{escape(sig.name)}</b>"
    if sig.instructions and sig.instructions != sig.default_instructions:
        head += f'<div style="{_MUTED};white-space:pre-wrap;margin:2px 0 4px">{escape(sig.instructions)}</div>'
    rows = "".join(_rows("in", sig.inputs.values()) + _rows("out", sig.outputs.values()))
    table = f'<table style="{_TABLE}"><tbody>{rows}</tbody></table>'
    return f'<div class="dspex-signature" style="color:var(--jp-ui-font-color1,inherit)">{head}{table}</div>'


def _rows(side: str, fields: object) -> list[str]:
    assert hasattr(fields, "__iter__")  # noqa: S101 (a view of a mapping)
    return [_row(side if not place else "", field, rule=not place and side == "out") for place, field in enumerate(fields)]


def _row(side: str, field: Field, *, rule: bool) -> str:
    shown = escape(field.type_text) if field.declared else f'<span style="{_MUTED}">any, as text</span>'
    if not field.declared and field.role == "output":
        shown = "str"
    if field.default is not MISSING:
        shown += f" = {escape(repr(field.default))}"
    cells = [
        f'<span style="{_MUTED}">{side}</span>',
        f'<code style="{_CODE}">{escape(field.name)}</code>',
        f'<code style="{_CODE}">{shown}</code>',
        f'<span style="{_MUTED}">{escape(field.description or "")}</span>',
    ]
    style = _CELL + (";" + _RULE if rule else "")
    shown_cells = "".join(f'<td style="{style}">{cell}</td>' for cell in cells)
    return f'<tr style="background:transparent">{shown_cells}</tr>'
