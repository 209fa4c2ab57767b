"""How each model did until now: seconds, failures, US dollars and scores, with what is long ago counting less.

Every number is kept with *forward decay* (Cormode, Shkapenyuk, Srivastava, Xu: "Forward Decay: A Practical Time Decay Model
for Streaming Systems", ICDE 2009): a new call gets a larger weight instead of every old one a smaller one. Quantiles come from
buckets whose bounds grow by a constant factor, so that each is right to within a few per cent (Masson, Rim, Lee: "DDSketch",
VLDB 2019). Memory is some 4 KB a model, for at most 256 models, whatever the number of calls.
"""

from __future__ import annotations

import math
import threading
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from types import MappingProxyType
from typing import Any

from dspex_lab.errors import ConfigurationError
from dspex_lab.events import LMCall

#: Errors that say nothing about the model: the call was not made, or was given up by who made it.
NOT_THE_MODELS = frozenset(
    [
        "BudgetExceeded",
        "BulkheadFull",
        "CancelledError",
        "CircuitOpen",
        "ConfigurationError",
        "GeneratorExit",
        "KeyboardInterrupt",
        "SystemExit",
    ]
)
_MOST_MODELS = 256
_MOST_SCORES = 16
#: A call counts half as much after so many further calls, and after so many seconds.
HALF_CALLS = 100.0
HALF_SECONDS = 86_400.0
_TOO_LARGE = 1e100
_FORGOTTEN = 300.0


class _Decaying:
    """A sum whose parts count less the longer ago they came."""

    __slots__ = ("_at", "_scale", "_total")

    def __init__(self) -> None:
        self._at: float | None = None
        self._scale = 1.0
        self._total = 0.0

    def _step(self, at: float) -> float:
        """Take note of one more entry and return its weight."""
        exponent = 0.0 if self._at is None else 1 / HALF_CALLS + max(at - self._at, 0.0) / HALF_SECONDS
        self._at = at if self._at is None else max(at, self._at)
        if exponent > _FORGOTTEN:
            self._shrink(0.0)
            self._scale = 1.0
        else:
            self._scale *= 2.0**exponent
            if self._scale > _TOO_LARGE:
                self._shrink(1 / self._scale)
                self._scale = 1.0
        self._total += self._scale
        return self._scale

    def _shrink(self, factor: float) -> None:
        self._total *= factor

    def weight(self, now: float) -> float:
        """Return the number of entries, each by what it still counts."""
        if self._at is None:
            return 0.0
        return float(self._total / self._scale * 2.0 ** -min(max(now - self._at, 0.0) / HALF_SECONDS, _FORGOTTEN))


class _Average(_Decaying):
    __slots__ = ("_sum",)

    def __init__(self) -> None:
        super().__init__()
        self._sum = 0.0

    def add(self, value: float, at: float) -> None:
        weight = self._step(at)
        self._sum += weight * value

    def _shrink(self, factor: float) -> None:
        super()._shrink(factor)
        self._sum *= factor

    @property
    def mean(self) -> float | None:
        return self._sum / self._total if self._total else None


class _Quantiles(_Decaying):
    """Seconds, from a tenth of a millisecond to three hours, in buckets that grow by a tenth."""

    __slots__ = ("_buckets",)
    _LEAST, _GROWTH, _COUNT = 1e-4, math.log(1.1), 194

    def __init__(self) -> None:
        super().__init__()
        self._buckets = array("d", bytes(8 * self._COUNT))

    def add(self, value: float, at: float) -> None:
        weight = self._step(at)
        place = int(math.log(max(value, self._LEAST) / self._LEAST) / self._GROWTH)
        self._buckets[min(place, self._COUNT - 1)] += weight

    def _shrink(self, factor: float) -> None:
        super()._shrink(factor)
        for place, weight in enumerate(self._buckets):
            self._buckets[place] = weight * factor

    def at(self, share: float) -> float | None:
        """Return the value below which this share of the entries lies; None where there are none."""
        # Rounding must not push the last bucket out of reach.
        wanted, reached, found = share * sum(self._buckets) * (1 - 1e-12), 0.0, None
        for place, weight in enumerate(self._buckets):
            if weight and (reached < wanted or found is None):
                found = self._LEAST * math.exp((place + 0.5) * self._GROWTH)
            reached += weight
        return found


@dataclass(frozen=True, slots=True)
class Measured:
    """How a model did until now; None where nothing was measured. What is long ago counts less.

    Args:
        calls: how many calls reached it (a number with a fraction: old ones count in part); ``total`` is their plain count.
        failures: the share of them that failed, 0 to 1.
        seconds: the median time until the whole answer was there; ``seconds_p95`` the time within which 19 of 20 were.
        first: the median time until the first token; ``first_p95`` likewise.
        cost: US dollars per call that a price is known of, on average.
        prompt_tokens: the tokens of a prompt on average; ``completion_tokens`` those of an answer.
        scores: by the name of the metric or of the user's word: the mean (0 to 1, higher is better) and how many it is of.
    """

    calls: float = 0.0
    total: int = 0
    failures: float | None = None
    seconds: float | None = None
    seconds_p95: float | None = None
    first: float | None = None
    first_p95: float | None = None
    cost: float | None = None
    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    scores: Mapping[str, tuple[float, float]] = field(default_factory=lambda: MappingProxyType({}))

    def __str__(self) -> str:
        """Return the figures in one line."""
        if not self.total and not self.scores:
            return "never called here"
        parts = [
            f"{self.total:,} call{'s' if self.total != 1 else ''}" if self.total else "",
            f"half within {self.seconds:.3g} s" if self.seconds is not None else "",
            f"19 of 20 within {self.seconds_p95:.3g} s" if self.seconds_p95 is not None else "",
            f"first token {self.first:.3g} s" if self.first is not None else "",
            f"{self.failures:.1%} failed" if self.failures is not None else "",
            f"{self.cost:.3g} US dollars a call" if self.cost is not None else "",
            *(f"{name} {mean:.3g} (of {count:.3g})" for name, (mean, count) in sorted(self.scores.items())),
        ]
        return ", ".join(p for p in parts if p)


class _Model:
    __slots__ = ("answer", "cost", "failed", "first", "prompt", "scores", "seconds", "total")

    def __init__(self) -> None:
        self.total = 0
        self.failed, self.cost, self.prompt, self.answer = _Average(), _Average(), _Average(), _Average()
        self.seconds, self.first = _Quantiles(), _Quantiles()
        self.scores: OrderedDict[str, _Average] = OrderedDict()

    def measured(self, now: float) -> Measured:
        seconds, first = self.seconds, self.first
        scores = {name: (a.mean, a.weight(now)) for name, a in self.scores.items() if a.mean is not None}
        return Measured(
            calls=self.failed.weight(now),
            total=self.total,
            failures=self.failed.mean,
            seconds=seconds.at(0.5),
            seconds_p95=seconds.at(0.95),
            first=first.at(0.5),
            first_p95=first.at(0.95),
            cost=self.cost.mean,
            prompt_tokens=self.prompt.mean,
            completion_tokens=self.answer.mean,
            scores=MappingProxyType(scores),
        )


class Statistics:
    """What was measured of each model. Thread-safe.

    Feed it the records of a Lab (``bus.subscribe(statistics.observe, live=False)``) and, at the start, the rows of
    ``lm_calls`` (:meth:`seed`). A call that the cache answered counts nowhere; one that was refused before it was made, or
    given up by who made it, is no failure of the model. Of a failed call only the failure counts: an error comes back fast.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._models: OrderedDict[str, _Model] = OrderedDict()
        self._lock = threading.Lock()

    def observe(self, record: Any) -> None:
        """Take note of a record if it is an :class:`~dspex_lab.events.LMCall`; others are ignored."""
        if type(record) is LMCall and record.model:
            self._take(record.model, record.started, record._asdict())
            if record.first_token is not None:
                self.first_token(record.model, record.first_token)

    def seed(self, rows: Iterable[Mapping[str, Any]]) -> int:
        """Take note of calls of former days; return how many counted.

        Args:
            rows: those of the table ``lm_calls``, in any order, as dicts: ``model``, ``started`` (UTC, or seconds since the
                epoch), ``seconds``, ``error``, ``cache_hit``, ``cost``, ``prompt_tokens``, ``completion_tokens``. A value may
                be missing, None or not a number.
        """
        dated = [(when, row) for row in rows if isinstance(row.get("model"), str) and (when := _when(row.get("started")))]
        return sum(self._take(row["model"], when, row) for when, row in sorted(dated, key=lambda pair: pair[0]))

    def _take(self, model: str, at: float, row: Mapping[str, Any]) -> bool:
        error = row.get("error") if isinstance(row.get("error"), str) else None
        if row.get("cache_hit") == 1 or (error and error.partition(":")[0].rpartition(".")[2] in NOT_THE_MODELS):
            return False
        with self._lock:
            of = self._of(model)
            of.total += 1
            of.failed.add(float(error is not None), at)
            if error is None:
                for name, kept in (("cost", of.cost), ("prompt_tokens", of.prompt), ("completion_tokens", of.answer)):
                    if (value := _number(row.get(name))) is not None:
                        kept.add(value, at)
                if (seconds := _number(row.get("seconds"))) is not None:
                    of.seconds.add(seconds, at)
        return True

    def first_token(self, model: str, seconds: float) -> None:
        """Take note of how long the first token of an answer took."""
        if (value := _number(seconds)) is not None:
            with self._lock:
                self._of(model).first.add(value, self._clock())

    def score(self, model: str, value: float, name: str = "score") -> None:
        """Take note of how good an answer of a model was.

        Args:
            value: 0 (useless) to 1 (perfect).
            name: the metric's, or any word of one's own; scores are kept apart by it.

        Raises:
            ConfigurationError: it is no such number.
        """
        number = _number(value)
        if number is None or number > 1:
            problem = f"The score {value!r} is no number from 0 to 1."
            raise ConfigurationError(problem, key="score", expected="0..1", actual=value)
        with self._lock:
            scores = self._of(model).scores
            scores.setdefault(name, _Average()).add(number, self._clock())
            scores.move_to_end(name)
            while len(scores) > _MOST_SCORES:
                scores.popitem(last=False)

    def of(self, model: str) -> Measured:
        """Return what was measured of a model."""
        with self._lock:
            found = self._models.get(model)
            return found.measured(self._clock()) if found else Measured()

    def models(self) -> list[str]:
        """Return the models of which something was measured, sorted."""
        with self._lock:
            return sorted(self._models)

    def forget(self, model: str | None = None) -> None:
        """Forget what was measured of a model, or of all."""
        with self._lock:
            if model is None:
                self._models.clear()
            else:
                self._models.pop(model, None)

    def _of(self, model: str) -> _Model:
        """Return the figures of a model; the model that was asked for the longest ago makes room."""
        found = self._models.get(model)
        if found is None:
            found = self._models[model] = _Model()
            while len(self._models) > _MOST_MODELS:
                self._models.popitem(last=False)
        self._models.move_to_end(model)
        return found


def _number(value: Any) -> float | None:
    """Return a number of 0 or more, None for what is none; a DataFrame's rows hold NaN where nothing was told."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _when(value: Any) -> float | None:
    """Return a time as seconds since the epoch; one without a time zone is in UTC, as the store has them."""
    if hasattr(value, "timestamp"):
        value = value.replace(tzinfo=UTC) if value.tzinfo is None else value
        try:
            value = value.timestamp()
        except ValueError:  # pandas' NaT, a row without a time
            return None
    return _number(value)
