"""Reads a magic's line: words, ``name=value`` pairs whose values are Python, and ``--flags``."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex_lab.errors import ConfigurationError, did_you_mean


@dataclass(slots=True)
class Line:
    """A line taken apart: plain ``words``, ``fields`` as Python source with their 1-based column, ``flags`` as text."""

    text: str
    words: list[str] = field(default_factory=list)
    fields: dict[str, tuple[str, int]] = field(default_factory=dict)
    flags: dict[str, str] = field(default_factory=dict)

    def values(self, namespace: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields' values, evaluated in ``namespace``.

        Raises:
            ConfigurationError: a value is not valid Python or names something unknown; its column is marked.
        """
        made: dict[str, Any] = {}
        for name, (source, column) in self.fields.items():
            try:
                made[name] = eval(compile(source, "<magic>", "eval"), dict(namespace))  # noqa: S307 - the user's own cell
            except NameError as error:
                near = did_you_mean(getattr(error, "name", "") or "", [k for k in namespace if not k.startswith("_")])
                raise _at(self.text, column, name, source, f"{error}.{near}", "Text needs quotes: " + f'{name}="…".') from error
            except SyntaxError as error:
                raise _at(
                    self.text, column, name, source, f"{error.msg}.", "Values are Python: quote text, no spaces around =."
                ) from error
            except Exception as error:
                raise _at(self.text, column, name, source, f"{type(error).__name__}: {error}", None) from error
        return made

    def flag(self, name: str, kind: type, default: Any = None) -> Any:
        """Return a flag's value as ``kind``.

        Raises:
            ConfigurationError: it is not one.
        """
        if name not in self.flags:
            return default
        text = self.flags[name]
        try:
            return kind(text)
        except ValueError as error:
            what = {"int": "a whole number", "float": "a number"}.get(kind.__name__, kind.__name__)
            raise ConfigurationError(
                f"--{name} takes {what}, found {text!r}.", key=name, expected=kind.__name__, actual=text
            ).at(self.text, 1, self.text.find(f"--{name}") + 1) from error


def _at(text: str, column: int, name: str, source: str, why: str, hint: str | None) -> ConfigurationError:
    error = ConfigurationError(f"The value of {name!r} cannot be read: {why}", key=name, actual=source, hint=hint)
    error.at(text, 1, column)
    return error


def _starts(text: str) -> list[tuple[int, str]]:
    """Return where each part of the line begins (0-based), and what it is: ``word``, ``field`` or ``flag``."""
    depth, out, previous_end = 0, [], -1
    tokens = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            tokens.append(token)
    except tokenize.TokenError as error:
        raise ConfigurationError(
            f"The line ends inside a string or bracket: {error.args[0]}.", hint="Close it; values are Python."
        ).at(text, 1, max(len(text), 1)) from error
    for index, token in enumerate(tokens):
        if token.type in (tokenize.ENDMARKER, tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
            continue
        start = token.start[1]
        apart = start > previous_end
        following = tokens[index + 1] if index + 1 < len(tokens) else token
        if depth == 0 and apart:
            flag = token.string == "-" and following.string == "-" and following.start[1] == start + 1
            field_name = token.type == tokenize.NAME and following.string == "=" and following.start[1] == token.end[1]
            out.append((start, "flag" if flag else "field" if field_name else "word"))
        if token.string in "([{" and token.type == tokenize.OP:
            depth += 1
        elif token.string in ")]}" and token.type == tokenize.OP:
            depth -= 1
        previous_end = token.end[1]
    return out


def flag_start(text: str) -> int:
    """Return where the first flag of a line begins (0-based), or its length where it has none.

    Raises:
        ConfigurationError: a string or bracket is not closed.
    """
    return next((start for start, kind in _starts(text) if kind == "flag"), len(text))


def parse(
    text: str,
    *,
    words: int,
    flags: tuple[str, ...] = (),
    fields: bool = False,
    switches: tuple[str, ...] = (),
    optional: tuple[str, ...] = (),
) -> Line:
    """Take a line apart.

    Args:
        text: what stands after the subcommand.
        words: how many plain words it takes at most.
        flags: the flags it knows, without their dashes; each takes a value.
        fields: whether ``name=value`` pairs are allowed.
        switches: those of the flags that take no value; ``optional`` those that may stand without one. Without, it is "".

    Raises:
        ConfigurationError: a flag is unknown or has no value, or there is a word too many; the place is marked.
    """
    line = Line(text)
    starts = _path_words(text, words) or _starts(text)
    ends = [*(s for s, _ in starts[1:]), len(text)][: len(starts)]
    pieces = [(s, kind, text[s:e].strip()) for (s, kind), e in zip(starts, ends, strict=True)]
    index = 0
    while index < len(pieces):
        start, kind, piece = pieces[index]
        if kind == "flag":
            name = piece[2:].partition(" ")[0].partition("=")[0]
            value = piece[2 + len(name) :].lstrip("= ")
            if name not in flags:
                known = ", ".join(f"--{f}" for f in flags) or "none"
                raise ConfigurationError(
                    f"The flag --{name} is unknown.{did_you_mean('--' + name, ['--' + f for f in flags])}",
                    key=name,
                    hint=f"Flags here: {known}.",
                ).at(text, 1, start + 1)
            if value and name in switches:
                raise ConfigurationError(f"The flag --{name} takes no value.", key=name).at(text, 1, start + 1)
            if not value and name not in switches and index + 1 < len(pieces) and pieces[index + 1][1] != "flag":
                index += 1
                value = pieces[index][2]
            if not value and name not in switches and name not in optional:
                raise ConfigurationError(f"The flag --{name} needs a value.", key=name).at(text, 1, start + 1)
            line.flags[name] = _unquoted(value)
        elif kind == "field" and fields:
            name, _, source = piece.partition("=")
            if name in line.fields:
                raise ConfigurationError(f"{name!r} is given twice.", key=name).at(text, 1, start + 1)
            line.fields[name] = (source.strip(), start + len(name) + 2)
        else:
            if len(line.words) == words:
                raise ConfigurationError(
                    f"{piece!r} is not expected here.",
                    hint="Values are given as name=value; text needs quotes." if fields else None,
                ).at(text, 1, start + 1)
            line.words.append(piece)
        index += 1
    return line


def _path_words(text: str, words: int) -> list[tuple[int, str]] | None:
    """Split a line without fields at spaces, so that paths and model names need no quotes."""
    if "=" in text or '"' in text or "'" in text or "(" in text:
        return None
    out, position = [], 0
    for piece in text.split():
        start = text.index(piece, position)
        out.append((start, "flag" if piece.startswith("--") else "word"))
        position = start + len(piece)
    return out


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return str(ast.literal_eval(text))
    return text
