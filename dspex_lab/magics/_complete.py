"""Completion of subcommands, names and flags after ``%dspex``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dspex_lab.magics._base import Command

_HEAD = re.compile(r"^\s*%{1,2}dspex\s+(.*)$", re.DOTALL)


def candidates(line: str, commands: Mapping[str, Command], namespace: Mapping[str, Any]) -> tuple[str, list[str]] | None:
    """Return the word being typed and what it may become, or None where ``line`` is not ours. Pure.

    Args:
        line: the text up to the cursor.
    """
    match = _HEAD.match(line)
    if match is None:
        return None
    rest = match.group(1)
    word = re.split(r"[\s]", rest)[-1] if rest else ""
    before = rest[: len(rest) - len(word)].split()
    if not before:
        cell = line.lstrip().startswith("%%")
        return word, [n for n, c in commands.items() if n.startswith(word) and (c.cell if cell else c.line)]
    command = commands.get(before[0])
    if command is None:
        return word, []
    if word.startswith("-"):
        used = set(before)
        return word, [f"--{f}" for f in command.flags if f"--{f}".startswith(word) and f"--{f}" not in used]
    if command.name == "help":
        return word, [n for n in commands if n.startswith(word)]
    if len(before) == 1:
        return word, [n for n in command.names(namespace) if n.startswith(word)]
    if command.more is not None:
        return word, [n for n in command.more(before[1:]) if n.startswith(word)]
    return word, _fields(before[1], word, namespace) if command.name == "run" else _rows(word, namespace)


def _fields(name: str, word: str, namespace: Mapping[str, Any]) -> list[str]:
    inputs = getattr(namespace.get(name), "inputs", {})
    return [f"{f}=" for f in inputs if f.startswith(word)]


def _rows(word: str, namespace: Mapping[str, Any]) -> list[str]:
    return [n for n, v in namespace.items() if n.startswith(word) and not n.startswith("_") and hasattr(v, "columns")]


def install(shell: Any, commands: Mapping[str, Command]) -> Any:
    """Add the matcher to the shell's completer and return it."""
    from IPython.core.completer import SimpleCompletion, context_matcher

    @context_matcher()
    def dspex_matcher(context: Any) -> dict[str, Any]:
        found = candidates(context.text_until_cursor, commands, shell.user_ns)
        if found is None:
            return {"completions": []}
        word, texts = found
        return {
            "completions": [SimpleCompletion(text=t, type="dspex") for t in texts],
            "matched_fragment": word,
            "suppress": True,
        }

    shell.Completer.custom_matchers.append(dspex_matcher)
    return dspex_matcher
