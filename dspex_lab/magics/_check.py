"""``%dspex check NAME [field=value …]``: the dry run of a pipeline."""

from __future__ import annotations

from typing import Any

from dspex_lab.errors import ConfigurationError
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._lab import known_pipelines
from dspex_lab.magics._line import parse
from dspex_lab.magics._run import pointed, resolve

FLAGS = ("rows",)


def run(call: Call) -> Any:
    """Return what can be told of a run before anything is run."""
    line = parse(call.line, words=1, flags=FLAGS, fields=True)
    if not line.words:
        raise ConfigurationError("What is to be checked?", key="check", hint=f"Write: {COMMAND.usage}")
    target, lab, found = resolve(call, line.words[0]), call.lab, []
    values = line.values(call.shell.user_ns) or None
    rows = line.flag("rows", int, 1)
    pointed(line, lambda: found.append(lab.check(target, values, rows=rows)))
    return found[0]


COMMAND = Command(
    "check",
    "%dspex check NAME [field=value …] [--rows N]",
    "say before a run what is wrong, what it would ask of models, and what that would cost",
    run,
    flags=FLAGS,
    names=known_pipelines,
)
