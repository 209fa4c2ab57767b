"""A field of a signature."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType, NoneType
from typing import Any, Final, Literal, Union

from dspex_lab.errors import SignatureError, did_you_mean

from ._meta import CONSTRAINTS
from ._nodes import better_name, check_name
from ._types import constrained, peel
from ._write import Names, is_literal, suffix, write, write_call, write_value

Role = Literal["input", "output"]


class _Missing(enum.Enum):
    MISSING = "no default"

    def __repr__(self) -> str:
        return "MISSING"


#: The default of a field that has none.
MISSING: Final = _Missing.MISSING

_PLAIN = (str, int, float, bool)


class Field:
    """A field: a name with a type, a role and what else is known of it. Immutable; equal when all of it is equal.

    Attributes:
        name: the name.
        type: the type, without its outermost constraints: ``float`` for ``float[0..1]``.
        role: ``"input"`` or ``"output"``.
        description: what the field holds, in words, or None.
        default: the value taken when none is given, or :data:`MISSING`.
        constraints: ``ge gt le lt multiple_of min_length max_length pattern strict allow_inf_nan`` → value.
        declared: False when no type was written. The type is then ``str``, as in DSPy; an undeclared *input* takes any
            value all the same.
    """

    __slots__ = ("_text", "constraints", "declared", "default", "description", "name", "role", "type")

    name: str
    type: Any
    role: Role
    description: str | None
    default: Any
    constraints: Mapping[str, Any]
    declared: bool

    def __init__(
        self,
        name: str,
        type: Any = str,  # noqa: A002 (the word of the public interface)
        *,
        role: Role = "input",
        description: str | None = None,
        default: Any = MISSING,
        constraints: Mapping[str, Any] | None = None,
        declared: bool = True,
    ) -> None:
        """Make a field; an outermost ``Annotated`` of ``type`` is taken apart into description, default and constraints.

        Raises:
            SignatureError: a name that cannot be a field's, a constraint nobody knows, a default that does not fit the type.
        """
        wrong = check_name(name)
        if wrong:
            raise SignatureError(wrong[0].upper() + wrong[1:] + ".", field=name, hint=better_name(name))
        base, said = peel(type)
        limits = {**said.constraints, **(constraints or {})}
        for key in limits:
            if key not in CONSTRAINTS:
                raise SignatureError(
                    f"The field {name!r} has an unknown constraint {key!r}.{did_you_mean(key, CONSTRAINTS)}", field=name
                )
        if default is MISSING and said.default:
            (default,) = said.default
        ordered = {key: limits[key] for key in CONSTRAINTS if limits.get(key) is not None}
        put = object.__setattr__
        put(self, "name", name)
        put(self, "type", base)
        put(self, "role", role)
        put(self, "description", description or said.description or None)
        put(self, "constraints", MappingProxyType(ordered))
        put(self, "declared", declared)
        put(self, "default", MISSING)
        put(self, "_text", None)
        if default is not MISSING:
            self._take_default(default)

    def _take_default(self, default: Any) -> None:
        put = object.__setattr__
        if default is None and self.checked_type is not Any:
            # "x: int = None" is common and means an optional value.
            if not self._fits(None):
                put(self, "type", Union[self.annotation, None])  # noqa: UP007 (an object, not an annotation)
                put(self, "constraints", MappingProxyType({}))
                put(self, "declared", True)
            put(self, "default", None)
            return
        if type(default) in _PLAIN and self.type is type(default) and not self.constraints:
            put(self, "default", default)
            return
        from ._validate import adapter, fit, fits

        fitted = fit(adapter(self.checked_type), default)
        if not fits(fitted):
            found = f"{default!r} ({type(default).__name__})"
            raise SignatureError(
                f"The default of {self.name!r} does not fit: expected {self.type_text}, found {found}.", field=self.name
            )
        put(self, "default", fitted)

    def _fits(self, value: Any) -> bool:
        from ._validate import adapter, fit, fits

        return fits(fit(adapter(self.checked_type), value))

    # -- what follows from it -------------------------------------------------------------------------------------
    @property
    def required(self) -> bool:
        """Whether a record must give the field."""
        return self.default is MISSING

    @property
    def takes_any(self) -> bool:
        """Whether the field is an input whose type nobody declared."""
        return self.role == "input" and not self.declared

    @property
    def annotation(self) -> Any:
        """The type with its constraints, as an ``Annotated`` type."""
        return constrained(self.type, self.constraints)

    @property
    def checked_type(self) -> Any:
        """The type values are checked against: anything for an undeclared input, else :attr:`annotation`."""
        return Any if self.takes_any else self.annotation

    @property
    def type_text(self) -> str:
        """The type with its constraints in the grammar of signatures."""
        if self._text is None:
            object.__setattr__(self, "_text", write(self.annotation, Names()))
        return str(self._text)

    _text: str | None

    def to_text(self, names: Names) -> tuple[str, str | None]:
        """Return the field as the grammar writes it, and the comment behind it, if there is one."""
        written, left = suffix(self.type, self.constraints)
        text = self.name
        if self.declared or left or self.constraints:
            text += ": " + ("NoneType" if self.type is NoneType else write(self.type, names) + written)
        words: dict[str, Any] = dict(left)
        comment = self.description
        if comment is not None and (comment != " ".join(comment.split()) or not comment.isprintable()):
            words["description"], comment = comment, None
        if words:
            if self.default is not MISSING:
                words["default"] = self._default_as_written()
            return f"{text} = {write_call(words, names)}", comment
        if self.default is not MISSING:
            text += f" = {write_value(self._default_as_written(), names)}"
        return text, comment

    def _default_as_written(self) -> Any:
        """Return the default, or the plain JSON value that reads back as it."""
        if is_literal(self.default) or isinstance(self.default, enum.Enum):
            return self.default
        from ._validate import adapter, fit

        checker = adapter(self.annotation)
        plain = checker.serializer.to_python(self.default, mode="json", fallback=str, warnings=False)
        return plain if is_literal(plain) and fit(adapter(self.checked_type), plain) == self.default else self.default

    # -- the usual ------------------------------------------------------------------------------------------------
    def _key(self) -> tuple[Any, ...]:
        return (self.name, self.type, self.role, self.description, self.default, dict(self.constraints), self.takes_any)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Field):
            return NotImplemented
        return self._key() == other._key() and type(self.default) is type(other.default)

    def __hash__(self) -> int:
        return hash((self.name, self.role, self.description))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("A Field is immutable; make another one.")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("A Field is immutable; make another one.")

    def __repr__(self) -> str:
        text, comment = self.to_text(Names())
        return f"<Field {self.role} {text}{'  # ' + comment if comment else ''}>"

    def __reduce__(self) -> tuple[Any, ...]:
        state = {
            "role": self.role,
            "description": self.description,
            "default": self.default,
            "constraints": dict(self.constraints),
            "declared": self.declared,
        }
        return (_restore, (self.name, self.type, state))


def _restore(name: str, tp: Any, state: dict[str, Any]) -> Field:
    return Field(name, tp, **state)
