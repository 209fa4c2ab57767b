"""Rows to search, and a tiny embedder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

ROWS = [
    {"body": "My card was stolen", "team": "cards", "n": 1},
    {"body": "The transfer is late", "team": "transfers", "n": 2},
    {"body": None, "team": "none", "n": 3},
    {"body": "   ", "team": "blank", "n": 4},
    {"body": "A card that never came", "team": "delivery", "n": 5},
]


def letters(texts: Sequence[str]) -> Any:
    """A tiny embedder: how often each letter occurs."""
    return np.array([[text.lower().count(c) for c in "abcdefghijklmnopqrstuvwxyz"] for text in texts], float)
