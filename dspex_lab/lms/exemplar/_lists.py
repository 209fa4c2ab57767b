"""Answers that are lists, tuples and mappings."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from dspex_lab.lms.exemplar import _numbers as numbers
from dspex_lab.lms.exemplar._choices import several
from dspex_lab.lms.exemplar._fitting import fitted_list
from dspex_lab.lms.exemplar._prompt import FieldSpec
from dspex_lab.lms.exemplar._ranking import asks_ranking, rank, ranking_value
from dspex_lab.lms.exemplar._reading import Reading, spread
from dspex_lab.lms.exemplar._shapes import TEXT, Shape
from dspex_lab.lms.exemplar._similarity import FUNCTION_WORDS, vocabulary, words
from dspex_lab.lms.exemplar._spans import kind_asked, kind_of, spans
from dspex_lab.lms.exemplar._text import keywords

_POINTS = vocabulary("items points steps tasks actions bullets entries lines")
_BULLET = re.compile(r"^[ \t]*(?:[-*•–]|\d{1,3}[.)])[ \t]+(\S.*)$", re.MULTILINE)
_PAIR = re.compile(r"^[\s*•-]*([^\W\d_][\w '/-]{0,40}?)[ \t]*[:=][ \t]*(\S.*)$", re.MULTILINE)
_COUNTED = re.compile(r"(?<![\w.$€£])(\d+(?:\.\d+)?) ([^\W\d_]{2,})", re.IGNORECASE)
_MOST = 20

#: Answers a field on a part of the text.
Value = Callable[[FieldSpec, str], Any]


def listing(reading: Reading, field: FieldSpec, given: Sequence[tuple[int, Any]], value: Value) -> list[Any]:
    """Return the items of a list.

    Args:
        value: answers a field on a text; used for items that are made of several fields.
    """
    item = field.shape.item or TEXT
    shown = [(i, v) for i, v in given if isinstance(v, list)]
    if asks_ranking(field.name, field.description, field.shape) and (ranked := rank(reading.inputs)) is not None:
        reading.say(f"{field.name} is ordered by what the items have in common with the rest of the inputs.")
        return list(ranking_value(field.shape, field.name, reading.about(field), ranked, [v for _, v in shown]))
    found, more = _items(reading, field, item, shown, value)
    if item.kind in ("choice", "str"):
        wanted = reading.wanted(field)
        if wanted:
            found = fitted_list(found, wanted, more)
    return found


def _items(
    reading: Reading, field: FieldSpec, item: Shape, shown: Sequence[tuple[int, Any]], value: Value
) -> tuple[list[Any], list[str]]:
    """Return the items, and others that could be added."""
    most = int(field.shape.high or 5)
    if item.kind == "choice":
        return several(reading, field, item.options, shown, most), []
    seen = [str(v) for _, values in shown for v in values]
    if item.kind == "str" and seen and len(set(seen)) <= 0.6 * len(seen):
        return several(reading, field, tuple(dict.fromkeys(seen)), shown, most), []
    if item.kind in ("object", "tuple", "list"):
        return _made(reading, FieldSpec(field.name, field.description, item), value)[: int(field.shape.high or _MOST)], []
    if item.kind != "str":
        return _numbers(reading, field, item, spread(shown, len(reading.given)), value), []
    kind = kind_of(seen) or kind_asked(field.name, field.description)
    found = list(dict.fromkeys(v for _, v in spans(reading.text, kind))) if kind else []
    points = [m.strip() for m in _BULLET.findall(reading.text)] if set(words(field.name)) & _POINTS else []
    if len(points) > 1 and not kind:
        return points[: int(field.shape.high or _MOST)], []
    spare = keywords(reading.text, _MOST)
    found = found or (spare[: min(3, most)] if not kind or field.shape.least else [])
    return found[:most], spare


def _numbers(reading: Reading, field: FieldSpec, item: Shape, values: list[Any], value: Value) -> list[Any]:
    if field.shape.least and item.kind not in ("int", "float"):
        return [value(FieldSpec(field.name, field.description, item), reading.text)]
    if item.kind == "bool":
        return []
    found = [numbers.to_number(v) for _, v in spans(reading.text, "number")]
    out = [numbers.fitted(item, n) for n in found if n is not None]
    if not out and field.shape.least:
        return [value(FieldSpec(field.name, field.description, item), reading.text)]
    return out[: int(field.shape.high)] if field.shape.high else out


def _made(reading: Reading, inner: FieldSpec, value: Value) -> list[Any]:
    """Return an item for each point of the text, where it is made of points; else one for the whole."""
    points = [m.strip() for m in _BULLET.findall(reading.text)]
    if len(points) < 2:
        return [value(inner, reading.text)]
    return [value(inner, point) for point in points[:_MOST]]


def mapping(reading: Reading, field: FieldSpec, item: Shape, value: Value) -> dict[str, Any]:
    """Return the pairs that the text gives as ``name: value`` lines or as counted things (``3 apples``), of the right type."""
    out: dict[str, Any] = {}
    for name, text in _PAIR.findall(reading.text)[:_MOST]:
        found = _typed(item, text.strip())
        if found is not None:
            out.setdefault(name.strip(), found)
    if not out and item.kind in ("int", "float"):
        for number, name in _COUNTED.findall(reading.text)[:_MOST]:
            if name.lower() not in FUNCTION_WORDS:
                out.setdefault(name, numbers.fitted(item, float(number)))
    if out:
        reading.say(f"{field.name} has the {len(out)} pairs that the text gives.")
    return out


def _typed(item: Shape, text: str) -> Any:
    if item.kind in ("int", "float"):
        number = numbers.to_number(text)
        return numbers.fitted(item, number) if number is not None and len(text.split()) <= 3 else None
    if item.kind == "bool":
        return {"true": True, "yes": True, "false": False, "no": False}.get(text.lower().rstrip("."))
    if item.kind == "choice":
        return next((o for o in item.options if str(o).lower() == text.lower()), None)
    return text if item.kind == "str" else None
