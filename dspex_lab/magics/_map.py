"""``%dspex map NAME DATA``: a run per row."""

from __future__ import annotations

from typing import Any

from dspex_lab.errors import ConfigurationError
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._lab import known_pipelines
from dspex_lab.magics._line import parse
from dspex_lab.magics._run import options, pointed, resolve
from dspex_lab.magics._show import watched

FLAGS = ("concurrency", "into", "deadline", "seed", "tags")


def run(call: Call) -> Any:
    """Map it over the rows and return the DataFrame; ``--into NAME`` binds it too."""
    from dspex_lab.pipelines import read_rows

    line = parse(call.line, words=2, flags=FLAGS)
    if len(line.words) < 2:
        raise ConfigurationError("What is to be mapped over which rows?", key="map", hint=f"Write: {COMMAND.usage}")
    target, lab = resolve(call, line.words[0]), call.lab
    source = line.words[1].strip("\"'")
    into = line.flags.get("into")
    if into is not None and not into.isidentifier():
        raise ConfigurationError(f"{into!r} is no name of a variable.", key="into").at(line.text, 1, line.text.find(into) + 1)
    rows: Any = None

    def check() -> None:
        nonlocal rows
        rows = read_rows(call.shell.user_ns.get(source, source), text=lab.text_inputs(target))
        lab.check_rows(target, rows)

    pointed(line, check)
    with watched(lab, target, rows=len(rows)):
        frame = lab.map(target, rows, concurrency=line.flag("concurrency", int), options=options(line), progress=False)
    if into is not None:
        call.shell.user_ns[into] = frame
    return frame


COMMAND = Command(
    "map",
    "%dspex map NAME DATA [--concurrency N] [--into VARIABLE] [--deadline S] [--tags a,b]",
    "run a pipeline on every row of a DataFrame, .csv, .parquet or .jsonl file",
    run,
    flags=FLAGS,
    names=known_pipelines,
)
