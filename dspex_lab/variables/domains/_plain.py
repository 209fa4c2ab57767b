"""Values as JSON has them: what demonstrations are made of, and what is derived without a domain of its own."""

from __future__ import annotations

import datetime
import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import PurePath
from typing import Any
from uuid import UUID

from dspex_lab.variables.domains._base import Base, kind, refused, shown

#: Levels of lists and dicts in each other.
DEEPEST = 50


@kind("plain")
@dataclass(frozen=True, eq=False)
class Plain(Base):
    """Anything that JSON has: texts, finite numbers, bools, None, lists, dicts with texts as keys. It cannot be searched."""

    def cast(self, value: Any, name: str) -> Any:
        """Return a copy of it, with tuples and sets as lists, and models, dataclasses, dates and enums as JSON has them."""
        return plain(value, name, "")

    def equal(self, one: Any, other: Any) -> bool:
        """Say whether two values are the same one, also inside."""
        return same(one, other)

    def first(self) -> None:
        """Return None."""


def same(one: Any, other: Any) -> bool:
    """Say whether two values as JSON has them are alike, types included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def plain(value: Any, name: str, path: str, depth: int = 0) -> Any:
    """Return a copy of ``value`` as JSON has it.

    Args:
        name, path: the variable and the place in its value, for the error.

    Raises:
        VariableError: a part of it is nothing that JSON has.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and not isinstance(value, enum.Enum):
        return int(value)
    if isinstance(value, str) and not isinstance(value, enum.Enum):
        return _text(value, name, path)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _foreign(value, name, path, "JSON has no such number")
        return float(value)
    if depth >= DEEPEST:
        raise _foreign(value, name, path, f"it lies deeper than {DEEPEST} levels, or contains itself")
    if isinstance(value, Mapping):
        return {_key(key, name, path): plain(item, name, f"{path}[{key!r}]", depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, name, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    if isinstance(value, set | frozenset):
        return [plain(item, name, f"{path}[{item!r:.40}]", depth + 1) for item in sorted(value, key=repr)]
    return _made_plain(value, name, path, depth)


def _made_plain(value: Any, name: str, path: str, depth: int) -> Any:
    cls = type(value)
    if isinstance(value, enum.Enum):
        return plain(value.value, name, path, depth + 1)
    if hasattr(cls, "model_dump"):
        return plain(value.model_dump(mode="json"), name, path, depth + 1)
    if hasattr(cls, "__dataclass_fields__"):
        return {field: plain(getattr(value, field), name, f"{path}.{field}", depth + 1) for field in cls.__dataclass_fields__}
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID | PurePath):
        return str(value)
    if cls.__module__.partition(".")[0] == "numpy" and hasattr(value, "tolist"):
        return plain(value.tolist(), name, path, depth + 1)
    if callable(getattr(value, "toDict", None)):  # a dspy.Example inside another
        return plain(value.toDict(), name, path, depth + 1)
    raise _foreign(value, name, path, f"JSON has no {cls.__module__}.{cls.__qualname__}")


def _text(value: str, name: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _foreign(value, name, path, "no file can keep half of a pair") from None
    return str(value)


def _key(key: Any, name: str, path: str) -> str:
    if not isinstance(key, str):
        raise _foreign(key, name, path, "a key is a text")
    return _text(key, name, path)


def _foreign(value: Any, name: str, path: str, why: str) -> Exception:
    where = f" at {path if len(path) <= 120 else path[:60] + ' … ' + path[-50:]}" if path else ""
    return refused(name, value, f"{why}{where}.", "Keep what it is made from, such as its fields as a dict." if where else None)


__all__ = ["DEEPEST", "Plain", "plain", "same", "shown"]
