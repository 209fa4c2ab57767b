"""What a prompt's instructions say about its labels: ``label: words``, ``label means …``, ``use label when …``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dspex_lab.lms.exemplar._similarity import FUNCTION_WORDS, Features, Index, Scores, content_words, features, index_of, words

_SENTENCE = re.compile(r"(?<=[.;!?])\s+")
_BULLET = re.compile(r"^[\s>*•\-–—]*(?:\(?\d{1,2}[.)]\s+)?")
_QUOTES = "\"'`*“”‘’«»"
#: After a label that begins a line, one of these shows that the rest of the line explains it.
_JOINT = re.compile(
    r"^[\"'`*“”‘’»]*\s*(?::|=>?|->|→|–|—|-|\(|,|means?\b|is\b|are\b|if\b|when\b|for\b|covers?\b|includes?\b|stands\b|refers\b"
    r"|concerns?\b|about\b|deals\b|handles?\b)",
    re.IGNORECASE,
)
#: A word of a definition counts as found when this share of its n-grams is in the text.
_FOUND = 0.5


@dataclass(frozen=True, eq=False)
class Definitions:
    """The defining words of each of several labels, and as ``texts`` each label's name with them.

    ``terms`` are all words, label after label; ``owners`` says whose each is; ``weights`` is high for a word that
    defines one label only and 0 for one that defines most of them.
    """

    terms: tuple[str, ...]
    owners: np.ndarray
    weights: Scores
    index: Index
    labels: int
    texts: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.terms)

    @property
    def share(self) -> float:
        """Return the share of the labels that are defined at all."""
        return len(set(self.owners.tolist())) / self.labels

    def matches(self, text: Features) -> Scores:
        """Return how surely each term is found in ``text``, from 0 to 1."""
        return np.clip((self.index.coverage(text) - _FOUND) / (1.0 - _FOUND), 0.0, 1.0)

    def scores(self, text: Features) -> Scores:
        """Return for each label how much of ``text`` its definition accounts for: 0 is nothing, 1 a few words."""
        if not self.terms:
            return np.zeros(self.labels)
        found = self.matches(text) * self.weights
        total = np.bincount(self.owners, weights=found, minlength=self.labels)
        return 1.0 - np.exp(-total)

    def found(self, text: Features, label: int) -> list[str]:
        """Return the terms of ``label`` that are found in ``text``."""
        hits = (self.matches(text) > 0) & (self.owners == label) & (self.weights > 0)
        return [self.terms[i] for i in np.flatnonzero(hits)]


@lru_cache(maxsize=512)
def definitions_of(labels: tuple[str, ...], instructions: str) -> Definitions:
    """Read what ``instructions`` say about each of ``labels``."""
    terms: list[str] = []
    owners: list[int] = []
    for label, texts in enumerate(_explanations(labels, instructions)):
        own = set(words(labels[label]))
        for word in dict.fromkeys(w for text in texts for w in content_words(text)):
            if len(word) > 1 and word not in own:
                terms.append(word)
                owners.append(label)
    owner = np.array(owners, np.int64)
    texts = [" ".join([label, *(t for t, o in zip(terms, owners, strict=True) if o == i)]) for i, label in enumerate(labels)]
    index = index_of([features(t) for t in terms])
    return Definitions(tuple(terms), owner, _weights(terms, owner), index, len(labels), tuple(texts))


def _weights(terms: Sequence[str], owners: np.ndarray) -> Scores:
    defined = len(set(owners.tolist()))
    spread = dict.fromkeys(terms, 0)
    for term in terms:
        spread[term] += 1
    if defined < 3:
        return np.array([1.0 if spread[t] == 1 else 0.0 for t in terms])
    return np.array([np.log(defined / spread[t]) / np.log(defined) for t in terms]) if terms else np.zeros(0)


def _explanations(labels: Sequence[str], instructions: str) -> list[list[str]]:
    """Return for each label the pieces of text that explain it."""
    found: list[list[str]] = [[] for _ in labels]
    patterns = [_pattern(label) for label in labels]
    current: int | None = None
    for line in instructions.splitlines():
        if not line[:1].isspace():
            current = None  # an indented line goes on with the label of the line before it
        for sentence in filter(None, map(str.strip, _SENTENCE.split(line))):
            head = _heading(sentence, patterns)
            if head is not None:
                current, rest = head
                found[current].append(rest)
                continue
            mentioned = [i for i, label in enumerate(labels) if _mentions(sentence, label, patterns[i])]
            if len(mentioned) == 1:
                found[mentioned[0]].append(patterns[mentioned[0]].sub(" ", sentence))
            elif not mentioned and current is not None:
                found[current].append(sentence)
    return found


def _pattern(label: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-]){re.escape(label)}(?![\w-])")


def _heading(line: str, patterns: Sequence[re.Pattern[str]]) -> tuple[int, str] | None:
    """Return the label that begins ``line`` and what follows it, if the line explains a label."""
    text = _BULLET.sub("", line, count=1).lstrip(_QUOTES)
    for i, pattern in enumerate(patterns):
        match = pattern.match(text)
        if match and _JOINT.match(text[match.end() :]):
            return i, text[match.end() :]
    return None


def _mentions(sentence: str, label: str, pattern: re.Pattern[str]) -> bool:
    """Whether ``sentence`` names ``label`` as a label, and does not merely use the same word."""
    for match in pattern.finditer(sentence):
        quoted = sentence[match.start() - 1 : match.start()] in _QUOTES and sentence[match.end() : match.end() + 1] in _QUOTES
        if (quoted and match.start() > 0) or not label.isalpha() or not label.islower():
            return label.lower() not in FUNCTION_WORDS or quoted
    return False
