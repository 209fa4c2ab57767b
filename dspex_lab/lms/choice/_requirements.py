"""What is asked of a model: what it must be able to do, and what is preferred of those that can."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.lms.choice._capabilities import ABILITIES, tokens

#: How much each of three things counts.
WEIGHTS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "quality": {"quality": 0.8, "cost": 0.1, "latency": 0.1},
        "cost": {"quality": 0.1, "cost": 0.8, "latency": 0.1},
        "latency": {"quality": 0.1, "cost": 0.1, "latency": 0.8},
        "balanced": {"quality": 0.5, "cost": 0.25, "latency": 0.25},
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What a model must be able to do, and what is preferred of those that are.

    Args:
        structured, streaming, tools, vision, reasoning: it must have this ability; where nobody says whether it does, it is
            refused.
        context: tokens of a prompt it must take; ``32_000`` or ``"32k"``.
        local: nothing may leave this machine.
        price: US dollars per million tokens that it may cost at most: one number for prompt and answer, or a pair of both.
        cost: US dollars that a call may cost at most, at ``tokens`` (of its prompt, of its answer) a call.
        latency: seconds within which half of its answers must be whole. A model that was never called passes, behind those
            that were measured.
        quality: the least quality, 0 to 1, as you told it or as its scores have it; unknown is refused.
        prefer: ``"quality"``, ``"cost"``, ``"latency"`` or ``"balanced"``, or weights of one's own
            (``{"quality": 2, "cost": 1}``).
        exclude: names of candidates, or of providers, that are out of the question.
        providers: the only providers to be taken.

    Raises:
        ConfigurationError: one of them has a value it cannot have.
    """

    structured: bool = False
    streaming: bool = False
    tools: bool = False
    vision: bool = False
    reasoning: bool = False
    local: bool = False
    context: int | None = None
    price: float | tuple[float, float] | None = None
    cost: float | None = None
    latency: float | None = None
    quality: float | None = None
    prefer: str | Mapping[str, float] = "balanced"
    exclude: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    tokens: tuple[float, float] = (1_000, 250)

    def __post_init__(self) -> None:
        for name in (*ABILITIES, "local"):
            if not isinstance(getattr(self, name), bool):
                raise _wrong(name, getattr(self, name), "True or False")
        for name, most in (("cost", math.inf), ("latency", math.inf), ("quality", 1.0)):
            value = getattr(self, name)
            if value is not None and not _within(value, most):
                raise _wrong(name, value, "a number of 0 or more" if most > 1 else "a number from 0 to 1")
        if self.context is not None:
            object.__setattr__(self, "context", tokens(self.context))
        object.__setattr__(self, "exclude", _names("exclude", self.exclude))
        object.__setattr__(self, "providers", _names("providers", self.providers))
        if not isinstance(self.tokens, tuple | list) or len(self.tokens) != 2 or not all(map(_within, self.tokens)):
            raise _wrong("tokens", self.tokens, "two numbers: tokens of a prompt and of an answer")
        object.__setattr__(self, "tokens", tuple(self.tokens))
        if self.price is not None:
            object.__setattr__(self, "price", price_pair(self.price))
        object.__setattr__(self, "prefer", _preference(self.prefer))

    @property
    def weights(self) -> Mapping[str, float]:
        """How much quality, cost and latency count; they sum up to 1."""
        given = WEIGHTS[self.prefer] if isinstance(self.prefer, str) else self.prefer
        whole = sum(given.values())
        return {name: given.get(name, 0.0) / whole for name in WEIGHTS["balanced"]}

    def __str__(self) -> str:
        """Return what is asked for, without what is not."""
        asked = [f.name for f in fields(self) if getattr(self, f.name) is True]
        for name in ("context", "price", "cost", "latency", "quality", "exclude", "providers"):
            value = getattr(self, name)
            if value not in (None, ()):
                asked.append(f"{name}={value}")
        return f"{', '.join(asked) or 'nothing in particular'}; best {self.prefer}"


def requirements(given: Mapping[str, Any]) -> Requirements:
    """Return requirements from names and values.

    Raises:
        ConfigurationError: there is no requirement of that name, or one has a value it cannot have.
    """
    known = [f.name for f in fields(Requirements)]
    for name in given:
        if name not in known:
            raise ConfigurationError(
                f"A model cannot be required to be {name!r}.{did_you_mean(name, known)}",
                key=name,
                hint=f"Requirements: {', '.join(known)}.",
            )
    return Requirements(**given)


def _within(value: object, most: float = math.inf) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= most


def _wrong(name: str, value: object, expected: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name}={value!r} cannot be required of a model.", key=name, expected=expected, actual=value, hint=f"Give {expected}."
    )


def price_pair(price: Any) -> tuple[float, float]:
    pair = tuple(price) if isinstance(price, tuple | list) else (price, price)
    if len(pair) != 2 or not all(map(_within, pair)):
        raise _wrong(
            "price", price, "US dollars per million tokens, 0 or more: one number, or one for prompt and one for answer"
        )
    return pair


def _names(name: str, given: Any) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given)
    if not all(isinstance(n, str) and n for n in names):
        raise _wrong(name, given, "names")
    return names


def _preference(prefer: Any) -> str | Mapping[str, float]:
    if isinstance(prefer, str) and prefer in WEIGHTS:
        return prefer
    if isinstance(prefer, Mapping):
        strange = [n for n in prefer if n not in WEIGHTS["balanced"]]
        if not strange and all(map(_within, prefer.values())) and sum(prefer.values()) > 0:
            return MappingProxyType(dict(prefer))
    guess = did_you_mean(prefer, WEIGHTS) if isinstance(prefer, str) else ""
    raise ConfigurationError(
        f"prefer={prefer!r} is no preference.{guess}",
        key="prefer",
        expected=list(WEIGHTS),
        actual=prefer,
        hint=f"Give one of {', '.join(WEIGHTS)}, or weights of 0 or more for {', '.join(WEIGHTS['balanced'])}.",
    )
