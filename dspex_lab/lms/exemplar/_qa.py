"""Extractive question answering: the span of the given passages that answers a question.

A sentence is weighed by the question's content words it has, rare ones counting more; within the best ones the span
is taken whose form the question asks for (a date for *when*, a name for *who*) and which stands nearest to words of the
question. A question for no known form gets the words that its sentence says beside those of the question.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dspex_lab.lms.exemplar._sentences import coverage, listed, sentences
from dspex_lab.lms.exemplar._similarity import FUNCTION_WORDS, content_words, words
from dspex_lab.lms.exemplar._spans import kind_asked, spans

_QUESTIONS = frozenset(["question", "query", "request", "ask", "questions"])
_YES_NO = re.compile(r"^\W*(?:is|are|was|were|do|does|did|can|could|has|have|had|will|would|should|may|must)\b", re.I)
_WH = re.compile(r"\b(?:what|which|who|whom|whose|when|where|how|why)\b", re.I)
_FORMS: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = (
    (re.compile(r"\bhow (?:many|old)\b", re.I), ("number",)),
    (re.compile(r"\bhow much\b", re.I), ("money", "percent", "number")),
    (re.compile(r"\bhow (?:long|far|tall|high|deep|large|big|wide|fast|heavy|often)\b", re.I), ("measure", "number")),
    (re.compile(r"\b(?:what|which) year\b", re.I), ("year",)),
    (re.compile(r"\bwhat time\b", re.I), ("time",)),
    (re.compile(r"\bwhen\b", re.I), ("date", "year", "time")),
    (re.compile(r"\b(?:who|whom|whose)\b", re.I), ("name",)),
    (re.compile(r"\bwhere\b", re.I), ("name",)),
)
_ASKED_NOUN = re.compile(r"\b(?:what|which)(?:\s+(?:is|are|was|were)(?:\s+the|\s+an?)?)?\s+((?:[\w'-]+\s*){1,3})", re.I)
_MEASURE = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*(?:\s+(?:million|billion|thousand))?[ -]?[^\W\d_]+", re.I)
_PLACE = frozenset(["in", "at", "near", "from", "to", "on", "inside", "outside"])
_NEGATIONS = frozenset(["not", "no", "never", "none", "cannot", "neither", "nor"])
_WHICH = re.compile(r"^\W*(?:which|who|whose)\b", re.I)
#: Words that end a run: what stands on their other side is said about it.
_COPULAS = frozenset(["is", "are", "was", "were", "be", "been", "has", "have", "had", "and", "or", "that", "which", "who"])
_WORD = re.compile(r"\w+(?:['’-]\w+)*")
#: Sentences within this share of the best one are searched for the span.
_NEAR_BEST = 0.6
#: How much it counts that a span stands right beside words of the question.
_CLOSENESS = 0.3
#: A remainder of more words than this is no short answer.
_LONGEST = 12


@dataclass(frozen=True)
class Found:
    """An answer, the sentence it stands in, and the share of the question's words that sentence has."""

    text: str
    sentence: str
    share: float


def question_in(inputs: Mapping[str, str]) -> tuple[str, list[str]] | None:
    """Return the input that is a question and the passages in the others; None if there is no such pair."""
    asked = [name for name in inputs if set(name.lower().split("_")) & _QUESTIONS]
    passages = [p for name, value in inputs.items() if name not in asked for p in (listed(value) or (value,)) if p.strip()]
    if not asked or not passages:
        return None
    return inputs[asked[0]], passages


def find(question: str, passages: Sequence[str]) -> Found | None:
    """Return the span of ``passages`` that answers ``question``; None if no sentence has a content word of it."""
    parts = [s for passage in passages for s in sentences(passage)]
    shares = coverage(parts, question)
    if not len(parts):
        return None
    best = int(shares.argmax())
    if shares[best] <= 0:
        return None
    near = [i for i in shares.argsort(kind="stable")[::-1][:5] if shares[i] >= _NEAR_BEST * shares[best]]
    for kinds in _kinds_asked(question):
        taken = [(score, i, text) for i in near for score, text in _spans(parts[i], kinds, question, float(shares[i]))]
        if not taken and best + 1 < len(parts):  # "It …": what is asked for may stand in the next sentence
            taken = [(score, best + 1, text) for score, text in _spans(parts[best + 1], kinds, question, float(shares[best]))]
        if taken:
            _, i, text = max(taken, key=lambda one: (one[0], -one[1]))
            return Found(text, parts[i], float(shares[i]))
    left = _remainder(parts[best], question) if _WH.search(question) else None
    return Found(left or parts[best], parts[best], float(shares[best]))


def yes_or_no(question: str, passages: Sequence[str]) -> bool | None:
    """Return whether the passages say what a yes-or-no question asks; None if it is no such question."""
    if not _YES_NO.match(question):
        return None
    parts = [s for passage in passages for s in sentences(passage)]
    shares = coverage(parts, question)
    if not len(parts):
        return None
    sentence = parts[int(shares.argmax())]
    negated = bool(_NEGATIONS & set(words(sentence))) or "n't" in sentence
    asked = bool(_NEGATIONS & set(words(question))) or "n't" in question
    return bool(shares.max() >= 0.75) and negated == asked


def _kinds_asked(question: str) -> list[str]:
    for pattern, kinds in _FORMS:
        if pattern.search(question):
            return list(kinds)
    noun = _ASKED_NOUN.search(question)
    kind = kind_asked(noun.group(1), "") if noun else None
    return [kind] if kind else []


def _spans(sentence: str, kind: str, question: str, share: float) -> list[tuple[float, str]]:
    """Return the spans of ``kind`` that are no words of the question, each with how well it fits."""
    known = {w.lower() for w in content_words(question)}
    matches = [m.start() for m in _WORD.finditer(sentence) if m.group().lower() in known]
    found = ((m.start(), m.group()) for m in _MEASURE.finditer(sentence)) if kind == "measure" else spans(sentence, kind)
    where = bool(re.search(r"\bwhere\b", question, re.I))
    out = []
    for start, text in found:
        own = set(content_words(text))
        if known & own or not own:
            continue
        away = min((abs(len(words(sentence[min(start, m) : max(start, m)]))) for m in matches), default=9)
        fit = share + _CLOSENESS / (1.0 + away)
        if kind == "name":
            before = words(sentence[max(start - 60, 0) : start])[-1:]
            fit += 0.2 if bool(set(before) & _PLACE) == where else -0.2
        out.append((fit, text))
    return out


def _remainder(sentence: str, question: str) -> str | None:
    """Return the run of words that the sentence says beside those of the question: short, whole, without loose ends."""
    known = set(words(question)) | {"the", "a", "an"}
    tokens = list(_WORD.finditer(sentence))
    fresh = [not (set(words(t.group())) <= known) and t.group().lower() not in FUNCTION_WORDS for t in tokens]
    runs: list[tuple[int, int]] = []
    for i, new in enumerate(fresh):
        if not new:
            continue
        if runs and _joined(sentence, tokens, runs[-1][1], i, known):
            runs[-1] = (runs[-1][0], i)
        else:
            runs.append((i, i))
    if not runs:
        return None
    told = [not new and set(words(t.group())) <= known - FUNCTION_WORDS for new, t in zip(fresh, tokens, strict=True)]
    which = bool(_WHICH.match(question))

    def fit(run: tuple[int, int]) -> tuple[float, int]:
        beside = _beside(told, fresh, run[0], -1) + _beside(told, fresh, run[1], 1)
        named = which and tokens[run[0]].group()[:1].isupper()
        return beside + (1.5 if named else 0.0), run[1] - run[0]

    first, last = max(runs, key=fit)
    if last - first + 1 > _LONGEST:
        return None
    return sentence[tokens[first].start() : tokens[last].end()]


def _beside(told: list[bool], fresh: list[bool], start: int, step: int) -> float:
    """Return how near the next word with a topic is, if it is one of the question's: 1 right beside, else 0."""
    at = start + step
    while 0 <= at < len(told) and not told[at] and not fresh[at]:
        at += step
    return 1.0 / abs(at - start) if 0 <= at < len(told) and told[at] else 0.0


def _joined(sentence: str, tokens: list[re.Match[str]], end: int, start: int, known: set[str]) -> bool:
    """Whether nothing but function words that the question does not have stands between two words of a run."""
    between = [t.group().lower() for t in tokens[end + 1 : start]]
    gap = sentence[tokens[end].end() : tokens[start].start()]
    return (
        len(between) <= 2
        and not re.search(r"[,;:.!?()]", gap)
        and all(w in FUNCTION_WORDS and w not in _COPULAS for w in between)
        and not ({w for w in between if w not in ("the", "a", "an", "of", "and")} & known)
    )
