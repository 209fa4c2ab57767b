"""Numbers: from demonstrations, from grades that the instructions explain, from the text."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from dspex_lab.lms.exemplar._arithmetic import calculate
from dspex_lab.lms.exemplar._definitions import Definitions, definitions_of
from dspex_lab.lms.exemplar._shapes import Shape
from dspex_lab.lms.exemplar._similarity import Features, Scores, index
from dspex_lab.lms.exemplar._spans import extract, spans

_VALUE = r"[-+]?\d+(?:\.\d+)?"
_JOINT = r"\s*(?::|=|->|→|–|—|-\s|\bmeans\b|\bis\b|\bif\b|\bwhen\b|\bfor\b)"
_GRADED = re.compile(rf"(?:^|\n)[\s*•-]*\(?({_VALUE})\)?(?={_JOINT})", re.IGNORECASE)
_NEXT_GRADE = re.compile(rf"(?<=[;,.?!])\s+(?=\(?{_VALUE}\)?{_JOINT})", re.IGNORECASE)
#: Words for a grade, as a share of the range from low to high.
_WORDS = {
    "none": 0.0,
    "lowest": 0.0,
    "low": 0.15,
    "medium": 0.5,
    "moderate": 0.5,
    "high": 0.85,
    "highest": 1.0,
    "critical": 1.0,
}
#: How strongly the mean of the demonstrations holds a prediction back, beside their likenesses to the question.
_PRIOR = 0.15


__all__ = ["calculate", "fitted", "from_demonstrations", "from_grades", "from_name", "from_text", "grades", "to_number"]


def from_demonstrations(values: Sequence[float], likeness: Scores) -> float:
    """Return the mean of ``values`` weighted by likeness to the question, held back towards their plain mean."""
    given = np.asarray(values, np.float64)
    weights = np.maximum(likeness, 0.0) ** 2
    held = _PRIOR * float(given.mean())
    return (float(weights @ given) * 4.0 + held) / (float(weights.sum()) * 4.0 + _PRIOR)


@lru_cache(maxsize=512)
def grades(shape: Shape, text: str) -> tuple[tuple[float, ...], Definitions]:
    """Return the grades that ``text`` explains, as numbers, and the words that explain each."""
    lines = _NEXT_GRADE.sub("\n", text)
    labels = list(dict.fromkeys(m.group(1) for m in _GRADED.finditer(lines)))
    values = [float(label) for label in labels]
    if shape.low is not None and shape.high is not None:
        labels += list(_WORDS)
        values += [shape.low + part * (shape.high - shape.low) for part in _WORDS.values()]
    return tuple(values), definitions_of(tuple(labels), lines.lower()) if labels else definitions_of(("",), "")


def from_grades(shape: Shape, text: str, question: Features) -> tuple[float, list[str]] | None:
    """Return the number that the explained grades give for ``question``, with the words found; None if none is found."""
    values, explained = grades(shape, text)
    if not values or not explained:
        return None
    scores = explained.scores(question)
    if not scores.any():
        return None
    found = [term for i in np.flatnonzero(scores) for term in explained.found(question, int(i))]
    return float(scores @ np.array(values) / scores.sum()), found


def from_name(shape: Shape, name: str, question: Features) -> float | None:
    """Return a number in the upper part of the range if the text has the field's own word, the middle if not.

    A float without a range is taken to lie in [0, 1]; where else the range is open, the answer is None.
    """
    low, high = (0.0, 1.0) if shape.low is None and shape.high is None and shape.kind == "float" else (shape.low, shape.high)
    if low is None or high is None:
        return None
    part = 0.8 if float(index((name,)).coverage(question)[0]) >= 0.5 else 0.5
    return low + part * (high - low)


def from_text(text: str, name: str, description: str = "") -> float | None:
    """Return the value of a sum in ``text``, or else the number of the kind that the field asks for, or the first."""
    value = calculate(text)
    if value is not None:
        return value
    asked = extract(text, name, description)
    if to_number(asked) is not None:
        return to_number(asked)
    found = spans(text, "number")
    return to_number(found[0][1]) if found else None


def to_number(value: object) -> float | None:
    """Return ``value`` as a number, if it is one or begins with one."""
    if isinstance(value, bool) or value is None:
        return None
    match = re.search(r"[-+]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?", str(value))
    number = float(match.group().replace(",", "")) if match else None
    return number if number is not None and math.isfinite(number) else None


def fitted(shape: Shape, value: float) -> int | float:
    """Return ``value`` within the bounds of ``shape``, as an integer or with at most four decimals."""
    if shape.low is not None:
        value = max(value, shape.low)
    if shape.high is not None:
        value = min(value, shape.high)
    return round(value) if shape.kind == "int" else round(value, 4)
