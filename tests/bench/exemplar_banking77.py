"""What the offline engine gains from demonstrations, instructions and optimizers on BANKING77, with controls.

    python tests/bench/exemplar_banking77.py FOLDER [--rows 400] [--seeds 5] [--optimizers]

FOLDER holds ``banking77_train.csv`` and ``banking77_test.csv`` (columns ``text`` and ``category``). Demonstrations and the
rows from which instructions are written come from the training rows, questions from the test rows. Each figure is the mean
accuracy over draws (of classes, demonstrations and questions) with its 95 % interval (Student's t). The engine is asked
through its text interface with prompts as DSPy's adapters write them; the optimizers are DSPy's own, on 8 classes with
opaque names, with the engine as task model and as the model that proposes instructions.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import logging
import math
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import dspy
import numpy as np
from dspy.teleprompt.gepa.instruction_proposal import ProposeInstruction

from dspex_lab.lms import make_lm
from dspex_lab.lms.exemplar._engine import answer
from dspex_lab.lms.exemplar._prompt import read_outputs
from dspex_lab.lms.exemplar._similarity import features, index

Row = tuple[str, str]
#: Student's t for a 95 % interval, by the number of draws.
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 8: 2.365, 10: 2.262}
SIZES = (0, 8, 16, 40, 80)
#: Title, number of classes, and whether their names say nothing.
TASKS = (("8 opaque names", 8, True), ("20 classes", 20, False), ("77 classes", 77, False))
PLAIN = "Classify the message."
ROWS_A_LABEL = 20


class Draw:
    """One draw of classes, a pool of training rows to demonstrate from, and questions."""

    def __init__(self, train: Sequence[Row], test: Sequence[Row], classes: int, rows: int, seed: int, opaque: bool) -> None:
        chance = random.Random(seed)
        labels = sorted({label for _, label in train})
        self.classes = sorted(chance.sample(labels, classes))
        codes = chance.sample(range(10, 100), classes)
        shown = [f"Q{code}" for code in codes] if opaque else self.classes
        self.names = dict(zip(self.classes, shown, strict=True))
        chosen = set(self.classes)
        self.pool = [row for row in train if row[1] in chosen]
        self.questions = [row for row in test if row[1] in chosen]
        chance.shuffle(self.pool)
        chance.shuffle(self.questions)
        self.questions = self.questions[:rows]
        self.chance = chance

    def labels(self, shuffled: bool) -> list[str]:
        """Return the label of each row of the pool, as it is shown."""
        labels = [self.names[label] for _, label in self.pool]
        if shuffled:
            self.chance.shuffle(labels)
        return labels

    def signature(self, instructions: str) -> Any:
        """Return the task as a signature."""
        options = Literal[tuple(self.names.values())]  # type: ignore[valid-type]
        return dspy.Signature("text -> label", instructions).with_updated_fields("label", type_=options)

    def named(self) -> str:
        """Return instructions that give the name of each label in words."""
        return "\n".join([PLAIN, *(f"{shown}: {name.replace('_', ' ')}" for name, shown in self.names.items())])

    def reflected(self, shuffled: bool = False) -> str:
        """Return the instructions that the engine itself writes from training rows, asked as GEPA asks."""
        taken: dict[str, int] = {}
        rows = []
        for (text, label), shown in zip(self.pool, self.labels(shuffled), strict=True):
            taken[label] = taken.get(label, 0) + 1
            if taken[label] <= ROWS_A_LABEL:
                feedback = f"The right label is '{shown}'."
                rows.append({"Inputs": {"text": text}, "Generated Outputs": {"label": "unknown"}, "Feedback": feedback})
        messages = dspy.JSONAdapter().format(
            ProposeInstruction, [], {"current_instruction": PLAIN, "examples_with_feedback": rows}
        )
        said = answer(messages[0]["content"], [("user", messages[1]["content"])])
        return str(read_outputs(said, ("new_instruction",), "json")["new_instruction"])


def accuracy(
    draw: Draw, size: int = 0, *, nearest: bool = False, shuffled: bool = False, instructions: str | None = None
) -> float:
    """Return the share of questions answered rightly with ``size`` demonstrations."""
    signature = draw.signature(instructions or PLAIN)
    system, question = (m["content"] for m in dspy.ChatAdapter().format(signature, [], {"text": "<<TEXT>>"}))
    pool = [(text, label) for (text, _), label in zip(draw.pool, draw.labels(shuffled), strict=True)]
    whole = index(tuple(text for text, _ in pool)) if nearest else None
    right = 0
    for text, label in draw.questions:
        shown = pool[:size]
        if whole is not None:
            shown = [pool[i] for i in np.argsort(-whole.likeness(features(text)))[:size]]
        turns = [turn for given, said in shown for turn in _turns(given, said)]
        completion = answer(system, [*turns, ("user", question.replace("<<TEXT>>", text))])
        right += read_outputs(completion, ("label",), "chat")["label"] == draw.names[label]
    return right / len(draw.questions)


def plain(draw: Draw, size: int) -> float:
    """Return the accuracy of the label of the one nearest demonstration, by the same n-grams: what any engine should reach."""
    shown = draw.pool[:size]
    known = index(tuple(text for text, _ in shown))
    return sum(shown[int(known.likeness(features(t)).argmax())][1] == y for t, y in draw.questions) / len(draw.questions)


def _turns(text: str, label: str) -> list[tuple[str, str]]:
    return [("user", f"[[ ## text ## ]]\n{text}"), ("assistant", f"[[ ## label ## ]]\n{label}\n\n[[ ## completed ## ]]\n")]


# --- optimizers -----------------------------------------------------------------------------------------------------


def _metric(example: Any, found: Any, trace: Any = None, name: Any = None, own: Any = None) -> Any:
    right = found.label == example.label
    feedback = "Correct." if right else f"Wrong: the right label is {example.label}, not {found.label}."
    return dspy.Prediction(score=float(right), feedback=feedback)


def _score(example: Any, found: Any, trace: Any = None) -> bool:
    return bool(found.label == example.label)


def gepa(program: Any, train: list[Any], val: list[Any]) -> Any:
    """Tune with GEPA: 600 metric calls, eight examples a reflection."""
    writer = make_lm("offline", temperature=1.0)
    optimizer = dspy.GEPA(
        metric=_metric, max_metric_calls=600, reflection_lm=writer, reflection_minibatch_size=8, num_threads=1, seed=0
    )
    return optimizer.compile(program, trainset=train, valset=val)


def miprov2(program: Any, train: list[Any], val: list[Any]) -> Any:
    """Tune with MIPROv2: instructions only, six of them, eight trials."""
    optimizer = dspy.MIPROv2(
        metric=_score, auto=None, num_candidates=6, max_bootstrapped_demos=0, max_labeled_demos=0, num_threads=1, seed=0
    )
    return optimizer.compile(program, trainset=train, valset=val, num_trials=8, minibatch=False)


def copro(program: Any, train: list[Any], val: list[Any]) -> Any:
    """Tune with COPRO, which sees no data but what stands in the instruction: a handbook of the training rows."""
    rows = "\n".join(f"Message: {e.text}\nLabel: {e.label}" for e in train)
    program.signature = program.signature.with_instructions(f"{PLAIN} From the handbook:\n{rows}")
    optimizer = dspy.COPRO(metric=_score, breadth=5, depth=3, init_temperature=1.0)
    return optimizer.compile(program, trainset=val, eval_kwargs={"num_threads": 1, "display_progress": False})


def optimized(draw: Draw, tune: Callable[[Any, list[Any], list[Any]], Any], shuffled: bool) -> float:
    """Return the accuracy on test rows after tuning on 80 training rows, chosen on 80 others."""
    labelled = zip(draw.pool, draw.labels(shuffled), strict=True)
    rows = [dspy.Example(text=text, label=label).with_inputs("text") for (text, _), label in labelled][:160]
    quiet = io.StringIO()  # DSPy prints its progress
    with dspy.context(lm=make_lm("offline")), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        found = tune(dspy.Predict(draw.signature(PLAIN)), rows[:80], rows[80:])
    return accuracy(draw, instructions=found.predictors()[0].signature.instructions)


# --- report ---------------------------------------------------------------------------------------------------------


class Bench:
    """Runs conditions over draws and keeps a table of what they gave."""

    def __init__(self, train: Sequence[Row], test: Sequence[Row], rows: int, seeds: int) -> None:
        self.train, self.test, self.rows, self.seeds = train, test, rows, seeds
        self.table: dict[str, dict[str, str]] = {}

    def over(self, name: str, task: tuple[str, int, bool], of: Callable[[Draw], float]) -> None:
        """Measure one condition on one task."""
        title, classes, opaque = task
        values = [of(Draw(self.train, self.test, classes, self.rows, seed, opaque)) for seed in range(self.seeds)]
        half = T_95.get(self.seeds, 2.0) * statistics.stdev(values) / math.sqrt(len(values))
        self.table.setdefault(name, {})[title] = f"{statistics.mean(values):.3f} ± {half:.3f}"
        print(f"{title}, {name}: {self.table[name][title]}", file=sys.stderr, flush=True)

    def show(self) -> None:
        """Print the table."""
        titles = [title for title, _, _ in TASKS]
        print(f"| | {' | '.join(titles)} |\n|---|{'---|' * len(titles)}")
        for name, found in self.table.items():
            print(f"| {name} | {' | '.join(found.get(title, '') for title in titles)} |")


def read(file: Path) -> list[Row]:
    """Return the rows of one of the two files."""
    with file.open(newline="", encoding="utf-8") as opened:
        return [(row["text"], row["category"]) for row in csv.DictReader(opened)]


def measure(bench: Bench) -> None:
    """Run the conditions without optimizers."""
    for task in TASKS:
        for size in SIZES:
            bench.over(f"{size} demonstrations", task, lambda d, n=size: accuracy(d, n))
        bench.over("8 nearest demonstrations of all training rows", task, lambda d: accuracy(d, 8, nearest=True))
        bench.over("instructions: label names", task, lambda d: accuracy(d, instructions=d.named()))
        bench.over(
            f"instructions: its own, from {ROWS_A_LABEL} rows a label", task, lambda d: accuracy(d, instructions=d.reflected())
        )
        for size in SIZES[1:]:
            bench.over(
                f"control, labels shuffled: {size} demonstrations", task, lambda d, n=size: accuracy(d, n, shuffled=True)
            )
        bench.over(
            "control, labels shuffled: 8 nearest demonstrations", task, lambda d: accuracy(d, 8, nearest=True, shuffled=True)
        )
        bench.over(
            "control, labels shuffled: instructions of its own", task, lambda d: accuracy(d, instructions=d.reflected(True))
        )
    for size in SIZES[1:]:
        bench.over(f"for comparison: label of the nearest of {size}", TASKS[0], lambda d, n=size: plain(d, n))


def measure_optimizers(bench: Bench) -> None:
    """Run the optimizers on the task with opaque names."""
    logging.disable(logging.WARNING)
    for tune in (gepa, miprov2, copro):
        bench.over(f"{tune.__name__} on 80 + 80 rows", TASKS[0], lambda d, t=tune: optimized(d, t, False))
        bench.over(f"control, labels shuffled: {tune.__name__}", TASKS[0], lambda d, t=tune: optimized(d, t, True))


def main() -> None:
    """Run all conditions and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=400, help="questions per draw")
    parser.add_argument("--seeds", type=int, default=5, help="draws")
    parser.add_argument("--optimizers", action="store_true", help="GEPA, MIPROv2 and COPRO too")
    options = parser.parse_args()
    train, test = (read(options.folder / f"banking77_{part}.csv") for part in ("train", "test"))
    bench = Bench(train, test, options.rows, options.seeds)
    measure(bench)
    if options.optimizers:
        measure_optimizers(bench)
    bench.show()


if __name__ == "__main__":
    sys.exit(main())
