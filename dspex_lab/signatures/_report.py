"""What does not fit a record, in words."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import did_you_mean

if TYPE_CHECKING:
    from ._field import Field

#: Problems inside one field that are told one by one; the rest is counted.
MOST_PER_FIELD = 5

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80
_short.maxdict = _short.maxlist = _short.maxtuple = _short.maxset = 4


def describe_problems(
    owner: str, side: str, fields: Mapping[str, Field], record: Mapping[str, Any], errors: list[Any]
) -> tuple[str, str | None]:
    """Return one message for all errors of a record, and the first field concerned.

    Args:
        errors: pydantic-core's ``ValidationError.errors()``.
    """
    by_field: dict[str, list[Any]] = {}
    for error in errors:
        by_field.setdefault(str(error["loc"][0]) if error["loc"] else "", []).append(error)
    order = {name: place for place, name in enumerate(dict.fromkeys([*fields, *record]))}
    lines: list[str] = []
    names = sorted(by_field, key=lambda name: order.get(name, -1))
    for name in names:
        lines += _about(name, by_field[name], fields, record)
    first = names[0] if names else None
    if len(lines) == 1:
        return f"{owner}, {side}: {lines[0]}", first
    return f"{owner}: {len(lines)} problems in the {side}:\n" + "\n".join(f"  - {line}" for line in lines), first


def _about(name: str, errors: list[Any], fields: Mapping[str, Field], record: Mapping[str, Any]) -> list[str]:
    kind = errors[0]["type"]
    if name not in fields:
        if not name or kind != "extra_forbidden":
            return [str(errors[0]["msg"])]
        missing = [field for field in fields if field not in record]
        near = did_you_mean(name[:80], missing) or did_you_mean(name[:80], fields) or f" It has {_listed(fields)}."
        return [f"there is no field {name!r}.{near}"]
    if kind == "missing" and len(errors[0]["loc"]) == 1:
        return [f"the field {name!r} is missing; expected {fields[name].type_text}."]
    places = _places(errors, record[name])
    whole = f"the field {name!r} expected {fields[name].type_text}, found {_found(record[name])}"
    if set(places) == {""}:
        said = errors[0]["msg"] if len(errors) == 1 and errors[0]["type"] in _TELLING else ""
        return [whole + (f" ({said.partition(', ')[2] or said})" if said else "") + "."]
    lines = [f"in the field {name!r}, at {name}{place}: {_said(error)}." for place, error in places.items() if place]
    if len(lines) > MOST_PER_FIELD:
        lines[MOST_PER_FIELD:] = [f"in the field {name!r}: {len(lines) - MOST_PER_FIELD} more."]
    return lines


#: Kinds of pydantic-core's errors whose message says more than the type that was expected.
_TELLING = ("value_error", "assertion_error")


def _places(errors: list[Any], value: Any) -> dict[str, Any]:
    """Return the first error at each place inside ``value``; branches of unions are no places."""
    places: dict[str, Any] = {}
    for error in errors:
        here, path = value, ""
        for key in error["loc"][1:]:
            if isinstance(key, int) and isinstance(here, list | tuple) and -len(here) <= key < len(here):
                here, path = here[key], f"{path}[{key}]"
            elif isinstance(here, dict) and key in here:
                here, path = here[key], f"{path}[{key!r}]"
            elif error["type"] in ("missing", "extra_forbidden") and key == error["loc"][-1]:
                path = f"{path}[{key!r}]"
        places.setdefault(path, error)
    return places


def _said(error: Any) -> str:
    message = str(error["msg"])
    message = "expected" + message.removeprefix("Input should be") if message.startswith("Input should be") else message
    if error["type"] == "missing":
        return "missing"
    return f"{message}, found {_found(error['input'])}"


def _found(value: Any) -> str:
    return f"{_short.repr(value)} ({type(value).__name__})"


def _listed(fields: Mapping[str, Any]) -> str:
    return ", ".join(repr(name) for name in fields) or "no fields"
