"""Domains for values that a program has, wide enough for the value that is there."""

from __future__ import annotations

import enum
import math
from typing import Any

from dspex_lab.errors import VariableError
from dspex_lab.variables._protocols import Domain
from dspex_lab.variables.domains import Bool, Choice, Float, Int, Text


class Unset(enum.Enum):
    """The one value that says that there is none; a copy that travelled is the same one."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET = Unset.UNSET

#: Settings of LM calls by name; what is not here is told by its value.
_CALLS: dict[str, Domain] = {
    "temperature": Float(0.0, 2.0),
    "top_p": Float(0.0, 1.0),
    "max_tokens": Int(1, 1_000_000, log=True),
    "n": Int(1, 16),
    "top_k": Int(1, 1_000),
    "min_p": Float(0.0, 1.0),
    "frequency_penalty": Float(-2.0, 2.0),
    "presence_penalty": Float(-2.0, 2.0),
    "repetition_penalty": Float(0.0, 2.0),
    "seed": Int(0, 2**31 - 1),
    "rollout_id": Int(0, 2**31 - 1),
    "reasoning_effort": Choice(("minimal", "low", "medium", "high")),
}


def is_plain(value: Any) -> bool:
    """Say whether ``value`` is a number, a truth value or a text, as JSON has them."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, bool | int | str) and not isinstance(value, enum.Enum)


def call_domain(key: str, value: Any) -> Domain:
    """Return what a setting of LM calls may be; ``value`` is in it."""
    known = _CALLS.get(key)
    return domain_of(value) if known is None else widened(known, value, key)


def domain_of(value: Any) -> Domain:
    """Return a domain around a plain value whose meaning nobody says: a share stays one, others go to ten times it."""
    if isinstance(value, bool):
        return Bool()
    if isinstance(value, str):
        return Text()
    reach = abs(value) * 10
    if isinstance(value, int):
        return Int(-reach if value < 0 else 0, max(10, reach))
    if 0.0 <= value <= 1.0:
        return Float(0.0, 1.0)
    return Float(-reach if value < 0 else 0.0, reach)


def widened(domain: Domain, value: Any, name: str) -> Domain:
    """Return the domain, made wide enough for ``value`` where that is not in it."""
    try:
        domain.cast(value, name)
    except VariableError:
        if isinstance(domain, Choice):
            return Choice((*domain.options, value))
        if isinstance(domain, Float | Int) and not isinstance(value, str | bool):
            kind: Any = type(domain) if isinstance(value, int) or isinstance(domain, Float) else Float
            return kind(min(domain.low, value), max(domain.high, value))
        return domain_of(value)
    return domain
