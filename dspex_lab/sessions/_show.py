"""How sessions are shown in a cell: lines and tables, as HTML, and as text where there is no browser.

Names, errors and state may be anybody's words: they are redacted, shortened, freed of control characters, and escaped.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

_NOTHING = "–"


def duration(seconds: float | None) -> str:
    """Return seconds as a person reads them."""
    if seconds is None:
        return _NOTHING
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h" if seconds < 172_800 else _days(seconds)


def _days(seconds: float) -> str:
    return f"{seconds / 86_400:.3g} days"


def count(number: float) -> str:
    """Return a whole number."""
    return f"{int(number):,}"


def dollars(cost: float | None) -> str:
    """Return US dollars."""
    return "no price known" if cost is None else f"${cost:,.2f}" if cost >= 1 or cost == 0 else f"${cost:.2g}"


def percent(share: float | None) -> str:
    """Return a share of 1."""
    return _NOTHING if share is None else f"{share:.0%}" if share == 0 or share >= 0.095 else f"{share:.1%}"


def size(number: int) -> str:
    """Return bytes."""
    return (
        f"{number:,} B" if number < 10_000 else f"{number / 1000:,.0f} kB" if number < 10_000_000 else f"{number / 1e6:,.0f} MB"
    )


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of texts under titles; ``nothing`` is said where there are none."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    nothing: str = ""

    def text(self) -> list[str]:
        """Return it as lines."""
        if not self.rows:
            return [self.nothing]
        widths = [max(len(row[at]) for row in (self.columns, *self.rows)) for at in range(len(self.columns))]
        return [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (self.columns, *self.rows)
        ]

    def html(self) -> str:
        """Return it as HTML."""
        if not self.rows:
            return f"<div>{html.escape(self.nothing)}</div>"

        def line(cell: str, texts: Sequence[str]) -> str:
            return "<tr>" + "".join(f'<{cell} style="text-align:left">{html.escape(t)}</{cell}>' for t in texts) + "</tr>"

        body = "".join(line("td", row) for row in self.rows)
        return f'<div style="overflow-x:auto"><table>{line("th", self.columns)}{body}</table></div>'


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a cell shows: a title, and lines and tables in order."""

    title: str
    parts: Sequence[str | Table]

    def inner_html(self) -> str:
        """Return the parts as HTML, without the title."""
        return "".join(f"<div>{html.escape(part)}</div>" if isinstance(part, str) else part.html() for part in self.parts)

    def _repr_html_(self) -> str:
        # Dollar signs are no formula: the classes keep MathJax away.
        head = f"<div><b>{html.escape(self.title)}</b></div>"
        return f'<div class="dspex-sessions mathjax_ignore tex2jax_ignore">{head}{self.inner_html()}</div>'

    def __repr__(self) -> str:
        lines = [line for part in self.parts for line in ([part] if isinstance(part, str) else part.text())]
        return "\n".join([self.title, *lines])
