"""A signature from a JSON schema: the way back of ``Signature.json_schema()``.

What stands for what:

=====================================================  ==============================================================
``string`` with a known ``format``                     ``date datetime time timedelta UUID bytes Path IPv4Address …``
``integer number boolean null``                        ``int float bool None``
``enum`` / ``const``                                   ``Literal``; a titled ``enum`` under ``$defs``: an ``Enum`` class
``array`` / with ``uniqueItems`` / ``prefixItems``     ``list`` / ``set`` / ``tuple``
``object`` with ``properties`` / without               a Pydantic model / ``dict``
``anyOf``, ``oneOf``, several ``type``\\ s               a union
``minimum``, ``maxLength``, ``pattern``, …             constraints
=====================================================  ==============================================================

A schema knows less than a signature: an undeclared input comes back as ``str``, ``list`` as ``list[Any]``, a frozen set as a
set, ``Decimal`` as ``float | str``, and classes as models with the same fields. A schema may come from anywhere: its size is
bounded, nothing outside it is fetched, and what cannot be held is an error that names the place, never left out in silence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import NoneType
from typing import Any

from dspex_lab.errors import SignatureError

from ._document import Document, Path, refusal
from ._field import MISSING, Field, Role
from ._nodes import better_name, check_name
from ._schema_types import TypeReader
from ._signature import Signature

#: Fields that a signature may have.
MAX_FIELDS = 1_000


def from_json_schema(
    schema: Mapping[str, Any], name: str | None, outputs: Mapping[str, Any] | None, any_pattern: bool
) -> Signature:
    """See :meth:`Signature.from_json_schema`."""
    taken: dict[str, Any] = {}
    document = Document(schema)
    fields: list[Field] = []
    instructions = title = None
    whole = _sides(document) if outputs is None else None
    reader = TypeReader(document, taken, any_pattern)
    if whole is not None:
        for role, (side, path) in whole.items():
            fields += _fields(reader, side, path, role)
    else:
        side, path = document.resolve(schema, ())
        fields += _fields(reader, side, path, "input")
        if outputs is not None:
            document = Document(outputs)
            side, path = document.resolve(outputs, ())
            fields += _fields(TypeReader(document, taken, any_pattern), side, path, "output")
    instructions, title = schema.get("description"), schema.get("title")
    if whole is None and isinstance(title, str):
        title = title.removesuffix(" inputs").removesuffix(" outputs")
    return Signature(
        fields,
        name=name or _name(title),
        instructions=instructions if isinstance(instructions, str) else None,
        names=taken,
    )


def _name(title: Any) -> str:
    name = re.sub(r"\W+", "_", title).strip("_")[:100] if isinstance(title, str) else ""
    return name if name.isidentifier() else "StringSignature"


def _sides(document: Document) -> dict[Role, tuple[Any, Path]] | None:
    """Return the schemas of both sides where the document is that of a whole signature."""
    root, path = document.resolve(document.root, ())
    properties = root.get("properties") if isinstance(root, Mapping) else None
    if not isinstance(properties, Mapping) or set(properties) != {"inputs", "outputs"}:
        return None
    sides: dict[Role, tuple[Any, Path]] = {}
    for key, role in (("inputs", "input"), ("outputs", "output")):
        side, at = document.resolve(properties[key], (*path, "properties", key))
        if not isinstance(side, Mapping) or side.get("type", "object") != "object" or "properties" not in side:
            return None
        sides[role] = (side, at)  # type: ignore[index]
    return sides


def _fields(reader: TypeReader, side: Any, path: Path, role: Role) -> list[Field]:
    if not isinstance(side, Mapping) or side.get("type", "object") != "object":
        raise refusal(path, "expected the schema of an object, whose properties are the fields.")
    reader.refuse_unknown(side, path)
    for key in ("anyOf", "oneOf", "allOf", "enum", "const", "patternProperties", "minProperties", "maxProperties"):
        if key in side:
            raise refusal((*path, key), f"a signature's record is no {key!r}; its fields stand in 'properties'.")
    if isinstance(side.get("additionalProperties"), Mapping):
        raise refusal((*path, "additionalProperties"), "every field of a signature is named; others are refused.")
    properties = reader.properties(side, path)
    if len(properties) > MAX_FIELDS:
        raise refusal((*path, "properties"), f"{len(properties):,} fields; {MAX_FIELDS:,} are read at most.")
    required = reader.required(side, path, properties)
    return [
        _field(reader, name, node, (*path, "properties", name), role, name in required) for name, node in properties.items()
    ]


def _field(reader: TypeReader, name: str, node: Any, path: Path, role: Role, required: bool) -> Field:
    wrong = check_name(name)
    if wrong:
        raise refusal(path, f"{wrong[:200]}.", hint=better_name(name[:80]), field=name[:200])
    tp = reader.complete(reader.type_of(node, path, name))
    tp = NoneType if tp is None else tp
    description = reader.described(node, path)
    default: Any = MISSING
    if isinstance(node, Mapping) and "default" in node:
        default = node["default"]
    elif not required:
        default = None
    try:
        return Field(name, tp, role=role, description=description, default=default)
    except SignatureError as error:
        at = (*path, "default") if default is not MISSING else path
        raise refusal(at, error.message, hint=error.hint, field=name) from error
