"""What is known of a step before it runs, in words: the second line of its box and the facts of its details."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dspex_lab.widgets import _format
from dspex_lab.widgets._nodes import inner

__all__ = ["facts", "guards", "line"]

_SECONDS = {"timeout", "cache", "window"}
_LONGEST = 400  # characters of one fact


def line(node: Mapping[str, Any], folded: int = 0) -> str:
    """Return what a step is and does: ``dspy · ChainOfThought(message -> intent)``."""
    does = str(node.get("does") or "")
    parts = [str(node.get("kind") or ""), does if does != node.get("name") else ""]
    if folded:
        parts.append(f"{folded} inner step{'' if folded == 1 else 's'}")
    return " · ".join(p for p in parts if p)


def guards(node: Mapping[str, Any]) -> list[str]:
    """Return what stands around a step, in signs.

    ``↻2`` (retries), ``≤5s`` (timeout), ``cache``, ``!continue`` and ``!fallback`` (on_error).
    """
    options = node.get("options") or {}
    retries, timeout, cache, on_error = (options.get(k) for k in ("retries", "timeout", "cache", "on_error"))
    return [
        *([f"↻{retries}"] if retries else []),
        *([f"≤{timeout:g}s"] if isinstance(timeout, int | float) else []),
        *(["cache"] if cache else []),
        *([f"!{on_error}"] if on_error not in (None, "stop") else []),
    ]


def facts(node: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the facts of a step's details that are not its fields: what it does, pool, options, inner steps."""
    out = []
    does = str(node.get("does") or "")
    if does and does != node.get("name"):
        out.append(("Does", _short(does)))
    if node.get("pool"):
        out.append(("Pool", _short(str(node["pool"]))))
    for name, value in (node.get("options") or {}).items():
        if value is not None and value is not False and name != "pool":
            out.append((str(name).replace("_", " ").capitalize(), _short(_value(str(name), value))))
    within = [f"{n['name']} ({n.get('kind')})" if n.get("kind") else str(n["name"]) for n in inner(node)]
    if within:
        out.append(("Inner steps", _short(", ".join(within))))
    return out


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _value(name: str, value: Any) -> str:
    if value is True:
        return "yes"
    if isinstance(value, str):
        return value
    if name in _SECONDS and isinstance(value, int | float):
        return _format.seconds(value)
    return json.dumps(value, ensure_ascii=False, default=str)
