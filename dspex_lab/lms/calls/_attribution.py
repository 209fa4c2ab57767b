"""Tells which output field a piece of a completion belongs to, while the completion is still arriving.

The rules are those by which DSPy's adapters take a whole completion apart (``ChatAdapter.parse``, ``JSONAdapter.parse``,
``XMLAdapter.parse``): the pieces of a field, joined, are the text the adapter reads for it. Held back is only what may yet
turn out to be a marker and white space at the end of a value, never a whole value.

A reader is fed text and gives pieces: a field's name (None for text that belongs to no field) and text. What only marks
fields (headers, the punctuation of JSON, tags) is no piece. The text comes from a model: whatever it is, nothing is raised.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeAlias

from dspex_lab.lms.exemplar._prompt import read_task

#: A field's name, or None, and a part of its text.
Piece: TypeAlias = tuple[str | None, str]

_HEADER = re.compile(r"\s*\[\[ ## (\w{1,200}) ## \]\]")
_HEADER_BEGUN = re.compile(r"\s*(\[(\[( (#(#( (\w{1,200}( (#(#( (\](\])?)?)?)?)?)?)?)?)?)?)?)?)?")
#: Where ``str.splitlines`` ends a line.
_BREAK = re.compile("[\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029]")
_FENCE = re.compile(r"`{1,3}\w{0,20}\s*")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


class Reader(Protocol):
    """Takes a completion apart as it arrives; one object for one completion."""

    def feed(self, text: str) -> Iterator[Piece]:
        """Yield the pieces that ``text`` brings."""
        ...

    def end(self) -> Iterator[Piece]:
        """Yield what was held back: the completion has ended."""
        ...


def reader_of(system: str) -> Reader:
    """Return the reader for the completion of a prompt, by its system message; may be empty.

    A prompt that no adapter of DSPy wrote is answered by free text, whatever the answer looks like.
    """
    task = read_task(system)
    if task is None:
        return PlainReader()
    names = [field.name for field in task.outputs]
    if task.style == "json":
        return JsonReader(names)
    return XmlReader(names) if task.style == "xml" else ChatReader(names)


class PlainReader:
    """A completion without fields."""

    def feed(self, text: str) -> Iterator[Piece]:
        """Yield the text as it is."""
        if text:
            yield None, text

    def end(self) -> Iterator[Piece]:
        """Yield nothing."""
        yield from ()


class _Stripped:
    """Passes a value on without the white space around it, as soon as more text shows that it is not around it."""

    def __init__(self) -> None:
        self.begin(None)

    def begin(self, field: str | None) -> None:
        self.field = field
        self._begun = False
        self._held = ""

    def take(self, text: str) -> Iterator[Piece]:
        if not self._begun:
            text = text.lstrip()
        solid = text.rstrip()
        if solid:
            self._begun = True
            yield self.field, self._held + solid
            self._held = text[len(solid) :]
        elif self._begun:
            self._held += text

    def forget_space(self) -> None:
        self._held = ""


class ChatReader:
    """Sections under ``[[ ## field ## ]]``; a header stands at the beginning of a line."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = set(names)
        self._value = _Stripped()
        self._start = ""  # the beginning of a line that may yet be a header
        self._inside = False  # of a line that is none
        self._after_header = False
        self._after_return = False
        self._completed = False

    def feed(self, text: str) -> Iterator[Piece]:
        """Yield the pieces that ``text`` brings."""
        if self._after_return and text:
            text = text.removeprefix("\n")
            self._after_return = False
        while text:
            at = _BREAK.search(text)
            line, rest = (text, "") if at is None else (text[: at.start()], text[at.end() :])
            yield from self._part_of_line(line)
            if at is not None:
                yield from self._end_of_line()
                if at.group() == "\r":
                    self._after_return = not rest
                    rest = rest.removeprefix("\n")
            text = rest

    def _part_of_line(self, text: str) -> Iterator[Piece]:
        if self._inside:
            yield from self._take(text)
            return
        line = self._start + text
        header = _HEADER.match(line)
        if header is not None:
            self._switch(header.group(1))
            self._start, self._inside, self._after_header = "", True, True
            yield from self._take(line[header.end() :])
        elif _HEADER_BEGUN.fullmatch(line):
            self._start = line
        else:
            self._start, self._inside = "", True
            yield from self._take(line)

    def _end_of_line(self) -> Iterator[Piece]:
        if self._start:
            yield from self._take(self._start)
        if self._after_header:
            self._value.forget_space()
        yield from self._take("\n")
        self._start, self._inside, self._after_header = "", False, False

    def _switch(self, name: str) -> None:
        self._completed = name == "completed"
        # The adapter takes the first section of a name.
        self._value.begin(name if name in self._names else None)
        self._names.discard(name)

    def _take(self, text: str) -> Iterator[Piece]:
        if not self._completed:
            yield from self._value.take(text)

    def end(self) -> Iterator[Piece]:
        """Yield what was held back."""
        if self._start:
            yield from self._take(self._start)
            self._start = ""


class JsonReader:
    """One JSON object; the text of a string value is unescaped, any other value stands as it is written."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = set(names)
        self._state = self._before
        self._rest = ""
        self._key = ""
        self._field: str | None = None
        self._depth = 0
        self._quoted = self._escaped = False
        self._value = _Stripped()

    def feed(self, text: str) -> Iterator[Piece]:
        """Yield the pieces that ``text`` brings."""
        self._rest += text
        # Each state takes what it understands off the rest, and leaves what may only be understood with more text.
        before: object = None
        while self._rest and (len(self._rest), self._state) != before:
            before = (len(self._rest), self._state)
            yield from self._state()

    def end(self) -> Iterator[Piece]:
        """Yield what was held back."""
        if self._rest and self._state == self._before:
            yield None, self._rest
        elif self._rest and self._state == self._string:
            yield self._field, self._rest
        self._rest = ""

    def _before(self) -> Iterator[Piece]:
        before, brace, rest = self._rest.partition("{")
        fence = _FENCE.fullmatch(before.lstrip())
        if brace:
            self._state, self._rest = self._key_start, rest
            self._value.begin(None)
        elif fence or not before.strip():
            return
        else:
            self._rest = ""
        if before.strip() and not fence:
            yield None, before

    def _key_start(self) -> Iterator[Piece]:
        self._rest = self._rest.lstrip().removeprefix(",").lstrip()
        if self._rest.startswith('"'):
            self._rest, self._key, self._state = self._rest[1:], "", self._in_key
        elif self._rest.startswith("}"):
            self._rest, self._state = "", self._after
        elif self._rest:
            self._state = self._lost
        yield from ()

    def _in_key(self) -> Iterator[Piece]:
        text, closed = self._unescaped()
        self._key += text
        if closed:
            self._field = self._key if self._key in self._names else None
            self._names.discard(self._key)
            self._state = self._colon
        yield from ()

    def _colon(self) -> Iterator[Piece]:
        self._rest = self._rest.lstrip()
        if self._rest.startswith(":"):
            self._rest, self._state = self._rest[1:], self._value_start
        elif self._rest:
            self._state = self._lost
        yield from ()

    def _value_start(self) -> Iterator[Piece]:
        self._rest = self._rest.lstrip()
        if self._rest.startswith('"'):
            self._rest, self._state = self._rest[1:], self._string
        elif self._rest:
            self._depth, self._quoted, self._escaped, self._state = 0, False, False, self._raw
            self._value.begin(self._field)
        yield from ()

    def _string(self) -> Iterator[Piece]:
        text, closed = self._unescaped()
        if text:
            yield self._field, text
        if closed:
            self._state = self._key_start

    def _raw(self) -> Iterator[Piece]:
        for at, sign in enumerate(self._rest):
            if self._escaped:
                self._escaped = False
            elif self._quoted:
                self._escaped, self._quoted = sign == "\\", sign != '"'
            elif sign == '"':
                self._quoted = True
            elif sign in "[{":
                self._depth += 1
            elif self._depth == 0 and sign in ",}":
                yield from self._take(at)
                self._state = self._key_start
                return
            elif sign in "]}":
                self._depth -= 1
        yield from self._take(len(self._rest))

    def _take(self, count: int) -> Iterator[Piece]:
        text, self._rest = self._rest[:count], self._rest[count:]
        yield from self._value.take(text)

    def _after(self) -> Iterator[Piece]:
        self._rest = ""
        yield from ()

    def _lost(self) -> Iterator[Piece]:
        """Pass on what is no JSON: DSPy may repair it, but only as a whole."""
        text, self._rest = self._rest, ""
        yield None, text

    def _unescaped(self) -> tuple[str, bool]:
        """Take the rest of a string off: its text so far, and whether its end was reached."""
        made, at = [], 0
        while at < len(self._rest):
            stop = min((i for i in (self._rest.find('"', at), self._rest.find("\\", at)) if i >= 0), default=-1)
            if stop < 0:
                made.append(self._rest[at:])
                at = len(self._rest)
            elif self._rest[stop] == '"':
                made.append(self._rest[at:stop])
                self._rest = self._rest[stop + 1 :]
                return "".join(made), True
            else:
                made.append(self._rest[at:stop])
                at = stop
                length, text = _escape(self._rest[stop : stop + 12])
                if not length:
                    break
                made.append(text)
                at += length
        self._rest = self._rest[at:]
        return "".join(made), False


def _escape(text: str) -> tuple[int, str]:
    r"""Return the length of the escape ``text`` begins with and what it stands for; length 0 where more text is needed."""
    if len(text) < 2:
        return 0, ""
    if text[1] != "u":
        return 2, _ESCAPES.get(text[1], text[1])
    code = _code(text[2:6])
    if code is None:
        return (2, "u") if len(text) >= 6 or not _hexadecimal(text[2:6]) else (0, "")
    if not 0xD800 <= code < 0xDC00:
        return 6, _character(code)
    if not "\\u".startswith(text[6:8]) and text[6:8] != "\\u":
        return 6, _character(code)
    low = _code(text[8:12])
    if low is None:
        return (0, "") if len(text) < 12 and _hexadecimal(text[8:12]) else (6, _character(code))
    if 0xDC00 <= low < 0xE000:
        return 12, chr(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00))
    return 6, _character(code)


def _hexadecimal(text: str) -> bool:
    return all(sign in "0123456789abcdefABCDEF" for sign in text)


def _code(text: str) -> int | None:
    return int(text, 16) if len(text) == 4 and _hexadecimal(text) else None


def _character(code: int) -> str:
    # Half of a pair is no character, and nothing that writes UTF-8 would take it.
    return "\N{REPLACEMENT CHARACTER}" if 0xD800 <= code < 0xE000 else chr(code)


class XmlReader:
    """One element for a field, ``<field>…</field>``."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._value = _Stripped()
        self._rest = ""
        self._open = False

    def feed(self, text: str) -> Iterator[Piece]:
        """Yield the pieces that ``text`` brings."""
        self._rest += text
        while True:
            tags = [f"</{self._value.field}>"] if self._open else [f"<{name}>" for name in self._names]
            at, tag = min(((self._rest.find(t), t) for t in tags if t in self._rest), default=(-1, ""))
            if at < 0:
                # An entity or a tag that has only begun.
                kept = max(_begun(self._rest, [*tags, "&lt;", "&amp;"]), 0)
                yield from self._take(len(self._rest) - kept)
                return
            yield from self._take(at)
            self._rest = self._rest[len(tag) :]
            self._open = not self._open
            if self._open:
                self._names.remove(tag[1:-1])
            self._value.begin(tag[1:-1] if self._open else None)

    def _take(self, count: int) -> Iterator[Piece]:
        text, self._rest = self._rest[:count], self._rest[count:]
        if self._open:
            text = text.replace("&lt;", "<").replace("&amp;", "&")
        yield from self._value.take(text)

    def end(self) -> Iterator[Piece]:
        """Yield what was held back."""
        yield from self._take(len(self._rest))


def _begun(text: str, wholes: Sequence[str]) -> int:
    """Return the length of the longest end of ``text`` with which one of ``wholes`` begins."""
    longest = 0
    for whole in wholes:
        for length in range(min(len(whole) - 1, len(text)), longest, -1):
            if text.endswith(whole[:length]):
                longest = length
                break
    return longest
