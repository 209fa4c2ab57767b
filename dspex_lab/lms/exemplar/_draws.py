"""Which of several proposals a request is for: its temperature, its seed, and how often it came.

Only proposals of instructions are drawn; every other answer is the same whatever these settings are. DSPy asks for
``n`` candidates by handing the engine the same request object ``n`` times, so the object is recognised: a few of the
latest are remembered, by identity. DSPy takes ``rollout_id`` out of a request before an engine sees it.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import Any

_REMEMBERED = 32
_lock = threading.Lock()
_seen: OrderedDict[int, tuple[Any, int]] = OrderedDict()


def draw_of(request: Any) -> int:
    """Return the number of the draw: 0 without temperature and seed, which stands for the best guess."""
    config = request.config
    if not config.temperature and config.seed is None:
        return 0
    asked = f"{config.temperature or 0:.3f}/{config.seed}/{_turn(request)}"
    return 1 + int.from_bytes(hashlib.blake2b(asked.encode(), digest_size=4).digest(), "big")


def _turn(request: Any) -> int:
    """Return how often this very object was asked before."""
    with _lock:
        known, count = _seen.pop(id(request), (request, -1))
        count = count + 1 if known is request else 0
        _seen[id(request)] = (request, count)
        while len(_seen) > _REMEMBERED:
            _seen.popitem(last=False)
        return count
