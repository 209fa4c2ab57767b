"""Answers in words: spans, answers to questions, sums, what demonstrations say, sentences; in the form that is demanded."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from dspex_lab.lms.exemplar import _numbers as numbers
from dspex_lab.lms.exemplar._agent import concluded
from dspex_lab.lms.exemplar._arithmetic import evaluate, expression_in
from dspex_lab.lms.exemplar._choices import choice
from dspex_lab.lms.exemplar._constraints import Constraints
from dspex_lab.lms.exemplar._dates import iso_date
from dspex_lab.lms.exemplar._estimates import computed
from dspex_lab.lms.exemplar._fitting import fitted_text
from dspex_lab.lms.exemplar._prompt import FieldSpec
from dspex_lab.lms.exemplar._qa import find, yes_or_no
from dspex_lab.lms.exemplar._ranking import asks_ranking, rank, ranking_value
from dspex_lab.lms.exemplar._reading import Reading, short
from dspex_lab.lms.exemplar._sentences import coverage, sentences
from dspex_lab.lms.exemplar._similarity import vocabulary, words
from dspex_lab.lms.exemplar._spans import extract, extract_like, kind_asked, spans
from dspex_lab.lms.exemplar._text import free_text

#: A demonstration is imitated in free text when its likeness is at least this.
_IMITATED = 0.35
_ANSWERS = vocabulary("answer answers result results solution response reply output total")
#: Demonstrated answers of at most this many words ask for a span, longer ones for a sentence.
_BRIEF = 8
_YES_NO = ("yes", "no")


def wording(reading: Reading, field: FieldSpec, given: Sequence[tuple[int, Any]]) -> str | None:
    """Return the words of a field; None only where it may have none."""
    if field.shape.form == "unknown" and not given:
        reading.say(f"The prompt does not say what {field.name} is made of; all that was given may matter.")
        return reading.text
    wanted = reading.wanted(field)
    shown = [(i, v if isinstance(v, str) else str(v)) for i, v in given]
    if wanted.allowed:
        return str(choice(reading, field, wanted.allowed, shown))
    text = _plain(reading, field, shown)
    if text is None:
        return None
    if field.shape.form in ("date", "date-time"):
        text = iso_date(text, field.shape.form == "date-time") or text
    return _as_wanted(reading, field, text, wanted) if wanted else text


def _as_wanted(reading: Reading, field: FieldSpec, text: str, wanted: Constraints) -> str:
    """Return ``text`` in the form that is demanded, or another one where it was refused as it is."""
    lost = {*wanted.refused, *(wanted.earlier if reading.blamed(field) else ())}
    if wanted.contains and not all(part in text for part in wanted.contains):
        # Rather another sentence that has it than one to which it is appended.
        whole = [other for other in _others(reading, field, text) if all(part in other for part in wanted.contains)]
        text = whole[0] if whole else text
    fitted = fitted_text(text, wanted, reading.text)
    if fitted not in lost:
        return fitted
    for other in _others(reading, field, text):
        fitted = fitted_text(other, wanted, reading.text)
        if fitted not in lost:
            reading.say(f"{field.name}: “{short(text)}” was not accepted.")
            return fitted
    return fitted


def _others(reading: Reading, field: FieldSpec, text: str) -> list[str]:
    """Return what else a field could say: other spans of its kind, then sentences, the closest first."""
    kind = kind_asked(field.name, field.description)
    found = [v for _, v in spans(reading.text, kind)] if kind else []
    parts = sentences(reading.text)
    shares = coverage(parts, f"{field.name} {field.description} {text}")
    return [*found, *(parts[i] for i in (-shares).argsort(kind="stable"))]


def _plain(reading: Reading, field: FieldSpec, shown: Sequence[tuple[int, str]]) -> str | None:
    if asks_ranking(field.name, field.description, field.shape) and (ranked := rank(reading.inputs)) is not None:
        reading.say(f"{field.name} has most in common with the rest of the inputs.")
        about = reading.about(field)
        return str(ranking_value(field.shape, field.name, about, ranked, [v for _, v in shown]))
    exact = _exact(reading, field, shown)
    if exact is not None:
        return exact
    if shown:
        imitated = _imitated(reading, field, shown)
        if imitated is not None:
            return imitated
    taken = extract(reading.text, field.name, field.description)
    if taken is not None:
        reading.say(f"{field.name} is taken from the text by its form.")
        return taken
    if field.shape.nullable:
        return None
    reading.say(f"{field.name} is the part of the text that fits it best.")
    return free_text(field.name, field.description, reading.task.instructions, reading.inputs)


def _exact(reading: Reading, field: FieldSpec, shown: Sequence[tuple[int, str]]) -> str | None:
    """Return an answer that the prompt gives outright: what tools gave, a labelled line, a sum, an answer to a question."""
    if reading.calls and (said := concluded(reading.request(), reading.calls)) is not None:
        reading.say(f"{field.name} is what the tools gave.")
        return said
    told = reading.labelled(field.name)
    if told is not None:
        reading.say(f"{field.name} is what the text gives under that name.")
        return told
    if not set(words(field.name)) & _ANSWERS:
        return None
    return _calculated(reading, field, shown) or _answered(reading, field, shown)


def _calculated(reading: Reading, field: FieldSpec, shown: Sequence[tuple[int, str]]) -> str | None:
    asked = reading.asked()
    if shown:
        values = [(i, numbers.to_number(v)) for i, v in shown if len(v.split()) <= 2]
        known = [(i, v) for i, v in values if v is not None]
        found = computed(reading, field, known) if len(known) >= 0.6 * len(shown) and asked is None else None
        if found is not None:
            reading.say(f"{field.name} is {found[0]:g}: {found[1]}.")
        return f"{found[0]:.12g}" if found is not None else None
    source = expression_in(asked[0] if asked else reading.text)
    if source is None:
        return None
    reading.say(f"{field.name} is the value of {source}.")
    return f"{evaluate(source):.12g}"


def _answered(reading: Reading, field: FieldSpec, shown: Sequence[tuple[int, str]]) -> str | None:
    """Return the answer to the question among the inputs, in the manner of the demonstrations."""
    asked = reading.asked()
    if asked is None:
        return None
    inside = sum(v.lower() in reading.given[i].lower() or v.strip(".").lower() in _YES_NO for i, v in shown)
    if shown and inside < 0.6 * len(shown):
        return None
    said = yes_or_no(*asked)
    if said is not None and (not shown or any(v.strip(".").lower() in _YES_NO for _, v in shown)):
        reading.say(f"{field.name}: the passages {'say' if said else 'do not say'} what the question asks.")
        lower = bool(shown) and all(v.islower() for _, v in shown)
        return ("yes" if said else "no") if lower else ("Yes" if said else "No")
    found = find(*asked)
    if found is None:
        return None
    brief = not shown or statistics.median(len(v.split()) for _, v in shown) <= _BRIEF
    reading.say(f"{field.name} stands in “{short(found.sentence, 120)}”, which has {found.share:.0%} of the question's words.")
    return found.text if brief else found.sentence


def _imitated(reading: Reading, field: FieldSpec, shown: Sequence[tuple[int, str]]) -> str | None:
    """Return a value after the pattern of the demonstrations, if they have one that fits."""
    taken = extract_like(reading.text, [(reading.given[i], v) for i, v in shown])
    if taken is not None:
        reading.say(f"{field.name} stands in the text where the demonstrations have theirs.")
        return taken
    distinct = tuple(dict.fromkeys(v for _, v in shown))
    if len(shown) >= 4 and len(distinct) <= len(shown) / 2:
        return str(choice(reading, field, distinct, shown))
    at, value = max(shown, key=lambda pair: reading.likeness[pair[0]])
    if reading.likeness[at] < _IMITATED:
        return None
    likeness = reading.likeness[at]
    reading.say(f"{field.name} is that of the nearest demonstration, “{short(reading.given[at])}” (likeness {likeness:.2f}).")
    return value
