"""A language model as the judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from dspex_lab.native.metrics._base import Metric, Outcome, bad_option
from dspex_lab.native.metrics._values import as_text
from dspex_lab.native.metrics._wiring import Judge, Verdict, needed, wired

#: What makes an answer good, where the user did not say.
RUBRIC = (
    "Grade whether the answer does what the task asks. It must be correct (where a reference is given: say the same as the "
    "reference, in whatever words), complete, and free of invented facts. Length and style do not count."
)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Judged(Metric):
    """The grade a language model gives by a rubric, brought to 0..1.

    Single-answer grading, with a reference where there is one (Zheng et al. 2023, "Judging LLM-as-a-Judge with MT-Bench and
    Chatbot Arena", sections 3.1 and 3.4); the rubric and reasons before grades after Liu et al. 2023, "G-Eval". As a DSPy
    metric it shows the judge the example's inputs as the task. Judges favour long answers and their own kind (Zheng et al.
    2023, section 3.3): compare some of its grades with your own. It costs a call each and may differ from call to call.

    An empty prediction is 0 without a call, unless the reference is empty too. Several references are shown together.

    Args:
        rubric: what makes an answer good.
        judge: who grades; None is the one that was wired: the model in use.
    """

    name: ClassVar[str] = "judge"
    reference_free: ClassVar[bool] = True

    rubric: str = RUBRIC
    judge: Judge | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.rubric, str) or not self.rubric.strip():
            raise bad_option(self, "rubric", "a text")

    def measure(self, prediction: Any, reference: Any, context: Mapping[str, Any] | None = None) -> Outcome:
        """Ask the judge once."""
        answer = as_text(prediction)
        known = [text for one in self.references(prediction, reference) if (text := as_text(one)).strip()]
        if not answer.strip() and known:
            return Outcome(0.0, lambda: "the answer is empty.")
        judge = needed("judge", self.judge, self.name, "Give judge= one, or use the metric through a Lab.")
        verdict: Verdict = judge(
            rubric=self.rubric,
            prediction=answer,
            reference="\n\nor\n\n".join(known) or None,
            task="\n\n".join(f"{name}: {as_text(value)}" for name, value in (context or {}).items()) or None,
        )
        return Outcome(verdict.score, lambda: verdict.reason or "the judge gave no reason.")

    def __getstate__(self) -> dict[str, Any]:
        # A worker has nothing wired: what is wired here goes along.
        return {**self.__dict__, "judge": self.judge or wired("judge")}
