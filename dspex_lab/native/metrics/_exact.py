"""Equal or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dspex_lab.native.metrics._base import Metric, Outcome
from dspex_lab.native.metrics._values import as_text, plain, same, short


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ExactMatch(Metric):
    """1 where the prediction is the reference, else 0.

    Texts are compared character by character, as ``exact_match`` of the library ``evaluate`` does without options; other
    values by ``==``, where True is not 1; a text and another value as texts, so that 3 is "3". None is the empty text.

    Args:
        ignore_case: "Paris" is "paris".
        ignore_space: surrounding space does not count, and other runs of space are one.
    """

    name: ClassVar[str] = "exact_match"
    usual_threshold: ClassVar[float] = 1.0

    ignore_case: bool = False
    ignore_space: bool = False

    def compare(self, prediction: Any, reference: Any) -> Outcome:
        """Compare with one reference."""
        if isinstance(prediction, str) or isinstance(reference, str) or prediction is None or reference is None:
            equal = self._text(prediction) == self._text(reference)
        else:
            equal = same(plain(prediction), plain(reference))
        return Outcome(float(equal), lambda: expected_and_found(equal, prediction, reference))

    def _text(self, value: Any) -> str:
        text = as_text(value)
        if self.ignore_space:
            text = " ".join(text.split())
        return text.casefold() if self.ignore_case else text


def expected_and_found(equal: bool, prediction: Any, reference: Any) -> str:
    """Return the feedback on an answer that is right or wrong."""
    return f"correct, it is {short(reference)}." if equal else f"expected {short(reference)}, found {short(prediction)}."
