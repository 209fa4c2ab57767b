"""From the text of a file to nodes that know their place; nothing in it is trusted.

YAML 1.2's core schema is read: ``no``, ``on``, ``1:30`` and ``2024-01-01`` are texts, ``true`` and ``false`` are the only
booleans. Anchors, aliases, tags, merge keys, duplicate keys and a second document are refused, as is what is too large.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from dspex_lab.errors import DspexError, PipelineError

#: Limits of one file: characters, nodes, and how deep nodes lie inside each other.
MAX_CHARACTERS, MAX_NODES, MAX_DEPTH = 2_000_000, 100_000, 60

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+\Z|0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")
#: Digits of the longest whole number.
_DIGITS = 400


@dataclass(slots=True)
class Node:
    """A value of a file and its place; line and column count from 1.

    ``value`` is a plain value, a list of nodes, or a dict of nodes; ``keys`` are the nodes of a dict's keys. ``style`` is how a
    text is written: ``""`` plain, ``"'"``, ``'"'``, ``"|"`` or ``">"``.
    """

    value: Any
    line: int
    column: int
    style: str = ""
    keys: dict[str, Node] = field(default_factory=dict)

    def plain(self) -> Any:
        """Return the value without its places."""
        if isinstance(self.value, list):
            return [n.plain() for n in self.value]
        if isinstance(self.value, dict):
            return {k: n.plain() for k, n in self.value.items()}
        return self.value

    @property
    def kind(self) -> str:
        """Return what it is, in words."""
        return described(self.value)


def described(value: Any) -> str:
    """Return what a value of a file is, in words, with the value where it is short."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    shown = repr(value)
    shown = shown if len(shown) <= 40 else shown[:37] + "..."
    return f"the text {shown}" if isinstance(value, str) else f"the number {shown}"


def resolve(text: str) -> Any:
    """Return what a plain scalar means.

    Raises:
        ValueError: a number that is too long.
    """
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.match(text):
        if len(text) > _DIGITS:
            raise ValueError(f"a number of {len(text):,} digits")
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.match(text):
        if len(text) > _DIGITS:
            raise ValueError(f"a number of {len(text):,} digits")
        return float(text)
    special = _SPECIAL.match(text)
    if special:
        return math.nan if special[3] else float(f"{special[1]}inf")
    return text


#: Marks an error that points into a file already.
_PLACED = "_points_into_a_file"


def is_placed(error: DspexError) -> bool:
    """Say whether an error points into a file already."""
    return _PLACED in vars(error)


class Document:
    """The text of one file, for errors that point into it.

    Args:
        text: the whole text.
        name: what errors call the file, None where it is none.
    """

    def __init__(self, text: str, name: str | None = None) -> None:
        self.text, self.name = text, name

    def error(self, node: Node, message: str, hint: str | None = None, *, cause: BaseException | None = None) -> PipelineError:
        """Return the error that points at ``node``."""
        return self.at(node.line, node.column, message, hint, cause=cause)

    def at(
        self, line: int, column: int, message: str, hint: str | None = None, *, cause: BaseException | None = None
    ) -> PipelineError:
        """Return the error that points at a place; it is also said in the message."""
        where = f"line {line}, column {column}: "
        where = f"{self.name}, {where}" if self.name else where.capitalize()
        made = PipelineError(where + message, hint=hint)
        made.at(self.text, line, column)
        made.__cause__ = cause
        vars(made)[_PLACED] = True
        return made

    def within(self, node: Node, error: DspexError, what: str = "") -> PipelineError:
        """Return an error that was found in the text of ``node`` as one of the file."""
        line, column = node.line, node.column
        message = re.sub(r"^(Line \d+, column \d+|Column \d+)(: | of )", "", error.message)
        if error.line is not None and isinstance(node.value, str) and error.text is not None:
            line, column = self._inside(node, error.line, error.column or 1)
        step = getattr(error, "step", None)
        made = self.at(line, column, what + message, error.hint, cause=error.__cause__)
        made.step = step
        return made

    def _inside(self, node: Node, line: int, column: int) -> tuple[int, int]:
        """Return where line and column of a node's text stand in the file, as far as that can be told."""
        if node.style == "|":
            lines = self.text.splitlines()
            first = next((i for i in range(node.line, len(lines)) if lines[i].strip()), None)
            if first is None or node.line + line > len(lines):
                return node.line, node.column
            indent = len(lines[first]) - len(lines[first].lstrip(" "))
            return node.line + line, indent + column
        if line == 1 and "\n" not in node.value and node.style in ("", "'", '"'):
            return node.line, node.column + column - 1 + len(node.style)
        return node.line, node.column


def read(document: Document) -> Node:
    """Return the nodes of a file.

    Raises:
        PipelineError: with line and column: what is no YAML, not allowed here, or too large.
    """
    text = document.text
    if len(text) > MAX_CHARACTERS:
        raise document.at(1, 1, f"the file has {len(text):,} characters; {MAX_CHARACTERS:,} are read at most.")
    import yaml

    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise document.at(*_place(text, error.start), "this character cannot be in a file (half of a pair).") from None
    events = yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    try:
        return _Composer(document, events).whole()
    except yaml.MarkedYAMLError as error:
        marks = [error.problem_mark, error.context_mark]
        if "end of stream" in (error.problem or ""):
            marks.reverse()  # where the text began that has no end
        mark = marks[0] or marks[1]
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        said = " ".join(part for part in (error.context, error.problem) if part)
        raise document.at(line, column, f"this is no YAML: {said}.", _advice(said)) from None
    except yaml.reader.ReaderError as error:
        # The C reader counts bytes.
        at = error.position if error.encoding == "unicode" else len(text.encode()[: error.position].decode(errors="ignore"))
        raise document.at(*_place(text, at), f"this character cannot be in a file: {error.reason}.") from None
    except (yaml.YAMLError, ValueError, RecursionError, MemoryError) as error:
        raise document.at(1, 1, f"this cannot be read as YAML: {error}.") from None


def _place(text: str, offset: int) -> tuple[int, int]:
    lines = text[:offset].splitlines() or [""]
    ended = text[:offset].endswith("\n")
    return (len(lines) + 1, 1) if ended else (len(lines), len(lines[-1]) + 1)


def _advice(said: str) -> str | None:
    if "cannot start any token" in said:
        return "Indent with spaces, and quote a text that begins with a special sign."
    if "mapping values are not allowed" in said:
        return "Quote a text that has ': ' in it, or write it below a '|'."
    return "Quote texts with special signs; write long ones below a '|'." if "expected" in said else None


class _Composer:
    """Puts events together to nodes, and stops where it is too much."""

    def __init__(self, document: Document, events: Iterator[Any]) -> None:
        self._document, self._events, self._count = document, events, 0

    def whole(self) -> Node:
        import yaml

        next(self._events)  # the stream begins
        first = next(self._events)
        if isinstance(first, yaml.StreamEndEvent):
            raise self._document.at(1, 1, "the file is empty.", "Write: name: …, and steps: below it.")
        node = self._node(next(self._events), 0)
        next(self._events)  # the document ends
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            self._refuse(after, "a second document begins here; a file holds one pipeline.", "Put it into a file of its own.")
        return node

    def _refuse(self, event: Any, message: str, hint: str | None = None) -> NoReturn:
        mark = event.start_mark
        raise self._document.at(mark.line + 1, mark.column + 1, message, hint)

    def _node(self, event: Any, depth: int) -> Node:
        import yaml

        self._count += 1
        if self._count > MAX_NODES:
            self._refuse(event, f"the file has more than {MAX_NODES:,} values.")
        if depth > MAX_DEPTH:
            self._refuse(event, f"values lie more than {MAX_DEPTH} deep inside each other.")
        if isinstance(event, yaml.AliasEvent):
            self._refuse(
                event, f"'*{event.anchor}' is an alias, which is not allowed here.", "Write the value again, or a preset."
            )
        if event.anchor is not None:
            self._refuse(event, f"'&{event.anchor}' is an anchor, which is not allowed here.", "Leave it out; see presets.")
        if event.tag is not None:
            self._refuse(event, f"the tag {event.tag[:60]!r} is not allowed here.", "Leave it out; files hold plain values.")
        place = (event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, place)
        return self._list(place, depth) if isinstance(event, yaml.SequenceStartEvent) else self._mapping(place, depth)

    def _scalar(self, event: Any, place: tuple[int, int]) -> Node:
        style = event.style or ""
        if style not in ("'", '"', "|", ">"):
            try:
                return Node(resolve(event.value), *place)
            except ValueError as error:
                self._refuse(event, f"{error} is too long.", "Quote it, if it is a text.")
        return Node(event.value, *place, style)

    def _list(self, place: tuple[int, int], depth: int) -> Node:
        import yaml

        items = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return Node(items, *place)

    def _mapping(self, place: tuple[int, int], depth: int) -> Node:
        import yaml

        values: dict[str, Node] = {}
        keys: dict[str, Node] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event, depth)
            if key.value in values:
                first = keys[key.value]
                self._refuse(event, f"{key.value!r} is given twice; first in line {first.line}.", "Leave one out.")
            keys[key.value] = key
            values[key.value] = self._node(next(self._events), depth + 1)
        return Node(values, *place, keys=keys)

    def _key(self, event: Any, depth: int) -> Node:
        import yaml

        node = self._node(event, depth + 1)
        if not isinstance(event, yaml.ScalarEvent):
            self._refuse(event, f"{node.kind} cannot be a key.", "Keys are texts; quote what has braces or brackets in it.")
        if event.value == "<<" and not node.style:
            self._refuse(event, "'<<' merges mappings, which is not allowed here.", "Use a preset.")
        # A key is a text as it stands, so that a step may be called "on" or "1".
        return Node(event.value, node.line, node.column, node.style)
