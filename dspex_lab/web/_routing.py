"""Which pipeline a free text is for: the one whose description, and whose requests that people liked, are most like it. Pure.

Nearest neighbours over texts as vectors: each offer is its description and the requests that were answered well by it (thumbs
up); a request that it answered badly counts against it. The nearest of them decides (Cover and Hart 1967, "Nearest neighbor
pattern classification"), so that one liked request is enough to bring the next one like it to the same pipeline.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from dspex_lab.web._offers import Offer

#: Texts to unit vectors, one row each.
Embed: TypeAlias = Callable[[Sequence[str]], Any]

#: A request that was answered badly counts against the offer by this share of its likeness.
AGAINST = 0.5
#: Similarity to the best offer below which a request is said to fit none.
LEAST = 0.02


class Experience(NamedTuple):
    """A request that was answered, and whether somebody found that good."""

    text: str
    offer: str
    good: bool


class Ranked(NamedTuple):
    """An offer and how well it fits a request: a cosine, less what speaks against it."""

    name: str
    score: float


@dataclass(frozen=True)
class Route:
    """Which offer answers, and why.

    Args:
        name: the offer's.
        why: ``"named"``, ``"only one"`` or ``"similarity"``.
        ranking: all offers, the best first; empty where nothing was compared.
    """

    name: str
    why: str
    ranking: tuple[Ranked, ...] = ()


class NoRoute(Exception):
    """No offer fits a request."""

    def __init__(self, ranking: Sequence[Ranked]) -> None:
        super().__init__("no pipeline's description is like this request")
        self.ranking = tuple(ranking)


class Kept:
    """Vectors of texts, of which those that were asked for last are kept: descriptions and judged requests come each time.

    Thread-safe.

    Args:
        embed: makes them.
        most: so many are kept.
    """

    def __init__(self, embed: Embed, most: int = 2_000) -> None:
        self._embed, self._most = embed, most
        self._kept: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, texts: Sequence[str]) -> Any:
        """Return the vectors, one row each."""
        with self._lock:
            known = {text: self._kept[text] for text in texts if text in self._kept}
        fresh = [text for text in dict.fromkeys(texts) if text not in known]
        if fresh:
            known |= zip(fresh, np.asarray(self._embed(fresh)), strict=True)
        with self._lock:
            for text in texts:
                self._kept[text] = known[text]
                self._kept.move_to_end(text)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return np.stack([known[text] for text in texts])


def route(text: str, offers: Sequence[Offer], embed: Embed, experience: Sequence[Experience] = ()) -> Route:
    """Return where a free text goes.

    Raises:
        NoRoute: it is like none of them.
    """
    if len(offers) == 1:
        return Route(offers[0].name, "only one")
    ranking = rank(text, offers, embed, experience)
    if not ranking or ranking[0].score < LEAST:
        raise NoRoute(ranking)
    return Route(ranking[0].name, "similarity", ranking)


def rank(text: str, offers: Sequence[Offer], embed: Embed, experience: Sequence[Experience] = ()) -> tuple[Ranked, ...]:
    """Return the offers, the best first; of equal ones that which was offered first."""
    known = {offer.name for offer in offers}
    told = [each for each in experience if each.offer in known]
    vectors = np.asarray(embed([text, *(o.words for o in offers), *(e.text for e in told)]))
    like = vectors[1:] @ vectors[0]
    found = []
    for at, offer in enumerate(offers):
        own = [(each.good, float(like[len(offers) + n])) for n, each in enumerate(told) if each.offer == offer.name]
        best = max([float(like[at]), *(value for good, value in own if good)])
        worst = max([0.0, *(value for good, value in own if not good)])
        found.append(Ranked(offer.name, round(best - AGAINST * worst, 6)))
    return tuple(sorted(found, key=lambda each: -each.score))
