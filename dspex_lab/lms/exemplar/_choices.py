"""Answers that are one or several of given values: labels, options, yes or no."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dspex_lab.lms.exemplar._fitting import open_options
from dspex_lab.lms.exemplar._labels import Choice, choose
from dspex_lab.lms.exemplar._prompt import FieldSpec
from dspex_lab.lms.exemplar._qa import yes_or_no
from dspex_lab.lms.exemplar._reading import Reading, short
from dspex_lab.lms.exemplar._similarity import content_words, index

_TRUE_WORDS = re.compile(r"(?im)\btrue\b|^[\s*•-]*yes\b")
_FALSE_WORDS = re.compile(r"(?im)\bfalse\b|^[\s*•-]*no\b")


def choice(reading: Reading, field: FieldSpec, options: Sequence[Any], given: Sequence[tuple[int, Any]]) -> Any:
    """Return the option that the prompt speaks for; feedback may have taken some away."""
    labels = tuple(str(o) for o in options)
    told = reading.labelled(field.name) if ":" in reading.text else None
    if told is not None and told in labels:
        reading.say(f"{field.name} is {told!r}: the text says so.")
        return options[labels.index(told)]
    place = {label: i for i, label in enumerate(labels)}
    known = [(i, place[str(v)]) for i, v in given if str(v) in place]
    chosen = _chosen(reading, labels, reading.about(field), known)
    if reading.feedback:
        chosen = _left(reading, field, labels, chosen)
    reading.share = chosen.share
    explain(reading, field.name, labels, chosen, len(known))
    return options[chosen.label]


def _left(reading: Reading, field: FieldSpec, labels: Sequence[str], chosen: Choice) -> Choice:
    """Return the best choice among those that feedback leaves."""
    left = open_options(labels, reading.refusals(field), reading.blamed(field))
    if chosen.label in left:
        return chosen
    best = max(left, key=lambda i: float(chosen.scores[i]))
    reading.say(f"{field.name}: {labels[chosen.label]!r} was not accepted.")
    return replace(chosen, label=best, named=0.0, terms=(), nearest=None)


def _chosen(reading: Reading, labels: tuple[str, ...], text: str, given: Sequence[tuple[int, int]]) -> Choice:
    at = [i for i, _ in given]
    likeness = reading.likeness[at] if at else np.zeros(0)
    chosen = choose(labels, text, reading.question, likeness, [y for _, y in given], [reading.given[i] for i in at])
    if chosen.nearest is not None:
        chosen = replace(chosen, nearest=(at[chosen.nearest[0]], chosen.nearest[1]))
    return chosen


def explain(reading: Reading, name: str, labels: Sequence[str], chosen: Choice, shown: int) -> None:
    """Note what spoke for a choice."""
    reasons = []
    if chosen.nearest is not None:
        at, likeness = chosen.nearest
        reasons.append(f"its nearest of {shown} demonstrations is “{short(reading.given[at])}” (likeness {likeness:.2f})")
    if chosen.terms:
        reasons.append(f"its definition's words are there: {', '.join(chosen.terms[:6])}")
    if chosen.named > 0.05:
        reasons.append(f"its name resembles the text ({chosen.named:.2f})")
    why = "; ".join(reasons) or "nothing in the prompt speaks for another"
    reading.say(f"{name} is {labels[chosen.label]!r}: {why}.")


def several(
    reading: Reading, field: FieldSpec, options: Sequence[Any], shown: Sequence[tuple[int, Any]], most: int
) -> list[Any]:
    """Return those options that have nearly as much evidence as the best."""
    labels = tuple(str(o) for o in options)
    place = {label: i for i, label in enumerate(labels)}
    known = [(i, place[str(v)]) for i, values in shown for v in values if str(v) in place]
    chosen = _chosen(reading, labels, reading.about(field), known)
    usual = max(1, round(float(np.mean([len(values) for _, values in shown])))) if shown else 3
    order = np.argsort(-chosen.scores, kind="stable")
    good = [int(i) for i in order if chosen.scores[i] > max(0.05, 0.6 * float(chosen.scores[order[0]]))]
    good = good[: min(usual, most)] or [int(i) for i in order[: field.shape.least]]
    explain(reading, field.name, labels, chosen, len(shown))
    return [options[i] for i in good]


def truth(reading: Reading, field: FieldSpec, given: Sequence[tuple[int, Any]]) -> bool:
    """Return yes or no: by definitions and demonstrations, as an answer to a question, or by the words of the field."""
    text = _FALSE_WORDS.sub("False", _TRUE_WORDS.sub("True", reading.about(field)))
    known = [(i, 0 if v else 1) for i, v in given]
    chosen = _chosen(reading, ("True", "False"), text, known)
    reading.share = chosen.share
    if reading.feedback and (known or chosen.terms):
        chosen = _left(reading, field, ("True", "False"), chosen)
    if known or chosen.terms:
        explain(reading, field.name, ("True", "False"), chosen, len(known))
        return chosen.label == 0
    asked = reading.asked()
    said = yes_or_no(*asked) if asked else None
    if said is None:
        found = _asserted(reading, field)
        reading.say(f"{field.name}: the text {'has' if found else 'does not have'} the words that ask for True.")
    else:
        found = said
        reading.say(f"{field.name}: the passages {'say' if found else 'do not say'} what the question asks.")
    if reading.feedback:
        left = open_options(("True", "False"), reading.refusals(field), reading.blamed(field))
        return left[0] == 0 if len(left) == 1 else found
    return found


def _asserted(reading: Reading, field: FieldSpec) -> bool:
    """Whether the text has the topic of a yes-or-no field: a word of its name, or half of its description's."""
    for text, needed in ((field.name, 0.01), (field.description, 0.5)):
        terms = tuple(w for w in content_words(text) if w not in ("true", "false"))
        if terms and float((index(terms).coverage(reading.question) >= 0.6).mean()) >= needed:
            return True
    return False
