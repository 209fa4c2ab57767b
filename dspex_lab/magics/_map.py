"""``%dspex map NAME DATA``: a run per row."""

from __future__ import annotations

import ast
import dataclasses
import re
from typing import Any

from dspex_lab.errors import ConfigurationError, DspexError, PipelineError, did_you_mean
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._lab import known_pipelines
from dspex_lab.magics._line import Line, parse
from dspex_lab.magics._run import options, pointed, resolve
from dspex_lab.magics._show import watched

SWITCHES = ("retry-failed", "overwrite", "fresh")
FLAGS = ("concurrency", "out", "into", "resume", *SWITCHES, "deadline", "seed", "budget", "tags")


def run(call: Call) -> Any:
    """Map it over the rows and return the DataFrame, or with --out what was written; --into NAME binds it too.

    DATA is the name of a DataFrame or of any iterable of dicts, a path to a .csv, .parquet or .jsonl file, or a quoted query
    of the store ("SELECT …"). --out FILE (.jsonl, .parquet, .csv) writes the rows as they end, whatever their number; the same
    line goes on where it was interrupted, --overwrite begins anew. Without --out, --resume RUN_ID goes on with an interrupted
    map, --resume alone with the last one. --retry-failed runs the rows again that failed.
    """
    line = parse(call.line, words=2, flags=FLAGS, switches=SWITCHES, optional=("resume",))
    if len(line.words) < 2:
        raise ConfigurationError("What is to be mapped over which rows?", key="map", hint=f"Write: {COMMAND.usage}")
    target, lab = resolve(call, line.words[0]), call.lab
    into = line.flags.get("into")
    if into is not None and not into.isidentifier():
        raise ConfigurationError(f"{into!r} is no name of a variable.", key="into").at(line.text, 1, line.text.find(into) + 1)
    how, run_options = _how(line), options(line)
    plan: Any = None

    def check() -> None:
        nonlocal plan
        plan = lab.plan_map(target, _data(call, line.words[1]), options=run_options, **how)

    try:
        pointed(line, check)
        with plan, watched(lab, target, rows=plan.left, kind="map", budget=run_options.budget):
            try:
                made = plan.run(progress=False)
            except KeyboardInterrupt:
                raise PipelineError("The map was stopped by you.", hint=lab.last_map.hint if lab.last_map else None) from None
    except DspexError as error:
        error.hint = as_flags(error.hint) if error.hint else error.hint
        raise
    if getattr(made, "hint", ""):
        made = dataclasses.replace(made, hint=as_flags(made.hint))
    if into is not None:
        call.shell.user_ns[into] = made
    return made


def as_flags(hint: str) -> str:
    """Return what ``lab.map`` advises in the words of this line: ``retry_failed=True`` is ``--retry-failed``."""
    hint = re.sub(r"\b(retry_failed|overwrite)=(True\b)?", lambda found: "--" + found[1].replace("_", "-"), hint)
    hint = re.sub(r"\b(resume|out)=(?=[\w'\"])", r"--\1 ", hint)
    hint = re.sub(r"\b(resume|out)=", r"--\1", hint)
    return re.sub(r"\b1 rows\b", "1 row", hint.replace("the same call", "the same line"))


def _how(line: Line) -> dict[str, Any]:
    """Return the flags as arguments of ``lab.map``."""
    how: dict[str, Any] = {
        "concurrency": line.flag("concurrency", int),
        "out": line.flags.get("out"),
        "retry_failed": "retry-failed" in line.flags,
        "overwrite": "overwrite" in line.flags,
    }
    if "resume" in line.flags:
        how["resume"] = line.flags["resume"] or True
    return how


def _data(call: Call, word: str) -> Any:
    """Return what the line names: a value of the notebook, a path, or the text of a query."""
    space = call.shell.user_ns
    if word[0] in "\"'":
        return str(ast.literal_eval(word))
    if word.isidentifier() and word not in space:
        frames = [n for n, v in space.items() if hasattr(v, "columns") and not n.startswith("_")]
        raise ConfigurationError(
            f"There is no variable {word!r}.{did_you_mean(word, frames)}",
            key="map",
            hint="Give a DataFrame's name, a path to a .csv, .parquet or .jsonl file, or a query in quotes.",
        )
    return space.get(word, word)


COMMAND = Command(
    "map",
    "%dspex map NAME DATA [--concurrency N] [--out FILE [--overwrite]] [--resume [RUN_ID]] [--retry-failed] [--into VARIABLE] "
    "[--deadline S] [--budget '$2, 50k tokens'] [--tags a,b] [--fresh]",
    'run a pipeline on every row of a DataFrame, a .csv, .parquet or .jsonl file, an iterable or a "SELECT …"',
    run,
    flags=FLAGS,
    names=known_pipelines,
)
