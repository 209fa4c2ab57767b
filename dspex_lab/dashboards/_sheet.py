"""A few lines and tables about a Lab that a cell shows: as HTML, and as text where there is no browser.

What stands in a cell of a table may be a provider's own words, or a model's name: it is redacted, shortened, freed of control
characters, and escaped.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dspex_lab.security import Redactor, one_line

#: Letters of one value that are shown.
LONGEST = 200

_CELL = "text-align:left;vertical-align:top;white-space:normal;overflow-wrap:anywhere;min-width:180px"
_SHORT = "text-align:left;vertical-align:top;white-space:nowrap"

#: Letters that are kept on one line.
_ONE_LINE = 32


def words(value: object, redact: Redactor | None = None, longest: int = LONGEST) -> str:
    """Return any text as one short line that may be shown: without secrets, control characters and marks of direction."""
    return one_line(value, longest, redact)


@dataclass(frozen=True)
class Table:
    """Rows under a title; ``nothing`` is said where there are none, and nothing at all where that is empty."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    nothing: str = ""

    def text(self) -> list[str]:
        """Return it as lines."""
        if not self.rows:
            return [f"{self.title}: {self.nothing}"] if self.nothing else []
        widths = [max(len(row[at]) for row in (self.columns, *self.rows)) for at in range(len(self.columns))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (self.columns, *self.rows)
        ]
        return [*([self.title] if self.title else []), *(f"  {line}" for line in lines)]

    def html(self) -> str:
        """Return it as HTML."""
        title = f'<div style="margin-top:8px"><b>{html.escape(self.title)}</b></div>' if self.title else ""
        if not self.rows:
            return f"{title}<div>{html.escape(self.nothing)}</div>" if self.nothing else ""
        head = "".join(f'<th style="{_SHORT}">{html.escape(column)}</th>' for column in self.columns)
        cells = (
            "".join(f'<td style="{_SHORT if len(cell) <= _ONE_LINE else _CELL}">{html.escape(cell)}</td>' for cell in row)
            for row in self.rows
        )
        body = "".join(f"<tr>{row}</tr>" for row in cells)
        return f'{title}<div style="overflow-x:auto"><table class="plain"><tr>{head}</tr>{body}</table></div>'


@dataclass(frozen=True)
class Bar:
    """How much of a limit is spent; ``share`` is from 0 on, and above 1 where more was spent."""

    label: str
    share: float

    def text(self) -> list[str]:
        """Return it as a line."""
        full = round(20 * min(max(self.share, 0.0), 1.0))
        return [f"  [{'#' * full}{'.' * (20 - full)}] {self.label}"]

    def html(self) -> str:
        """Return it as HTML; the words say what the bar shows."""
        width = 100 * min(max(self.share, 0.0), 1.0)
        colour = "#d64550" if self.share >= 1 else "#d9902f" if self.share >= 0.8 else "#3b7dd8"
        return (
            '<div style="display:flex;align-items:center;gap:10px;margin-top:4px">'
            '<span style="flex:0 0 160px;height:8px;border-radius:4px;background:#8388952e;overflow:hidden">'
            f'<span style="display:block;height:8px;width:{width:.1f}%;background:{colour}"></span></span>'
            f"<span>{html.escape(self.label)}</span></div>"
        )


@dataclass(frozen=True)
class Sheet:
    """What a cell shows: lines, tables and bars, in order. Strings in ``parts`` are lines."""

    title: str
    parts: Sequence[str | Table | Bar] = field(default_factory=tuple)

    def inner_html(self) -> str:
        """Return the parts as HTML, without the title."""
        return "".join(f"<div>{html.escape(part)}</div>" if isinstance(part, str) else part.html() for part in self.parts)

    def _repr_html_(self) -> str:
        head = f"<div><b>{html.escape(self.title)}</b></div>"
        return f"<div class='mathjax_ignore tex2jax_ignore'>{head}{self.inner_html()}</div>"

    def __repr__(self) -> str:
        lines: Iterable[str] = (line for part in self.parts for line in ([part] if isinstance(part, str) else part.text()))
        return "\n".join([self.title, *lines])
