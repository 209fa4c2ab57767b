"""How alike two texts are, by the character n-grams they share.

A text is the set of its n-grams of three to five characters within words (word boundaries included), hashed. This
is fast, needs no model, forgives inflection and slips of the pen, and knows nothing but spelling.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Features: TypeAlias = npt.NDArray[np.int32]
Scores: TypeAlias = npt.NDArray[np.float64]

_BITS = 16
_SIZES = (3, 4, 5)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_BASE = np.uint64(1_000_003)
_FIRST = np.ones(1, bool)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_WORD = re.compile(r"[^\W_]+")
#: Unrelated texts share some n-grams, the more the longer they are: texts of n distinct n-grams have a cosine of
#: about n / (n + 900). Measured on English sentences and on up to twenty of them joined (95 to 1,100 n-grams).
_CHANCE = 900.0

#: Words that carry no topic. They are left out where single words are compared.
_FUNCTION = """
a about after all also am an and any are as at be because been before being both but by can could did do does doing
done each for from had has have having he her his how i if in into is it its just may me might more most must my no
nor not of on one or other our out own she should so some such than that the their them then there these they this
those through to too under up us very was we were what when where whether which while who whom whose why will with
would you your
"""


def vocabulary(text: str) -> frozenset[str]:
    """Return the words of ``text`` as a set to look words up in."""
    return frozenset(text.split())


FUNCTION_WORDS = vocabulary(_FUNCTION)


def words(text: str) -> list[str]:
    """Return the words of ``text`` in lower case; ``camelCase`` and ``snake_case`` are taken apart."""
    return [w.lower() for w in _WORD.findall(_CAMEL.sub(" ", text))]


def content_words(text: str) -> list[str]:
    """Return the words of ``text`` that may carry its topic, in order."""
    return [w for w in words(text) if w not in FUNCTION_WORDS]


@lru_cache(maxsize=8192)
def features(text: str) -> Features:
    """Return the hashed n-grams of ``text``, sorted and distinct, not to be changed. A text without any has one feature, 0."""
    codes = np.frombuffer(f" {' '.join(words(text))} ".encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    spaces = codes == 32
    scattered = codes * _MULTIPLIER
    hashed, across, found = scattered, np.zeros(len(codes), bool), []
    for size in range(2, max(_SIZES) + 1):
        # Each n-gram's hash grows out of that of the (n-1)-gram at the same place; a space within it spans two words.
        across = across[:-1] | spaces[size - 2 : -1] if size > 2 else across[:-1]
        hashed = (hashed[:-1] * _BASE) ^ scattered[size - 1 :]
        if size in _SIZES:
            found.append(((hashed * _MULTIPLIER) >> np.uint64(64 - _BITS))[~across])
    if not found or not sum(map(len, found)):
        return np.zeros(1, np.int32)
    ids = np.concatenate(found).astype(np.int32)
    ids.sort()  # np.unique does the same in three times the time for a text of usual length
    distinct = ids[np.concatenate((_FIRST, ids[1:] != ids[:-1]))]
    distinct.flags.writeable = False
    return distinct


@dataclass(frozen=True, eq=False)
class Index:
    """The features of several texts, laid end to end, so that one pass compares a text with all of them."""

    ids: Features
    starts: npt.NDArray[np.int64]
    sizes: Scores

    def __len__(self) -> int:
        return len(self.sizes)

    def shared(self, text: Features) -> Scores:
        """Return, for each text of the index, how many of its features ``text`` has too."""
        if not len(self):
            return np.zeros(0)
        present = np.zeros(1 << _BITS, np.uint8)
        present[text] = 1
        return np.asarray(np.add.reduceat(present.take(self.ids).astype(np.float64), self.starts))

    def coverage(self, text: Features) -> Scores:
        """Return, for each text of the index, the share of its features that ``text`` has too, in [0, 1]."""
        return self.shared(text) / np.maximum(self.sizes, 1.0)

    def likeness(self, text: Features) -> Scores:
        """Return, for each text of the index, the cosine with ``text`` beyond what chance gives texts of this length.

        0 is what unrelated texts have on average (less is possible), 1 is the same set of features.
        """
        size = np.sqrt(self.sizes * len(text))
        chance = size / (size + _CHANCE)
        return (self.shared(text) / np.maximum(size, 1.0) - chance) / (1.0 - chance)


def index_of(parts: list[Features]) -> Index:
    """Build an index of texts given by their features."""
    sizes = np.array([len(p) for p in parts], np.float64)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64) if parts else np.zeros(0, np.int64)
    return Index(np.concatenate(parts) if parts else np.zeros(0, np.int32), starts, sizes)


@lru_cache(maxsize=512)
def index(texts: tuple[str, ...]) -> Index:
    """Build an index of ``texts``; the same texts give the same object."""
    return index_of([features(t) for t in texts])
