"""The file of settings: ``dspex.toml``, or the table ``[tool.dspex]`` of a ``pyproject.toml``.

The nearest one is taken, from the current folder upwards. A file may be anybody's: it is small, its values are plain, and what
is wrong in it is told with its line.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dspex_lab.errors import ConfigurationError, did_you_mean

OWN, PROJECT = "dspex.toml", "pyproject.toml"

#: Bytes of a file, and letters of one of its lines: a dotted key costs the square of its length.
LARGEST = 262_144
LONGEST = 4_096
#: Tables in one another.
DEEPEST = 32

_HEADER = re.compile(r"^\s*\[{1,2}([^\[\]]+)\]{1,2}\s*(?:#.*)?$")
_KEY = re.compile(r"[A-Za-z0-9_\-.\"' ]+")
_PLACE = re.compile(r" ?\(at (?:line (\d+), column (\d+)|end of document)\)")


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """What a file of settings says; without a path there is none, and the table is empty.

    Attributes:
        table: plain values only: text, numbers, true and false, lists and tables of these.
    """

    path: Path | None = None
    text: str = field(default="", repr=False)
    table: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.path.name if self.path is not None else "no file"

    @property
    def folder(self) -> Path:
        """The folder that relative paths in it start from."""
        return self.path.parent if self.path is not None else Path()

    @property
    def _prefix(self) -> tuple[str, ...]:
        return ("tool", "dspex") if self.name == PROJECT else ()

    def line(self, keys: Sequence[str]) -> int | None:
        """Return the line on which a setting is, or else the table that it is in; None where neither is found."""
        wanted = [*self._prefix, *keys]
        best: tuple[int, int] | None = None
        for number, path in _lines(self.text):
            common = len(path) if path == wanted[: len(path)] else 0
            if common and (best is None or common > best[0]):
                best = (common, number)
        return best[1] if best is not None else None

    def error(
        self, keys: Sequence[str], message: str, *, expected: Any = None, actual: Any = None, hint: str
    ) -> ConfigurationError:
        """Return the error of a setting of this file, which says the file, the table and the line."""
        line = self.line(keys)
        table = ".".join([*self._prefix, *keys[:-1]])
        place = f"{self.path}{f', line {line}' if line else ''}{f', [{table}]' if table else ''}"
        error = ConfigurationError(f"{place}: {message}", key=".".join(keys), expected=expected, actual=actual, hint=hint)
        if line:
            error.at(self.text, line)
        return error

    def unknown(self, keys: Sequence[str], known: Sequence[str]) -> ConfigurationError:
        """Return the error of a key that means nothing."""
        key = str(keys[-1])[:64]
        message = f"{key!r} is no setting.{did_you_mean(key, known)}"
        return self.error(keys, message, expected=sorted(known), actual=key, hint=f"Settings here: {', '.join(known)}.")


def find_settings(folder: Path | None = None) -> SettingsFile:
    """Return the nearest file of settings, from ``folder`` (None: the current one) upwards.

    A file in a folder above that belongs to another user is passed over: whoever may write to ``/tmp`` is not to say what this
    process does.

    Raises:
        ConfigurationError: it cannot be read, is too large, or is no TOML.
    """
    try:
        start = (folder or Path.cwd()).absolute()
    except FileNotFoundError:  # the current folder was removed
        return SettingsFile()
    for place in (start, *start.parents):
        for path in (place / OWN, place / PROJECT):
            if not _is_ours(path, anybody=place == start):
                continue
            found = _read(path)
            if found is not None:
                return found
    return SettingsFile()


def _is_ours(path: Path, *, anybody: bool) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and (anybody or not hasattr(os, "getuid") or found.st_uid in (0, os.getuid()))


def _read(path: Path) -> SettingsFile | None:
    """Return what a file says, or None for a project's file that says nothing of this package."""
    own = path.name == OWN
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        if not own:
            return None
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.", key=str(path)) from error
    if not own and b"dspex" not in data:
        return None
    if len(data) > LARGEST:
        raise _broken(path, f"it is larger than {LARGEST:,} bytes", "", None)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _broken(path, "it is not in UTF-8", "", data.count(b"\n", 0, error.start) + 1) from error
    text = text.replace("\r\n", "\n")
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > LONGEST:
            raise _broken(path, f"a line is longer than {LONGEST:,} letters", "", number)
    table = _parsed(path, text)
    if not own:
        tool = table.get("tool")
        found = tool.get("dspex") if isinstance(tool, dict) else None
        if found is None:
            return None
        if not isinstance(found, dict):
            raise _broken(path, "tool.dspex is no table", text, None)
        table = found
    made = SettingsFile(path, text, table)
    if _depth(table) > DEEPEST:
        raise _broken(path, f"its tables are nested more than {DEEPEST} deep", "", None)
    for keys, value in _unplain((), table):
        what = type(value).__name__
        raise made.error(
            keys, f"{keys[-1]} is a {what}.", expected="plain values", actual=what, hint="Give text, a number, true or false."
        )
    return made


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise _broken(path, "its brackets are nested too deeply", text, None) from error
    except ValueError as error:  # TOMLDecodeError is one, and so is a number with too many digits
        place = _PLACE.search(str(error))
        if place is None:
            raise _broken(path, "a number has too many digits", text, None) from error
        line = int(place[1]) if place[1] else max(len(text.splitlines()), 1)
        broken = _broken(path, _PLACE.sub("", str(error)), text, line)
        raise broken.at(text, line, int(place[2] or 1)) from error


def _broken(path: Path, why: str, text: str, line: int | None) -> ConfigurationError:
    where = f", line {line}" if line else ""
    error = ConfigurationError(
        f"{path}{where} is not a file of settings: {why}.",
        key=path.name,
        hint="It is TOML: https://toml.io. Mend it, or move it away.",
    )
    if line and text:
        error.at(text, line)
    return error


def _depth(table: Any) -> int:
    """Return how deep tables and lists lie in one another; looked at level by level, for the depth is what is not trusted."""
    depth, level = 0, [table]
    while level and depth <= DEEPEST:
        depth += 1
        inner = [list(one.values()) if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [part for parts in inner for part in parts]
    return depth


def _unplain(keys: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _unplain((*keys, key), inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _unplain(keys, inner)
    elif not isinstance(value, str | int | float | bool):
        yield keys, value


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each line that begins a table or a setting with its whole key. Good enough to point at a place; never to read."""
    table: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.match(line):
            table = _parts(header[1])
            yield number, table
        elif "=" in line and _KEY.fullmatch(key := line.partition("=")[0].strip()):
            yield number, [*table, *_parts(key)]


def _parts(key: str) -> list[str]:
    return [part.strip().strip("\"'") for part in key.split(".")]
