"""``%dspex sql QUERY`` and ``%%dspex sql [NAME]``: read the store."""

from __future__ import annotations

from typing import Any

from dspex_lab.errors import ConfigurationError
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._line import parse


def run(call: Call) -> Any:
    """Return what the query reads as a DataFrame; a name after ``%%dspex sql`` is bound to it."""
    if call.cell is None:
        if not call.line.strip():
            raise ConfigurationError("There is no query.", key="sql", hint=f"Write: {COMMAND.usage}")
        return call.lab.sql(call.line)
    words = parse(call.line, words=1).words
    frame = call.lab.sql(call.cell)
    if words:
        call.shell.user_ns[words[0]] = frame
    return frame


COMMAND = Command(
    "sql",
    "%dspex sql SELECT …   or   %%dspex sql [VARIABLE]",
    "read the store: runs, spans, lm_calls, events, decisions",
    run,
    cell=True,
)
