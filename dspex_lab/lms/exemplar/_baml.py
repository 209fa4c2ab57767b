"""Reads the types of DSPy's BAMLAdapter: ``string``, ``int[]``, ``"a" or "b"``, ``{name: string,}``, ``string or null``."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from dspex_lab.lms.exemplar._shapes import TEXT, Shape

_TOKEN = re.compile(
    r"\s*(?:(?P<note>\#[^\n]*)|(?P<text>\"(?:[^\"\\]|\\.)*\")|(?P<number>-?\d+(?:\.\d+)?)|(?P<name>\w+)|(?P<sign>\[\]|[{}\[\]:,]))"
)
_PLAIN = {"string": "str", "int": "int", "float": "float", "boolean": "bool"}
_FORMS = {"date": "date", "datetime": "date-time"}
_CONSTANTS = {"true": True, "false": False}
_DEEPEST = 12


class _Reader:
    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        at = 0
        while match := _TOKEN.match(text, at):
            self.tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
            at = match.end()
        self.at = 0

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def take(self) -> tuple[str, str]:
        token = self.peek()
        self.at += 1
        return token

    def notes(self) -> str:
        said = []
        while self.peek()[0] == "note":
            said.append(self.take()[1].lstrip("# "))
        return " ".join(said)

    def shape(self, depth: int = 0) -> Shape:
        """Read a union: its first real member, the options of constants together, or null."""
        self.notes()
        found: list[Shape] = []
        nullable = False
        while True:
            one = self._one(depth)
            nullable, found = (True, found) if one is None else (nullable, [*found, one])
            if self.peek() != ("name", "or"):
                break
            self.take()
        options = tuple(o for s in found if s.kind == "choice" for o in s.options)
        if options and all(s.kind == "choice" for s in found):
            return Shape("choice", options, nullable=nullable)
        return replace(found[0], nullable=nullable) if found else TEXT

    def _one(self, depth: int) -> Shape | None:
        kind, text = self.take()
        shape: Shape | None = TEXT
        if kind == "text":
            shape = Shape("choice", (text[1:-1],))
        elif kind == "number":
            shape = Shape("choice", (float(text) if "." in text else int(text),))
        elif (kind, text) == ("sign", "{") and depth < _DEEPEST:
            shape = self._members(depth)
        elif (kind, text) == ("sign", "[") and depth < _DEEPEST:
            shape = Shape("list", item=self.shape(depth + 1))
            self._skip("]")
        elif kind == "name":
            shape = self._named(text, depth)
        while self.peek() == ("sign", "[]"):
            self.take()
            shape = Shape("list", item=shape or TEXT)
        return shape

    def _named(self, name: str, depth: int) -> Shape | None:
        if name == "null":
            return None
        if name in _CONSTANTS:
            return Shape("choice", (_CONSTANTS[name],))
        if name in ("dict", "list", "set") and self.peek() == ("sign", "["):
            self.take()
            inner = [self.shape(depth + 1)]
            while self.peek() == ("sign", ","):
                self.take()
                inner.append(self.shape(depth + 1))
            self._skip("]")
            return Shape("object" if name == "dict" else "list", item=inner[-1])
        return Shape(_PLAIN.get(name, "str"), form=_FORMS.get(name, ""))

    def _members(self, depth: int) -> Shape:
        found: list[tuple[str, Shape, str]] = []
        while self.peek() != ("sign", "}") and self.peek()[0] != "end":
            said = self.notes()
            kind, name = self.take()
            if kind == "name" and self.peek() == ("sign", ":"):
                self.take()
                found.append((name, self.shape(depth + 1), said))
        self._skip("}")
        return Shape("object", properties=tuple(found))

    def _skip(self, sign: str) -> None:
        if self.peek() == ("sign", sign):
            self.take()


@lru_cache(maxsize=512)
def shape_of_baml(text: str) -> Shape:
    """Return the shape that a type of BAML's describes; text where it is none that is known."""
    return _Reader(text[:50_000]).shape()
