"""Tables as HTML."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]], title: str) -> str:
    """Return a table as HTML; every text is escaped."""

    def row(cell: str, texts: tuple[str, ...]) -> str:
        return "<tr>" + "".join(f'<{cell} style="text-align:left">{escape(t)}</{cell}>' for t in texts) + "</tr>"

    body = "".join(row("td", texts) for texts in rows)
    # Dollar signs are no formula: the classes keep MathJax away.
    return (
        f'<div class="dspex-lms mathjax_ignore tex2jax_ignore"><div><b>{escape(title)}</b></div>'
        f"<table>{row('th', head)}{body}</table></div>"
    )
