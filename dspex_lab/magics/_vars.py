"""``%dspex vars``: the variables of the Lab, as a table or as a live board."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._lab import open_space
from dspex_lab.magics._line import parse

FLAGS = ("all", "live")


def run(call: Call) -> Any:
    """Show the variables: values, what they may be, who changed them last and why, pins, leases with who waits for them.

    PATTERN shows some: ``support.*``, or a part of the name. Descriptions of fields that are empty, and prefixes that are
    pinned, are left out; --all shows them too. --live shows the board, which follows every change and lets you make your own.
    """
    from dspex_lab.widgets import board_picture, show_board

    line = parse(call.line, words=1, flags=FLAGS, switches=FLAGS)
    space = call.lab.variables
    names = _chosen(list(space), line.words[0].strip("\"'"), call.line) if line.words else None
    useful = [name for name in (space if names is None else names) if not _rests(space[name])]
    if "all" not in line.flags and 0 < len(useful) < len(space if names is None else names):
        left = len(space if names is None else names) - len(useful)
        print(f"{left:,} empty or pinned words of fields are left out: %dspex vars {line.text.strip()} --all")
        names = useful
    if "live" in line.flags:
        show_board(call.lab, names)
        return None
    return board_picture(space, names)


def _rests(variable: Any) -> bool:
    """Say whether a variable is a word of a field that nobody uses."""
    last = variable.name.rpartition(".")[2]
    return (last == "desc" and variable.value == "") or (last == "prefix" and variable.pinned)


def _chosen(names: list[str], pattern: str, text: str) -> list[str]:
    whole = any(sign in pattern for sign in "*?[")
    found = [name for name in names if (fnmatchcase(name, pattern) if whole else pattern in name)]
    if not found:
        raise ConfigurationError(
            f"No variable is like {pattern!r}.{did_you_mean(pattern, names)}",
            key="vars",
            actual=pattern,
            hint=f"There are {len(names):,}: %dspex vars lists them."
            if names
            else "There are none yet: %dspex var NAME 0.0..1.0",
        ).at(text, 1, 1)
    return found


def _names(namespace: Mapping[str, Any]) -> list[str]:
    names = list(open_space() or ())
    heads = {name.rpartition(".")[0] for name in names}
    return [*(f"{head}.*" for head in sorted(heads - {""})), *names]


COMMAND = Command(
    "vars",
    "%dspex vars [PATTERN] [--all] [--live]",
    "the variables: values, ranges, who changed them, leases; --live for the board",
    run,
    flags=FLAGS,
    names=_names,
)
