"""Numbers: floats and ints with a range, a step, and a logarithmic scale."""

from __future__ import annotations

import decimal
import math
import numbers
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Any

from dspex_lab.errors import VariableError
from dspex_lab.variables.domains._base import Base, kind, optuna_distributions, refused

#: What a signed 64-bit number holds, as stores and other languages have them.
_LEAST, _MOST = -(2**63), 2**63 - 1

#: Whole numbers above this are not all floats, and Optuna keeps what it suggests as floats.
_EXACT = 2**53

#: Digits of the largest float counted in the smallest one.
_DIGITS = 700

#: How far beside its grid a number may lie, in steps.
_NEAR = 1e-9


def is_bool(value: Any) -> bool:
    """Say whether it is a bool of Python or numpy."""
    return isinstance(value, bool) or (type(value).__name__ in ("bool_", "bool") and hasattr(value, "dtype"))


def as_float(value: Any, name: str) -> float:
    """Return a finite float for a number or a text of one."""
    if type(value) is float and math.isfinite(value):
        return value
    if is_bool(value):
        raise refused(name, value, "it is a float, and a bool is none.", "Write 1.0 or 0.0.")
    try:
        if not isinstance(value, str | numbers.Real | Decimal) and getattr(value, "shape", None) != ():
            raise TypeError
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        raise refused(name, value, f"it is a float, and this {type(value).__name__} is none.") from None
    if not math.isfinite(found):
        raise refused(name, value, "it is a finite number.")
    return found


def as_int(value: Any, name: str) -> int:
    """Return a whole number of at most 64 bits for a number or a text of one."""
    if is_bool(value):
        raise refused(name, value, "it is an int, and a bool is none.", "Write 1 or 0.")
    try:
        found = int(value) if isinstance(value, str) else operator.index(value)
    except (TypeError, ValueError):
        found = _whole(value, name)
    if not _LEAST <= found <= _MOST:
        raise refused(name, value, "it is a whole number of at most 64 bits.")
    return found


def _whole(value: Any, name: str) -> int:
    try:
        number = as_float(value, name)
    except VariableError:
        raise refused(name, value, f"it is an int, and this {type(value).__name__} is none.") from None
    if number != int(number):
        raise refused(
            name,
            value,
            "it is an int, and this is no whole number.",
            f"Near it are {math.floor(number)} and {math.ceil(number)}.",
        )
    return int(number)


def _exact(number: float) -> Decimal:
    return Decimal(repr(number))


def _steps(low: float, high: float, step: float) -> int:
    """Return how many whole steps lie between two numbers; below 0 where ``high`` is below ``low``."""
    with decimal.localcontext() as context:
        context.prec = _DIGITS
        return int((_exact(high) - _exact(low)) // _exact(step))


def _bounds(domain: Base, low: Any, high: Any) -> None:
    if low is not None and high is not None and low > high:
        domain._bad(f"low={low} is above high={high}.", "Exchange them.")


def _ranged(name: str, value: Any, low: Any, high: Any) -> None:
    """Refuse what is out of range."""
    below = low is not None and value < low
    if below or (high is not None and value > high):
        side = "below" if below else "above"
        ends = f"{'-∞' if low is None else low} to {'∞' if high is None else high}"
        raise refused(name, value, f"that is {side} its range, {ends}.")


@kind("float")
@dataclass(frozen=True, eq=False)
class Float(Base):
    """A finite number.

    Args:
        low, high: both are in it; None for no end.
        step: only ``low``, ``low + step``, … are in it.
        log: it is searched on a logarithmic scale; ``low`` is then above 0, and there is no step (as Optuna has it).
    """

    low: float | None = None
    high: float | None = None
    step: float | None = None
    log: bool = False

    def __post_init__(self) -> None:
        for end in ("low", "high", "step"):
            if getattr(self, end) is not None:
                object.__setattr__(self, end, as_float(getattr(self, end), end))
        if not isinstance(self.log, bool):
            self._bad(f"log={self.log!r} is neither True nor False.")
        _bounds(self, self.low, self.high)
        if self.log and self.step is not None:
            self._bad("a logarithmic one has no step, as Optuna searches none.", "Leave step= or log= out.")
        if self.log and not (self.low is not None and self.low > 0):
            self._bad(f"a logarithmic one begins above 0, and low is {self.low}.", "Try low=1e-5.")
        if self.step is not None and (self.low is None or self.step <= 0):
            self._bad(f"step={self.step} needs to be above 0, and a low to count from (low={self.low}).")

    def cast(self, value: Any, name: str) -> float:
        """Return it as a float; numbers within a billionth of a step are put on the grid."""
        found = as_float(value, name)
        if self.step is None or self.low is None:
            _ranged(name, found, self.low, self.high)
            return found
        steps = (_exact(found) - _exact(self.low)) / _exact(self.step)
        nearest = steps.to_integral_value()
        on_grid = float(_exact(self.low) + nearest * _exact(self.step))
        if abs(steps - nearest) > _NEAR:
            _ranged(name, found, self.low, self.high)
            floor = steps.to_integral_value(decimal.ROUND_FLOOR)
            around = [float(_exact(self.low) + (floor + one) * _exact(self.step)) for one in (0, 1)]
            allowed = " and ".join(str(number) for number in around if self.high is None or number <= self.high)
            raise refused(name, found, f"it goes by steps of {self.step} from {self.low}.", f"Near it: {allowed}.")
        _ranged(name, on_grid, self.low, self.high)
        return on_grid

    def distribution(self) -> Any:
        """Return a ``FloatDistribution``; its high end is on the grid."""
        low, _ = self._ends()
        return optuna_distributions().FloatDistribution(low, self._top(), log=self.log, step=self.step)

    def first(self) -> float:
        """Return the middle of its range (on its scale and grid), or the end or number nearest to 0."""
        if self.low is not None and self.high is None:
            return max(self.low, 0.0) if self.step is None else self._at(max(_steps(self.low, 0.0, self.step), 0))
        if self.low is None or self.high is None:
            return min(self.high or 0.0, 0.0)
        if self.log:
            return min(max(math.sqrt(self.low) * math.sqrt(self.high), self.low), self.high)
        if self.step is None:
            return self.low / 2 + self.high / 2
        return self._at((self._count() - 1) // 2)

    def size(self) -> int | None:
        """Return how many numbers its grid has."""
        if self.low is not None and self.low == self.high:
            return 1
        return None if self.step is None or self.high is None else self._count()

    def every(self) -> Iterator[float] | None:
        """Return the numbers of its grid."""
        if self.low is not None and self.low == self.high:
            return iter((self.low,))
        return None if self.size() is None else (self._at(index) for index in range(self._count()))

    def draw(self, random: Random) -> float:
        """Return a number at random, even on its scale."""
        low, high = self._ends()
        if self.step is not None:
            return self._at(random.randrange(self._count()))
        share = random.random()
        found = math.exp(math.log(low) * (1 - share) + math.log(high) * share) if self.log else low * (1 - share) + high * share
        return min(max(found, low), high)

    def corners(self) -> tuple[float, ...]:
        """Return its ends."""
        if self.low is None or self.high is None:
            return tuple(end for end in (self.low, self.high) if end is not None)
        return (self.low, self._top())

    def _ends(self) -> tuple[float, float]:
        if self.low is None or self.high is None:
            self._unsearchable("it has no range", "Give it low= and high=.")
        return self.low, self.high

    def _count(self) -> int:
        low, high = self._ends()
        return _steps(low, high, self.step or 1.0) + 1

    def _at(self, index: int) -> float:
        return float(_exact(self.low or 0.0) + index * _exact(self.step or 1.0))

    def _top(self) -> float:
        return self._ends()[1] if self.step is None else self._at(self._count() - 1)


@kind("int")
@dataclass(frozen=True, eq=False)
class Int(Base):
    """A whole number of at most 64 bits.

    Args:
        low, high: both are in it; None for no end.
        step: only ``low``, ``low + step``, … are in it.
        log: it is searched on a logarithmic scale; ``low`` is then above 0, and the step 1.
    """

    low: int | None = None
    high: int | None = None
    step: int = 1
    log: bool = False

    def __post_init__(self) -> None:
        for end in ("low", "high", "step"):
            if getattr(self, end) is not None:
                object.__setattr__(self, end, as_int(getattr(self, end), end))
        if not isinstance(self.log, bool):
            self._bad(f"log={self.log!r} is neither True nor False.")
        _bounds(self, self.low, self.high)
        if self.log and self.step != 1:
            self._bad("a logarithmic one has no step, as Optuna searches none.", "Leave step= or log= out.")
        if self.log and not (self.low is not None and self.low > 0):
            self._bad(f"a logarithmic one begins above 0, and low is {self.low}.", "Try low=1.")
        if self.step < 1 or (self.step > 1 and self.low is None):
            self._bad(f"step={self.step} needs to be above 0, and a low to count from (low={self.low}).")

    def cast(self, value: Any, name: str) -> int:
        """Return it as an int."""
        found = as_int(value, name)
        _ranged(name, found, self.low, self.high)
        if self.low is not None and (beside := (found - self.low) % self.step):
            around = (found - beside, found - beside + self.step)
            allowed = " and ".join(str(number) for number in around if self.high is None or number <= self.high)
            raise refused(name, found, f"it goes by steps of {self.step} from {self.low}.", f"Near it: {allowed}.")
        return found

    def distribution(self) -> Any:
        """Return an ``IntDistribution``; its high end is on the grid."""
        values = self._numbers()
        if max(abs(values[0]), abs(values[-1])) > _EXACT:
            self._unsearchable("its range goes beyond 2**53, up to which Optuna is exact")
        return optuna_distributions().IntDistribution(values[0], values[-1], log=self.log, step=self.step)

    def first(self) -> int:
        """Return the middle of its range (on its scale and grid), or the end or number nearest to 0."""
        if self.low is not None and self.high is None:
            return self.low + max(-self.low // self.step, 0) * self.step
        if self.low is None or self.high is None:
            return min(self.high or 0, 0)
        if self.log:
            return math.isqrt(self.low * self.high)
        return self.low + (self.high - self.low) // self.step // 2 * self.step

    def size(self) -> int | None:
        """Return how many numbers there are."""
        if self.low is None or self.high is None:
            return None
        return (self.high - self.low) // self.step + 1

    def every(self) -> Iterator[int] | None:
        """Return its numbers."""
        return None if self.size() is None else iter(self._numbers())

    def draw(self, random: Random) -> int:
        """Return a number at random, even on its scale."""
        values = self._numbers()
        if not self.log:
            return values[0] + self.step * random.randrange((values[-1] - values[0]) // self.step + 1)
        found = round(math.exp(random.uniform(math.log(values[0] - 0.5), math.log(values[-1] + 0.5))))
        return min(max(found, values[0]), values[-1])

    def corners(self) -> tuple[int, ...]:
        """Return its ends."""
        if self.low is None or self.high is None:
            return tuple(end for end in (self.low, self.high) if end is not None)
        return (self.low, self._numbers()[-1])

    def _numbers(self) -> range:
        if self.low is None or self.high is None:
            self._unsearchable("it has no range", "Give it low= and high=.")
        return range(self.low, self.high + 1, self.step)
