"""Dates as people write them, in the form that JSON schemas ask for."""

from __future__ import annotations

import datetime
import re

_MONTHS = {
    name: i for i, name in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1)
}
_ISO = re.compile(r"\b(\d{4})-(\d{2})-(\d{2})\b")
_DAY_FIRST = re.compile(r"\b(\d{1,2})(?:st|nd|rd|th)?(?: of)? ([a-z]{3})[a-z]*\.?,? (\d{4})\b", re.IGNORECASE)
_MONTH_FIRST = re.compile(r"\b([a-z]{3})[a-z]*\.? (\d{1,2})(?:st|nd|rd|th)?,? (\d{4})\b", re.IGNORECASE)
_NUMBERS = re.compile(r"\b(\d{1,2})([./])(\d{1,2})\2(\d{4})\b")


def iso_date(text: str, with_time: bool = False) -> str | None:
    """Return the first date in ``text`` as ``2024-03-12``; None if it has none that exists.

    ``3/12/2024`` is the twelfth of March and ``3.12.2024`` the third of December, unless only the other is a date.
    """
    for year, month, day in _parts(text):
        try:
            found = datetime.date(year, month, day).isoformat()
        except ValueError:
            continue
        return f"{found}T00:00:00" if with_time else found
    return None


def _parts(text: str) -> list[tuple[int, int, int]]:
    out = [(int(m[1]), int(m[2]), int(m[3])) for m in _ISO.finditer(text)]
    out += [(int(m[3]), _MONTHS.get(m[2].lower(), 0), int(m[1])) for m in _DAY_FIRST.finditer(text)]
    out += [(int(m[3]), _MONTHS.get(m[1].lower(), 0), int(m[2])) for m in _MONTH_FIRST.finditer(text)]
    for match in _NUMBERS.finditer(text):
        first, second, year = int(match[1]), int(match[3]), int(match[4])
        day_first = [(year, second, first), (year, first, second)]
        out += day_first if match[2] == "." else day_first[::-1]
    return out
