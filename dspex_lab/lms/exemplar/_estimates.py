"""Answers that are numbers: calculated, taken from the text, graded by the instructions, or as demonstrations have them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dspex_lab.lms.exemplar import _arithmetic as arithmetic
from dspex_lab.lms.exemplar import _numbers as numbers
from dspex_lab.lms.exemplar._agent import concluded
from dspex_lab.lms.exemplar._fitting import fitted_number
from dspex_lab.lms.exemplar._prompt import FieldSpec
from dspex_lab.lms.exemplar._qa import find
from dspex_lab.lms.exemplar._ranking import asks_ranking, rank, ranking_value
from dspex_lab.lms.exemplar._reading import Reading
from dspex_lab.lms.exemplar._similarity import words
from dspex_lab.lms.exemplar._spans import extract_like

_SURE = frozenset(["confidence", "certainty", "probability", "likelihood"])
#: How many demonstrations are looked at for the operation that they show.
_SHOWN = 24

Estimate = tuple[float, str]


def number(reading: Reading, field: FieldSpec, given: Sequence[tuple[int, Any]]) -> int | float:
    """Return the number that the prompt speaks for, within the field's bounds."""
    if asks_ranking(field.name, field.description, field.shape) and (ranked := rank(reading.inputs)) is not None:
        shown = [v for _, v in given]
        value, why = (
            float(ranking_value(field.shape, field.name, reading.about(field), ranked, shown)),
            "the most relevant item",
        )
    else:
        value, why = _estimate(reading, field, given)
    if reading.feedback:
        value = fitted_number(value, reading.refusals(field))
    fitted = numbers.fitted(field.shape, value)
    reading.say(f"{field.name} is {fitted}: {why}.")
    return fitted


def _estimate(reading: Reading, field: FieldSpec, given: Sequence[tuple[int, Any]]) -> Estimate:
    shape = field.shape
    bounded = shape.low is not None and shape.high is not None
    if not bounded:
        found = computed(reading, field, given)
        if found is not None:
            return found
    graded = numbers.from_grades(shape, reading.about(field), reading.question)
    if given:
        value = numbers.from_demonstrations([v for _, v in given], reading.likeness[[i for i, _ in given]])
        if graded:
            why = f"the mean of demonstrations alike and of the grades for {', '.join(graded[1][:6])}"
            return (value + graded[0]) / 2, why
        return value, f"the mean of {len(given)} demonstrations, weighted by likeness"
    if graded:
        return graded[0], f"the instructions grade {', '.join(graded[1][:6])}"
    if set(words(field.name)) & _SURE and reading.share is not None:
        return reading.share, "the part of the evidence that speaks for the answer before it"
    taken = None if bounded else numbers.from_text(reading.text, field.name, field.description)
    if taken is not None:
        return taken, "taken from the text"
    named = numbers.from_name(shape, field.name, reading.question)
    if named is not None:
        return named, "the prompt gives no grades, so by the field's name alone"
    return 0.0, "the text has no number"


def computed(reading: Reading, field: FieldSpec, given: Sequence[tuple[int, Any]]) -> Estimate | None:
    """Return a number that is exact: calculated or read, not estimated; None if the prompt gives none."""
    if reading.calls:
        said = concluded(reading.request(), reading.calls)
        value = numbers.to_number(said)
        if value is not None:
            return value, "what the tools gave"
    told = numbers.to_number(reading.labelled(field.name))
    if told is not None:
        return told, "the text says so"
    values = {n: v for n, text in reading.inputs.items() if (v := _as_number(text)) is not None}
    formed = arithmetic.formula(field.name, reading.about(field), values) if "=" in reading.about(field) else None
    if formed is not None:
        return formed[0], f"the formula {formed[1]}"
    if given:
        return _as_shown(reading, given)
    asked = reading.asked()
    source = arithmetic.expression_in(asked[0] if asked else reading.text)
    if source is not None:
        return arithmetic.evaluate(source), f"the value of {source}"
    found = find(*asked) if asked else None
    value = numbers.to_number(found.text) if found is not None else None
    return (value, f"the passage says “{found.text}”") if found is not None and value is not None else None


def _as_number(text: str) -> float | None:
    try:
        value = float(text.replace(",", "").strip())
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _as_shown(reading: Reading, given: Sequence[tuple[int, Any]]) -> Estimate | None:
    """Return the number that is had as the demonstrations have theirs: taken from the text, or by a plain operation."""
    shown = [(reading.given[i], float(v)) for i, v in given[:_SHOWN]]
    taken = extract_like(reading.text, [(text, f"{value:g}") for text, value in shown])
    inside = numbers.to_number(taken)
    if inside is not None:
        return inside, "it stands where the demonstrations have theirs"
    if len(arithmetic.quantities(reading.text)) == 0:
        return None
    source = arithmetic.expression_in(reading.text)
    if source is not None:
        same = [arithmetic.calculate(text) for text, _ in shown]
        agreeing = sum(
            v is not None and math.isclose(v, value, rel_tol=1e-6) for v, (_, value) in zip(same, shown, strict=True)
        )
        if agreeing >= 0.6 * len(shown):
            return arithmetic.evaluate(source), f"the value of {source}"
    weights = [max(float(reading.likeness[i]), 0.0) + 0.02 for i, _ in given[:_SHOWN]]
    asked = arithmetic.quantities(reading.text)
    found = arithmetic.by_pattern([(arithmetic.quantities(t), v) for t, v in shown], weights, asked)
    return (found[0], f"as the demonstrations do it, {found[1]}") if found is not None else None
