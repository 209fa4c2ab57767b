"""Whether the reference occurs in the prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from dspex_lab.native.metrics._base import Metric, Outcome
from dspex_lab.native.metrics._text import normalise
from dspex_lab.native.metrics._values import short


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Contains(Metric):
    """1 where the words of the reference occur in the prediction, side by side and in order, else 0.

    The answer recall of open-domain question answering (Chen et al. 2017, "Reading Wikipedia to Answer Open-Domain
    Questions"; ``has_answer`` in DPR, Karpukhin et al. 2020, which DSPy's ``answer_passage_match`` uses), on texts
    normalised as SQuAD does. Whole words: "art" is not in "party". An empty reference is contained in an empty prediction
    only, or every answer would do where none is right.

    Args:
        every: with several references, the share of them that occur, in place of 1 where any does.
    """

    name: ClassVar[str] = "contains"
    usual_threshold: ClassVar[float] = 1.0

    every: bool = False

    def compare(self, prediction: Any, reference: Any) -> Outcome:
        """Compare with one reference."""
        text, needed = normalise(prediction), normalise(reference)
        found = f" {needed} " in f" {text} " if needed else not text
        return Outcome(
            float(found),
            lambda: f"{short(reference)} is there." if found else f"{short(reference)} does not occur in {short(prediction)}.",
        )

    def measure(self, prediction: Any, reference: Any, context: Mapping[str, Any] | None = None) -> Outcome:
        """Compare with all references."""
        if not self.every:
            return super().measure(prediction, reference, context)
        asked = self.references(prediction, reference)
        outcomes = [self.compare(prediction, one) for one in asked]
        missing = [one for one, outcome in zip(asked, outcomes, strict=True) if not outcome.score]

        def why() -> str:
            told = f"{len(asked) - len(missing)} of {len(asked)} are there."
            return f"{told} Missing: {', '.join(map(short, missing))}." if missing else told

        return Outcome(1 - len(missing) / len(asked), why)
