"""``%dspex run NAME field=value …``: one run, with its widget."""

from __future__ import annotations

from typing import Any

from dspex_lab.errors import ConfigurationError
from dspex_lab.events import RunOptions
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._lab import known_pipelines
from dspex_lab.magics._line import parse
from dspex_lab.magics._show import watched

FLAGS = ("deadline", "seed", "budget", "pin", "tags")


def resolve(call: Call, word: str) -> Any:
    """Return what ``word`` names: a pipeline of the Lab, else a value of the notebook."""
    lab = call.lab
    if word in lab.pipelines:
        return lab.pipelines[word]
    return call.shell.user_ns.get(word, word)


def options(line: Any) -> RunOptions:
    """Return the flags of a line as options of a run."""
    pin = dict(p.partition("=")[::2] for p in line.flags.get("pin", "").split(",") if p)
    return RunOptions(
        deadline=line.flag("deadline", float),
        seed=line.flag("seed", int),
        budget=line.flag("budget", float),
        pin=pin,
        tags=tuple(t for t in line.flags.get("tags", "").split(",") if t),
    )


def run(call: Call) -> Any:
    """Run it once and return its Result; where nothing came of it the cell fails, and the result is ``lab.last_result``."""
    line = parse(call.line, words=1, flags=FLAGS, fields=True)
    if not line.words:
        raise ConfigurationError("What is to be run?", key="run", hint=f"Write: {COMMAND.usage}")
    target, lab = resolve(call, line.words[0]), call.lab
    values = line.values(call.shell.user_ns)
    with watched(lab, target):
        result = lab.run(target, values, options=options(line))
    if result.status == "failed":
        result.raise_for_status()
    return result


COMMAND = Command(
    "run",
    "%dspex run NAME field=value … [--deadline S] [--seed N] [--budget USD] [--pin OPERATION=IMPLEMENTATION] [--tags a,b]",
    "run a pipeline once; values are Python",
    run,
    flags=FLAGS,
    names=known_pipelines,
)
