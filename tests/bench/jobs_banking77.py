"""What jobs gain on BANKING77 with the offline engine: MIPROv2, GEPA, Optuna, and GEPA and Optuna at once, with controls.

    python tests/bench/jobs_banking77.py FOLDER [--seeds 5] [--heldout 300]

FOLDER holds ``banking77_train.csv`` and ``banking77_test.csv`` (columns ``text`` and ``category``). A seed draws classes, 160
rows of training, 60 of validation (both from the training file) and the held-out rows (from the test file); every arm has the
same ones, and starts from the same program: one ``dspy.Predict``, told to classify the message, that shows no demonstrations.

An arm may spend 1,200 runs of the program on rows of training and validation. GEPA is told so (``max_metric_calls``). MIPROv2
has one measurement and 14 trials of 60 rows (900), and what is left for bootstrapping. Optuna has 20 trials of 60 rows, the
first with the values that there are. Both at once: 8 trials (480) and one measurement anew of the best of them (60), while GEPA
has two rounds of 210 metric calls, after each of which what it found and what was there are measured (240, and again where
Optuna has committed meanwhile).
``calls`` are those of the model that were really made, proposals and reflections included: where the nearest known row is near
enough, no model is asked. The control is the same with the labels of training and validation shuffled, those of the rows that
Optuna's demonstrations come from too; the held-out rows keep theirs.

A gain is the difference on the held-out rows: its mean over the seeds with its 95 % interval (Student's t).
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy
from exemplar_banking77 import PLAIN, T_95, TASKS, Draw, read

import dspex_lab as dx
from dspex_lab.lms import make_lm

#: Rows of training, and of validation.
TRAIN, VAL = 160, 60
#: Runs of the program that an arm may spend; trials of MIPROv2, of Optuna alone, and of Optuna beside GEPA.
BUDGET, MIPRO_TRIALS, TRIALS, TRIALS_BESIDE = 1_200, 14, 20, 8
#: Rounds of GEPA beside Optuna, and the metric calls of each.
ROUNDS, ROUND = 2, 210
#: Demonstrations that Optuna may show, and the lowest threshold: with less, nearly every answer is that of the nearest row, and
#: there is nothing left for instructions to improve.
MOST, LEAST = 40, 0.5
#: What Optuna moves.
MOVED = ("desk.shown", "desk.nearest", "desk.near", "desk.classify.module")
#: One row after the other, and all of them: so the same seed gives the same result.
SEARCH: dict[str, Any] = {"pruner": "none", "parallel": 1, "concurrency": 1}


class Desk(dspy.Module):
    """Says the label of a message: that of a known one that is near enough, or what the model says.

    Args:
        signature: the task.
        known: messages with their labels.
        shown: how many of them are shown to the model; ``nearest``: those most like the message, not the first ones.
        near: the likeness above which the label of the nearest one is the answer; at 1 always the model is asked.
    """

    def __init__(self, signature: Any, known: Sequence[Mapping[str, str]]) -> None:
        super().__init__()
        self.classify = dspy.Predict(signature)
        self._known = dx.index([dict(row) for row in known])
        self.shown, self.nearest, self.near = 0, False, 1.0

    def forward(self, text: str) -> Any:
        """Answer one message; one that is known is not shown its own label."""
        hits = [hit for hit in self._known.search(text, MOST + 1) if hit.text != text]
        if hits and hits[0].score > self.near:
            return dspy.Prediction(label=hits[0].row["label"], asked=False)
        rows = [hit.row for hit in hits] if self.nearest else [row for row in self._known.rows if row["text"] != text]
        own = self.classify.predictors()[0].demos
        found = self.classify(text=text, demos=[*own, *(dspy.Example(**row) for row in rows[: self.shown])])
        return dspy.Prediction(label=found.label, asked=True)


class Score:
    """Whether a label is right; ``held`` says of the held-out rows that it scored whether the model was asked."""

    def __init__(self) -> None:
        self.held: list[bool] = []

    def __call__(self, example: Any, prediction: Any, trace: Any = None) -> float:
        if example.part == "held":
            self.held.append(prediction.asked)
        return float(prediction.label == example.label)


@dataclass(frozen=True)
class Setting:
    """What an arm has: a Lab, a program, rows, a metric and a seed."""

    lab: dx.Lab
    desk: Desk
    train: Sequence[Any]
    val: Sequence[Any]
    held: Sequence[Any]
    metric: Score
    seed: int

    @property
    def reflecting(self) -> dict[str, Any]:
        """Return the settings of GEPA: its model proposes something else each time only when it is not at 0."""
        writer = make_lm("offline", temperature=1.0)
        return {"reflection_lm": writer, "reflection_minibatch_size": 8, "num_threads": 1}


#: The arm in which two write one space.
BOTH = "GEPA and Optuna at once"
#: An arm: gives the program that it found, the calls of the model that it took, and what more there is to say.
Arm = Callable[[Setting], tuple[Any, int, Mapping[str, float]]]


def _optimized(s: Setting, optimizer: str, **how: Any) -> tuple[Any, int, Mapping[str, float]]:
    rows = {"metric": s.metric, "trainset": s.train, "valset": s.val}
    job = s.lab.optimize(s.desk, optimizer=optimizer, seed=s.seed, pool=None, **rows, **how)
    return job.result().program, job.progress.spent.calls, {}


def miprov2(s: Setting) -> tuple[Any, int, Mapping[str, float]]:
    """MIPROv2: instructions and up to four bootstrapped and four labelled demonstrations, as is its default."""
    how = {"auto": None, "num_candidates": 6, "num_trials": MIPRO_TRIALS, "minibatch": False, "num_threads": 1}
    return _optimized(s, "miprov2", **how)


def gepa(s: Setting) -> tuple[Any, int, Mapping[str, float]]:
    """GEPA: instructions."""
    return _optimized(s, "gepa", max_metric_calls=BUDGET, **s.reflecting)


def _exposed(s: Setting) -> None:
    s.lab.expose(s.desk, "desk")
    s.lab.variables.int("desk.shown", 0, MOST, default=0)
    s.lab.variables.float("desk.near", LEAST, 1.0, default=1.0)


def optuna(s: Setting) -> tuple[Any, int, Mapping[str, float]]:
    """Optuna: number and choice of demonstrations, threshold and module."""
    _exposed(s)
    rows = {"metric": s.metric, "data": s.val}
    job = s.lab.tune(s.desk, variables=list(MOVED), trials=TRIALS, seed=s.seed, pool=None, **rows, **SEARCH)
    job.result()
    job.adopt()
    return s.desk, job.progress.spent.calls, {}


def both(s: Setting) -> tuple[Any, int, Mapping[str, float]]:
    """GEPA writes the instructions while Optuna moves the rest; both commit what is better as they find it."""
    _exposed(s)
    more = {"optimizer": "gepa", "rounds": ROUNDS, "max_metric_calls": ROUND, "trainset": s.train, "valset": s.val}
    job = s.lab.tune(
        s.desk,
        variables=list(MOVED),
        metric=s.metric,
        data=s.val,
        trials=TRIALS_BESIDE,
        beside={**more, **s.reflecting},
        heldout=s.held,
        seed=s.seed,
        pool=None,
        **SEARCH,
    )
    found = job.result()
    shares = {"Optuna": found.attribution.share("first"), "GEPA": found.attribution.share("second")}
    return s.desk, job.progress.spent.calls - sum(s.metric.held), shares


ARMS: dict[str, Arm] = {"MIPROv2": miprov2, "GEPA": gepa, "Optuna": optuna, BOTH: both}


# --- measuring ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """Accuracy on the held-out rows before and after, calls of the model, and who gained what where that is known."""

    before: float
    after: float
    calls: int
    shares: Mapping[str, float]


def measured(draw: Draw, arm: Arm, shuffled: bool, seed: int) -> Measured:
    """Run one arm on one draw."""
    labelled = zip(draw.pool, draw.labels(shuffled), strict=True)
    rows = [{"text": text, "label": label, "part": "seen"} for (text, _), label in labelled][: TRAIN + VAL]
    seen = [dspy.Example(**row).with_inputs("text") for row in rows]
    held = [dspy.Example(text=t, label=draw.names[y], part="held").with_inputs("text") for t, y in draw.questions]
    known = [{"text": row["text"], "label": row["label"]} for row in rows[:TRAIN]]
    with dx.Lab(":memory:") as lab:
        lab.use("offline")
        s = Setting(lab, Desk(draw.signature(PLAIN), known), seen[:TRAIN], seen[TRAIN:], held, Score(), seed + 1)
        before = lab.evaluate(s.desk, data=held, metric=Score(), concurrency=1).result()
        program, calls, shares = arm(s)
        after = lab.evaluate(program, data=held, metric=Score(), concurrency=1).result()
    assert before.failed == after.failed == 0, (before.errors, after.errors)
    return Measured(before.score, after.score, calls, shares)


def shown(values: Sequence[float], signed: bool = False) -> str:
    """Return the mean with its 95 % interval."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:+.3f}" if signed else f"{mean:.3f}"
    half = T_95[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:+.3f} ± {half:.3f}" if signed else f"{mean:.3f} ± {half:.3f}"


def line(task: str, name: str, found: Sequence[Measured]) -> str:
    """Return a line of the table."""
    gains = shown([each.after - each.before for each in found], signed=True)
    before, after = shown([each.before for each in found]), shown([each.after for each in found])
    calls = f"{statistics.mean(each.calls for each in found):,.0f}"
    keys = found[0].shares
    shares = ", ".join(f"{key} {statistics.mean(each.shares[key] for each in found):+.3f}" for key in keys)
    return f"| {task} | {name} | {before} | {after} | {gains} | {calls} | {shares} |"


def differences(task: str, found: Mapping[str, Sequence[Measured]]) -> list[str]:
    """Return by how much both at once is better than each other arm, draw by draw."""
    if BOTH not in found:
        return []
    others = [(name, runs) for name, runs in found.items() if name != BOTH]
    gains = [(name, [one.after - other.after for one, other in zip(found[BOTH], runs, strict=True)]) for name, runs in others]
    return [f"{task}: {BOTH}, more than {name} alone: {shown(values, signed=True)}" for name, values in gains]


def main() -> None:
    """Run all arms and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5, help="draws")
    parser.add_argument("--heldout", type=int, default=300, help="held-out rows of a draw")
    parser.add_argument("--only", nargs="*", choices=list(ARMS), default=list(ARMS), help="some of the arms")
    options = parser.parse_args()
    train, test = (read(options.folder / f"banking77_{part}.csv") for part in ("train", "test"))
    print("| task | arm | before | after | gain | calls | of which |\n|---|---|---|---|---|---|---|", flush=True)
    compared = []
    for title, classes, opaque in TASKS[:2]:
        for shuffled in (False, True):
            found: dict[str, list[Measured]] = {}
            for name in options.only:
                draws = [Draw(train, test, classes, options.heldout, seed, opaque) for seed in range(options.seeds)]
                found[name] = [measured(draw, ARMS[name], shuffled, seed) for seed, draw in enumerate(draws)]
                print(line(title, f"shuffled, {name}" if shuffled else name, found[name]), flush=True)
            compared += [] if shuffled else differences(title, found)
    print("\n" + "\n".join(compared))


if __name__ == "__main__":
    sys.exit(main())
