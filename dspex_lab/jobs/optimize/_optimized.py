"""What an optimization found."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dspex_lab.events import TrialRecord
from dspex_lab.jobs._card import Sheet, duration, number
from dspex_lab.jobs._programs import Lineage, PartDiff, diff_programs, lineage, parts_of
from dspex_lab.security import one_line


class Rejected(NamedTuple):
    """An instruction that was proposed, tried, and not better.

    Args:
        part: the path of the predictor it was for.
        text: the instruction.
        why: what was said of it.
    """

    part: str
    text: str
    why: str = ""


@dataclass(frozen=True)
class Optimized:
    """The outcome of an optimization; of one that was stopped, the best until then.

    Args:
        program: the program that was found, ready to be used and saved.
        optimizer: the optimizer's name.
        before, after: mean score of the program that was given and of the one that was found, on the validation rows (where
            none were given: on those of training, and a note says so); None where it was not measured.
        best: the trial that the program is; None where none was.
        trials: what was tried, in order. Of those of an earlier attempt ``job.trials`` has the texts.
        row_scores: the scores of each row by the number of a trial.
        diff: what ``program`` changed.
        rejected: instructions that were tried and not better, earlier jobs' included.
        notes: what a person should know.
        log: what the optimizer printed and logged, the last lines.
        seconds: of all attempts, as are the three that follow.
        cost: US dollars of the calls of models; None where a price is not known.
        calls: made of models; answers from DSPy's cache are in ``cached``.
        failed: rows that had no score, by their program or the metric, and counted 0.
        repeated: evaluations of candidates that were done before and again after a resume.
        stopped: it was ended before its time.
    """

    program: Any
    optimizer: str
    before: float | None = None
    after: float | None = None
    best: TrialRecord | None = None
    trials: tuple[TrialRecord, ...] = ()
    row_scores: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    diff: tuple[PartDiff, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    notes: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    seconds: float = 0.0
    cost: float | None = 0.0
    calls: int = 0
    cached: int = 0
    failed: int = 0
    repeated: int = 0
    stopped: bool = False

    @property
    def lineage(self) -> Lineage:
        """Which candidate was made from which."""
        return lineage(self.trials)

    @property
    def gain(self) -> float | None:
        """``after - before``; None where one was not measured."""
        return None if self.before is None or self.after is None else self.after - self.before

    @property
    def note(self) -> str:
        """The notes as one text."""
        return " ".join(self.notes)

    def summary(self) -> dict[str, Any]:
        """Return what is shown of it beside the job: plain data."""
        return {
            "optimizer": self.optimizer,
            "before": self.before,
            "after": self.after,
            "best": None if self.best is None else self.best.number,
            "trials": len(self.trials),
            "changed": [part.path for part in self.diff],
            "failed": self.failed,
            "repeated": self.repeated,
            "stopped": self.stopped,
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        scores = f"{_shown(self.before)} → {_shown(self.after)}"
        end = ", stopped" if self.stopped else ""
        return f"<Optimized by {self.optimizer}: {scores}, {len(self.trials)} trials, {self.seconds:.1f} s{end}>"

    def sheet(self) -> Sheet:
        """Return it as a table: what it came to, and what it changed."""
        facts = [
            ("before", number(self.before)),
            ("after", number(self.after)),
            ("best", "" if self.best is None else f"trial {self.best.number} of {len(self.trials):,}"),
            ("changed", one_line(", ".join(part.path for part in self.diff))),
            ("rejected", f"{len(self.rejected):,}" if self.rejected else ""),
            ("time", duration(self.seconds)),
            ("spent", f"{'' if self.cost is None else f'${self.cost:,.4g}, '}{self.calls:,} calls, {self.cached:,} cached"),
            ("notes", one_line(self.note, 600)),
        ]
        end = ", stopped" if self.stopped else ""
        return Sheet(f"Optimized by {one_line(self.optimizer)}{end}", ("", ""), [fact for fact in facts if fact[1]])

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()


def rejected_in(trials: Iterable[TrialRecord]) -> tuple[Rejected, ...]:
    """Return the instructions of rejected trials, each once: what is given to a later optimization of the same program
    (``optimize(…, rejected=…)``) so that GEPA does not propose them again.

    Args:
        trials: a job's, or several jobs', the older first.
    """
    found: dict[tuple[str, str], Rejected] = {}
    known: dict[tuple[str, int], TrialRecord] = {}
    for trial in trials:
        known[trial.job_id, trial.number] = trial
        if trial.status != "rejected":
            continue
        parent = None if trial.parent is None else known.get((trial.job_id, trial.parent))
        before = (parent.candidate if parent else None) or {}
        for key, text in (trial.candidate or {}).items():
            if isinstance(text, str) and key.endswith(INSTRUCTIONS) and before.get(key) != text:
                part = key.removesuffix(INSTRUCTIONS)
                found.setdefault((part, text), Rejected(part, text, trial.note or ""))
    return tuple(found.values())


#: What follows the path of a predictor in a candidate.
INSTRUCTIONS, DEMOS = ".instructions", ".demos"


def candidate_of(program: Any) -> dict[str, Any]:
    """Return the texts and demonstrations of a program by path, as a trial has them: plain data.

    Those of a sub-module that was compiled, which DSPy's ``named_predictors`` leaves out, are among them.
    """
    found: dict[str, Any] = {}
    for path, part in parts_of(program).items():
        found[path + INSTRUCTIONS] = part.instructions
        if part.demos:
            found[path + DEMOS] = list(part.demos)
    return found


def slim(program: Any) -> Any:
    """Return a view of a program without what optimizers hang on it: the programs there would be taken for its parts."""
    made = copy.copy(program)
    for name in HUNG:
        vars(made).pop(name, None)
    return made


#: What optimizers hang on the programs they give: all their candidates, which trials have.
HUNG = (
    "candidate_programs",
    "mb_candidate_programs",
    "trial_logs",
    "detailed_results",
    "results_best",
    "results_latest",
    "score",
    "prompt_model_total_calls",
    "total_calls",
    "simba_idx",
    "flag_compilation_error_occurred",
)


def light(trial: TrialRecord) -> TrialRecord:
    """Return a trial without its texts."""
    return trial._replace(candidate=None)


def from_partial(
    optimizer: str, original: Any, program: Any, trials: Sequence[TrialRecord], state: Mapping[str, Any] | None, why: str
) -> Optimized:
    """Return what is left of an optimization that was ended from outside."""
    best = lineage(trials).best
    kept = dict(state or {})
    bill = kept.get("bill")
    return Optimized(
        program,
        optimizer,
        before=kept.get("before"),
        after=None if best is None else best.score,
        best=best,
        trials=tuple(trials),
        row_scores=kept.get("rows", {}),
        diff=tuple(diff_programs(original, program)),
        rejected=rejected_in(trials),
        notes=(why,),
        seconds=kept.get("seconds", 0.0),
        cost=0.0 if bill is None else bill.known,
        calls=0 if bill is None else bill.calls,
        cached=0 if bill is None else bill.cached,
        repeated=kept.get("repeated", 0),
        stopped=True,
    )


def _shown(score: float | None) -> str:
    return "?" if score is None else f"{score:.3g}"
