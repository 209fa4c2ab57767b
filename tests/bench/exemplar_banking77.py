"""What the offline engine gains from demonstrations and instructions on BANKING77, with a control.

    python tests/bench/exemplar_banking77.py FOLDER

FOLDER holds ``banking77_train.csv`` and ``banking77_test.csv`` (columns ``text`` and ``category``). Demonstrations come
from the training rows, questions from the test rows. Each figure is the mean accuracy of five draws (of classes,
demonstrations and questions) with its 95 % interval (Student's t, 4 degrees of freedom). The engine is asked through
its text interface with prompts as DSPy's ChatAdapter writes them.
"""

from __future__ import annotations

import argparse
import csv
import math
import random
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import dspy
import numpy as np

from dspex_lab.lms.exemplar._engine import answer
from dspex_lab.lms.exemplar._prompt import read_outputs
from dspex_lab.lms.exemplar._similarity import content_words, features, index

Row = tuple[str, str]
SEEDS = range(5)
T_95 = 2.776
SIZES = (0, 8, 16, 40, 80)


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

    def definitions(self, words: int = 8) -> str:
        """Return a line per label with the words most typical of it in the training rows."""
        counts = {
            c: Counter(w for text, label in self.pool if label == c for w in set(content_words(text))) for c in self.classes
        }
        lines = []
        for own in self.classes:
            rarity = {w: math.log(len(counts) / sum(w in other for other in counts.values())) for w in counts[own]}
            typical = sorted(counts[own], key=lambda w: -counts[own][w] * rarity[w])[:words]
            lines.append(f"{self.names[own]}: {', '.join(typical)}")
        return "\n".join(["Classify the message.", *lines])


def accuracy(draw: Draw, size: int, *, nearest: bool = False, shuffled: bool = False, instructions: str = "") -> float:
    """Return the share of questions answered rightly with ``size`` demonstrations."""
    options = Literal[tuple(draw.names.values())]  # type: ignore[valid-type]
    signature = dspy.Signature("text -> label", instructions or "Classify the message.").with_updated_fields(
        "label", type_=options
    )
    system, question = (m["content"] for m in dspy.ChatAdapter().format(signature, [], {"text": "<<TEXT>>"}))
    labels = [label for _, label in draw.pool]
    if shuffled:
        draw.chance.shuffle(labels)
    pool = [(text, draw.names[label]) for (text, _), label in zip(draw.pool, labels, strict=True)]
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


def report(name: str, values: Sequence[float]) -> None:
    """Print a mean with its 95 % interval."""
    half = T_95 * statistics.stdev(values) / math.sqrt(len(values))
    print(f"{name:<58} {statistics.mean(values):.3f} ± {half:.3f}", flush=True)


def main() -> None:
    """Run all conditions and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=400, help="questions per draw")
    options = parser.parse_args()

    def read(name: str) -> list[Row]:
        with (options.folder / name).open(newline="", encoding="utf-8") as file:
            return [(row["text"], row["category"]) for row in csv.DictReader(file)]

    train, test = read("banking77_train.csv"), read("banking77_test.csv")

    def over(name: str, classes: int, of: Callable[[Draw], float], opaque: bool = False) -> None:
        report(name, [of(Draw(train, test, classes, options.rows, seed, opaque)) for seed in SEEDS])

    for title, classes, opaque in (("20 classes", 20, False), ("77 classes", 77, False), ("8 opaque names", 8, True)):
        for size in SIZES:
            over(f"{title}, {size} random demonstrations", classes, lambda d, n=size: accuracy(d, n), opaque)
        over(f"{title}, 8 nearest of all training rows", classes, lambda d: accuracy(d, 8, nearest=True), opaque)
        over(
            f"{title}, 8 words a label in the instructions",
            classes,
            lambda d: accuracy(d, 0, instructions=d.definitions()),
            opaque,
        )
    for size in SIZES[1:]:
        over(f"baseline: 8 opaque names, label of the nearest of {size}", 8, lambda d, n=size: plain(d, n), True)
    for title, classes, opaque in (("20 classes", 20, False), ("8 opaque names", 8, True)):
        for size in SIZES[1:]:
            over(
                f"control: {title}, {size} with shuffled labels",
                classes,
                lambda d, n=size: accuracy(d, n, shuffled=True),
                opaque,
            )
    over("control: 77 classes, 8 nearest with shuffled labels", 77, lambda d: accuracy(d, 8, nearest=True, shuffled=True))


if __name__ == "__main__":
    sys.exit(main())
