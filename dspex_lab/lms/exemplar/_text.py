"""Answers in words: the sentence that fits best, a shortened text, the passage that answers a question."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dspex_lab.lms.exemplar._qa import find, question_in
from dspex_lab.lms.exemplar._sentences import central_sentence, closest_sentence, has_any
from dspex_lab.lms.exemplar._similarity import content_words
from dspex_lab.lms.exemplar._spans import spans

_FENCE = re.compile(r"```[^\n`]*\n(.*?)```", re.DOTALL)
_SHORT = frozenset(["title", "subject", "headline", "topic"])


def answer_question(inputs: Mapping[str, str]) -> str | None:
    """Return the part of the other inputs that answers the input which is a question; None if there is no such pair."""
    asked = question_in(inputs)
    if asked is None:
        return None
    found = find(*asked)
    return found.text if found is not None else closest_sentence("\n".join(asked[1]), asked[0])


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
    return closest_sentence(text, wanted) if has_any(text, wanted) else central_sentence(text) or instructions.strip()


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
