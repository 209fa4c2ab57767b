"""What the tests of magics write: a line in a cell, and one that is being typed."""

from __future__ import annotations

from typing import Any

from dspex_lab.magics import COMMANDS, _complete


def magic(shell: Any, line: str) -> Any:
    """Return what ``%dspex line`` gives."""
    return shell.run_line_magic("dspex", line)


def complete(shell: Any, line: str) -> list[str]:
    """Return what the tab key offers at the end of a line."""
    found = _complete.candidates(line, COMMANDS, shell.user_ns)
    assert found is not None
    return found[1]
