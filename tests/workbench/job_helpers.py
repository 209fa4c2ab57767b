"""Programs, rows, a metric and works for tests of jobs in a Lab."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import dspex_lab as dx
from dspex_lab.jobs import Reporter, Work
from dspex_lab.testing import scripted_lm

ROWS = [{"message": f"message {n}", "label": "right"} for n in range(12)]

#: Where works wait, by name.
GATES: dict[str, threading.Event] = {name: threading.Event() for name in ("never",)}


def exact(example: Any, prediction: Any, trace: Any = None) -> float:
    return float(example.label == prediction.label)


def blocks(example: Any, prediction: Any) -> float:
    """Waits at the sixth row."""
    if example.message == "message 5":
        GATES["never"].wait()
    return 1.0


def taught(prompt: Any) -> dict[str, str]:
    """Right where it was told to be careful, or shown how."""
    label = "right" if prompt.demonstrations or "Carefully" in prompt.task.instructions else "wrong"
    return {**{field.name: "so" for field in prompt.task.outputs}, "label": label}


def clean(message: str) -> str:
    return message.strip()


def model() -> Any:
    return scripted_lm(taught)


def support() -> Any:
    return dx.pipeline("support", message=dx.step(clean, replaces=True), triage=dx.predict("message -> label"))


@dataclass(frozen=True)
class Finds(Work):
    """Finds a program, or values, or nothing."""

    program: Any = None
    values: Any = None
    kind: str = "optimize"
    score: float = 1.0
    gate: str = ""

    def run(self, reporter: Reporter) -> Any:
        reporter.trial(0.25, candidate={"triage.instructions": "Answer."})
        reporter.trial(self.score, candidate={"triage.instructions": "Answer. Carefully!"}, parent=0)
        reporter.progress(1, 2, score=self.score)
        if self.gate:
            while not GATES[self.gate].wait(0.01):
                if reporter.stopping:
                    return self
        reporter.progress(2, 2)
        return self


def better(lab: Any, x: Any, instructions: str = "Carefully!") -> Any:
    """Return a program like ``x`` that was told to be careful."""
    program, _ = lab._program(x, None)
    for predictor in program.predictors():
        predictor.signature = predictor.signature.with_instructions(instructions)
    return program


def found(lab: Any, x: Any, heldout: Any = None, program: Any = None, name: str | None = None, **more: Any) -> Any:
    """Return a job of ``x`` that has found a better program."""
    _, target = lab._program(x, None)
    work = Finds(program if program is not None else better(lab, x), **more)
    job = lab._start(work, target, name, settings={})
    lab._hold_out(job, heldout, exact)
    return job.wait(60)
