"""Classes made for the objects and enums of a JSON schema."""

from __future__ import annotations

import enum
import keyword
import re
from collections.abc import Mapping
from typing import Any


def model_class(
    name: str,
    properties: Mapping[str, tuple[Any, list[Any] | None, str | None]],
    title: str | None,
    description: str | None,
    others: bool | None,
) -> Any:
    """Return a Pydantic model.

    Args:
        name: the class's name.
        properties: by name: the type, the default (in a list; the list is empty where the property must be given, and None
            where it may be absent, and is None then) and the description.
        title: the title in the schema, where it is another than the name.
        description: the docstring.
        others: whether further properties are kept (True), refused (False) or left out (None).
    """
    import pydantic

    config = pydantic.ConfigDict(
        extra="ignore" if others is None else "allow" if others else "forbid",
        protected_namespaces=(),
        serialize_by_alias=True,
        title=title if title != name else None,
    )
    fields: dict[str, Any] = {}
    for key, (tp, default, text) in properties.items():
        words: dict[str, Any] = {"description": text} if text else {}
        if default is None:
            words["default_factory"] = _absent
        elif default:
            words["default"] = default[0]
        attribute = _attribute(key, fields, properties)
        if attribute != key:
            words |= {"alias": key, "title": key}
        fields[attribute] = (tp, pydantic.Field(**words))
    made: Any = pydantic.create_model(name, __config__=config, __doc__=description, __module__=__name__, **fields)
    return made


def _absent() -> None:
    return None


def _attribute(key: str, used: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    """Return ``key``, or the nearest name that an attribute of a model may have."""
    from pydantic import BaseModel

    name = re.sub(r"\W", "_", key)[:100].lstrip("_")
    if not name.isidentifier():
        name = f"field_{name}"
    if keyword.iskeyword(name) or hasattr(BaseModel, name):
        name += "_"
    if name == key:
        return key
    wish, count = name, 1
    while name in used or name in properties:
        count += 1
        name = f"{wish}_{count}"
    return name


def enum_class(name: str, values: list[Any], description: str | None) -> Any:
    """Return an ``Enum`` of texts and whole numbers, or None where the values are others."""
    if not values or not all(type(value) in (str, int) for value in values) or len(set(values)) != len(values):
        return None
    members: dict[str, Any] = {}
    for value in values:
        wish = re.sub(r"\W+", "_", str(value).replace("-", "minus_" if type(value) is int else "_")).strip("_").upper()[:60]
        wish = wish if wish.isidentifier() and wish != "MRO" and not keyword.iskeyword(wish) else f"VALUE_{wish}".rstrip("_")
        called, count = wish, 1
        while called in members:
            count += 1
            called = f"{wish}_{count}"
        members[called] = value
    made: Any = enum.Enum(name, members, module=__name__)  # type: ignore[misc]
    made.__doc__ = description
    return made
