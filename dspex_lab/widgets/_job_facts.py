"""What is shown of a job, as plain data: the browser, the picture and the text all say this. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dspex_lab.events import TrialRecord
from dspex_lab.jobs import Progress, diff_candidates, lineage
from dspex_lab.security import Redactor
from dspex_lab.variables import value_words
from dspex_lab.widgets import _format

__all__ = ["LIVE", "candidate_of", "facts_of", "shortened"]

LIVE = ("waiting", "running", "stopping")
#: Kinds of jobs whose result can be put to use.
_ADOPTED = ("optimize", "tune", "train")

#: The box in which scores are drawn.
WIDTH, HEIGHT = 320.0, 72.0
#: Points of the curve, rows of the table, and letters of a prompt's change that are sent to a browser at most.
_POINTS, _ROWS, _LETTERS = 400, 200, 6_000
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")


def facts_of(job: Any, chosen: int | None = None) -> dict[str, Any]:
    """Return what is shown of a job now.

    Args:
        job: a :class:`~dspex_lab.jobs.Job`.
        chosen: the number of the trial whose candidate is shown; None is the last one, and of a job at rest the best.
    """
    state, progress, trials = job.state, job.progress, job.trials
    tree = lineage(trials)
    best = tree.best
    if chosen is None and trials:
        chosen = trials[-1].number if state in LIVE or best is None else best.number
    mask = Redactor()
    return {
        "head": _head(job, state, progress, len(trials), mask),
        "curve": curve([trial for trial in trials if trial.score is not None]),
        "trials": [_trial(trial, best, mask) for trial in trials[-_ROWS:]],
        "hidden": max(len(trials) - _ROWS, 0),
        "candidate": candidate_of(trials, chosen, mask),
        "lineage": _clip(mask(str(tree)), _LETTERS) if any(trial.parent is not None for trial in trials) else "",
        "rejected": [_rejected(trial, trials, mask) for trial in trials if trial.status == "rejected"][-20:],
    }


def _head(job: Any, state: str, progress: Progress, trials: int, mask: Redactor) -> dict[str, Any]:
    live = state in LIVE
    error = job.error
    adopted = job.settings.get("adopted")
    said = str(adopted["said"]) if isinstance(adopted, Mapping) and "said" in adopted else ""
    return {
        "number": job.number,
        "kind": job.kind,
        "name": shortened(job.name, mask, 80),
        "state": state,
        # An estimate of the whole may have been too high.
        "fraction": 1.0 if state == "complete" else progress.fraction,
        "done": _done(progress),
        "best": "" if progress.best is None else f"best {progress.best:.4g}",
        "trials": f"{trials:,} trial{'' if trials == 1 else 's'}" if trials else "",
        "spent": _spent(progress),
        "left": _left(progress, live),
        "repeated": f"{progress.repeated:,} repeated" if progress.repeated else "",
        "note": "" if progress.note == said else shortened(progress.note, mask, 400),
        "error": "" if error is None else shortened(str(error), mask, 1_000),
        "adopted": shortened(said, mask, 600),
        "buttons": _buttons(job.kind, state, adopted is not None),
    }


def _buttons(kind: str, state: str, adopted: bool) -> list[str]:
    if state in ("waiting", "running"):
        return ["stop"]
    if state == "stopping":
        return []
    offered = ["resume"] if state != "complete" else []
    if kind in _ADOPTED and state in ("complete", "stopped"):
        offered.append("rollback" if adopted else "adopt")
    return offered


def _done(progress: Progress) -> str:
    done = _format.count(int(progress.done)) if progress.done == int(progress.done) else f"{progress.done:.4g}"
    if progress.total is None:
        return f"{done} done" if progress.done else ""
    return f"{done} of {_format.count(int(progress.total))}"


def _spent(progress: Progress) -> str:
    spent = progress.spent
    parts = [_format.cost(spent.cost)] if spent.cost or (spent.calls and not spent.unpriced) else []
    parts += [f"{_format.count(spent.calls)} call{'' if spent.calls == 1 else 's'}"] if spent.calls else []
    parts += [f"{_format.count(spent.cached)} cached"] if spent.cached else []
    parts += [f"{spent.unpriced:,} without a known price"] if spent.unpriced else []
    return ", ".join(parts)


def _left(progress: Progress, live: bool) -> str:
    rest = progress.left
    parts = [f"about {_format.left(progress.eta)} left"] if live and progress.eta else []
    parts += [f"{_format.cost(rest.cost)} left to spend"] if rest.cost is not None else []
    parts += [f"{_format.count(rest.calls)} calls left"] if rest.calls is not None else []
    parts += [f"{_format.count(rest.tokens)} tokens left"] if rest.tokens is not None else []
    return ", ".join(parts)


def curve(scored: Sequence[TrialRecord]) -> dict[str, Any]:
    """Return the scores as points in a box of 320 × 72, and the best until each as the points of a line."""
    chosen = list(scored)
    if len(chosen) > _POINTS:
        step = len(chosen) / _POINTS
        chosen = [chosen[int(at * step)] for at in range(_POINTS - 1)] + [chosen[-1]]
    scores = [float(trial.score) for trial in chosen if trial.score is not None]
    if not scores:
        return {"dots": [], "line": "", "low": "", "high": ""}
    low, high = min(scores), max(scores)
    across = (WIDTH - 12) / max(len(scores) - 1, 1)

    def up(score: float) -> float:
        return HEIGHT - 8 - (HEIGHT - 16) * (0.5 if high == low else (score - low) / (high - low))

    dots, line, best = [], [], float("-inf")
    for at, (trial, score) in enumerate(zip(chosen, scores, strict=True)):
        x = 6 + at * across
        said = f"trial {trial.number}: {score:.4g}"
        dots.append({"x": round(x, 1), "y": round(up(score), 1), "said": said, "kept": trial.status != "rejected"})
        best = max(best, score) if trial.status in ("complete", "repeated") else best
        if best != float("-inf"):
            line.append(f"{x:.1f},{up(best):.1f}")
    return {"dots": dots, "line": " ".join(line), "low": f"{low:.4g}", "high": f"{high:.4g}"}


def _trial(trial: TrialRecord, best: TrialRecord | None, mask: Redactor) -> dict[str, Any]:
    said = trial.error or trial.note or ""
    if trial.values:
        said = ", ".join(f"{name} = {_value(value)}" for name, value in trial.values.items()) + (f" · {said}" if said else "")
    return {
        "number": trial.number,
        "parent": "" if trial.parent is None else str(trial.parent),
        "status": trial.status,
        "score": "" if trial.score is None else f"{trial.score:.4g}",
        "rows": "" if trial.rows is None else f"{trial.rows:,}",
        "seconds": _format.seconds(trial.seconds),
        "cost": "" if trial.cost is None else _format.cost(trial.cost),
        "said": shortened(said, mask, 300),
        "best": best is not None and trial.number == best.number,
    }


def candidate_of(trials: Sequence[TrialRecord], number: int | None, mask: Redactor | None = None) -> dict[str, Any]:
    """Return a trial's candidate as what it changed of the one it was made from: lines with their sign."""
    tree = lineage(trials)
    if number is None or number not in tree.trials:
        return {"number": None, "said": "", "lines": []}
    trial = tree.trials[number]
    parent = None if trial.parent is None else tree.trials.get(trial.parent)
    old = (parent.candidate or {}) if parent is not None else {}
    lines = []
    for part in diff_candidates(old, trial.candidate or {}):
        lines += [["@", part.path], *_signed(part)]
    lines += [["+", f"{name} = {_value(value)}"] for name, value in (trial.values or {}).items()]
    made = f", made from {trial.parent}" if parent is not None else ""
    score = "" if trial.score is None else f": {trial.score:.4g}"
    clean = mask or Redactor()
    return {
        "number": number,
        "said": f"Trial {number}{made}{score}",
        "lines": [[sign, _clip(clean(_CONTROL.sub(" ", text)), _LETTERS)] for sign, text in lines[:200]],
    }


def _signed(part: Any) -> list[list[str]]:
    found = [
        [line[:1] if line[:1] in "+-" else " ", line[1:]]
        for line in part.instructions.splitlines()
        if line and not line.startswith(("---", "+++", "@@"))
    ]
    found += [["-", f"demonstration {demo}"] for demo in part.removed]
    found += [["+", f"demonstration {demo}"] for demo in part.added]
    return found + [[" ", text] for text in part.other]


def _rejected(trial: TrialRecord, trials: Sequence[TrialRecord], mask: Redactor) -> dict[str, Any]:
    shown = candidate_of(trials, trial.number, mask)
    text = " ".join(line[1] for line in shown["lines"] if line[0] == "+")
    return {"number": trial.number, "why": shortened(trial.note or "", mask, 200), "text": shortened(text, mask, 300)}


def _value(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
        return value_words(tuple(value))  # demonstrations, as JSON has them
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def shortened(text: str, mask: Redactor, longest: int) -> str:
    """Return anybody's words as one line that may be shown."""
    return _clip(" ".join(_CONTROL.sub(" ", mask(str(text)[: 20 * longest])).split()), longest)


def _clip(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
