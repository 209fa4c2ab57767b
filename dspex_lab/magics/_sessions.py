"""``%dspex sessions``: the sessions of the Lab as a table."""

from __future__ import annotations

from typing import Any

from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._line import parse


def run(call: Call) -> Any:
    """Show the open sessions, the one used last first; with --all those too that are closed or expired."""
    line = parse(call.line, words=0, flags=("all",), switches=("all",))
    return call.lab.sessions.list(closed="all" in line.flags)


COMMAND = Command(
    "sessions", "%dspex sessions [--all]", "sessions: state and history that runs have in common", run, flags=("all",)
)
