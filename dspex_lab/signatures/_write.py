"""Types and values as text in the grammar of signatures."""

from __future__ import annotations

import builtins
import collections.abc
import enum
import sys
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from ._meta import Read
from ._types import BUILTINS, MODULES, TYPING, base_of, is_code_in_language, is_dspy_type, is_number, runs, suffixable


class Names:
    """The names that a text uses beyond those always known; collects them while types are written.

    Args:
        given: names the types were found by, which are kept.
    """

    def __init__(self, given: Mapping[str, Any] | None = None) -> None:
        self.found: dict[str, Any] = {}
        self._given = {id(value): path for path, value in (given or {}).items()}
        self._taken = {path.partition(".")[0] for path in self._given.values()} | BUILTINS.keys() | TYPING.keys() | MODULES

    def of(self, value: Any, wish: str) -> str:
        """Return the name of ``value``, ``wish`` if it is free."""
        if id(value) in self._given:
            path = self._given[id(value)]
            self.found.setdefault(path, value)
            return path
        name, count = wish, 1
        while (name in self.found and self.found[name] is not value) or name in self._taken:
            count += 1
            name = f"{wish}_{count}"
        self.found[name] = value
        return name


def write(tp: Any, names: Names) -> str:
    """Return ``tp`` in the grammar of signatures."""
    origin, args = get_origin(tp), get_args(tp)
    if tp is None or tp is types.NoneType:
        return "None"
    if origin is Annotated:
        return _write_annotated(args[0], tp.__metadata__, names)
    if origin is Literal:
        return f"Literal[{', '.join(write_value(arg, names) for arg in args)}]"
    if origin in (Union, types.UnionType):
        members = list(args)
        if members[0] is types.NoneType:
            members[:2] = members[1], types.NoneType  # as the grammar puts them together, so that the text stays the same
        return " | ".join(write(member, names) for member in members)
    if args or isinstance(tp, types.GenericAlias):
        return f"{_write_origin(tp, origin, names)}[{_write_args(origin, args, names)}]"
    return _write_name(tp, names)


def _write_args(origin: Any, args: tuple[Any, ...], names: Names) -> str:
    if origin is collections.abc.Callable:
        inside = "..." if args[0] is ... else f"[{', '.join(write(arg, names) for arg in args[0])}]"
        return f"{inside}, {write(args[1], names)}"
    return ", ".join("..." if arg is ... else write(arg, names) for arg in args) or "()"


def _write_origin(tp: Any, origin: Any, names: Names) -> str:
    if not isinstance(tp, types.GenericAlias) and tp.__module__ == "typing" and tp._name in TYPING:
        return str(tp._name)
    return _write_name(origin, names)


def _write_name(tp: Any, names: Names) -> str:
    name = getattr(tp, "__qualname__", None) or getattr(tp, "__name__", None) or getattr(tp, "_name", None) or type(tp).__name__
    name = str(name)
    if BUILTINS.get(name) is tp or TYPING.get(name) is tp:
        return name
    if is_dspy_type(tp) or str(getattr(tp, "__module__", "")).startswith("dspy."):
        written = _write_dspy(tp, name)
        if written:
            return written
    module = getattr(tp, "__module__", None) or ""
    root = module.partition(".")[0]
    for path in (module, root):
        if path in MODULES and _attribute(sys.modules.get(path), name) is tp:
            return f"{path}.{name}"
    last = name.rpartition(".")[2]
    return names.of(tp, last if last.isidentifier() and last not in vars(builtins) else f"type_{len(names.found) + 1}")


def _write_dspy(tp: Any, name: str) -> str | None:
    dspy = sys.modules.get("dspy")
    if getattr(dspy, name, None) is tp:
        return f"dspy.{name}"
    return f"dspy.Code[{tp.language!r}]" if is_code_in_language(tp) else None


def _attribute(module: Any, path: str) -> Any:
    for part in path.split("."):
        module = getattr(module, part, None)
    return module


def _write_annotated(base: Any, metadata: tuple[Any, ...], names: Names) -> str:
    parts = [write(base, names)]
    for run in runs(metadata):
        if not isinstance(run, Read):
            parts.append(write_value(run[0], names))
            continue
        left: dict[str, Any] = dict(run.constraints)
        if len(parts) == 1:
            signs, left = suffix(base, left)
            parts[0] += signs
        said = left | ({"description": run.description} if run.description else {})
        parts += [write_call(said, names)] if said else []
    return f"Annotated[{', '.join(parts)}]" if len(parts) > 1 else parts[0]


def write_call(said: Mapping[str, Any], names: Names) -> str:
    """Write ``Field(key=value, …)``."""
    return f"Field({', '.join(f'{key}={write_value(value, names)}' for key, value in said.items())})"


def write_value(value: Any, names: Names) -> str:
    """Write a value as a literal, or as a name where it has no literal form."""
    if isinstance(value, enum.Enum):
        return f"{_write_name(type(value), names)}.{value.name}"
    if is_literal(value):
        return repr(value)
    return names.of(value, f"{type(value).__name__.lower()}_{len(names.found) + 1}")


def is_literal(value: Any, depth: int = 20) -> bool:
    """Whether ``repr(value)`` is a literal of the grammar that reads back as ``value``."""
    if type(value) is float:
        return abs(value) < float("inf")
    if value is None or type(value) in (bool, int, str, bytes):
        return True
    if depth and type(value) in (list, tuple):
        return all(is_literal(item, depth - 1) for item in value)
    if depth and type(value) is set:
        return bool(value) and all(is_literal(item, depth - 1) for item in value)
    if depth and type(value) is dict:
        return all(is_literal(item, depth - 1) for pair in value.items() for item in pair)
    return False


def suffix(base: Any, constraints: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Write what constraints have a sign of their own (``[0..1]``, ``[/regex/]``); return it and the constraints left."""
    left, text = dict(constraints), ""
    if not suffixable(base):
        return "", left
    keys = ("ge", "le") if is_number(base) else ("min_length", "max_length")
    low, high = (left.pop(key, None) for key in keys)
    if all(bound is None or (type(bound) in (int, float) and is_literal(bound)) for bound in (low, high)):
        if low is not None or high is not None:
            text += f"[{'' if low is None else repr(low)}..{'' if high is None else repr(high)}]"
    else:
        left |= {key: bound for key, bound in zip(keys, (low, high), strict=True) if bound is not None}
    if "pattern" in left and base_of(base) is str:
        slashed = _slash(left["pattern"])
        if slashed is not None:
            text += f"[/{slashed}/]"
            del left["pattern"]
    return text, left


def _slash(pattern: str) -> str | None:
    """Return ``pattern`` as it stands between slashes, or None when it cannot stand there."""
    out, in_class, index = "", False, 0
    while index < len(pattern):
        char = pattern[index]
        pair = pattern[index : index + 2]
        if char in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029" or pair == "\\/" or pair == "\\":
            return None
        if char == "\\":
            out, index = out + pair, index + 2
            continue
        in_class = char == "[" or (in_class and char != "]")
        out += "\\/" if char == "/" else char
        index += 1
    return None if in_class else out
