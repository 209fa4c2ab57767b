"""Types from the parts of a JSON schema."""

from __future__ import annotations

import enum
import keyword
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ForwardRef, Literal, get_args, get_origin

from dspex_lab.errors import did_you_mean

from ._document import Document, Path, refusal
from ._meta import Described
from ._schema_classes import enum_class, model_class
from ._schema_scalars import integer_type, lengths, limited, number_type, read_pattern, string_type
from ._types import BUILTINS, TYPING, union

#: Parts that the types of one document may have, references written out, and classes made for them.
MAX_PARTS = 10_000
MAX_CLASSES = 500
MAX_DEPTH = 50

#: Keywords that change what fits and that no type of ours can say.
_REFUSED = frozenset(
    {
        *("not", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies", "contains", "minContains"),
        *("maxContains", "unevaluatedItems", "unevaluatedProperties", "additionalItems", "contentSchema", "$dynamicRef"),
        "$recursiveRef",
    }
)
#: Keywords that say what fits; beside a reference or a union they would have to hold as well.
_STRUCTURE = frozenset(
    {
        *("type", "enum", "const", "properties", "required", "additionalProperties", "patternProperties", "propertyNames"),
        *("minProperties", "maxProperties", "items", "prefixItems", "minItems", "maxItems", "uniqueItems", "minLength"),
        *("maxLength", "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("anyOf", "oneOf", "allOf", "$ref"),
    }
)
_KINDS = ("string", "integer", "number", "boolean", "null", "array", "object")


class TypeReader:
    """Reads the types of one document.

    Args:
        document: the document.
        taken: the classes made so far by name; added to.
        any_pattern: take also patterns that only a backtracking engine can search for.
    """

    def __init__(self, document: Document, taken: dict[str, Any], any_pattern: bool) -> None:
        self._document, self.taken, self._any_pattern = document, taken, any_pattern
        self._parts = self._depth = 0
        self._read: dict[Path, tuple[Any, int]] = {}
        self._open: dict[Path, str | None] = {}
        self._forward = 0
        self._later: dict[str, Any] = {}
        self._kinds: dict[str, Callable[[Mapping[str, Any], Path, str], Any]] = {
            "string": lambda node, path, _: string_type(node, path, any_pattern),
            "integer": lambda node, path, _: integer_type(node, path),
            "number": lambda node, path, _: number_type(node, path),
            "boolean": lambda *_: bool,
            "null": lambda *_: None,
            "array": self._array,
            "object": self._object,
        }

    # -- what others read -----------------------------------------------------------------------------------------
    def complete(self, tp: Any) -> Any:
        """Give the classes that refer to each other to one another; ``tp`` is returned."""
        if self._later:
            made = {mark: cls for mark, cls in self._later.items() if cls is not None}
            for cls in dict.fromkeys([*self._later.values(), *self.taken.values()]):
                if hasattr(cls, "model_rebuild") and not cls.__pydantic_complete__:
                    cls.model_rebuild(force=True, _types_namespace=made)
        return tp

    def described(self, node: Any, path: Path) -> str | None:
        """Return the description of a schema."""
        text = node.get("description") if isinstance(node, Mapping) else None
        if text is not None and not isinstance(text, str):
            raise refusal((*path, "description"), f"expected a text, found {text!r:.80}.")
        return text or None

    def refuse_unknown(self, node: Mapping[str, Any], path: Path) -> None:
        """Raise for keywords that no type can say."""
        for key in node:
            if key in _REFUSED:
                raise refusal((*path, key), f"{key!r} says something no type can; it is not read.")

    def properties(self, node: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
        """Return the properties of an object."""
        found = node.get("properties", {})
        if not isinstance(found, Mapping):
            raise refusal((*path, "properties"), f"expected an object, found {found!r:.80}.")
        return found

    def required(self, node: Mapping[str, Any], path: Path, properties: Mapping[str, Any]) -> frozenset[str]:
        """Return the names of the properties that must be there."""
        names = node.get("required", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise refusal((*path, "required"), f"expected a list of names, found {names!r:.80}.")
        for place, name in enumerate(names):
            if name not in properties:
                near = did_you_mean(name[:80], [key[:80] for key in properties]).strip()
                raise refusal((*path, "required", place), f"{name[:80]!r} is not among the properties.", hint=near or None)
        return frozenset(names)

    # -- types ----------------------------------------------------------------------------------------------------
    def type_of(self, node: Any, path: Path, name: str) -> Any:
        """Return the type that a schema says; ``name`` is what a class made for it is called if it has no title.

        Raises:
            SignatureError: naming the place of what cannot be held.
        """
        self._parts += 1
        self._depth += 1
        if self._parts > MAX_PARTS:
            raise refusal(path, f"with all references written out, the schema has more than {MAX_PARTS:,} parts.")
        if self._depth > MAX_DEPTH:
            raise refusal(path, f"types lie more than {MAX_DEPTH} deep inside each other.")
        tp = self._nullable(node, self._read_type(node, path, name))
        self._depth -= 1
        return tp

    def _read_type(self, node: Any, path: Path, name: str) -> Any:
        if node is True:
            return Any
        if not isinstance(node, Mapping):
            raise refusal(path, "nothing fits 'false'." if node is False else f"expected a schema, found {node!r:.80}.")
        self.refuse_unknown(node, path)
        for key in ("$ref", "allOf", "anyOf", "oneOf"):
            if key in node:
                self._refuse_beside(node, key, path)
                return (self._reference if key == "$ref" else self._members)(node, key, path, name)
        return self._plain(node, path, name)

    def _plain(self, node: Mapping[str, Any], path: Path, name: str) -> Any:
        if "const" in node:
            return self._literal([node["const"]], (*path, "const"))
        if "enum" in node:
            values = node["enum"]
            if not isinstance(values, list) or not values:
                raise refusal((*path, "enum"), f"expected a list of values, found {values!r:.80}.")
            return self._literal(values, (*path, "enum"))
        kinds = self._types_of(node, path)
        if not kinds:
            wrong = sorted(_STRUCTURE & node.keys())
            if wrong:
                raise refusal((*path, wrong[0]), f"{wrong[0]!r} stands without a 'type'.", hint="Say the type.")
            return Any
        return union([self._kinds[kind](node, path, name) for kind in kinds])

    def _types_of(self, node: Mapping[str, Any], path: Path) -> list[str]:
        said = node.get("type")
        if said is None:
            return ["object"] if "properties" in node else ["array"] if {"items", "prefixItems"} & node.keys() else []
        kinds = said if isinstance(said, list) else [said]
        for kind in kinds:
            if kind not in _KINDS:
                near = did_you_mean(kind[:40], _KINDS).strip() if isinstance(kind, str) else ""
                raise refusal((*path, "type"), f"unknown type {kind!r:.80}.", hint=near or f"There are {', '.join(_KINDS)}.")
        if not kinds:
            raise refusal((*path, "type"), "no value fits an empty list of types.")
        return list(dict.fromkeys(kinds))

    def _refuse_beside(self, node: Mapping[str, Any], key: str, path: Path) -> None:
        beside = sorted((_STRUCTURE & node.keys()) - {key})
        if beside:
            raise refusal((*path, beside[0]), f"{beside[0]!r} stands beside {key!r}; both would have to hold.")

    def _nullable(self, node: Any, tp: Any) -> Any:
        return union([tp, None]) if isinstance(node, Mapping) and node.get("nullable") is True else tp

    def _inner(self, node: Any, path: Path, name: str) -> Any:
        """Return a type inside another, with its description."""
        tp = self.type_of(node, path, name)
        text = self.described(node, path)
        return Annotated[tp, Described(text)] if text and not _is_made(tp) else tp

    # -- references and unions ------------------------------------------------------------------------------------
    def _reference(self, node: Mapping[str, Any], key: str, path: Path, name: str) -> Any:
        target, at = self._document.resolve(node, path)
        mark = self._open.get(at)
        if mark is None and at in self._open and not self._object_since(at):
            raise refusal((*path, key), "a schema that is made of itself, without an object between.")
        if mark is not None:
            self._forward += 1
            self._later.setdefault(mark, None)
            return ForwardRef(mark)
        if at in self._read:
            tp, parts = self._read[at]
            self._parts += parts
            return tp
        parts, forward, opened = self._parts, self._forward, at in self._open
        self._open[at] = None
        tp = self._definition(target, at, str(at[-1]) if at else name)
        if not opened:
            del self._open[at]
        if self._forward == forward or _is_made(tp):
            self._read[at] = (tp, 1 if _is_made(tp) else self._parts - parts)
        return tp

    def _object_since(self, at: Path) -> bool:
        """Whether an object is being read that began after the schema at ``at`` did."""
        opened = list(self._open)
        return any(self._open[path] is not None for path in opened[opened.index(at) :])

    def _definition(self, target: Any, at: Path, name: str) -> Any:
        """Return the type under ``$defs``; a titled enum is a class there, as Pydantic writes it."""
        titled = isinstance(target, Mapping) and isinstance(target.get("title"), str)
        if titled and isinstance(target.get("enum"), list) and at[:1] in (("$defs",), ("definitions",)):
            made = enum_class(self._class_name(target, at, name), target["enum"], self.described(target, at))
            if made is not None:
                self.taken[made.__name__] = made
                return made
        return self._inner(target, at, name)

    def _members(self, node: Mapping[str, Any], key: str, path: Path, name: str) -> Any:
        members = node[key]
        if not isinstance(members, list) or not members:
            raise refusal((*path, key), f"expected a list of schemas, found {members!r:.80}.")
        if key == "allOf" and len(members) > 1:
            raise refusal((*path, key), "several schemas that must all hold are not read.", hint="Write them as one.")
        return union([self._inner(member, (*path, key, place), name) for place, member in enumerate(members)])

    def _literal(self, values: list[Any], path: Path) -> Any:
        for place, value in enumerate(values):
            if not (value is None or isinstance(value, str | bool | int)):
                where = (*path, place) if path[-1] == "enum" else path
                raise refusal(where, f"expected a text, a whole number, true, false or null, found {value!r:.80}.")
        return Literal[tuple(values)]

    # -- arrays and objects ---------------------------------------------------------------------------------------
    def _array(self, node: Mapping[str, Any], path: Path, name: str) -> Any:
        limits = lengths(node, path, {"minItems": "min_length", "maxItems": "max_length"})
        if "prefixItems" in node:
            return self._tuple(node, path, name, limits)
        items = self._inner(node.get("items", True), (*path, "items"), name)
        if node.get("uniqueItems") is not True:
            return limited(list[items], limits)  # type: ignore[valid-type]
        if not _hashable(items):
            raise refusal((*path, "uniqueItems"), "a set holds only scalars, and these items are none.")
        return limited(set[items], limits)  # type: ignore[valid-type]

    def _tuple(self, node: Mapping[str, Any], path: Path, name: str, limits: Mapping[str, int]) -> Any:
        parts = node["prefixItems"]
        if not isinstance(parts, list) or not parts:
            raise refusal((*path, "prefixItems"), f"expected a list of schemas, found {parts!r:.80}.")
        closed = limits.get("max_length") == len(parts) or node.get("items") is False
        if not closed or limits.get("min_length", 0) != len(parts):
            at = (*path, "prefixItems")
            raise refusal(at, "a tuple has a fixed length.", hint=f"Say minItems and maxItems {len(parts)}.")
        return tuple[tuple(self._inner(part, (*path, "prefixItems", i), name) for i, part in enumerate(parts))]  # type: ignore[misc]

    def _object(self, node: Mapping[str, Any], path: Path, name: str) -> Any:
        if "properties" in node:
            return self._model(node, path, name)
        self.required(node, path, {})
        limits = lengths(node, path, {"minProperties": "min_length", "maxProperties": "max_length"})
        keys: Any = str
        values, at = node.get("additionalProperties", True), (*path, "additionalProperties")
        patterns = node.get("patternProperties")
        if patterns is not None:
            if not isinstance(patterns, Mapping) or len(patterns) != 1 or values not in (True, False):
                raise refusal((*path, "patternProperties"), "expected one pattern, and no schema for other keys.")
            ((pattern, values),) = patterns.items()
            at = (*path, "patternProperties", pattern)
            keys = limited(str, {"pattern": read_pattern(pattern, at, self._any_pattern)})
        elif "propertyNames" in node:
            said = node["propertyNames"]
            said = {"type": "string", **said} if isinstance(said, Mapping) and not {"$ref", "anyOf"} & said.keys() else said
            keys = self._inner(said, (*path, "propertyNames"), name)
        if values is False:
            raise refusal(at, "an object that may hold nothing.", hint="Say its 'properties'.")
        return limited(dict[keys, self._inner(values, at, name)], limits)  # type: ignore[misc]

    def _model(self, node: Mapping[str, Any], path: Path, name: str) -> Any:
        for key in ("patternProperties", "propertyNames", "minProperties", "maxProperties"):
            if key in node:
                raise refusal((*path, key), f"{key!r} beside 'properties' is not read.")
        others = node.get("additionalProperties", None)
        if isinstance(others, Mapping) and others:
            raise refusal((*path, "additionalProperties"), "a schema for further properties beside 'properties' is not read.")
        properties = self.properties(node, path)
        required = self.required(node, path, properties)
        called = self._class_name(node, path, name)
        mark = f"_dspex_class_{len(self.taken)}_"
        self.taken[called] = None
        opened, self._open[path] = path in self._open, mark
        fields = {
            key: self._property(inner, (*path, "properties", key), key, key in required) for key, inner in properties.items()
        }
        self._open[path] = None
        if not opened:
            del self._open[path]
        title = node.get("title") if isinstance(node.get("title"), str) else None
        kept = None if others is None else bool(others)
        made = model_class(called, fields, title, self.described(node, path), kept)
        self.taken[called] = made
        if mark in self._later:
            self._later[mark] = made
        return made

    def _property(self, node: Any, path: Path, name: str, required: bool) -> tuple[Any, Any, str | None]:
        """Return type, default (a list: empty for a required property) and description of a property."""
        from ._validate import adapter, fit, fits

        forward = self._forward
        tp, text = self.type_of(node, path, name), self.described(node, path)
        if not isinstance(node, Mapping) or "default" not in node:
            return (tp, [], text) if required else (union([tp, None]), None, text)
        default = node["default"]
        if self._forward != forward or not all(getattr(cls, "__pydantic_complete__", True) for cls in self.taken.values()):
            if default not in (None, [], {}):
                raise refusal((*path, "default"), "a default that is not empty, of a type that is made of itself.")
            return (tp, [default], text)
        fitted = fit(adapter(tp), default)
        if not fits(fitted):
            raise refusal((*path, "default"), f"the default does not fit its type, found {default!r:.80}.")
        return (tp, [fitted], text)

    def _class_name(self, node: Mapping[str, Any], path: Path, name: str) -> str:
        if len(self.taken) >= MAX_CLASSES:
            raise refusal(path, f"more than {MAX_CLASSES} objects; a signature's types hold fewer.")
        title = node.get("title")
        wishes = [title] if isinstance(title, str) and title.isidentifier() and not keyword.iskeyword(title) else []
        for wish in (*wishes, name, "Object"):
            cleaned = re.sub(r"\W+", "_", wish).strip("_")[:60]
            if cleaned.isidentifier():
                break
        wish = cleaned if wishes else cleaned[:1].upper() + cleaned[1:]
        called, count = wish, 1
        while called in self.taken or called in BUILTINS or called in TYPING or keyword.iskeyword(called):
            count += 1
            called = f"{wish}_{count}"
        return called


def _is_made(tp: Any) -> bool:
    """Whether ``tp`` is a class made here, which carries its own description."""
    return isinstance(tp, ForwardRef) or (isinstance(tp, type) and (issubclass(tp, enum.Enum) or hasattr(tp, "model_fields")))


def _hashable(tp: Any) -> bool:
    origin, args = get_origin(tp), get_args(tp)
    if origin is Annotated:
        return _hashable(args[0])
    if origin is Literal:
        return True
    if args:
        return origin not in (list, dict, set) and all(_hashable(arg) for arg in args)
    return tp is not Any and not isinstance(tp, ForwardRef) and not hasattr(tp, "model_fields")
