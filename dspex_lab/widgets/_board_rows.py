"""What the variable board shows of a space, as JSON: a row for each variable, with the control that fits its domain. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from dspex_lab.security import Redactor
from dspex_lab.widgets import _board_text as words

__all__ = ["POINTS", "Rows", "control_of", "point_of", "value_from"]

#: Past values that a row draws.
POINTS = 40

#: Options beyond this are no list to choose from.
_OPTIONS = 200

#: What JSON's numbers and a browser's agree on.
_LARGEST = 1.7e308

_NUMBERS = ("float", "int")
_NAMED = ("choice", "module", "lm", "adapter")


def control_of(domain: Mapping[str, Any]) -> dict[str, Any]:
    """Return by what a person changes a value of a domain (as ``describe()`` has it).

    ``type`` is ``"slider"`` (``low, high, step, log, whole``), ``"number"`` (a range without an end), ``"toggle"``,
    ``"select"`` (``options``: their texts) or ``"none"``.
    """
    kind = domain.get("kind")
    if kind in _NUMBERS:
        low, high = domain.get("low"), domain.get("high")
        ends = low is not None and high is not None and low < high
        whole = kind == "int"
        step = domain.get("step") if domain.get("step") is not None else 1 if whole else None
        numbers = {"low": low, "high": high, "step": step, "log": bool(domain.get("log")), "whole": whole}
        return {"type": "slider" if ends else "number", **numbers}
    if kind == "bool":
        return {"type": "toggle"}
    options = domain.get("options")
    if kind in _NAMED and isinstance(options, Sequence) and len(options) <= _OPTIONS:
        return {"type": "select", "options": [words.value_text(option, 60) for option in options]}
    return {"type": "none"}


def place_of(domain: Mapping[str, Any], value: Any) -> Any:
    """Return what the control of a domain shows for a value (as JSON): a number, a bool, the place of an option."""
    kind = control_of(domain)["type"]
    if kind == "select":
        options = list(domain["options"])
        return next((n for n, option in enumerate(options) if type(option) is type(value) and option == value), None)
    return value if kind in ("slider", "number", "toggle") else None


def value_from(domain: Mapping[str, Any], place: Any) -> Any:
    """Return the value (as JSON) that a person chose by the control of a domain: the inverse of :func:`place_of`.

    Raises:
        ValueError: it is nothing that the control gives.
    """
    kind = control_of(domain)["type"]
    if kind == "select":
        options = list(domain["options"])
        if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < len(options):
            raise ValueError(f"there is no option number {place!r}")
        return options[place]
    if kind == "toggle" and isinstance(place, bool):
        return place
    number = isinstance(place, int | float) and not isinstance(place, bool)
    if kind in ("slider", "number") and number and -_LARGEST <= place <= _LARGEST:
        return place
    raise ValueError(f"it cannot be set to {words.value_text(place)} here")


def point_of(domain: Mapping[str, Any], value: Any) -> float | None:
    """Return the height at which a value (as JSON) stands in the drawing of a variable's past, None for none."""
    place = place_of(domain, value)
    return float(place) if isinstance(place, bool | int | float) else None


class Rows:
    """The rows of the variables of a space, kept as it changes. Not thread-safe.

    Args:
        space: a space of ``dspex_lab.variables``.
        names: the variables to show, in order; None for all, as they come.
        most: rows at most.
    """

    def __init__(self, space: Any, names: Sequence[str] | None = None, most: int = 200) -> None:
        self._space, self._names, self._most = space, names, most
        self._past: dict[str, deque[float]] = {}
        self._last: dict[str, dict[str, Any]] = {}
        self._mask = Redactor()
        for record in reversed(self._read()):
            self._took(
                record.name, record.value, record.version, record.time, record.who, record.author, record.why, record.score
            )

    def _read(self) -> Sequence[Any]:
        shown = self.names()
        if len(shown) > 50:
            return list(self._space.history(limit=5_000))
        found = [record for name in shown for record in self._space.history(name, limit=POINTS)]
        return sorted(found, key=lambda record: -record.version)

    def names(self) -> list[str]:
        """Return the names of the variables that are shown."""
        known = [name for name in self._names if name in self._space] if self._names is not None else list(self._space)
        return known[: self._most]

    def take(self, commit: Any) -> None:
        """Take in a commit of the space."""
        by = commit.author
        for name, change in commit.changes.items():
            if name in self._space:
                value = self._space[name].domain.to_json(change.value)
                self._took(name, value, commit.version, commit.time, change.who, by.name, by.why, by.score)

    def snapshot(self) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
        """Return the rows by name, and what is said above them."""
        holders: dict[str, str] = {}
        queues: dict[str, list[str]] = {}
        for status in self._space.leases():
            for name in status.names:
                if status.state == "held":
                    holders[name] = self._mask(status.owner)
                else:
                    queues.setdefault(name, []).append(self._mask(status.owner))
        counting = self._space.snapshot().values
        names = self.names()
        rows = {n: self._row(n, n in counting, words.lease_text(holders.get(n), queues.get(n, []))) for n in names}
        count = len(self._space) if self._names is None else sum(name in self._space for name in self._names)
        head = {"space": self._space.name, "said": words.head_text(self._space.version, count, len(rows))}
        return rows, head

    def _row(self, name: str, counts: bool, leased: str) -> dict[str, Any]:
        variable = self._space[name]
        domain = variable.domain.describe()
        value = variable.domain.to_json(variable.value)
        last = self._last.get(name, {})
        tensor = domain.get("kind") == "tensor"  # its numbers are packed
        text, full = (words.range_text(domain), "") if tensor else (words.value_text(value), words.whole_text(value))
        return {
            "name": name,
            "text": self._mask(text),
            "full": self._mask(full) if full != text else "",
            "place": place_of(domain, value),
            "range": words.range_text(domain),
            "control": {"type": "none"} if variable.derived else control_of(domain),
            "version": variable.version,
            "by": self._mask(words.by_text(last.get("who", ""), last.get("author"), last.get("why"))),
            "score": words.score_text(last.get("score")),
            "changed": last.get("time"),
            "pinned": bool(variable.pinned),
            "note": self._mask(words.value_text(variable.note, 200)) if variable.note else "",
            "derived": self._mask(str(variable.derived)) if variable.derived else "",
            "counts": counts,
            "spark": words.spark(list(self._past.get(name, ()))),
            "leased": leased,
        }

    def _took(self, name: str, value: Any, *facts: Any) -> None:
        if name not in self._space:
            return
        point = point_of(self._space[name].domain.describe(), value)
        if point is not None:
            self._past.setdefault(name, deque(maxlen=POINTS)).append(point)
        self._last[name] = dict(zip(("version", "time", "who", "author", "why", "score"), facts, strict=True))
