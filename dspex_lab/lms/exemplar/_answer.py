"""Answers a prompt, field by field, and says on what evidence."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dspex_lab.lms.exemplar import _numbers as numbers
from dspex_lab.lms.exemplar._labels import Choice, choose
from dspex_lab.lms.exemplar._prompt import Demonstration, FieldSpec, Prompt, Task
from dspex_lab.lms.exemplar._shapes import TEXT, Shape
from dspex_lab.lms.exemplar._similarity import Features, Scores, content_words, features, index
from dspex_lab.lms.exemplar._spans import extract, extract_like, kind_asked, kind_of, spans
from dspex_lab.lms.exemplar._text import free_text, keywords

_REASONS = frozenset(["reasoning", "rationale", "thought", "thoughts", "explanation", "justification"])
_SURE = frozenset(["confidence", "certainty", "probability", "likelihood"])
#: A demonstration is imitated in free text when its likeness is at least this.
_IMITATED = 0.35
_TRUE_WORDS = re.compile(r"(?im)\btrue\b|^[\s*•-]*yes\b")
_FALSE_WORDS = re.compile(r"(?im)\bfalse\b|^[\s*•-]*no\b")


class Answerer:
    """Answers one prompt of a DSPy adapter from what stands in it.

    Attributes:
        evidence: sentences that say what each answer rests on.
    """

    def __init__(self, prompt: Prompt, task: Task) -> None:
        self.task = task
        self.inputs = prompt.question
        self.text = "\n".join(self.inputs.values())
        self.question = features(self.text)
        self.demonstrations = prompt.demonstrations
        self.given = ["\n".join(d.inputs.values()) for d in self.demonstrations]
        self.likeness = _likeness(self.inputs, self.demonstrations, self.given)
        self.evidence: list[str] = []
        self._share: float | None = None

    def answers(self) -> dict[str, Any]:
        """Return a value for every output field, in the order of the task; None for one that has none."""
        found: dict[str, Any] = {}
        waiting = [f for f in self.task.outputs if self._explains(f)]
        for field in self.task.outputs:
            if field not in waiting:
                values = [d.outputs.get(field.name) for d in self.demonstrations]
                found[field.name] = self.value(field, values)
        for field in waiting:
            found[field.name] = self.reasoning()
        return {f.name: found[f.name] for f in self.task.outputs}

    def _explains(self, field: FieldSpec) -> bool:
        last = field.name.lower().rsplit("_", 1)[-1]
        return field.shape.kind == "str" and last in _REASONS and len(self.task.outputs) > 1

    def value(self, field: FieldSpec, shown: Sequence[Any]) -> Any:
        """Return the value of one field.

        Args:
            field: what is asked.
            shown: what each demonstration gives for it, as the prompt writes it; None where it gives nothing.
        """
        shape = field.shape
        given = [(i, value) for i, value in enumerate(_read(shape, v) for v in shown) if value is not None]
        if shape.kind == "choice":
            return self._choice(field, shape.options, given)
        if shape.kind == "bool":
            return self._truth(field, given)
        if shape.kind in ("int", "float"):
            return self._number(field, given)
        if shape.kind == "list":
            return self._list(field, shape.item or TEXT, given)
        if shape.kind == "object":
            return {
                name: self.value(FieldSpec(name, description, inner), [_member(v, name) for v in _spread(given, len(shown))])
                for name, inner, description in shape.properties
            }
        return self._words(field, given)

    def reasoning(self) -> str:
        """Return what the answers rest on, in words."""
        return " ".join(self.evidence) or "Nothing in the prompt speaks for one answer over another."

    # --- choices ------------------------------------------------------------------------------------------------

    def _choose(self, labels: tuple[str, ...], text: str, given: Sequence[tuple[int, int]]) -> Choice:
        at = [i for i, _ in given]
        likeness = self.likeness[at] if at else np.zeros(0)
        chosen = choose(labels, text, self.question, likeness, [y for _, y in given], [self.given[i] for i in at])
        if chosen.nearest is not None:
            chosen = replace(chosen, nearest=(at[chosen.nearest[0]], chosen.nearest[1]))
        return chosen

    def _choice(self, field: FieldSpec, options: Sequence[Any], given: Sequence[tuple[int, Any]]) -> Any:
        labels = tuple(str(o) for o in options)
        place = {label: i for i, label in enumerate(labels)}
        known = [(i, place[str(v)]) for i, v in given if str(v) in place]
        chosen = self._choose(labels, self._about(field), known)
        self._share = chosen.share
        self._explain_choice(field.name, labels, chosen, len(known))
        return options[chosen.label]

    def _truth(self, field: FieldSpec, given: Sequence[tuple[int, Any]]) -> bool:
        text = _FALSE_WORDS.sub("False", _TRUE_WORDS.sub("True", self._about(field)))
        known = [(i, 0 if v else 1) for i, v in given]
        chosen = self._choose(("True", "False"), text, known)
        self._share = chosen.share
        if known or chosen.terms:
            self._explain_choice(field.name, ("True", "False"), chosen, len(known))
            return chosen.label == 0
        found = self._asserted(field)
        self.evidence.append(f"{field.name}: the text {'has' if found else 'does not have'} the words that ask for True.")
        return found

    def _asserted(self, field: FieldSpec) -> bool:
        """Whether the text has the topic of a yes-or-no field: a word of its name, or half of its description's."""
        for text, needed in ((field.name, 0.01), (field.description, 0.5)):
            terms = tuple(w for w in content_words(text) if w not in ("true", "false"))
            if terms and float((index(terms).coverage(self.question) >= 0.6).mean()) >= needed:
                return True
        return False

    def _about(self, field: FieldSpec) -> str:
        return f"{self.task.instructions}\n{field.description}"

    def _explain_choice(self, name: str, labels: Sequence[str], chosen: Choice, shown: int) -> None:
        reasons = []
        if chosen.nearest is not None:
            at, likeness = chosen.nearest
            reasons.append(f"its nearest of {shown} demonstrations is “{_short(self.given[at])}” (likeness {likeness:.2f})")
        if chosen.terms:
            reasons.append(f"its definition's words are there: {', '.join(chosen.terms[:6])}")
        if chosen.named > 0.05:
            reasons.append(f"its name resembles the text ({chosen.named:.2f})")
        why = "; ".join(reasons) or "nothing in the prompt speaks for another"
        self.evidence.append(f"{name} is {labels[chosen.label]!r}: {why}.")

    # --- numbers ------------------------------------------------------------------------------------------------

    def _number(self, field: FieldSpec, given: Sequence[tuple[int, Any]]) -> int | float:
        value, why = self._estimate(field, given)
        fitted = numbers.fitted(field.shape, value)
        self.evidence.append(f"{field.name} is {fitted}: {why}.")
        return fitted

    def _estimate(self, field: FieldSpec, given: Sequence[tuple[int, Any]]) -> tuple[float, str]:
        shape = field.shape
        bounded = shape.low is not None and shape.high is not None
        if not bounded and given:
            taken = extract_like(self.text, [(self.given[i], _plain(v)) for i, v in given])
            number = numbers.to_number(taken)
            if number is not None:
                return number, "it stands where the demonstrations have theirs"
        graded = numbers.from_grades(shape, self._about(field), self.question)
        if given:
            value = numbers.from_demonstrations([v for _, v in given], self.likeness[[i for i, _ in given]])
            if graded:
                why = f"the mean of demonstrations alike and of the grades for {', '.join(graded[1][:6])}"
                return (value + graded[0]) / 2, why
            return value, f"the mean of {len(given)} demonstrations, weighted by likeness"
        if graded:
            return graded[0], f"the instructions grade {', '.join(graded[1][:6])}"
        if set(field.name.lower().split("_")) & _SURE and self._share is not None:
            return self._share, "the part of the evidence that speaks for the answer before it"
        number = None if bounded else numbers.from_text(self.text, field.name, field.description)
        if number is not None:
            return number, "taken from the text"
        named = numbers.from_name(shape, field.name, self.question)
        if named is not None:
            return named, "the prompt gives no grades, so by the field's name alone"
        return 0.0, "the text has no number"

    # --- lists --------------------------------------------------------------------------------------------------

    def _list(self, field: FieldSpec, item: Shape, given: Sequence[tuple[int, Any]]) -> list[Any]:
        shown = [(i, v) for i, v in given if isinstance(v, list)]
        most = int(field.shape.high or 5)
        if item.kind == "choice":
            return self._several(field, item.options, shown, most)
        seen = [str(v) for _, values in shown for v in values]
        if item.kind == "str" and seen and len(set(seen)) <= 0.6 * len(seen):
            return self._several(field, tuple(dict.fromkeys(seen)), shown, most)
        if item.kind != "str":
            inner = FieldSpec(field.name, field.description, item)
            values = [v[0] if v else None for v in _spread(shown, len(self.given))]
            return [self.value(inner, values)] if field.shape.least or item.kind == "object" else self._numbers(item)
        kind = kind_of(seen) or kind_asked(field.name, field.description)
        found = list(dict.fromkeys(v for _, v in spans(self.text, kind))) if kind else []
        found = found or (keywords(self.text, min(3, most)) if not kind or field.shape.least else [])
        return found[:most]

    def _numbers(self, item: Shape) -> list[Any]:
        found = [numbers.to_number(v) for _, v in spans(self.text, "number")]
        return [numbers.fitted(item, n) for n in found if n is not None]

    def _several(self, field: FieldSpec, options: Sequence[Any], shown: Sequence[tuple[int, Any]], most: int) -> list[Any]:
        """Return those options that have nearly as much evidence as the best."""
        labels = tuple(str(o) for o in options)
        place = {label: i for i, label in enumerate(labels)}
        known = [(i, place[str(v)]) for i, values in shown for v in values if str(v) in place]
        chosen = self._choose(labels, self._about(field), known)
        usual = max(1, round(float(np.mean([len(values) for _, values in shown])))) if shown else 3
        order = np.argsort(-chosen.scores, kind="stable")
        good = [int(i) for i in order if chosen.scores[i] > max(0.05, 0.6 * float(chosen.scores[order[0]]))]
        good = good[: min(usual, most)] or [int(i) for i in order[: field.shape.least]]
        self._explain_choice(field.name, labels, chosen, len(shown))
        return [options[i] for i in good]

    # --- words --------------------------------------------------------------------------------------------------

    def _words(self, field: FieldSpec, given: Sequence[tuple[int, Any]]) -> str | None:
        shown = [(i, str(v)) for i, v in given]
        if shown:
            imitated = self._imitated(field, shown)
            if imitated is not None:
                return imitated
        taken = extract(self.text, field.name, field.description)
        if taken is not None:
            self.evidence.append(f"{field.name} is taken from the text by its form.")
            return taken
        total = numbers.calculate(self.text) if field.name in ("answer", "result", "solution") else None
        if total is not None:
            self.evidence.append(f"{field.name} is the value of the sum in the text.")
            return f"{total:g}"
        if field.shape.nullable:
            return None
        self.evidence.append(f"{field.name} is the part of the text that fits it best.")
        return free_text(field.name, field.description, self.task.instructions, self.inputs)

    def _imitated(self, field: FieldSpec, shown: Sequence[tuple[int, str]]) -> str | None:
        """Return a value after the pattern of the demonstrations, if they have one that fits."""
        taken = extract_like(self.text, [(self.given[i], v) for i, v in shown])
        if taken is not None:
            self.evidence.append(f"{field.name} stands in the text where the demonstrations have theirs.")
            return taken
        distinct = tuple(dict.fromkeys(v for _, v in shown))
        if len(shown) >= 4 and len(distinct) <= len(shown) / 2:
            return str(self._choice(field, distinct, shown))
        at, value = max(shown, key=lambda pair: self.likeness[pair[0]])
        if self.likeness[at] < _IMITATED:
            return None
        self.evidence.append(
            f"{field.name} is that of the nearest demonstration, “{_short(self.given[at])}” (likeness {self.likeness[at]:.2f})."
        )
        return value


def _likeness(inputs: dict[str, str], demonstrations: Sequence[Demonstration], given: Sequence[str]) -> Scores:
    """Return how alike each demonstration is to the question, on the inputs that the demonstration supplies."""
    out = np.zeros(len(demonstrations))
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, demonstration in enumerate(demonstrations):
        groups.setdefault(tuple(demonstration.inputs), []).append(i)
    for names, places in groups.items():
        asked: Features = features("\n".join(inputs.get(name, "") for name in names))
        out[places] = index(tuple(given[i] for i in places)).likeness(asked)
    return out


def _read(shape: Shape, raw: Any) -> Any:
    """Return a demonstrated value as its type; None if it is not of that type."""
    if raw is None or not isinstance(raw, str):
        return numbers.to_number(raw) if shape.kind in ("int", "float") else raw
    if shape.kind in ("int", "float"):
        return numbers.to_number(raw)
    if shape.kind == "bool":
        return {"true": True, "false": False}.get(raw.strip().lower())
    if shape.kind in ("list", "object"):
        try:
            return json.loads(raw)
        except ValueError:
            return None
    return raw


def _spread(given: Sequence[tuple[int, Any]], count: int) -> list[Any]:
    out: list[Any] = [None] * count
    for i, value in given:
        out[i] = value
    return out


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _plain(value: float) -> str:
    return f"{value:g}"


def _short(text: str, limit: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
