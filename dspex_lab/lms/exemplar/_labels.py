"""Chooses one of several labels from what the prompt says: names, definitions, demonstrations.

The name of a label is compared with the question; words by which the instructions define it are looked for; and
demonstrations count by how alike their inputs are to the question. Where names say something, a demonstration
counts only when it is much closer than chance would have it, because a handful of distant ones would only mislead;
where they say nothing (``Q7``), all demonstrations count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dspex_lab.lms.exemplar._definitions import definitions_of
from dspex_lab.lms.exemplar._similarity import Features, Index, Scores, features, index_of

#: Likeness (see ``Index.likeness``) below which a demonstration says nothing, where names say something.
_NEAR = 0.22
#: How much each further demonstration of a label counts beside its nearest.
_AGREEMENT = 0.3
#: How much a definition that is found counts, beside the name's cosine and the likeness of demonstrations.
_DEFINITION = 0.5
#: How much the likeness to a name together with its definition counts beside the likeness to the name alone.
_EXPLAINED = 0.6
#: Long names have more n-grams to share; the exponent gives them less of a handicap than a cosine would.
_LENGTH = 0.4
#: Names of which at most this share (and at least that) occurs in any text of the prompt say nothing (say something).
_SILENT, _TELLING = 0.12, 0.25
#: Evidence below this is none: a few n-grams shared by accident.
_NOTHING = 0.02
#: How many demonstrations are looked at for that.
_SAMPLE = 16
#: What demonstrations of one label have in common on average; for the length of their sum.
_WITHIN = 0.25


@dataclass(frozen=True, eq=False)
class LabelNames:
    """The names of the labels, as features that tell them apart."""

    index: Index
    scale: float

    def scores(self, text: Features) -> Scores:
        """Return the likeness of each name to ``text``, about 0 to 0.6."""
        shared = self.index.shared(text)
        return shared / (np.sqrt(len(text)) * self.index.sizes**_LENGTH * self.scale)


@dataclass(frozen=True)
class Choice:
    """A label, and what spoke for it.

    ``share`` is the part of all evidence that spoke for it, in [0, 1]. ``nearest`` is the demonstration of that label
    that counted most, with its likeness; ``terms`` are the words of its definition that were found.
    """

    label: int
    share: float
    named: float
    terms: tuple[str, ...]
    nearest: tuple[int, float] | None
    scores: Scores


@lru_cache(maxsize=512)
def label_names(labels: tuple[str, ...]) -> LabelNames:
    """Prepare the names; n-grams that most of them share are left out, as they tell nothing apart."""
    parts = [features(label) for label in labels]
    if len(labels) > 3:
        seen, counts = np.unique(np.concatenate(parts), return_counts=True)
        common = seen[counts > 0.6 * len(labels)]
        parts = [np.setdiff1d(p, common, assume_unique=True) for p in parts]
    parts = [p if len(p) else np.zeros(1, np.int32) for p in parts]
    index = index_of(parts)
    return LabelNames(index, float(np.mean(index.sizes ** (0.5 - _LENGTH))))


def choose(
    labels: tuple[str, ...],
    instructions: str,
    question: Features,
    likeness: Scores,
    given: Sequence[int],
    texts: Sequence[str],
) -> Choice:
    """Choose a label for ``question``.

    Args:
        labels: the names to choose from, at least one.
        instructions: the text that may define them.
        question: the features of what is asked.
        likeness: of each demonstration to the question.
        given: the label of each demonstration, by its place in ``labels``.
        texts: each demonstration's inputs.
    """
    definitions = definitions_of(labels, instructions)
    named, defined = label_names(labels).scores(question), definitions.scores(question)
    if definitions:
        named = named + _EXPLAINED * label_names(definitions.texts).scores(question)
    own = np.asarray(given, np.int64)
    telling = max(_telling(labels, question, texts), definitions.share) if len(own) else 1.0
    shown = _shown(likeness, own, len(labels), telling)
    scores: Scores = named + _DEFINITION * defined + shown
    if not (scores > _NOTHING).any():
        scores = scores + _guess(own, len(labels), question)
    best = int(scores.argmax())
    return Choice(
        label=best,
        share=_share(scores, best),
        named=float(named[best]),
        terms=tuple(definitions.found(question, best)) if definitions else (),
        nearest=_nearest(likeness, own, best) if shown[best] > 0 else None,
        scores=scores,
    )


def _guess(own: np.ndarray, count: int, question: Features) -> Scores:
    """Return a slight preference where nothing speaks for any label: the commonest so far, else one drawn by the text.

    Drawn, because always the same answer would make every demonstration bootstrapped from it bear the same label.
    """
    out = np.bincount(own, minlength=count).astype(np.float64)
    if not len(own):
        out[int(question.sum()) % count] = 1.0
    return out * 1e-9


def _telling(labels: tuple[str, ...], question: Features, texts: Sequence[str]) -> float:
    """Return how much the names say about texts like these, from 0 (opaque) to 1, by the best text for each name."""
    best = np.maximum(label_names(labels).index.coverage(question), _best_coverage(labels, tuple(texts[:_SAMPLE])))
    return float(np.clip((best.mean() - _SILENT) / (_TELLING - _SILENT), 0.0, 1.0))


@lru_cache(maxsize=512)
def _best_coverage(labels: tuple[str, ...], texts: tuple[str, ...]) -> Scores:
    names = label_names(labels).index
    return np.max([names.coverage(features(t)) for t in texts], axis=0)


def _shown(likeness: Scores, own: np.ndarray, count: int, telling: float) -> Scores:
    """Return what the demonstrations say for each label."""
    if not len(own):
        return np.zeros(count)
    near: Scores = np.maximum(likeness - _NEAR * telling, 0.0)
    best = np.zeros(count)
    np.maximum.at(best, own, near)
    total = np.bincount(own, weights=near, minlength=count)
    out = np.asarray(best + _AGREEMENT * (total - best), np.float64)
    if telling < 1.0:
        # Where names are silent: the class's mean text beside its nearest one, as few and distant as they may be.
        size = np.bincount(own, minlength=count)
        length = np.sqrt(np.maximum(size + _WITHIN * size * (size - 1), 1.0))
        middle = np.bincount(own, weights=np.maximum(likeness, 0.0), minlength=count) / length
        return np.asarray(telling * out + (1.0 - telling) * (best + middle), np.float64)
    return out


def _share(scores: Scores, best: int) -> float:
    positive = np.maximum(scores, 0.0)
    total = float(positive.sum())
    return float(positive[best] / total) if total > 0 else 1.0 / len(scores)


def _nearest(likeness: Scores, own: np.ndarray, label: int) -> tuple[int, float]:
    mine = np.flatnonzero(own == label)
    at = int(mine[np.argmax(likeness[mine])])
    return at, float(likeness[at])
