"""``%dspex map NAME DATA``: a run per row."""

from __future__ import annotations

from typing import Any

from dspex_lab.errors import ConfigurationError, PipelineError, did_you_mean
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
    source, how, width = line.words[1].strip("\"'"), options(line), line.flag("concurrency", int)
    into = line.flags.get("into")
    if into is not None and not into.isidentifier():
        raise ConfigurationError(f"{into!r} is no name of a variable.", key="into").at(line.text, 1, line.text.find(into) + 1)
    rows: Any = None

    def check() -> None:
        nonlocal rows
        if source.isidentifier() and source not in call.shell.user_ns:
            frames = [n for n, v in call.shell.user_ns.items() if hasattr(v, "columns") and not n.startswith("_")]
            raise ConfigurationError(
                f"There is no variable {source!r}.{did_you_mean(source, frames)}",
                key="map",
                hint="Give a DataFrame's name, or a path to a .csv, .parquet or .jsonl file.",
            )
        rows = read_rows(call.shell.user_ns.get(source, source), text=lab.text_inputs(target))
        lab.check_rows(target, rows)

    pointed(line, check)
    with watched(lab, target, rows=len(rows)):
        try:
            frame = lab.map(target, rows, concurrency=width, options=how, progress=False)
        except KeyboardInterrupt:
            raise PipelineError(
                "The map was stopped by you; the rows that had ended are in the store.",
                hint="%dspex sql SELECT row_index, status, outputs FROM runs WHERE kind = 'row' ORDER BY started DESC",
            ) from None
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
