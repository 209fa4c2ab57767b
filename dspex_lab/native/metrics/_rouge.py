"""ROUGE: how much of a reference text a prediction retells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from dspex_lab.native.metrics._base import Metric, Outcome, check_choice
from dspex_lab.native.metrics._exact import expected_and_found
from dspex_lab.native.metrics._text import words
from dspex_lab.native.metrics._values import as_text, short

#: Words of a text that take part in a longest common subsequence. The rest count as not retold.
MOST_WORDS = 20_000


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Rouge(Metric):
    """ROUGE-L, ROUGE-1 or ROUGE-2: the F1, precision or recall of shared words; of several references the best.

    Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries": ROUGE-N (section 2; n-grams counted as often as they
    occur in both) and ROUGE-L (section 3.1; longest common subsequence, the text as one sentence), F with beta = 1. On ASCII
    text the values are those of the library ``rouge-score`` 0.1.2 without stemming; letters beyond ASCII, which it drops, are
    words here; and a text is always 1 to itself, also an empty one or, for ROUGE-2, one word (there: 0). The F1 is symmetric.

    The subsequence is found bit-parallel (Hyyrö 2004, "Bit-Parallel LCS-Length Computation Revisited") without a table of the
    product of the lengths; of each text its first 20,000 words take part, below 30 MB. For longer texts ROUGE-L is thus a lower
    bound, and the explanation says so.

    Args:
        kind: ``"l"``, ``"1"`` or ``"2"``.
        statistic: ``"f1"``, ``"precision"`` (share of the prediction) or ``"recall"`` (share of the reference).
    """

    name: ClassVar[str] = "rouge"

    kind: Literal["l", "1", "2"] = "l"
    statistic: Literal["f1", "precision", "recall"] = "f1"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "kind", ("l", "1", "2"))
        object.__setattr__(self, "name", f"rouge_{self.kind}")
        check_choice(self, "statistic", ("f1", "precision", "recall"))

    def compare(self, prediction: Any, reference: Any) -> Outcome:
        """Compare with one reference."""
        made, hoped = words(prediction), words(reference)
        if not made and not hoped:
            equal = as_text(prediction).split() == as_text(reference).split()
            return Outcome(float(equal), lambda: expected_and_found(equal, prediction, reference))
        if self.kind == "l":
            units = len(made), len(hoped)
            shared = lcs_length(made[:MOST_WORDS], hoped[:MOST_WORDS])
        else:
            size = int(self.kind)
            given, needed = _ngrams(made, size), _ngrams(hoped, size)
            units = given.total(), needed.total()
            shared = (given & needed).total()
            if made == hoped and not units[0]:  # one word has no pairs
                units, shared = (1, 1), 1
        precision, recall = shared / max(units[0], 1), shared / max(units[1], 1)
        f1 = 2 * precision * recall / (precision + recall) if shared else 0.0
        score = {"f1": f1, "precision": precision, "recall": recall}[self.statistic]

        def why() -> str:
            what = {"l": "words in the same order", "1": "words", "2": "pairs of words"}[self.kind]
            cut = self.kind == "l" and max(len(made), len(hoped)) > MOST_WORDS
            return (
                f"{shared} {what} shared, of {units[0]} in the answer (precision {precision:.2f}) and {units[1]} in the "
                f"reference (recall {recall:.2f}). Expected {short(reference)}, found {short(prediction)}."
                + (f" Words beyond the first {MOST_WORDS:,} were not compared: a lower bound." if cut else "")
            )

        return Outcome(score, why)


def lcs_length(a: Sequence[str], b: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, in memory that grows with the length of ``b``."""
    where: dict[str, int] = {}
    for i, word in enumerate(b):
        where[word] = where.get(word, 0) | 1 << i
    full = (1 << len(b)) - 1
    row = full
    for word in a:
        hits = row & where.get(word, 0)
        if hits:
            row = (row + hits | row - hits) & full
    return len(b) - row.bit_count()


def _ngrams(tokens: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[i:] for i in range(size)), strict=False))
