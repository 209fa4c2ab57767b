"""A small task with opaque codes, settings that are quick, and optimizers of third parties."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import dspy

WORDS = {"K7": ("refund", "charge", "invoice"), "Q2": ("card", "pin", "chip"), "Z9": ("transfer", "iban", "wire")}
SIGNATURE = "message: str -> code: Literal['K7', 'Q2', 'Z9']"

#: Gates at which metrics wait, by name; whether one has come there; and how many scorings there were.
GATES: dict[str, threading.Event] = {}
REACHED: dict[str, threading.Event] = {}
COUNTS: dict[str, int] = {}


def reached(gate: str) -> None:
    """Wait until a metric waits at a gate."""
    assert REACHED[gate].wait(60)


def rows(count: int, shift: int = 0) -> list[dict[str, str]]:
    made = []
    for at in range(count):
        code = list(WORDS)[at % 3]
        one, other = WORDS[code][(at + shift) % 3], WORDS[code][(at + shift + 1) % 3]
        made.append({"message": f"My {one} is wrong, case {at * 7 + shift}: the {other}", "code": code})
    return made


def program() -> Any:
    return dspy.Predict(dspy.Signature(SIGNATURE, "Give the code."))


def right(example: Any, prediction: Any) -> bool:
    return bool(example.code == prediction.code)


def right_but(example: Any, prediction: Any, trace: Any = None) -> float:
    """It cannot judge one code, and says nonsense of another's first row."""
    if example.code == "Z9":
        raise ValueError("no opinion on Z9")
    if "case 0:" in example.message:
        return float("nan")
    return float(example.code == prediction.code)


def broken(example: Any, prediction: Any, trace: Any = None) -> float:
    raise KeyError("gold")


class Waiting:
    """A metric that waits at a gate before its n-th scoring."""

    def __init__(self, gate: str, before: int) -> None:
        self.gate, self.before = gate, before
        GATES.setdefault(gate, threading.Event())
        REACHED.setdefault(gate, threading.Event())
        self.lock = threading.Lock()

    def __reduce__(self) -> Any:
        return Waiting, (self.gate, self.before)

    def __call__(self, example: Any, prediction: Any) -> bool:
        with self.lock:
            COUNTS[self.gate] = COUNTS.get(self.gate, 0) + 1
            here = COUNTS[self.gate]
        if here >= self.before:
            REACHED[self.gate].set()
            assert GATES[self.gate].wait(60)
        return right(example, prediction)


class Dying:
    """A metric that ends its worker by SIGKILL at its n-th scoring, once: then a file says that it did.

    Another file says before that it may: what a worker told last dies with it.
    """

    def __init__(self, mark: str, at: int) -> None:
        self.mark, self.at, self.count, self.lock = mark, at, 0, threading.Lock()

    def __reduce__(self) -> Any:
        return Dying, (self.mark, self.at)

    def __call__(self, example: Any, prediction: Any) -> bool:
        with self.lock:
            self.count += 1
            if self.count == self.at and not os.path.exists(self.mark):
                until = time.monotonic() + 60
                while not os.path.exists(f"{self.mark}.may") and time.monotonic() < until:
                    time.sleep(0.01)
                open(self.mark, "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
        return right(example, prediction)


#: Small settings of each; the ones that train are tried by themselves.
SMALL: dict[str, dict[str, Any]] = {
    "miprov2": {
        "auto": None,
        "num_candidates": 3,
        "num_trials": 3,
        "minibatch": False,
        "max_bootstrapped_demos": 2,
        "max_labeled_demos": 2,
    },
    "gepa": {"max_metric_calls": 50},
    "bootstrap": {"max_labeled_demos": 3},
    "random_search": {"num_candidate_programs": 2, "max_labeled_demos": 4},
    "optuna": {"num_candidate_programs": 3, "max_labeled_demos": 4},
    "simba": {"bsize": 4, "num_candidates": 3, "max_steps": 2},
    "copro": {"breadth": 2, "depth": 2},
    "infer_rules": {"num_candidates": 2, "num_rules": 3},
    "knn": {"k": 2},
    "labeled": {"k": 4},
    "better_together": {"p": {"optimizer": "labeled", "k": 3}, "q": {"optimizer": "copro", "breadth": 2, "depth": 1}},
    "ensemble": {"num_candidate_programs": 1, "max_labeled_demos": 3},
}


class HalfHearted:
    """A third party's optimizer: another order of arguments, and ``dspy.Evaluate``."""

    def __init__(self, metric: Any, tries: int = 2, **free: Any) -> None:
        self.metric, self.tries, self.free = metric, tries, free

    def compile(self, module: Any, trainset: Any, valset: Any = None, hint: str = "") -> Any:
        print("half-hearted at work")
        best, top = module, -1.0
        for at in range(self.tries):
            made = module.deepcopy()
            made.signature = made.signature.with_instructions(f"{module.signature.instructions} Try {at}. {hint}")
            score = dspy.Evaluate(devset=valset or trainset, metric=self.metric)(made).score
            if score > top:
                best, top = made, score
        return best


class ByHand:
    """Calls program and metric itself, without ``Evaluate``; it knows no valset."""

    def compile(self, student: Any, trainset: Any, metric: Any = None) -> Any:
        made = student.deepcopy()
        made.signature = made.signature.with_instructions("By hand.")
        for example in trainset:
            metric(example, made(**example.inputs()))
        return made


class Silent:
    """It has no metric at all, and changes nothing."""

    def compile(self, student: Any, **anything: Any) -> Any:
        self.given = sorted(anything)
        return student
