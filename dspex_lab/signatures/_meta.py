"""Constraints: their words, the ``Annotated`` metadata that carries them inside a type, and the way back.

=============  ==========================================  ================
constraint     applies to                                  in the grammar
=============  ==========================================  ================
ge, le         numbers                                     ``float[0..1]``
min_length,    text, bytes and collections                 ``list[str][1..5]``
max_length
pattern        text; searched, not matched as a whole      ``str[/regex/]``
gt, lt,        numbers                                     ``Field(gt=0)``
multiple_of
strict,        what Pydantic says they do                  ``Field(strict=False)``
allow_inf_nan
=============  ==========================================  ================
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema

#: Constraint → the class of ``annotated_types`` that carries it.
_CARRIERS = {
    "ge": "Ge",
    "gt": "Gt",
    "le": "Le",
    "lt": "Lt",
    "multiple_of": "MultipleOf",
    "min_length": "MinLen",
    "max_length": "MaxLen",
}
_PYDANTIC = {"strict": "Strict", "allow_inf_nan": "AllowInfNan"}
CONSTRAINTS = (*_CARRIERS, "pattern", *_PYDANTIC)


#: What means one thing to Rust's engine and another to Python's: operations on sets, word ends, possessive quantifiers.
_READ_OTHERWISE = ("[[", "&&", "--", "~~", r"\<", r"\>", r"\b{", "*+", "++", "?+", "}+")


@functools.lru_cache(maxsize=512)
def engine_of(pattern: str) -> Literal["rust-regex", "python-re"]:
    """Return the engine that is to search for ``pattern``: Rust's wherever it reads it as Python does.

    Its time grows with the text and no faster, so that no text, which may be a model's, can hang the kernel.
    """
    from pydantic_core import SchemaError, SchemaValidator

    if any(part in pattern for part in _READ_OTHERWISE):
        return "python-re"
    try:
        SchemaValidator({"type": "str", "pattern": pattern, "regex_engine": "rust-regex"})
    except SchemaError:
        return "python-re"
    return "rust-regex"


@dataclass(frozen=True, slots=True)
class Regex:
    """A pattern that text must contain, in Python's dialect.

    Two engines search: Rust's in linear time, where ``$`` is the very end of the text, and Python's for what Rust's does not
    know (look-around, back-references), where ``$`` is also the place before a last line end.
    """

    pattern: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        schema = handler(source)
        if schema["type"] == "str" and "pattern" not in schema:
            return {**schema, "pattern": self.pattern, "regex_engine": engine_of(self.pattern)}
        search = re.compile(self.pattern).search

        def check(value: Any) -> Any:
            if isinstance(value, str) and search(value) is None:
                raise ValueError(f"String should match pattern '{self.pattern}'")
            return value

        return core_schema.no_info_after_validator_function(check, schema)


@dataclass(frozen=True, slots=True)
class Described:
    """The description of a type inside another; it shows in the JSON schema, and so in DSPy's prompt."""

    text: str

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "description": self.text}


def to_metadata(constraints: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the ``Annotated`` metadata that says ``constraints``, always the same for the same ones."""
    import annotated_types

    metadata: list[Any] = []
    for key in CONSTRAINTS:
        if key not in constraints:
            continue
        value = constraints[key]
        if key in _CARRIERS:
            metadata.append(getattr(annotated_types, _CARRIERS[key])(value))
        elif key == "pattern":
            metadata.append(Regex(value))
        else:
            import pydantic

            metadata.append(getattr(pydantic, _PYDANTIC[key])(value))
    return tuple(metadata)


@dataclass(slots=True)
class Read:
    """What metadata says: constraints, a description, a default (in a list, if there is one), and the rest."""

    constraints: dict[str, Any]
    description: str | None
    default: list[Any]
    rest: list[Any]


def read_metadata(metadata: Iterable[Any], found: Read | None = None) -> Read:
    """Sort metadata of ``annotated_types``, Pydantic, ``typing_extensions.Doc`` and our own by what it says.

    Args:
        metadata: the items.
        found: what was read before, to be added to.
    """
    found = found or Read({}, None, [], [])
    for item in metadata:
        if not _read_one(item, found):
            found.rest.append(item)
    return found


def _read_one(item: Any, found: Read) -> bool:
    """Add what ``item`` says to ``found``; False when it is none of the known kinds."""
    kind, module = type(item).__name__, type(item).__module__.partition(".")[0]
    if isinstance(item, str):
        found.description = found.description or item
        return True
    if isinstance(item, Regex):
        found.constraints["pattern"] = item.pattern
        return True
    if isinstance(item, Described) or kind == "Doc":
        found.description = item.text if isinstance(item, Described) else item.documentation
        return True
    if module == "annotated_types":
        return _read_annotated_type(item, kind, found)
    if module != "pydantic":
        return False
    if kind == "FieldInfo":
        return _read_field_info(item, found)
    if kind in ("Strict", "AllowInfNan"):
        key = "strict" if kind == "Strict" else "allow_inf_nan"
        found.constraints[key] = getattr(item, key)
        return True
    if kind == "StringConstraints":
        return _read_parts(item, found)
    if kind == "_PydanticGeneralMetadata" and {key for key, value in vars(item).items() if value is not None} <= {"pattern"}:
        return _read_pattern(vars(item).get("pattern"), found)
    return False


def _read_annotated_type(item: Any, kind: str, found: Read) -> bool:
    for key, carrier in _CARRIERS.items():
        if kind == carrier:
            found.constraints[key] = getattr(item, key)
            return True
    return kind in ("Interval", "Len") and _read_parts(item, found)


def _read_parts(group: Iterable[Any], found: Read) -> bool:
    """Read grouped metadata, all of it or nothing."""
    parts = Read({}, None, [], [])
    if not all(_read_one(part, parts) for part in group):
        return False
    found.constraints.update(parts.constraints)
    return True


def _read_pattern(pattern: Any, found: Read) -> bool:
    if isinstance(pattern, re.Pattern):
        if pattern.flags != re.compile(pattern.pattern).flags:
            return False  # flags are no part of the text of a pattern
        pattern = pattern.pattern
    if pattern is not None:
        found.constraints["pattern"] = pattern
    return True


def _read_field_info(info: Any, found: Read) -> bool:
    if info.metadata and not _read_parts(info.metadata, found):
        return False
    if info.description:
        found.description = info.description
    if not info.is_required():
        found.default[:] = [info.get_default(call_default_factory=True)]
    return True
