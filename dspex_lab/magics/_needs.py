"""Reads what is needed of a model: ``structured tools context=32k price=1 prefer=cost --use``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.magics._line import Line

#: What is needed or not, and what is needed in some measure.
_WORDS = ("structured", "streaming", "tools", "vision", "reasoning", "local")
_MEASURES = ("context", "price", "cost", "latency", "quality", "prefer", "exclude", "providers", "tokens")
#: Values that are names, and need no quotes.
_NAMES = ("prefer", "exclude", "providers")
_PIECE = re.compile(r"""(?:[^\s"'(\[{]|"[^"]*"|'[^']*'|\([^)]*\)|\[[^\]]*\]|\{[^}]*\})+""")


def needs_of(text: str, namespace: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return what is needed, by name, and whether the chosen model is to be used (``--use``).

    Raises:
        ConfigurationError: a word or a value cannot be read; its place is marked.
    """
    line, needs, end = Line(text), {}, 0
    for found in _PIECE.finditer(text):
        _nothing_between(text, end, found.start())
        end = found.end()
        piece, column = found[0], found.start() + 1
        name, equals, source = piece.partition("=")
        if piece == "--use":
            line.flags["use"] = ""
        elif not equals and piece in _WORDS:
            needs[piece] = True
        elif equals and name in (*_WORDS, *_MEASURES):
            if name in line.fields:
                raise ConfigurationError(f"{name!r} is given twice.", key=name).at(text, 1, column)
            line.fields[name] = (_as_python(name, source, namespace), column + len(name) + 1)
        else:
            raise _unknown(name, equals).at(text, 1, column)
    _nothing_between(text, end, len(text))
    return {**needs, **line.values(namespace)}, "use" in line.flags


def _nothing_between(text: str, start: int, end: int) -> None:
    if text[start:end].strip():
        raise ConfigurationError("The line ends inside a string or bracket.", hint="Close it.").at(text, 1, start + 1)


def _as_python(name: str, source: str, namespace: Mapping[str, Any]) -> str:
    """Return a value as Python: ``32k`` and names are taken without quotes."""
    if name == "context" and re.fullmatch(r"[\d._]+\s*[kKmM]", source):
        return repr(source)
    if name in _NAMES and source and source[0] not in "\"'([{" and source not in namespace:
        return repr(source) if name == "prefer" else repr(tuple(source.split(",")))
    return source


def _unknown(name: str, equals: str) -> ConfigurationError:
    flag = name.startswith("--")
    known = ("--use",) if flag else (*_WORDS, *_MEASURES)
    lacks = "" if equals or name not in _MEASURES else f" Write {name}=…"
    return ConfigurationError(
        f"{name!r} {'is no flag here' if flag else 'cannot be read as something that is needed of a model'}."
        f"{lacks or did_you_mean(name, known)}",
        key=name,
        hint=f"Needs: {', '.join(_WORDS)}; {', '.join(f'{m}=' for m in _MEASURES)}; --use to use what is chosen.",
    )
