"""What examples teach about labels: the words that tell each from the others, as lines an instruction can carry.

The lines are ``label: word, word, …`` under a heading. A word counts for a label by how many of its examples have it
and by how few other labels do (term frequency times inverse document frequency, with labels as documents; K. Spärck
Jones, 1972). Lines that an instruction already has are taken up and go on growing.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from dspex_lab.lms.exemplar._records import Record
from dspex_lab.lms.exemplar._similarity import content_words

#: The line above the words of labels.
HEADING = "Words that speak for each answer:"
_LINE = re.compile(r"^(\S.{0,79}?): ((?:[^\s,:]+)(?:, [^\s,:]+)*)\s*$")
#: A label has at most this many words, one that is seen only once this many, and this many characters.
_LABEL_WORDS, _ONCE_WORDS, _LABEL_CHARACTERS = 5, 2, 60
_LABEL_LINE = 80

#: Words by label, each with how much it counts.
Words = dict[str, Counter[str]]


def labels_of(records: Sequence[Record]) -> list[tuple[str, Record]]:
    """Return each right value that is a label, with its example: short, and no part of the inputs unless it comes again."""
    values = Counter(v for r in records for v in r.right.values())
    found = []
    for record in records:
        text = record.text.lower()
        for value in record.right.values():
            plain = value.strip()
            again = values[value] > 1
            short = 0 < len(plain.split()) <= (_LABEL_WORDS if again else _ONCE_WORDS)
            if short and len(plain) <= _LABEL_CHARACTERS and "\n" not in plain and (again or plain.lower() not in text):
                found.append((plain, record))
    return found


def learned(records: Sequence[Record]) -> Words:
    """Return the words of the examples of each label, counted once an example."""
    out: Words = {}
    for label, record in labels_of(records):
        own = out.setdefault(label, Counter())
        own.update(w for w in dict.fromkeys(content_words(record.text)) if len(w) > 1 and not w.isdigit())
    return out


def lines_in(text: str) -> Words:
    """Return the words by label that ``text`` gives under the heading; lines of the same label are joined."""
    out: Words = {}
    inside = False
    for line in text.splitlines():
        if line.strip().endswith(HEADING):
            inside = True
        elif inside and (match := _LINE.match(line.strip())):
            out.setdefault(match.group(1), Counter()).update(match.group(2).split(", "))
        elif line.strip():
            inside = False
    return out


def without_lines(text: str) -> str:
    """Return ``text`` without the words by label and their heading."""
    kept, inside = [], False
    for line in text.splitlines():
        if line.strip() == HEADING:
            inside = True
        elif not (inside and (_LINE.match(line.strip()) or not line.strip())):
            inside = False
            kept.append(line)
    return "\n".join(kept).strip()


def joined(parts: Iterable[Mapping[str, Counter[str]]]) -> Words:
    """Return the words of all ``parts`` together."""
    out: Words = {}
    for part in parts:
        for label, own in part.items():
            out.setdefault(label, Counter()).update(own)
    return out


def telling(words: Mapping[str, Counter[str]], most: int, shared: float = 1.0) -> dict[str, list[str]]:
    """Return for each label its most telling words.

    Args:
        most: how many for a label.
        shared: how much a word loses by being shared; 0 ranks by frequency alone.
    """
    spread = Counter(word for own in words.values() for word in own)
    count = len(words)

    def worth(label: str, word: str) -> float:
        return words[label][word] * math.log((count + 1.0) / (spread[word] + 0.5 * (count <= 2))) ** shared

    out = {}
    for label, own in words.items():
        ranked = sorted(own, key=lambda w: -worth(label, w))
        out[label] = [w for w in ranked if count < 3 or spread[w] < count][:most]
    return out


def lines_of(words: Mapping[str, Sequence[str]]) -> str:
    """Return the heading and a line for each label that has words."""
    lines = [
        f"{label}: {', '.join(own)}" for label, own in words.items() if own and len(label) < _LABEL_LINE and "\n" not in label
    ]
    return "\n".join([HEADING, *lines]) if lines else ""


def usual_length(records: Sequence[Record]) -> int | None:
    """Return the most words that right answers have, where they are short texts and no labels; else None."""
    named = {label for label, _ in labels_of(records)}
    lengths = [len(v.split()) for r in records for v in r.right.values() if v.strip() not in named]
    if len(lengths) < 3 or max(lengths) > 40:
        return None
    return max(lengths)
