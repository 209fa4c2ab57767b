"""Numbers, also those written in a text, equal within a tolerance."""

from __future__ import annotations

import decimal
import fractions
import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Literal

from dspex_lab.native.metrics._base import Metric, Outcome, bad_option, check_choice, is_number
from dspex_lab.native.metrics._exact import expected_and_found
from dspex_lab.native.metrics._text import normalise
from dspex_lab.native.metrics._values import as_text, plain, short

_NUMBER = re.compile(
    r"(?<![\w./])(?P<sign>[-+\u2212])?[$€£¥]?(?P<minus>[-\u2212])?"
    r"(?:(?P<whole>\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?P<part>\.\d+)?|(?P<small>\.\d+))(?!\.?\d)"
    r"(?P<power>[eE][-+]?\d{1,4}(?!\w))?(?:/(?P<below>\d+)(?![\d/]))?"
)
#: Where an answer is marked in a worked solution: GSM8K's line, and LaTeX's box in MATH.
_MARKS = (re.compile(r"####\s*([^\n]*)"), re.compile(r"\\boxed\{([^{}]*)\}"))
#: Digits beyond which a written number is none that anybody meant.
_DIGITS = 400


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class NumericMatch(Metric):
    """1 where the numbers are equal within a tolerance, else 0.

    ``abs(a - b) <= max(relative * max(abs(a), abs(b)), absolute)``, the rule of ``math.isclose`` (PEP 485), symmetric and
    computed in decimal, so that whole numbers of any size and 0.1 + 0.2 are exact.

    The number of a text is found like this: (1) behind the first ``####``, the answer line of GSM8K (Cobbe et al. 2021,
    ``extract_answer`` in ``grade_school_math/dataset.py``); else (2) in the last ``\\boxed{}``, as in MATH (Hendrycks et al.
    2021); else (3) the last number of the text, or the first with ``which="first"``. "1,234,567.5", "-3", "−3", "1e-3",
    "3/4" and ".5" are numbers; "$", "%" and units beside them do not count ("50%" is 50); a "-" between digits is no sign,
    and the digits of "v2" or "1.2.3" no number. True, False, NaN and infinity are no numbers either.

    A prediction without a number scores 0. If the reference has none, the texts must be the same after SQuAD's normalisation.

    Args:
        absolute: how far apart they may be.
        relative: how far apart, as a share of the larger one.
        which: ``"last"`` or ``"first"`` number of a text without a mark.
    """

    name: ClassVar[str] = "numeric"
    usual_threshold: ClassVar[float] = 1.0

    absolute: float = 0.0
    relative: float = 1e-9
    which: Literal["last", "first"] = "last"

    def __post_init__(self) -> None:
        super().__post_init__()
        for option in ("absolute", "relative"):
            if not is_number(getattr(self, option)) or getattr(self, option) < 0:
                raise bad_option(self, option, "a number of at least 0")
        check_choice(self, "which", ("last", "first"))

    def compare(self, prediction: Any, reference: Any) -> Outcome:
        """Compare with one reference."""
        hoped = number(reference, self.which)
        if hoped is None:
            equal = normalise(prediction) == normalise(reference)
            return Outcome(float(equal), lambda: expected_and_found(equal, prediction, reference))
        made = number(prediction, self.which)
        if made is None:
            return Outcome(0.0, lambda: f"expected the number {_plain(hoped)}, found none in {short(prediction)}.")
        equal = self._close(made, hoped)
        return Outcome(
            float(equal), lambda: f"expected {_plain(hoped)}{'' if equal else self._within()}, found {_plain(made)}."
        )

    def _within(self) -> str:
        told = [f"{option} {getattr(self, option):g}" for option in ("absolute", "relative") if getattr(self, option)]
        return f" (tolerance: {', '.join(told)})" if told else " exactly"

    def _close(self, a: Decimal, b: Decimal) -> bool:
        exact = _arithmetic()
        share = exact.multiply(Decimal(str(self.relative)), max(a.copy_abs(), b.copy_abs()))
        return exact.subtract(a, b).copy_abs() <= max(share, Decimal(str(self.absolute)))


def number(value: Any, which: str = "last") -> Decimal | None:
    """Return the number that ``value`` is or that its text gives as the answer, or None (see :class:`NumericMatch`)."""
    if isinstance(value, bool) or (isinstance(value, int) and value.bit_length() > 3 * _DIGITS):
        return None
    value = plain(value)
    if isinstance(value, float):
        return Decimal(repr(float(value))) if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return value if value.is_finite() and abs(value.adjusted()) <= _DIGITS else None
    if isinstance(value, int):
        return Decimal(value)
    if isinstance(value, fractions.Fraction):
        return _divided(Decimal(value.numerator), Decimal(value.denominator))
    text = as_text(value)
    for mark in _MARKS:
        marked = mark.findall(text)
        if marked:
            # The official script takes the first line of GSM8K's; a solution in LaTeX boxes its result last.
            return next(iter(_numbers(marked[0 if mark is _MARKS[0] else -1])), None)
    found = _numbers(text)
    return (found[-1] if which == "last" else found[0]) if found else None


def _numbers(text: str) -> list[Decimal]:
    return [n for n in map(_read, _NUMBER.finditer(text)) if n is not None]


def _read(match: re.Match[str]) -> Decimal | None:
    if len(match[0]) > _DIGITS:
        return None
    digits = (match["whole"] or "0").replace(",", "") + (match["part"] or match["small"] or "")
    made: Decimal | None = Decimal(digits + (match["power"] or ""))
    if made is None or abs(made.adjusted()) > _DIGITS:
        return None
    if match["below"] is not None:
        made = _divided(made, Decimal(match["below"]))
    negative = (match["sign"] or "+") != "+" or match["minus"]
    return made.copy_negate() if made is not None and negative else made


def _divided(above: Decimal, below: Decimal) -> Decimal | None:
    return _arithmetic().divide(above, below) if below else None


def _arithmetic() -> decimal.Context:
    # The caller's own context may round to a few digits.
    return decimal.Context(prec=2 * _DIGITS + 2, rounding=decimal.ROUND_HALF_EVEN)


def _plain(value: Decimal) -> str:
    text = f"{value:g}"
    return text if len(text) <= 24 else f"{value:.6g}"
