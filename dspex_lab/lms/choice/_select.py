"""Which of several models to ask: a pure choice by what is needed, with a reason for each.

What is required filters; what is left is put in order, and the order is the fallback chain. Each candidate is judged by
itself, on fixed scales and never against the others, so that one more candidate, or a worse one, does not turn the order of
the rest round; more of anything good never makes a candidate worse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from dspex_lab.errors import ConfigurationError
from dspex_lab.lms._html import table
from dspex_lab.lms.choice._capabilities import ModelFacts, price_text
from dspex_lab.lms.choice._requirements import Requirements, price_pair
from dspex_lab.lms.choice._statistics import Measured

Health = Literal["closed", "half_open", "open"]

#: What is assumed of a model before anything was measured, and as many calls as that assumption counts for.
_PRIOR_QUALITY, _PRIOR_SECONDS, _PRIOR_FAILURES = 0.5, 2.0, 0.05
_PRIOR_CALLS = 5.0
_PRIOR_FAILURE_CALLS = 20.0
#: US dollars a call, and seconds, that are worth one half on the scale from 0 to 1.
_HALF_COST, _HALF_SECONDS = 0.002, 2.0
_HEALTH = {"closed": 0, "half_open": 1, "open": 2}
_WORDS = {
    "structured": "keep to a JSON schema",
    "streaming": "stream",
    "tools": "call tools",
    "vision": "take images",
    "reasoning": "reason before it answers",
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may be chosen.

    Args:
        name: by which it is told apart.
        health: the state of its circuit breaker.
        quality: how good its user says it is, 0 to 1.
        unavailable: why it cannot be called at all, such as a key that is missing; None where it can.
        last_resort: it is taken where nothing else is left.
    """

    name: str
    facts: ModelFacts
    measured: Measured = field(default_factory=Measured)
    health: Health = "closed"
    quality: float | None = None
    unavailable: str | None = None
    last_resort: bool = False

    @property
    def provider(self) -> str:
        """The part of the model's name before the first slash."""
        return self.facts.model.partition("/")[0]

    @property
    def known_quality(self) -> float | None:
        """What its user told, moved towards the scores it got since; None where there is neither."""
        count = sum(n for _, n in self.measured.scores.values())
        if not count:
            return self.quality
        mean = sum(value * n for value, n in self.measured.scores.values()) / count
        if self.quality is None:
            return mean
        return (_PRIOR_CALLS * self.quality + count * mean) / (_PRIOR_CALLS + count)

    def cost(self, size: tuple[float, float]) -> float | None:
        """Return the US dollars of a call with so many tokens in and out, moved towards what calls did cost; None: unknown."""
        paid, calls = self.measured.cost, self.measured.calls
        if self.facts.price is None:
            return paid
        listed = self.facts.price.of(*size)
        return listed if paid is None else (_PRIOR_CALLS * listed + calls * paid) / (_PRIOR_CALLS + calls)


@dataclass(frozen=True, repr=False)
class Selection:
    """The choice: which model, which others after it, and why.

    Args:
        chosen: the name of the candidate to ask first.
        order: it and those to ask after it, best first: the fallback chain.
        reasons: why each candidate stands where it does, or why it is out, in words.
        scores: 0 to 1, of those in ``order``.
    """

    requirements: Requirements
    chosen: str
    order: tuple[str, ...]
    reasons: Mapping[str, str]
    scores: Mapping[str, float]
    _make: Callable[[str], Any] | None = field(default=None, repr=False, compare=False)

    @property
    def rejected(self) -> tuple[str, ...]:
        """The names of those that lack something."""
        return tuple(name for name in self.reasons if name not in self.scores)

    @property
    def lm(self) -> Any:
        """The chosen model, made when it is first asked for.

        Raises:
            ConfigurationError: this selection was not made from models that can be made.
        """
        return self._made(self.chosen)

    @property
    def lms(self) -> list[Any]:
        """All models of ``order``: the fallback chain."""
        return [self._made(name) for name in self.order]

    def _made(self, name: str) -> Any:
        if self._make is None:
            raise ConfigurationError("This selection is of names alone.", key="lm", hint="Use lab.lms.select(…).")
        return self._make(name)

    def __str__(self) -> str:
        """Return the order and the reasons, one candidate a line."""
        places = {name: str(place) for place, name in enumerate(self.order, 1)}
        lines = [f"{places.get(name, '-')} {name}: {reason}" for name, reason in self.reasons.items()]
        return "\n".join([f"wanted: {self.requirements}", *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        places = {name: str(place) for place, name in enumerate(self.order, 1)}
        rows = [
            (places.get(name, "–"), name, f"{self.scores[name]:.2f}" if name in self.scores else "", reason)
            for name, reason in self.reasons.items()
        ]
        return table(("", "model", "score", "why"), rows, f"wanted: {self.requirements}")


def select(wanted: Requirements, candidates: Iterable[Candidate], make: Callable[[str], Any] | None = None) -> Selection:
    """Choose among candidates. Pure: the same candidates, in any order, give the same choice.

    Args:
        make: makes the model of a candidate, by its name, when :attr:`Selection.lm` is asked for.

    Raises:
        ConfigurationError: none of them has all that is required; the message says for each what it lacks. Or two have the
            same name, or there is none.
    """
    known = sorted(candidates, key=lambda c: c.name)
    twice = next((a.name for a, b in pairwise(known) if a.name == b.name), None)
    if twice is not None:
        raise ConfigurationError(f"Two candidates are named {twice!r}.", key="candidates", hint="Give each a name of its own.")
    lacks = {c.name: _lacks(c, wanted) for c in known}
    able = [c for c in known if not lacks[c.name]]
    if not able:
        raise _nothing_suits(wanted, lacks)
    scores = {c.name: score(c, wanted) for c in able}
    able.sort(key=lambda c: (_tier(c, wanted), -scores[c.name], c.name))
    reasons = {c.name: _why(c, wanted, first=c is able[0]) for c in able}
    reasons |= {name: f"out: {'; '.join(lack)}" for name, lack in lacks.items() if lack}
    return Selection(wanted, able[0].name, tuple(c.name for c in able), reasons, {c.name: scores[c.name] for c in able}, make)


def _nothing_suits(wanted: Requirements, lacks: Mapping[str, list[str]]) -> ConfigurationError:
    each = "".join(f"\n  {name}: {'; '.join(lack)}" for name, lack in lacks.items())
    return ConfigurationError(
        f"No model has what is wanted ({wanted}).{each or ' There are no candidates.'}",
        key="lm",
        expected=str(wanted),
        actual=dict(lacks),
        hint="Ask for less, or add a model: lab.lms.add('provider/model'); lab.lms.available() says whose keys are there.",
    )


def _tier(candidate: Candidate, wanted: Requirements) -> tuple[bool, int, bool]:
    """Return what goes before any score: the last resort is last, the healthy first, the measured before the unknown."""
    unmeasured = wanted.latency is not None and candidate.measured.seconds is None
    return candidate.last_resort, _HEALTH[candidate.health], unmeasured


def score(candidate: Candidate, wanted: Requirements) -> float:
    """Return how well a candidate suits, 0 to 1: weighed quality, cost and latency, times the share of calls that succeed.

    What few calls have shown is moved towards what is assumed of any model.
    """
    measured, weights = candidate.measured, wanted.weights
    quality = candidate.known_quality
    if candidate.quality is None:
        count = sum(n for _, n in measured.scores.values())
        quality = (_PRIOR_CALLS * _PRIOR_QUALITY + count * (quality or 0.0)) / (_PRIOR_CALLS + count)
    cost = candidate.cost(wanted.tokens)
    seconds = _PRIOR_SECONDS
    if measured.seconds is not None:
        seconds = (_PRIOR_CALLS * _PRIOR_SECONDS + measured.calls * measured.seconds) / (_PRIOR_CALLS + measured.calls)
    failures = (_PRIOR_FAILURE_CALLS * _PRIOR_FAILURES + measured.calls * (measured.failures or 0.0)) / (
        _PRIOR_FAILURE_CALLS + measured.calls
    )
    worth = {
        "quality": quality or 0.0,
        "cost": 0.5 if cost is None else _HALF_COST / (_HALF_COST + cost),
        "latency": _HALF_SECONDS / (_HALF_SECONDS + seconds),
    }
    return (1 - failures) * sum(weights[name] * worth[name] for name in weights)


def _lacks(candidate: Candidate, wanted: Requirements) -> list[str]:
    """Return, in words, each thing that is required and that the candidate is not known to have."""
    facts = candidate.facts
    found = [candidate.unavailable] if candidate.unavailable else []
    if candidate.name in wanted.exclude or facts.model in wanted.exclude or candidate.provider in wanted.exclude:
        found.append("is excluded")
    if wanted.providers and candidate.provider not in wanted.providers:
        found.append(f"is of {candidate.provider}, not of {' or '.join(wanted.providers)}")
    for ability, words in _WORDS.items():
        if getattr(wanted, ability) and getattr(facts, ability) is not True:
            known = getattr(facts, ability) is False
            found.append(f"cannot {words}" if known else _unknown(facts, f"whether it can {words}", f"{ability}=True"))
    if wanted.local and facts.local is not True:
        away = "does not run on this machine"
        found.append(away if facts.local is False else _unknown(facts, "whether it runs here", "local=True"))
    if wanted.context is not None:
        if facts.context is None:
            found.append(_unknown(facts, "how long a prompt it takes", f"context={wanted.context}"))
        elif facts.context < wanted.context:
            found.append(f"takes {facts.context:,} tokens, {wanted.context:,} are wanted")
    return found + _too_dear(candidate, wanted) + _too_bad(candidate, wanted)


def _unknown(facts: ModelFacts, what: str, fact: str) -> str:
    return f"nobody says {what} (set_model({facts.model!r}, {fact}) does)"


def _too_dear(candidate: Candidate, wanted: Requirements) -> list[str]:
    found, price = [], candidate.facts.price
    no_price = f"nobody says what it costs (set_price({candidate.facts.model!r}, input=…, output=…) does)"
    if wanted.price is not None:
        most = price_pair(wanted.price)
        if price is None:
            found.append(no_price)
        elif price.input > most[0] or price.output > most[1]:
            found.append(f"costs {price_text(price)}; at most {most[0]:.4g} in and {most[1]:.4g} out are wanted")
    if wanted.cost is not None:
        cost = candidate.cost(wanted.tokens)
        if cost is None:
            found.append(no_price)
        elif cost > wanted.cost:
            found.append(f"costs about {cost:.3g} US dollars a call, at most {wanted.cost:.3g} are wanted")
    return list(dict.fromkeys(found))


def _too_bad(candidate: Candidate, wanted: Requirements) -> list[str]:
    found, seconds, quality = [], candidate.measured.seconds, candidate.known_quality
    if wanted.latency is not None and seconds is not None and seconds > wanted.latency:
        found.append(f"half of its answers take more than {seconds:.3g} s, {wanted.latency:.3g} s are wanted")
    if wanted.quality is not None and quality is None:
        found.append("nobody says how good it is (lab.lms.add(…, quality=0.8) or lab.lms.score(…) does)")
    elif wanted.quality is not None and quality is not None and quality < wanted.quality:
        found.append(f"its quality is {quality:.2f}, {wanted.quality:.2f} is wanted")
    return found


def _why(candidate: Candidate, wanted: Requirements, *, first: bool) -> str:
    """Return why a candidate stands where it does."""
    quality, cost = candidate.known_quality, candidate.cost(wanted.tokens)
    scored = sum(count for _, count in candidate.measured.scores.values())
    parts = [
        "the last resort" if candidate.last_resort else "chosen" if first else "",
        {"closed": "", "half_open": "being tried again after failures", "open": "fails now"}[candidate.health],
        "quality unknown" if quality is None else f"quality {quality:.2f} ({'scored' if scored else 'as told'})",
        "cost unknown" if cost is None else "free" if not cost else f"about {cost:.2g} US dollars a call",
        str(candidate.measured),
    ]
    return ", ".join(p for p in parts if p)
