"""How a space is shown in a cell: tables, as HTML, and as text where there is no browser.

Names, values and reasons may be anybody's words: they are redacted, shortened, freed of control characters, and escaped.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dspex_lab.events import VariableRecord
from dspex_lab.security import one_line
from dspex_lab.variables._entry import Cell, Entry
from dspex_lab.variables._values import Values
from dspex_lab.variables.domains._base import shown

#: What a variable may be whose domain is that of all plain data.
ANYTHING = "any value"

#: Letters of one cell.
LONGEST = 100

#: Rows of one table.
MOST = 100


def words(value: object, longest: int = LONGEST) -> str:
    """Return any text as one short line that may be shown."""
    return one_line(value, longest)


def value_words(value: Any) -> str:
    """Return a value as one short line."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"tensor of {value.dtype}, {' × '.join(map(str, value.shape)) or 'one number'}"
    if isinstance(value, tuple):
        return f"{len(value)} demonstration{'' if len(value) == 1 else 's'}"
    return words(value if isinstance(value, str) else shown(value))


def domain_words(description: dict[str, Any]) -> str:
    """Return a domain as one short line: ``float 0.0 … 2.0, step 0.1``."""
    kind = str(description["kind"])
    if kind == "plain":
        return ANYTHING
    if "options" in description:
        return words(f"{kind}: {', '.join(map(str, description['options']))}")
    if kind == "tensor":
        return f"tensor of {description['dtype']}, {' × '.join(map(str, description['shape'])) or 'one number'}"
    parts = [kind]
    low, high = description.get("low"), description.get("high")
    if low is not None or high is not None:
        parts[0] += f" {'-∞' if low is None else low} … {'∞' if high is None else high}"
    if description.get("step") not in (None, 1):
        parts.append(f"step {description['step']}")
    if description.get("log"):
        parts.append("log")
    if description.get("candidates"):
        parts.append(f"{len(description['candidates'])} candidates")
    return words(", ".join(parts))


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of texts under titles; ``more`` rows are left out."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    more: int = 0

    def __repr__(self) -> str:
        rows = [self.columns, *self.rows] if self.rows else []
        widths = [max(len(row[at]) for row in rows) for at in range(len(self.columns))] if rows else []
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([self.title, *lines, *([f"and {self.more:,} more"] if self.more else [])])

    def _repr_html_(self) -> str:
        def line(cell: str, texts: Sequence[str]) -> str:
            return "<tr>" + "".join(f'<{cell} style="text-align:left">{html.escape(text)}</{cell}>' for text in texts) + "</tr>"

        body = line("th", self.columns) + "".join(line("td", row) for row in self.rows) if self.rows else ""
        more = f"<div>and {self.more:,} more</div>" if self.more else ""
        # Dollar signs are no formula: the classes keep MathJax away.
        return (
            f'<div class="dspex-variables mathjax_ignore tex2jax_ignore"><div><b>{html.escape(self.title)}</b></div>'
            f'<div style="overflow-x:auto"><table>{body}</table></div>{more}</div>'
        )


class History(list[VariableRecord]):
    """Records, the newest first; ``value`` is in the JSON form of its domain."""

    def table(self) -> Table:
        """Return it as a table."""
        rows = [
            (
                str(record.version),
                datetime.fromtimestamp(record.time).strftime("%Y-%m-%d %H:%M:%S"),
                words(record.name),
                words(record.value),
                words(f"{record.who} {record.author}" if record.author else record.who),
                words(record.why or ""),
                "" if record.score is None else f"{record.score:.4g}",
            )
            for record in self[:MOST]
        ]
        columns = ("version", "time", "variable", "value", "who", "why", "score")
        title = f"{len(self):,} value{'' if len(self) == 1 else 's'}"
        return Table(title, columns, rows, max(len(self) - MOST, 0))

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def space_table(name: str, values: Values, holders: Mapping[str, str]) -> Table:
    """Return a space as a table.

    Args:
        holders: who has which variable on lease.
    """
    rows = []
    for each, entry in list(values.entries.items())[:MOST]:
        cell = values.cells[each]
        marks = marks_of(entry, cell)
        leased = f"leased to {words(holders[each])}" if each in holders else ""
        about = "; ".join(part for part in (marks, leased, words(entry.note or "")) if part)
        rows.append((words(each), value_words(cell.value), domain_words(entry.domain.describe()), str(cell.version), about))
    count = len(values.entries)
    said = f", {len(values.constraints)} constraint{'s' if len(values.constraints) > 1 else ''}" if values.constraints else ""
    title = f"Space {words(name)}: {count:,} variable{'' if count == 1 else 's'}{said}, version {values.version}"
    return Table(title, ("variable", "value", "may be", "version", ""), rows, max(count - MOST, 0))


def marks_of(entry: Entry, cell: Cell) -> str:
    """Return what is special about a variable."""
    marks = []
    if entry.derive:
        marks.append(f"= {words(entry.derive.text)}")
    if entry.when:
        marks.append(f"when {words(entry.when.text)}")
    if not cell.active:
        marks.append("does not count now")
    if entry.pinned:
        marks.append("pinned")
    return "; ".join(marks)
