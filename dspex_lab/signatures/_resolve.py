"""From the nodes of the grammar to types: names are looked up, never imported unless they are known to be harmless."""

from __future__ import annotations

import enum
import re
import types
import typing
from typing import Annotated, Any, Literal, Union, get_origin

from dspex_lab.errors import SignatureError, did_you_mean

from ._meta import CONSTRAINTS, Described, Read, to_metadata
from ._namespace import NOT_FOUND, Namespace, find
from ._nodes import Apply, Call, Const, Items, Matching, Name, Node, OneOf, Ranged
from ._source import Source
from ._types import (
    BUILTINS,
    MODULES,
    TYPING,
    code_type,
    constrained,
    is_bare_alias,
    is_dspy_type,
    is_number,
    known_module,
    runs,
    suffixable,
    union,
    why_no_type,
)

_ARITY = {list: 1, set: 1, frozenset: 1, dict: 2}


class Resolver:
    """Turns the nodes of one text into types.

    Args:
        source: the text, for errors.
        namespace: where names are looked up.

    Attributes:
        used: what each dotted name of the text was found to mean.
    """

    def __init__(self, source: Source, namespace: Namespace) -> None:
        self._source, self._namespace = source, namespace
        self.used: dict[str, Any] = {}
        self._field = ""

    def field_type(self, node: Node, field: str) -> Any:
        """Return the type of a field.

        Raises:
            SignatureError: an unknown name, something that is no type, a bad range.
        """
        self._field = field
        if isinstance(node, Const) and node.value is None:
            return str  # "x: None" is a text in DSPy, whose grammar we keep; NoneType is None's own name
        return self._type(node)

    def field_call(self, node: Call, field: str) -> dict[str, Any]:
        """Return what the ``Field(…)`` behind a field's ``=`` says."""
        self._field = field
        return self._field_words(node)

    def field_value(self, node: Node, field: str) -> Any:
        """Return the value of a default."""
        self._field = field
        try:
            return self._value(node)
        except TypeError as error:  # an unhashable key or member
            raise self._error(node.at, f"the default of {field!r} cannot be built: {error}.") from error

    # -- errors ---------------------------------------------------------------------------------------------------
    def _error(self, at: int, message: str, hint: str | None = None) -> SignatureError:
        return self._source.error(at, message, field=self._field, hint=hint)

    def _unknown(self, node: Name) -> SignatureError:
        root, _, rest = node.path.partition(".")
        message = f"unknown type {node.path!r} of the field {self._field!r}."
        if rest:
            parent = node.path.rpartition(".")[0]
            owner = known_module(parent)
            owner = find(parent, self._namespace) if owner is None else owner
            if owner is not NOT_FOUND:
                known = (
                    [name for name, value in vars(owner).items() if isinstance(value, type)]
                    if hasattr(owner, "__dict__")
                    else []
                )
                last = node.path.rpartition(".")[2]
                near = did_you_mean(last[:60], known).strip().replace("mean '", f"mean '{parent}.")
                return self._error(node.at, message, near or f"{parent!r} has no type of that name.")
            return self._error(node.at, message, f"Import {root!r} first; names are never imported for you.")
        candidates = dict.fromkeys([*BUILTINS, "Any", "Literal", "Optional", "Union", *self._namespace.names(), *TYPING])
        dotted = [f"{module}.{node.path}" for module in sorted(MODULES) if hasattr(known_module(module), node.path)]
        near = f"Did you mean {dotted[0]!r}?" if dotted else did_you_mean(node.path[:60], candidates).strip()
        return self._error(node.at, message, near or "Define or import it first, or pass it in types={…}.")

    # -- types ----------------------------------------------------------------------------------------------------
    def _lookup(self, node: Name) -> Any:
        found = self._meaning(node)
        if found is NOT_FOUND:
            raise self._unknown(node)
        return found

    def _meaning(self, node: Name) -> Any:
        if node.path in self.used:
            return self.used[node.path]
        try:
            found = find(node.path, self._namespace)
            self._note_owner(node.path)
        except Exception as error:  # an attribute of the user's own object may do anything
            raise self._error(node.at, f"looking up {node.path!r} failed: {type(error).__name__}: {error}.") from error
        if found is not NOT_FOUND:
            self.used[node.path] = found
        return found

    def _note_owner(self, path: str) -> None:
        """Note what the name before the last dot means, so that it is written by that name too: ``Color`` of ``Color.RED``."""
        owner = path.rpartition(".")[0]
        if owner and owner not in self.used:
            meaning = find(owner, self._namespace)
            if meaning is not NOT_FOUND:
                self.used[owner] = meaning

    def _type(self, node: Node) -> Any:
        tp = self._any_type(node)
        reason = why_no_type(tp)
        if reason is None:
            return tp
        shown = node.path if isinstance(node, Name) else self._shown(node)
        raise self._error(node.at, f"expected a type for {self._field!r}; {shown} is {reason}.", self._way_out(tp, shown))

    def _way_out(self, tp: Any, shown: str) -> str | None:
        if isinstance(tp, types.ModuleType):
            names = [name for name, value in vars(tp).items() if isinstance(value, type) and not name.startswith("_")]
            return f"Name a type in it, such as {shown}.{sorted(names)[0]}." if names else None
        return None

    def _shown(self, node: Node) -> str:
        return repr(node.value) if isinstance(node, Const) else "this"

    def _any_type(self, node: Node) -> Any:
        match node:
            case Name():
                return self._lookup(node)
            case Apply():
                return self._apply(node)
            case OneOf():
                return union(self._type(member) for member in node.members)
            case Ranged():
                return self._ranged(node)
            case Matching():
                return self._matching(node)
            case Const(value=None):
                return None
            case Const(value=str()):
                return self._forward(node)
            case Const():
                raise self._error(
                    node.at, f"expected a type for {self._field!r}, found {node.value!r}.", _in_literal(node.value)
                )
            case Call():
                raise self._error(
                    node.at, f"expected a type for {self._field!r}, found a call.", "Constraints go in Annotated[…]."
                )
        raise self._error(
            node.at, f"expected a type for {self._field!r}, found a bracket.", "A fixed tuple is tuple[int, str]."
        )

    def _forward(self, node: Const) -> Any:
        """A quoted type, as Python allows."""
        if not all(part.isidentifier() for part in node.value.split(".")):
            raise self._error(
                node.at, f"expected a type for {self._field!r}, found the text {node.value!r}.", _in_literal(node.value)
            )
        return self._type(Name(node.value, node.at))

    def _apply(self, node: Apply) -> Any:
        base = self._any_type(node.base)
        args = node.args
        if len(args) == 1 and isinstance(args[0], Items) and args[0].kind == "tuple":
            args = args[0].items
        if base is Literal:
            return self._literal(node, args)
        if base is Annotated:
            return self._annotated(node, args)
        if base is Union or base is typing.Optional:
            return self._union(node, base, args)
        if get_origin(base) is Annotated or (not args and base not in (tuple, typing.Tuple)):  # noqa: UP006
            raise self._error(node.at, f"expected something in the brackets of {self._field!r}'s type.")
        return self._generic(node, base, args)

    def _union(self, node: Apply, base: Any, args: list[Node]) -> Any:
        if not args or (base is typing.Optional and len(args) != 1):
            raise self._error(
                node.at, "expected exactly one type in Optional[…]." if args else "expected types in the brackets."
            )
        members = [self._type(arg) for arg in args]
        return union([members[0], None] if base is typing.Optional else members)

    def _literal(self, node: Apply, args: list[Node]) -> Any:
        values = []
        for arg in args:
            match arg:
                case Const(value=None | bool() | int() | str() | bytes()):
                    values.append(arg.value)
                case Name():
                    value = self._meaning(arg)
                    if not isinstance(value, enum.Enum):
                        message = f"expected a text, a number, None or an enum's member in Literal, found the name {arg.path}."
                        raise self._error(arg.at, message, f"Did you mean {arg.path!r}, in quotes?")
                    values.append(value)
                case _:
                    raise self._error(
                        arg.at, "expected a text, a whole number, True, False, None or an enum's member in Literal."
                    )
        if not values:
            raise self._error(node.at, "an empty Literal; expected its values in the brackets.")
        return Literal[tuple(values)]

    def _annotated(self, node: Apply, args: list[Node]) -> Any:
        if len(args) < 2:
            raise self._error(node.at, "expected a type and what annotates it in Annotated[…].")
        metadata: list[Any] = []
        for arg in args[1:]:
            if isinstance(arg, Call):
                metadata += self._metadata(arg)
            elif isinstance(arg, Const):
                metadata.append(arg.value)
            elif isinstance(arg, Name):
                metadata.append(self._lookup(arg))
            else:
                raise self._error(arg.at, "expected Field(…), a plain value or a name in Annotated[…].")
        base = self._type(args[0])
        return Annotated[(base, *metadata)] if metadata else base

    def _metadata(self, node: Call) -> list[Any]:
        words = self._field_words(node)
        if "default" in words:
            raise self._error(node.at, "a default stands behind the type: 'x: int = 3'.")
        description = words.pop("description", None)
        return [*to_metadata(words), *([Described(description)] if description else [])]

    def _field_words(self, node: Call) -> dict[str, Any]:
        if node.name.rpartition(".")[2] not in ("Field", "InputField", "OutputField"):
            raise self._error(node.at, f"{node.name}(…) would have to be called; only Field(…) is read.")
        known = (*CONSTRAINTS, "description", "desc", "default")
        words: dict[str, Any] = {}
        for key, value, at in node.keywords:
            if key not in known:
                raise self._error(
                    at, f"Field knows no {key!r}.", did_you_mean(key, known).strip() or f"It knows {', '.join(known)}."
                )
            words["description" if key == "desc" else key] = self._value(value)
            if key == "pattern":
                self._check_pattern(words[key], value.at)
        return words

    def _generic(self, node: Apply, base: Any, args: list[Node]) -> Any:
        origin = base.__origin__ if is_bare_alias(base) else base
        arity = _ARITY.get(origin)
        if arity and len(args) != arity:
            what = "one type" if arity == 1 else f"{arity} types"
            raise self._error(node.at, f"expected {what} in the brackets of {self._shown_base(node)}, found {len(args)}.")
        if suffixable(base) and any(isinstance(arg, Const) and isinstance(arg.value, int | float) for arg in args):
            shown = self._shown_base(node)
            raise self._error(
                args[0].at, "expected a range.", f"A range has two dots: {shown}[1..5], {shown}[1..] or {shown}[..5]."
            )
        raw = not (
            origin in _ARITY or getattr(origin, "__module__", "") in ("builtins", "typing", "collections", "collections.abc")
        )
        parts = tuple(self._argument(arg, raw) for arg in args)
        if is_dspy_type(base) and hasattr(base, "language"):
            return code_type(base, parts)
        try:
            return base[parts if len(parts) != 1 else parts[0]]
        except Exception as error:  # a class may do anything in its brackets
            raise self._error(node.at, f"{self._shown_base(node)} does not take these brackets: {error}.") from error

    def _shown_base(self, node: Apply) -> str:
        return node.base.path if isinstance(node.base, Name) else "the type"

    def _argument(self, node: Node, raw: bool) -> Any:
        match node:
            case Const(value=value) if value is ...:
                return ...
            case Const(value=str() | int() | float()) if raw and not isinstance(node.value, bool):
                return node.value
            case Items(kind="list"):
                return [self._type(item) for item in node.items]
        return self._type(node)

    # -- constraints ----------------------------------------------------------------------------------------------
    def _ranged(self, node: Ranged) -> Any:
        base = self._type(node.base)
        if not suffixable(base):
            hint = "In a union the range stands on its member: int[1..5] | None." if get_origin(base) is Union else None
            raise self._error(node.at, "a range fits numbers, text and collections, not this type.", hint)
        if is_number(base):
            keys = ("ge", "le")
            whole = getattr(base, "__origin__", base) is int
            if whole and any(type(bound) is float for bound in (node.low, node.high)):
                raise self._error(node.at, "expected whole numbers in the range of an int.", "Did you mean float[…]?")
        else:
            keys = ("min_length", "max_length")
            if any(bound is not None and (type(bound) is not int or bound < 0) for bound in (node.low, node.high)):
                raise self._error(node.at, "expected whole numbers from 0 on in a range of lengths.")
        bounds = {key: bound for key, bound in zip(keys, (node.low, node.high), strict=True) if bound is not None}
        return self._constrained(base, bounds, node.at)

    def _matching(self, node: Matching) -> Any:
        base = self._type(node.base)
        if getattr(base, "__origin__", base) is not str:
            raise self._error(node.at, "a pattern fits str, not this type.")
        self._check_pattern(node.pattern, node.at)
        return self._constrained(base, {"pattern": node.pattern}, node.at)

    def _constrained(self, base: Any, constraints: dict[str, Any], at: int) -> Any:
        said = runs(getattr(base, "__metadata__", ()))[-1:]
        if said and isinstance(said[0], Read) and said[0].constraints.keys() & constraints.keys():
            raise self._error(at, "the type is constrained twice.")
        return constrained(base, constraints)

    def _check_pattern(self, pattern: Any, at: int) -> None:
        try:
            re.compile(pattern)
        except (re.error, TypeError, ValueError, OverflowError, RecursionError, Warning) as error:
            raise self._error(at, f"the pattern is not a regular expression: {error}.") from error

    # -- values ---------------------------------------------------------------------------------------------------
    def _value(self, node: Node) -> Any:
        match node:
            case Const():
                return node.value
            case Name():
                return self._lookup(node)
            case Items(kind="dict", items=items):
                values = [self._value(item) for item in items]
                return dict(zip(values[::2], values[1::2], strict=True))
            case Items(kind=kind, items=items):
                return {"list": list, "tuple": tuple, "set": set}[kind](self._value(item) for item in items)
        raise self._error(
            node.at, f"expected a plain value for {self._field!r}.", "Calls are not made; defaults are literals or names."
        )


def _in_literal(value: Any) -> str | None:
    return f"Did you mean Literal[{value!r}]?" if isinstance(value, str | int) else None
