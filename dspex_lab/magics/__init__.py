"""``%dspex`` and ``%%dspex``: thin magics over the Python calls. One command, one file."""

from __future__ import annotations

import re
from typing import Any

from dspex_lab.errors import ConfigurationError, DspexError, did_you_mean
from dspex_lab.magics import (
    _autolog,
    _budget,
    _check,
    _complete,
    _dashboard,
    _evaluate,
    _feedback,
    _health,
    _help,
    _jobs,
    _key,
    _lm,
    _load,
    _map,
    _optimize,
    _pipeline,
    _pools,
    _prompt,
    _record,
    _replay,
    _resume,
    _run,
    _save,
    _score,
    _session,
    _sessions,
    _signature,
    _sql,
    _stop,
    _stream,
    _tape,
    _tune,
    _var,
    _vars,
)
from dspex_lab.magics._base import Call, Command

__all__ = ["COMMANDS", "Call", "Command", "load_ipython_extension", "unload_ipython_extension"]

COMMANDS: dict[str, Command] = {
    module.COMMAND.name: module.COMMAND
    for module in (
        _signature,
        _pipeline,
        _save,
        _load,
        _check,
        _run,
        _stream,
        _map,
        _score,
        _evaluate,
        _optimize,
        _tune,
        _jobs,
        _stop,
        _resume,
        _feedback,
        _sql,
        _lm,
        _key,
        _autolog,
        _prompt,
        _budget,
        _health,
        _pools,
        _sessions,
        _session,
        _var,
        _vars,
        _record,
        _replay,
        _tape,
        _dashboard,
        _help,
    )
}

_matchers: dict[int, Any] = {}


def dispatch(shell: Any, line: str, cell: str | None = None) -> Any:
    """Carry out one magic: find the subcommand and call it; an error points into the cell's own lines.

    Raises:
        DspexError: whatever the command raises, with its place moved to the line of the cell.
    """
    name, _, rest = line.strip().partition(" ")
    command = COMMANDS.get(name or "help")
    header = f"{'%%' if cell is not None else '%'}dspex {line.strip()}"
    try:
        if command is None:
            raise ConfigurationError(
                f"%dspex has no command {name!r}.{did_you_mean(name, COMMANDS)}",
                key="dspex",
                hint=f"Commands: {', '.join(COMMANDS)}. %dspex help explains them.",
            ).at(line.strip(), 1, 1)
        return command(Call(shell, rest.strip(), cell))
    except DspexError as error:
        raise _placed(error, header, rest.strip(), cell) from error.__cause__


def _placed(error: DspexError, header: str, rest: str, cell: str | None) -> DspexError:
    """Move the place of an error from the text it was found in to the cell as the user sees it."""
    if error.text is None or error.line is None:
        return error
    # The excerpt says the line, counted from the top of the cell.
    error.message = re.sub(r"^Line \d+, column \d+: ", "", error.message)
    if cell is not None and error.text.strip() == cell.strip():
        skipped = len(cell) - len(cell.lstrip("\n")) if not error.text.startswith("\n") else 0
        return error.at(f"{header}\n{cell}", error.line + 1 + skipped, error.column or 1)
    if header.endswith(error.text):
        return error.at(header, 1, len(header) - len(error.text) + (error.column or 1))
    return error


def _pipeline_html(pipeline: Any) -> str:
    from dspex_lab.widgets import graph_html

    return graph_html(pipeline.graph())


def load_ipython_extension(shell: Any) -> None:
    """Register the magics and their completion; called by ``%load_ext dspex_lab``."""
    from IPython.core.magic import no_var_expand

    @no_var_expand
    def dspex(line: str, cell: str | None = None) -> Any:
        return dispatch(shell, line, cell)

    dspex.__doc__ = "dspex_lab: %dspex help lists the commands."
    formatter = shell.display_formatter.formatters["text/html"]
    formatter.for_type_by_name("dspex_lab.pipelines._pipeline", "Pipeline", _pipeline_html)
    shell.register_magic_function(dspex, magic_kind="line_cell", magic_name="dspex")
    if id(shell) not in _matchers and getattr(shell, "Completer", None) is not None:
        _matchers[id(shell)] = _complete.install(shell, COMMANDS)


def unload_ipython_extension(shell: Any) -> None:
    """Take the magics and their completion out again."""
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("dspex", None)
    matcher = _matchers.pop(id(shell), None)
    if matcher is not None:
        shell.Completer.custom_matchers.remove(matcher)
