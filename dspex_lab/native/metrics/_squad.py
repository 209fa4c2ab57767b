"""The two metrics of SQuAD."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

from dspex_lab.native.metrics._base import Metric, Outcome
from dspex_lab.native.metrics._exact import expected_and_found
from dspex_lab.native.metrics._text import normalise
from dspex_lab.native.metrics._values import short


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class NormalisedMatch(Metric):
    """1 where prediction and reference are the same after normalisation, else 0; of several references the best.

    The "exact match" of SQuAD (Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text",
    section 6.1; ``compute_exact`` in ``evaluate-v2.0.py``): lower case, no punctuation, no articles, single spaces. Symmetric.
    """

    name: ClassVar[str] = "normalised_match"
    usual_threshold: ClassVar[float] = 1.0

    def compare(self, prediction: Any, reference: Any) -> Outcome:
        """Compare with one reference."""
        equal = normalise(prediction) == normalise(reference)
        return Outcome(float(equal), lambda: expected_and_found(equal, prediction, reference))


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class TokenF1(Metric):
    """Harmonic mean of precision and recall over the words, counted as often as they occur; of several references the best.

    F1 of SQuAD (Rajpurkar et al. 2016, section 6.1; ``compute_f1`` in ``evaluate-v2.0.py``), over the words of the normalised
    texts. Where prediction or reference has no words it is 1 if neither has, else 0, as in SQuAD 2.0 (DSPy's own F1 gives
    0 for two empty texts). Symmetric.
    """

    name: ClassVar[str] = "f1"

    def compare(self, prediction: Any, reference: Any) -> Outcome:
        """Compare with one reference."""
        made, hoped = normalise(prediction).split(), normalise(reference).split()
        if not made or not hoped:
            equal = made == hoped
            return Outcome(float(equal), lambda: expected_and_found(equal, prediction, reference))
        given, needed = Counter(made), Counter(hoped)
        common = (given & needed).total()

        def why() -> str:
            told = [f"{common} of the reference's {len(hoped)} words are there, in an answer of {len(made)}."]
            told += [f"Missing: {_listed(needed - given)}."] if needed - given else []
            told += [f"Not in the reference: {_listed(given - needed)}."] if given - needed else []
            return " ".join([*told, f"Expected {short(reference)}, found {short(prediction)}."])

        if not common:
            return Outcome(0.0, why)
        precision, recall = common / len(made), common / len(hoped)
        return Outcome(2 * precision * recall / (precision + recall), why)


def _listed(counts: Counter[str], most: int = 8) -> str:
    named = [short(w, 60) for w in list(counts)[:most]]
    return ", ".join(named) + (f" and {len(counts) - most} more" if len(counts) > most else "")
