"""What the grammar makes of a text: nodes, each with the offset ``at`` which it stands, and what a field may be called."""

from __future__ import annotations

import keyword
from dataclasses import dataclass
from typing import Any

#: Names that ``dspy.Signature`` cannot hold as fields (tried on 3.4.1: each breaks its class).
RESERVED = frozenset(
    {
        *("fields", "input_fields", "output_fields", "signature", "instructions", "model_config", "model_dump"),
        *("model_dump_json", "model_validate", "model_validate_json", "model_validate_strings"),
    }
)


@dataclass(slots=True)
class Name:
    """A dotted name."""

    path: str
    at: int


@dataclass(slots=True)
class Const:
    """A string, number, ``None``, ``True``, ``False`` or ``...``."""

    value: Any
    at: int


@dataclass(slots=True)
class Apply:
    """``base[args]``."""

    base: Node
    args: list[Node]
    at: int


@dataclass(slots=True)
class Ranged:
    """``base[low..high]``; ``at`` is the place of the first bound."""

    base: Node
    low: Any
    high: Any
    at: int


@dataclass(slots=True)
class Matching:
    """``base[/pattern/]``."""

    base: Node
    pattern: str
    at: int


@dataclass(slots=True)
class OneOf:
    """``a | b | c``."""

    members: list[Node]
    at: int


@dataclass(slots=True)
class Call:
    """``name(key=value, …)``."""

    name: str
    keywords: list[tuple[str, Node, int]]
    at: int


@dataclass(slots=True)
class Items:
    """A bracketed list of nodes; ``kind`` is ``tuple``, ``list``, ``set`` or ``dict`` (keys and values in turn)."""

    kind: str
    items: list[Node]
    at: int


Node = Name | Const | Apply | Ranged | Matching | OneOf | Call | Items


@dataclass(slots=True)
class FieldNode:
    """A field as written."""

    name: str
    type: Node | None
    default: Node | None
    description: str | None
    at: int
    end: int


@dataclass(slots=True)
class SignatureNode:
    """A signature as written."""

    instructions: str | None
    inputs: list[FieldNode]
    outputs: list[FieldNode]


def check_name(name: str) -> str | None:
    """Return why ``name`` cannot name a field, or None when it can."""
    if not name.isidentifier():
        return f"{name!r} is not a valid name for a field"
    if keyword.iskeyword(name):
        return f"{name!r} is a word of Python's and cannot name a field"
    if name.startswith("_"):
        return f"the field {name!r} begins with an underscore, which DSPy refuses"
    if name in RESERVED:
        return f"{name!r} is a name that DSPy's signatures need themselves"
    return None


def better_name(name: str) -> str:
    """Return the remedy for a name that :func:`check_name` refused."""
    better = name.lstrip("_") if name.startswith("_") else name + "_"
    return f"Call it {better!r}, say." if check_name(better) is None else "Choose another name."
