"""A JSON schema as a document: how large it may be, where one is in it, and what a reference in it points at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from dspex_lab.errors import SignatureError

Path = tuple[str | int, ...]

#: Values in a document, how deep they lie inside each other, and the characters of all its texts.
MAX_VALUES = 100_000
MAX_DEPTH = 100
MAX_CHARACTERS = 5_000_000
#: References followed one after the other before a value stands there.
MAX_HOPS = 50


def pointer(path: Path) -> str:
    """Return ``path`` as a JSON pointer, written as a fragment: ``#/properties/a~1b``."""
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in path)
    shown = "#" + "".join(f"/{part}" for part in parts)
    return shown if len(shown) <= 300 else f"{shown[:150]}…{shown[-149:]}"


def refusal(path: Path, message: str, *, hint: str | None = None, field: str | None = None) -> SignatureError:
    """Return the error that names the place in the document."""
    return SignatureError(f"The JSON schema, at {pointer(path)}: {message}", field=field, hint=hint)


class Document:
    """A document, made of JSON's own types and of bearable size.

    Raises:
        SignatureError: it is not.
    """

    def __init__(self, root: Any) -> None:
        if not isinstance(root, Mapping):
            raise SignatureError(
                f"Expected a JSON schema as a mapping, found {type(root).__name__}.", hint="Read a text with json.loads first."
            )
        _check(root)
        self.root = root

    def follow(self, ref: Any, path: Path) -> tuple[Any, Path]:
        """Return the value that ``ref``, found at ``path``, points at, and its own path.

        Raises:
            SignatureError: it points nowhere or outside of the document; nothing is ever fetched.
        """
        if not isinstance(ref, str):
            raise refusal(path, f"expected a text, found {ref!r:.80}.")
        if not ref.startswith("#"):
            raise refusal(path, f"the reference {ref[:200]!r} leads out of the document; nothing is fetched.")
        if ref[1:] and not ref.startswith("#/"):
            raise refusal(path, f"the reference {ref[:200]!r} is no JSON pointer such as '#/$defs/Name'.")
        value: Any = self.root
        steps: list[str | int] = []
        for part in ref[2:].split("/") if ref[1:] else ():
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(value, Mapping) and key in value:
                steps.append(key)
                value = value[key]
            elif isinstance(value, list) and key.isdecimal() and key.isascii() and len(key) < 7 and int(key) < len(value):
                steps.append(int(key))
                value = value[int(key)]
            else:
                raise refusal(path, f"the reference {ref[:200]!r} points at nothing.")
        return value, tuple(steps)

    def resolve(self, value: Any, path: Path) -> tuple[Any, Path]:
        """Follow references from ``value`` until something else stands there."""
        start = path
        for _ in range(MAX_HOPS):
            if not isinstance(value, Mapping) or "$ref" not in value:
                return value, path
            value, path = self.follow(value["$ref"], (*path, "$ref"))
        raise refusal((*start, "$ref"), "the references lead to each other and never to a schema.")


def _check(root: Any) -> None:
    values = characters = 0
    stack: list[tuple[Any, Path]] = [(root, ())]
    while stack:
        value, path = stack.pop()
        values += 1
        if values > MAX_VALUES:
            raise refusal((), f"it holds more than {MAX_VALUES:,} values.")
        if isinstance(value, str):
            characters += len(value)
            if characters > MAX_CHARACTERS:
                raise refusal((), f"it holds more than {MAX_CHARACTERS:,} characters.")
        elif isinstance(value, Mapping | list):
            if len(path) >= MAX_DEPTH:
                raise refusal(path[:6], f"values lie more than {MAX_DEPTH} deep inside each other.")
            stack += [(inner, (*path, key)) for key, inner in _inside(value, path)]
        elif not (value is None or isinstance(value, bool | int | float)):
            raise refusal(path, f"expected JSON, found a {type(value).__name__}.")


def _inside(value: Any, path: Path) -> Iterator[tuple[str | int, Any]]:
    if len(value) > MAX_VALUES:
        raise refusal((), f"it holds more than {MAX_VALUES:,} values.")
    if isinstance(value, list):
        yield from enumerate(value)
        return
    for key, inner in value.items():
        if not isinstance(key, str):
            raise refusal(path, f"expected texts as keys, found {key!r:.80}.")
        yield key, inner
