"""What kind of value a field takes, read from the prompt: its annotation, its note, its constraints, its description."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_AT_LEAST = re.compile(rf"greater than or equal to:?\s*({_NUMBER})|greater than:?\s*({_NUMBER})", re.IGNORECASE)
_AT_MOST = re.compile(rf"less than or equal to:?\s*({_NUMBER})|less than:?\s*({_NUMBER})", re.IGNORECASE)
_RANGE = re.compile(
    rf"(?:between|from|in|range|scale)?\s*[\[(]?({_NUMBER})\s*(?:\.\.+|–|—|-|to|and|,)\s*({_NUMBER})[\])]?", re.IGNORECASE
)
_JSON_NOTE = "must adhere to the JSON schema: "
_CHOICE_NOTE = re.compile(r"one of: (.*)", re.DOTALL)
_TAG = re.compile(r"<(/?)(\w+)>")
_NAMES = {
    "str": "str",
    "int": "int",
    "float": "float",
    "bool": "bool",
    "Reasoning": "str",
    "dict": "object",
    "ToolCalls": "calls",
}


@dataclass(frozen=True)
class Shape:
    """The kind of value a field takes.

    ``kind`` is ``"choice"`` (``options`` holds the values), ``"bool"``, ``"int"``, ``"float"``, ``"str"``,
    ``"list"`` (of ``item``), ``"tuple"`` (of ``properties``), ``"object"`` (with ``properties``, or any names with values of
    ``item``) or ``"calls"`` (of tools). ``low`` and ``high`` bound a number. ``form`` is the format of a text, such as
    ``"date"``, or ``"unknown"`` for a class of which only the name is told.
    """

    kind: str
    options: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    item: Shape | None = None
    properties: tuple[tuple[str, Shape, str], ...] = ()
    nullable: bool = False
    least: int = field(default=0)
    form: str = ""


TEXT = Shape("str")
#: A type of which the prompt gives the name and nothing else.
UNKNOWN = Shape("str", form="unknown")


@lru_cache(maxsize=4096)
def shape_of(annotation: str, note: str, constraints: str, description: str) -> Shape:
    """Return the shape of a field.

    Args:
        annotation: the type as the prompt writes it, such as ``Literal['a', 'b']``.
        note: what the prompt says about the value to produce; may be empty.
        constraints: DSPy's list of constraints in words; may be empty.
        description: the field's description, searched for a range if the type is a number.
    """
    shape = _from_annotation(annotation)
    if shape.kind == "calls":
        return shape
    if _JSON_NOTE in note:
        schema = _loads(note.split(_JSON_NOTE, 1)[1])
        if isinstance(schema, dict):
            shape = shape_of_schema(schema)
    elif shape.kind == "str" and not annotation.startswith(("str", "Optional")) and (found := _CHOICE_NOTE.search(note)):
        shape = Shape("choice", tuple(found.group(1).strip().split("; ")))
    if shape.kind in ("int", "float"):
        return _bounded(shape, constraints, description)
    return shape


def _loads(text: str) -> Any:
    try:
        return json.JSONDecoder().raw_decode(text.strip())[0]
    except ValueError:
        return None


def _bounded(shape: Shape, constraints: str, description: str) -> Shape:
    low, high = _first(_AT_LEAST, constraints), _first(_AT_MOST, constraints)
    if low is None and high is None and (found := _RANGE.search(description)):
        a, b = float(found.group(1)), float(found.group(2))
        if a < b:
            low, high = a, b
    return replace(shape, low=shape.low if low is None else low, high=shape.high if high is None else high)


def _first(pattern: re.Pattern[str], text: str) -> float | None:
    found = pattern.search(text)
    return float(next(g for g in found.groups() if g is not None)) if found else None


def _from_annotation(annotation: str) -> Shape:
    # DSPy writes labels as they are: what would be an escape in Python is none, but for a quote.
    plain = re.sub(r"\\(?!')", r"\\\\", annotation)
    plain = plain.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    try:
        return _from_node(ast.parse(plain, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return TEXT


def _from_node(node: ast.expr) -> Shape:
    if isinstance(node, ast.Name):
        if node.id == "list":
            return Shape("list", item=TEXT)
        return Shape(_NAMES[node.id]) if node.id in _NAMES else UNKNOWN
    if not isinstance(node, ast.Subscript) or not isinstance(node.value, ast.Name | ast.Attribute):
        return TEXT
    name = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
    inner = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
    if name == "Literal":
        return Shape("choice", tuple(_constant(n) for n in inner))
    if name in ("list", "set", "List", "Sequence"):
        return Shape("list", item=_from_node(inner[0]))
    if name in ("dict", "Dict", "Mapping"):
        return Shape("object", item=_from_node(inner[-1]))
    if name in ("Union", "Optional"):
        real = [n for n in inner if not (isinstance(n, ast.Name) and n.id == "NoneType")]
        return replace(_from_node(real[0]), nullable=True) if real else TEXT
    return Shape(_NAMES.get(name, "str"))


def _constant(node: ast.expr) -> Any:
    return node.value if isinstance(node, ast.Constant) else ast.unparse(node)


def _from_schema(schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int = 0) -> Shape:
    if depth > 8:
        return TEXT
    if isinstance(schema.get("$ref"), str):
        return _from_schema(_mapping(definitions.get(schema["$ref"].rsplit("/", 1)[-1])), definitions, depth + 1)
    if isinstance(schema.get("anyOf"), list):
        real = [s for s in schema["anyOf"] if isinstance(s, dict) and s.get("type") != "null"]
        inner = _from_schema(real[0], definitions, depth + 1) if real else TEXT
        return replace(inner, nullable=len(real) < len(schema["anyOf"]))
    if isinstance(schema.get("enum"), list) or "const" in schema:
        return Shape("choice", tuple(schema.get("enum", [schema.get("const")])))
    kind = schema.get("type")
    if kind == "array":
        if isinstance(schema.get("prefixItems"), list):
            parts = tuple(
                (f"item {i + 1}", _from_schema(p, definitions, depth + 1), "") for i, p in enumerate(schema["prefixItems"])
            )
            return Shape("tuple", properties=parts)
        item = _from_schema(_mapping(schema.get("items")), definitions, depth + 1)
        return Shape("list", item=item, high=schema.get("maxItems"), least=int(schema.get("minItems", 0)))
    if kind == "object":
        properties = _mapping(schema.get("properties"))
        named = schema.get("additionalProperties")
        return Shape(
            "object",
            item=_from_schema(named, definitions, depth + 1) if isinstance(named, dict) and not properties else None,
            properties=tuple(
                (name, _from_schema(inner, definitions, depth + 1), str(inner.get("description", "")))
                for name, inner in properties.items()
                if isinstance(inner, dict)
            ),
        )
    if kind in ("integer", "number"):
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        return Shape("int" if kind == "integer" else "float", low=low, high=high)
    if kind == "boolean":
        return Shape("bool")
    return Shape("str", form=schema["format"]) if isinstance(schema.get("format"), str) else TEXT


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def shape_of_schema(schema: Mapping[str, Any]) -> Shape:
    """Return the shape that a JSON schema describes."""
    return _from_schema(schema, _mapping(schema.get("$defs", schema.get("definitions"))))


def shape_of_xml(text: str) -> Shape:
    """Return the shape that a nested structure shows, such as ``<name>...</name><tags><item>...</item></tags>``.

    It shows names only, so everything in it is taken to be text.
    """
    members = list(_members(text))
    if not members:
        return TEXT
    if members[0][0] == "item":
        return Shape("list", item=shape_of_xml(members[0][1]))
    return Shape("object", properties=tuple((name, shape_of_xml(inner), "") for name, inner in members))


def _members(text: str) -> Iterator[tuple[str, str]]:
    """Yield the outermost elements of ``text``, each as name and content."""
    open_tags: list[str] = []
    begin = 0
    for tag in _TAG.finditer(text):
        closing, name = tag.groups()
        if not closing:
            begin = begin if open_tags else tag.end()
            open_tags.append(name)
        elif open_tags and open_tags.pop() == name and not open_tags:
            yield name, text[begin : tag.start()]
