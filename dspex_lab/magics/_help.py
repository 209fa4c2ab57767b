"""``%dspex help [COMMAND]``."""

from __future__ import annotations

from typing import Any

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.magics._base import Call, Command


def run(call: Call) -> Any:
    """Print all commands, or one in full."""
    from dspex_lab.magics import COMMANDS

    wanted = call.line.strip()
    if wanted and wanted not in COMMANDS:
        raise ConfigurationError(
            f"There is no command {wanted!r}.{did_you_mean(wanted, COMMANDS)}", key="help", hint="%dspex help lists them."
        )
    if wanted:
        command = COMMANDS[wanted]
        print(f"{command.usage}\n    {command.summary}\n    {(command.run.__doc__ or '').strip()}")
        return
    for command in COMMANDS.values():
        print(f"{command.usage}\n    {command.summary}")


COMMAND = Command("help", "%dspex help [COMMAND]", "this list, or one command in full", run)
