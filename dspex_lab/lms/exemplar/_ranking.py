"""Ranking: orders the items that an input lists by how much they have to do with the other inputs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dspex_lab.lms.exemplar._sentences import coverage, listed
from dspex_lab.lms.exemplar._shapes import Shape
from dspex_lab.lms.exemplar._similarity import features, index, vocabulary, words

_RANKS = vocabulary(
    "rank ranks ranking rankings ranked rerank reranked order ordered ordering sorted sort relevance relevant top best "
    "closest nearest matching match matches selected selection"
)
_PLACES = vocabulary("index indexes indices position positions number numbers id ids place places")
_SCORES = vocabulary("score scores relevance relevances similarity similarities probability probabilities")
_FROM_ONE = re.compile(
    r"\b(?:1-based|one-based|(?:start(?:s|ing)?|count(?:s|ed|ing)?|number(?:s|ed|ing)?) (?:at|from|with) (?:1|one))\b", re.I
)
_TOP = re.compile(r"\b(?:top|best|first|most relevant)[- ](\d{1,3})\b|\b(\d{1,3}) (?:most|best|closest)\b", re.I)
#: How much the words of the query count beside the likeness of the whole texts.
_WORDS = 1.0


@dataclass(frozen=True)
class Ranked:
    """Listed items with their relevance, as they stand in the prompt."""

    items: tuple[str, ...]
    scores: np.ndarray
    numbered: bool

    @property
    def order(self) -> list[int]:
        """The places of the items, the most relevant first; of equals the one that comes first."""
        return [int(i) for i in np.argsort(-self.scores, kind="stable")]


def asks_ranking(name: str, description: str, shape: Shape) -> bool:
    """Whether a field asks for an order, by its name or the first words of its description."""
    kind = shape.item.kind if shape.kind == "list" and shape.item is not None else shape.kind
    if kind not in ("str", "int", "float"):
        return False
    named = set(words(name))
    said = set(words(description)[:12])
    if shape.kind == "list":
        return bool((named | said) & _RANKS) or (kind == "float" and bool(named & _SCORES))
    return bool(named & {"best", "closest", "nearest"}) or (bool(named & {"top"}) and kind in ("str", "int"))


def rank(inputs: Mapping[str, str]) -> Ranked | None:
    """Return the items of the input that lists the most of them, weighed against the other inputs; None without a list."""
    lists = {name: items for name, value in inputs.items() if (items := listed(value)) is not None and len(items) > 1}
    if not lists:
        return None
    name = max(lists, key=lambda one: len(lists[one]))
    query = "\n".join(value for other, value in inputs.items() if other != name)
    items = lists[name]
    scores = np.maximum(index(items).likeness(features(query)), 0.0) + _WORDS * coverage(list(items), query)
    return Ranked(items, scores, inputs[name].strip().startswith("[1] «"))


def ranking_value(shape: Shape, name: str, about: str, ranked: Ranked, shown: Sequence[Any]) -> Any:
    """Return the ranking in the form of a field.

    Args:
        about: what the prompt says about it.
        shown: values of the field in demonstrations.
    """
    most = _most(shape, about)
    kind = shape.item.kind if shape.kind == "list" and shape.item is not None else shape.kind
    if kind == "float":
        top = float(ranked.scores.max())
        scaled = [round(float(s) / top, 4) if top > 0 else 0.0 for s in ranked.scores]
        return scaled if shape.kind == "list" else scaled[ranked.order[0]]
    if kind == "int":
        first = _first_place(ranked, about, shown)
        places = [i + first for i in ranked.order]
        return places[:most] if shape.kind == "list" else places[0]
    if set(words(name)) & _PLACES and shape.kind == "str":
        return str(ranked.order[0] + _first_place(ranked, about, shown))
    texts = [ranked.items[i] for i in ranked.order]
    return texts[:most] if shape.kind == "list" else texts[0]


def _most(shape: Shape, about: str) -> int | None:
    if shape.high:
        return int(shape.high)
    said = _TOP.search(about)
    return int(said.group(1) or said.group(2)) or None if said else None


def _first_place(ranked: Ranked, about: str, shown: Sequence[Any]) -> int:
    """Return 1 where items are counted from one: as demonstrations do, as the prompt says, or as it numbers them."""
    seen = [n for value in shown for n in (value if isinstance(value, list) else [value]) if isinstance(n, int | float)]
    if seen:
        return 0 if 0 in seen else 1
    return 1 if ranked.numbered or _FROM_ONE.search(about) else 0
