"""What a death in the midst of an optimization costs: ``kill -9`` of its worker, and of the kernel.

    python tests/bench/deaths.py [FAMILY …]

For each family of optimizers four kernels, processes of their own with a Lab on a DuckDB file, a pool of one worker and a cache
of DSPy that is empty at the beginning: an undisturbed run; one whose worker is killed in the midst of a trial, which goes on by
itself; one that is killed itself in the midst of a later one; and the one that finds that job in the file and resumes it. The
model is the offline one with 100 ms for an answer. Calls are counted where they are made (``CountingEngine``), so those are
among them whose answer died with its process. It prints a table in Markdown; where the best was lost it ends with an error.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import dspy
from stub_engine import counting_lm

import dspex_lab as dx

WORDS = {"K7": ("refund", "charge", "invoice"), "Q2": ("card", "pin", "chip"), "Z9": ("transfer", "iban", "wire")}
SIGNATURE = "message: str -> code: Literal['K7', 'Q2', 'Z9']"
TEXTS = (
    "Give the code.",
    "K7 is for refunds.",
    "K7 is for a refund or a charge. Q2 is for a card.",
    "K7 is for a refund, a charge or an invoice. Q2 is for a card, a pin or a chip. Z9 is for a transfer, an iban or a wire.",
)
SEED, LATENCY = 5, 0.1

#: Settings of each family, and the trials at which the worker and the kernel are killed.
FAMILIES: dict[str, tuple[dict[str, Any], int, int]] = {
    "tune": ({"trials": 12, "parallel": 1, "concurrency": 4}, 4, 7),
    "miprov2": ({"auto": None, "num_candidates": 4, "num_trials": 8, "minibatch": False}, 3, 6),
    "gepa": ({"max_metric_calls": 150}, 2, 4),
    "random_search": ({"num_candidate_programs": 6, "max_labeled_demos": 4}, 3, 6),
    "third party's": ({"tries": 6}, 2, 4),
}


class HillClimber:
    """An optimizer that nobody knows: it adds a sentence to the best so far, and keeps what is better."""

    def __init__(self, metric: Any, tries: int) -> None:
        self.metric, self.tries = metric, tries

    def compile(self, student: Any, trainset: Any, valset: Any) -> Any:
        """Return the best of so many."""
        evaluate = dspy.Evaluate(devset=valset, metric=self.metric)
        best, top = student, evaluate(student).score
        for at in range(self.tries):
            made, example = best.deepcopy(), trainset[at % len(trainset)]
            for predictor in made.predictors():
                text = f"{predictor.signature.instructions} {example.code} is for: {example.message}"
                predictor.signature = predictor.signature.with_instructions(text)
            if (score := evaluate(made).score) > top:
                best, top = made, score
        return best


def rows(count: int, shift: int = 0) -> list[dict[str, str]]:
    """Return rows that speak of one thing, and of another that leads astray."""
    made = []
    for at in range(count):
        code, astray = list(WORDS)[at % 3], list(WORDS)[(at // 3 + 1 + at) % 3]
        one, other = WORDS[code][(at + shift) % 3], WORDS[astray][(at * 5 + shift) % 3]
        made.append({"message": f"The {other} is fine, case {at * 7 + shift}, but my {one} is wrong", "code": code})
    return made


def right(example: Any, prediction: Any, trace: Any = None) -> bool:
    return bool(example.code == prediction.code)


# ---- a kernel --------------------------------------------------------------------------------------------------------


def ready(folder: Path) -> Any:
    """Return a Lab in which everything is defined that the jobs need."""
    pools = {"optimizer": {"workers": 1, "memory": "1GB", "writable": [str(folder)]}}
    lab = dx.Lab(folder / "lab.duckdb", dx.Config(pools=pools))
    lab.use(counting_lm(LATENCY, str(folder / "calls")))
    lab.pipelines["triage"] = dx.pipeline("triage", code=dspy.Predict(dspy.Signature(SIGNATURE, TEXTS[0])))
    lab.expose("triage")
    lab.variables.text("triage.code.instructions", TEXTS[0], candidates=TEXTS)
    return lab


def started(lab: Any, family: str) -> Any:
    """Start the job."""
    settings, *_ = FAMILIES[family]
    if family == "tune":
        names = ["triage.code.instructions", "triage.code.temperature"]
        data = rows(12)
        return lab.tune("triage", variables=names, metric=right, data=data, seed=SEED, pool="optimizer", **settings)
    given = HillClimber if family == "third party's" else family
    data = {"trainset": rows(12), "valset": rows(9, 1)}
    return lab.optimize("triage", optimizer=given, metric=right, **data, seed=SEED, pool="optimizer", **settings)


def kernel(folder: Path, family: str, way: str) -> None:
    """Run the job in this process and say what came of it."""
    _, worker_at, kernel_at = FAMILIES[family]
    with ready(folder) as lab:
        said: dict[str, Any] = {}
        if way == "resumed":
            job = lab.jobs[1]
            said |= {"state": job.state, **before_death(job), "calls before": calls(folder)}
            lab.jobs.resume(1)
        else:
            job = started(lab, family)
        for event in job.events():
            if event.name != "job.trial" or event.data["trial"] != {"worker": worker_at, "kernel": kernel_at}.get(way) or said:
                continue
            (worker,) = lab.pools.get("optimizer").status()
            in_the_midst(folder)
            said |= {**before_death(job), "calls before": calls(folder)}
            os.kill(os.getpid() if way == "kernel" else worker["pid"], signal.SIGKILL)
        found, kept = job.result(), job.trials
        before = said.get("trials", 0)
        done = {
            "state after": job.state,
            "in all": len(kept),
            # A search tells of a trial that began again under a new number.
            "repeated": job.progress.repeated if family == "tune" else sum(each.status == "repeated" for each in kept),
            "new": len(kept) - before,
            "best after": max(trial.score for trial in kept if trial.score is not None),
            "score": found.score if family == "tune" else found.after,
            "found": json.dumps(found.values if family == "tune" else state_of(found.program), default=str, sort_keys=True),
            "calls": calls(folder),
            "cached": job.progress.spent.cached,
            "attempts": [event.name for event in job.events()].count("job.start"),
            "note": found.note,
        }
        print(json.dumps({**said, **done}, default=str))


def in_the_midst(folder: Path) -> None:
    """Wait until the next trial is under way."""
    told = calls(folder)
    while calls(folder) < told + 5:
        time.sleep(0.001)


def before_death(job: Any) -> dict[str, Any]:
    """Return what there is of a job before it goes on."""
    scores = [trial.score for trial in job.trials if trial.score is not None]
    return {"trials": len(job.trials), "best before": max(scores, default=0.0)}


def state_of(program: Any) -> Any:
    return [(path, one.signature.instructions, [dict(demo) for demo in one.demos]) for path, one in program.named_predictors()]


def calls(folder: Path) -> int:
    return (folder / "calls").stat().st_size


# ---- the table -------------------------------------------------------------------------------------------------------


def run(folder: Path, family: str, way: str) -> dict[str, Any]:
    """Have a kernel of its own do it, and return what it said; nothing where it was killed."""
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "DSPY_CACHEDIR": str(folder / "cache")}
    command = [sys.executable, __file__, "kernel", str(folder), family, way]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    assert done.returncode == (-signal.SIGKILL if way == "kernel" else 0), done.stderr[-4000:]
    return {} if way == "kernel" else dict(json.loads(done.stdout.splitlines()[-1]))


def line(family: str, who: str, told: dict[str, Any], whole: dict[str, Any]) -> str:
    """Return a line of the table."""
    assert told["state after"] == "complete", told
    assert told["best after"] >= told["best before"], told
    same = "the same" if told["found"] == whole["found"] else "another program"
    cells = [family, who, f"{told['trials']} of {whole['in all']}", told["repeated"], told["new"]]
    cells += [f"{told['calls before']}", told["cached"], f"{told['calls']} / {whole['calls']}"]
    cells += [f"{told['best before']:.3f} → {told['best after']:.3f}", f"{told['score']:.3f} / {whole['score']:.3f}, {same}"]
    return f"| {' | '.join(str(each) for each in cells)} |"


def main(families: list[str]) -> None:
    """Kill, resume and print."""
    head = [
        "",
        "killed",
        "trials before",
        "repeated",
        "new",
        "calls before",
        "answered by the cache",
        "calls in all / undisturbed",
    ]
    print(f"| {' | '.join([*head, 'best before → after', 'result / undisturbed'])} |\n|{'---|' * (len(head) + 2)}")
    for family in families or FAMILIES:
        with tempfile.TemporaryDirectory() as name:
            home = Path(name)
            whole = run(home / "whole", family, "whole")
            print(line(family, "the worker", run(home / "worker", family, "worker"), whole), flush=True)
            run(home / "kernel", family, "kernel")
            print(line(family, "the kernel", run(home / "kernel", family, "resumed"), whole), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["kernel"]:
        import deaths  # by its name, so that what is pickled is found again in every process

        deaths.kernel(Path(sys.argv[2]), *sys.argv[3:])
    else:
        main(sys.argv[1:])
