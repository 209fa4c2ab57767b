"""Answers in words: the sentence that fits best, a shortened text, the passage that answers a question."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from dspex_lab.lms.exemplar._similarity import content_words, features, index
from dspex_lab.lms.exemplar._spans import spans

_SENTENCE = re.compile(r"(?<=[.!?])[\"”')]*\s+|\n+")
_FENCE = re.compile(r"```[^\n`]*\n(.*?)```", re.DOTALL)
_ASKED = (
    ("how many", ("number",)),
    ("how much", ("money", "percent", "number")),
    ("when", ("date", "year", "time")),
    ("what year", ("year",)),
    ("who", ("name",)),
    ("where", ("name",)),
)
_SHORT = frozenset(["title", "subject", "headline", "topic"])
_QUESTIONS = frozenset(["question", "query", "request", "ask"])


def sentences(text: str) -> list[str]:
    """Return the sentences and lines of ``text``; markers of fields within a value are none."""
    return [s.strip() for s in _SENTENCE.split(text) if s.strip() and not s.startswith("[[ ## ")]


def closest_sentence(text: str, wanted: str) -> str:
    """Return the sentence of ``text`` that has most in common with ``wanted``; the first, if none has anything."""
    parts = sentences(text)
    if not parts:
        return text.strip()
    terms = tuple(dict.fromkeys(content_words(wanted)))
    if not terms:
        return parts[0]
    vocabulary = index(terms)
    found = np.array([np.where(vocabulary.coverage(features(s)) >= 0.6, 1.0, 0.0) for s in parts])
    rarity = np.log((len(parts) + 1.0) / (found.sum(axis=0) + 0.5))
    return parts[int((found @ np.maximum(rarity, 0.05)).argmax())]


def central_sentence(text: str) -> str:
    """Return the sentence of ``text`` that resembles the whole most; a short text is returned as it is."""
    parts = sentences(text)
    if len(parts) < 2:
        return text.strip()
    whole = features(text)
    return parts[int(index(tuple(parts)).likeness(whole).argmax())]


def answer_question(inputs: Mapping[str, str]) -> str | None:
    """Return the part of the other inputs that answers the input which is a question; None if there is no such pair."""
    asked = [name for name in inputs if set(name.lower().split("_")) & _QUESTIONS]
    others = "\n".join(value for name, value in inputs.items() if name not in asked)
    if not asked or not others.strip():
        return None
    question = inputs[asked[0]]
    sentence = closest_sentence(others, question)
    lowered = question.lower()
    for cue, kinds in _ASKED:
        if cue in lowered:
            known = {w.lower() for w in content_words(question)}
            for kind in kinds:
                fresh = [v for _, v in spans(sentence, kind) if not known & set(content_words(v))]
                if fresh:
                    return fresh[0]
    return sentence


def free_text(name: str, description: str, instructions: str, inputs: Mapping[str, str]) -> str:
    """Return words for a field about which no demonstration says anything: taken from the inputs, as they stand.

    An input whose name ends like the field's is repeated whole (``basic_instruction`` for ``proposed_instruction``).
    """
    ending = name.lower().rsplit("_", 1)[-1].rstrip("s")
    for other, value in inputs.items():
        if other.lower().rsplit("_", 1)[-1].rstrip("s") == ending and value.strip():
            return value.strip()
    answered = answer_question(inputs)
    if answered:
        return answered
    text = "\n".join(inputs.values())
    if set(name.lower().split("_")) & _SHORT:
        return " ".join(central_sentence(text).split()[:10]).rstrip(".,;:")
    wanted = f"{name} {description}"
    return closest_sentence(text, wanted) if _has_any(text, wanted) else central_sentence(text) or instructions.strip()


def _has_any(text: str, wanted: str) -> bool:
    terms = tuple(content_words(wanted))
    return bool(terms) and bool((index(terms).coverage(features(text)) >= 0.6).any())


def keywords(text: str, limit: int) -> list[str]:
    """Return up to ``limit`` words of ``text`` that may carry its topic: names first, then the longest."""
    named = [value for _, value in spans(text, "name")]
    long = sorted(dict.fromkeys(w for w in content_words(text) if len(w) > 3), key=lambda w: -len(w))
    return list(dict.fromkeys([*named, *long]))[:limit]


def reply_to(text: str) -> str:
    """Return an answer to a free prompt: where it holds a fenced text and asks for one back, that text; else a sentence."""
    fenced = _FENCE.findall(text)
    if fenced and "```" in text.rsplit("\n\n", 1)[-1]:
        return f"```\n{_first(fenced)}\n```"
    return central_sentence(text) or "(nothing was asked)"


def _first(parts: Sequence[str]) -> str:
    return parts[0].strip()
