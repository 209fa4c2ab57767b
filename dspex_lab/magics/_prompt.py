"""``%dspex prompt [CALL_ID]``: the exact prompt of a call."""

from __future__ import annotations

from typing import Any

from dspex_lab.errors import ConfigurationError
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._line import parse


def run(call: Call) -> Any:
    """Show what a model was sent, turn by turn, and what it answered; of the last call where none is named."""
    line = parse(call.line, words=1)
    wanted = line.words[0] if line.words else "last"
    lms = call.lab.lms
    try:
        return lms.last_prompt() if wanted == "last" else lms.prompt(wanted)
    except ConfigurationError as error:
        raise (error.at(line.text, 1, 1) if line.words else error) from error.__cause__


COMMAND = Command(
    "prompt",
    "%dspex prompt [CALL_ID | last]",
    "show the exact prompt of a model's call, and its answer",
    run,
    names=lambda namespace: ["last"],
)
