"""Validation by pydantic-core, compiled once per side of a signature.

The common case is one call into pydantic-core, strict through and through. Only what it refuses is looked at again:

1. a value made of plain JSON parts (dicts, lists, texts, numbers) is read as strict JSON would be, so that a date may be
   its ISO text, an enum's member its value, a model or dataclass a dict, a tuple or set a list; ``"3"`` is still no int;
2. DSPy's own types (``dspy.Image``, ``dspy.Code``, …) and types marked ``Field(strict=False)`` take what they say they take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args, get_origin

from dspex_lab.errors import SignatureError

from ._core import record_validator
from ._report import describe_problems
from ._typed_dict import readable
from ._types import is_dspy_type, rebuild

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, TypeAdapter
    from pydantic_core import CoreSchema

    from ._field import Field


class _AsItSays:
    """Lets a type inside a strict record coerce as it itself says."""

    def __init__(self, tp: Any) -> None:
        self._type = tp

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        validate = adapter(self._type).validator.validate_python
        return core_schema.no_info_plain_validator_function(lambda value: validate(value, strict=False))


def adapter(tp: Any) -> TypeAdapter[Any]:
    """Return a new type adapter; classes Pydantic knows nothing of are checked by ``isinstance``.

    Raises:
        SignatureError: Pydantic cannot make a validator of the type.
    """
    import pydantic
    from pydantic_core import SchemaError

    try:
        tp = readable(tp)
        try:
            made = pydantic.TypeAdapter(tp, config=pydantic.ConfigDict(arbitrary_types_allowed=True))
        except pydantic.errors.PydanticUserError as error:
            if error.code != "type-adapter-config-unused":
                raise
            made = pydantic.TypeAdapter(tp)
        if not made.pydantic_complete:
            made.rebuild(force=True)
        return made
    except (pydantic.errors.PydanticUserError, pydantic.errors.PydanticUndefinedAnnotation, SchemaError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise SignatureError(f"Values of the type {tp!r} cannot be checked: {reason}") from error


def _own_terms(tp: Any) -> Any:
    if is_dspy_type(tp):
        return Annotated[tp, _AsItSays(tp)]
    if get_origin(tp) is Annotated and any(getattr(item, "strict", None) is False for item in tp.__metadata__):
        return Annotated[get_args(tp)[0], _AsItSays(tp)]
    return tp


class Checker:
    """Checks the records of one side of a signature; thread-safe, as pydantic-core's validators are.

    Args:
        owner: the signature's name, for messages.
        side: ``"inputs"`` or ``"outputs"``.
        fields: the fields of that side.

    Attributes:
        validate: pydantic-core's own function; with ``strict=True`` it returns the record in the order of the fields,
            defaults filled in, or raises its ``ValidationError``, which :meth:`again` is then to look at.
    """

    def __init__(self, owner: str, side: str, fields: Mapping[str, Field]) -> None:
        self._owner, self._side, self._fields = owner, side, fields
        self._types = {name: rebuild(readable(field.checked_type), _own_terms) for name, field in fields.items()}
        self._single: dict[str, TypeAdapter[Any]] = {}
        self.validate: Callable[..., dict[str, Any]] = self._compiled()
        self._plain: TypeAdapter[Any] | None = None

    def _compiled(self) -> Callable[..., dict[str, Any]]:
        plain = record_validator(self._fields, self._types)
        if plain is not None:
            return plain
        try:
            return adapter(self._record_type(self._types)).validator.validate_python
        except SignatureError:
            for name, tp in self._types.items():
                try:
                    adapter(tp)
                except SignatureError as error:
                    raise SignatureError(f"{self._owner}, the field {name!r}: {error.message}", field=name) from error
            raise

    def _record_type(self, types: Mapping[str, Any]) -> Any:
        """Return a typed dict: the record's keys with their types, defaults and descriptions, and no others."""
        from typing import NotRequired

        import pydantic
        from typing_extensions import TypedDict

        items: dict[str, Any] = {}
        for name, field in self._fields.items():
            words: dict[str, Any] = {"description": field.description} if field.description else {}
            if field.required:
                items[name] = Annotated[types[name], pydantic.Field(**words)] if words else types[name]
            else:
                items[name] = NotRequired[Annotated[types[name], pydantic.Field(default=field.default, **words)]]
        record = TypedDict(f"{self._owner}_{self._side}", items)  # type: ignore[misc]
        cast(Any, record).__pydantic_config__ = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=True)
        return record

    def again(self, record: Any, problem: Exception, lenient: bool = False) -> dict[str, Any]:
        """Look again at a record that :attr:`validate` refused.

        Args:
            record: what was refused.
            problem: what was raised.
            lenient: whether to coerce.

        Raises:
            SignatureError: naming all that does not fit.
        """
        from pydantic_core import ValidationError

        if not isinstance(problem, ValidationError):
            raise problem
        if type(record) is not dict:
            record = self._as_dict(record)
            try:
                return self.validate(record, strict=True)
            except ValidationError as error:
                problem = error
        repaired = self._reread(record, problem, lenient)
        if repaired is None:
            raise self._refusal(record, problem)
        try:
            return self.validate(repaired, strict=True)
        except ValidationError as error:
            raise self._refusal(repaired, error) from None

    def _as_dict(self, record: Any) -> dict[str, Any]:
        if not isinstance(record, Mapping) and not (hasattr(record, "keys") and hasattr(record, "__getitem__")):
            found = type(record).__name__
            raise SignatureError(
                f"{self._owner}: expected the {self._side} as a mapping of field names to values, found {found}."
            )
        return {key: record[key] for key in record.keys()}  # noqa: SIM118 (dspy.Example iterates otherwise)

    def _refusal(self, record: dict[str, Any], problem: Any) -> SignatureError:
        message, field = describe_problems(self._owner, self._side, self._fields, record, problem.errors(include_url=False))
        return SignatureError(message, field=field)

    def _reread(self, record: dict[str, Any], problem: Any, lenient: bool) -> dict[str, Any] | None:
        """Return the record with the refused values read as JSON (and, if lenient, coerced), or None if nothing changed."""
        wrong = {str(error["loc"][0]) for error in problem.errors(include_url=False, include_context=False) if error["loc"]}
        changed = {}
        for name in wrong & self._fields.keys() & record.keys():
            fitted = self._fit(name, record[name], lenient)
            if fitted is not _UNFIT:
                changed[name] = fitted
        return {**record, **changed} if changed else None

    def _fit(self, name: str, value: Any, lenient: bool) -> Any:
        if name not in self._single:
            self._single[name] = adapter(self._types[name])
        return fit(self._single[name], value, lenient)

    # -- beside checking ------------------------------------------------------------------------------------------
    def record_type(self) -> Any:
        """Return the typed dict of the side with the types as declared, for schemas and serialization."""
        return self._record_type({name: readable(field.annotation) for name, field in self._fields.items()})

    def dump(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``record`` made of JSON's types; what has no JSON form becomes its ``str``."""
        if self._plain is None:
            self._plain = adapter(self.record_type())
        dumped: dict[str, Any] = self._plain.serializer.to_python(dict(record), mode="json", fallback=str, warnings=False)
        return dumped


_UNFIT: Any = object()


def fit(checker: TypeAdapter[Any], value: Any, lenient: bool = False) -> Any:
    """Read ``value`` strictly, else as strict JSON, else (if lenient) by Pydantic's coercions; ``_UNFIT`` when none fits."""
    from pydantic_core import ValidationError, to_json

    validator = checker.validator
    tries: list[Callable[[], Any]] = [lambda: validator.validate_python(value, strict=True)]
    if is_json(value):
        tries.append(lambda: validator.validate_json(to_json(value, inf_nan_mode="constants"), strict=True))
    if lenient:
        tries.append(lambda: validator.validate_python(value, strict=False))
        if isinstance(value, str):
            tries.append(lambda: validator.validate_json(value, strict=False))
    for attempt in tries:
        try:
            return attempt()
        except ValidationError:
            continue
    return _UNFIT


def fits(fitted: Any) -> bool:
    """Whether :func:`fit` found a reading."""
    return fitted is not _UNFIT


def is_json(value: Any, depth: int = 60) -> bool:
    """Whether ``value`` is made of JSON's own types and nothing else."""
    kind = type(value)
    if value is None or kind in (str, int, float, bool):
        return True
    if not depth:
        return False
    if kind is list:
        return all(is_json(item, depth - 1) for item in value)
    return kind is dict and all(type(key) is str and is_json(item, depth - 1) for key, item in value.items())
