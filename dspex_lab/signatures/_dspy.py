"""To and from ``dspy.Signature``. DSPy is imported here and nowhere else in the room but for names that begin ``dspy.``."""

from __future__ import annotations

import typing
import warnings
from typing import TYPE_CHECKING, Any

from dspex_lab._lazy import require
from dspex_lab.errors import SignatureError

from ._field import MISSING, Field
from ._meta import read_metadata
from ._types import constrained

if TYPE_CHECKING:
    from pydantic.errors import PydanticUserError

    from ._signature import Signature

#: Constraints that DSPy's fields put into the prompt themselves.
_SHOWN = ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "allow_inf_nan")
_UNDEFINED = "IS_TYPE_UNDEFINED"


def is_dspy_signature(cls: Any) -> bool:
    """Whether ``cls`` is a ``dspy.Signature`` class; DSPy is not imported for it."""
    return isinstance(cls, type) and any(
        b.__module__ == "dspy.signatures.signature" and b.__name__ == "Signature" for b in cls.__mro__
    )


def to_dspy(sig: Signature) -> Any:
    """Return a new ``dspy.Signature`` class that says what ``sig`` says.

    Raises:
        SignatureError: a type that Pydantic knows nothing of, which DSPy refuses.
    """
    from pydantic.errors import PydanticUserError

    from ._signature import as_docstring

    dspy = require("dspy", "for DSPy's signatures")
    fields = {field.name: (_type_for_dspy(field), _field_for_dspy(dspy, field)) for field in sig.fields.values()}
    instructions = as_docstring(sig.instructions)  # DSPy cleans docstrings as Python does
    with warnings.catch_warnings():
        # A field may be called "copy" or "json", as in DSPy; that it shadows an attribute of the class is of no use to know.
        warnings.filterwarnings("ignore", message=r'Field name "\w+" in ".*" shadows an attribute', category=UserWarning)
        try:
            return dspy.Signature(fields, instructions, signature_name=sig.name)
        except PydanticUserError as error:
            raise _refusal(sig, fields, error) from error


def _refusal(sig: Signature, fields: dict[str, Any], error: PydanticUserError) -> SignatureError:
    wrong = [name for name, (tp, _) in fields.items() if not _known_to_pydantic(tp)]
    listed = ", ".join(map(repr, wrong)) or "these together"
    hint = "Give DSPy types that Pydantic knows; native steps take these too."
    message = f"{sig.name}: of its fields DSPy cannot hold {listed}: {error.message.partition('. ')[0]}."
    return SignatureError(message, field=wrong[0] if wrong else None, hint=hint)


def _known_to_pydantic(tp: Any) -> bool:
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    try:
        TypeAdapter(tp)
    except PydanticUserError:
        return False
    return True


def _type_for_dspy(field: Field) -> Any:
    """Return the type in a form DSPy's class maker takes: named types are replaced by what they name."""
    tp = field.type
    while isinstance(tp, typing.NewType) or type(tp).__name__ == "TypeAliasType":
        tp = tp.__supertype__ if isinstance(tp, typing.NewType) else tp.__value__
    kept = {key: value for key, value in field.constraints.items() if key not in (*_SHOWN, "pattern")}
    return constrained(tp, kept)


def _field_for_dspy(dspy: Any, field: Field) -> Any:
    words: dict[str, Any] = {key: field.constraints[key] for key in _SHOWN if key in field.constraints}
    if field.description:
        words["desc"] = field.description
    if field.default is not MISSING:
        words["default"] = field.default
    if field.role == "input":
        words[_UNDEFINED] = not field.declared
    made = (dspy.InputField if field.role == "input" else dspy.OutputField)(**words)
    if "pattern" in field.constraints:
        # Pydantic would compile the pattern in a dialect without look-around; in the schema and the prompt it is text.
        pattern = field.constraints["pattern"]
        said = [made.json_schema_extra.get("constraints"), f"matches the regular expression: {pattern}"]
        made.json_schema_extra["constraints"] = ", ".join(part for part in said if part)
        made.json_schema_extra["pattern"] = pattern
    return made


def from_dspy(cls: Any) -> Signature:
    """Return the signature that a ``dspy.Signature`` class says."""
    from ._signature import Signature

    if not is_dspy_signature(cls):
        raise SignatureError(f"Expected a class derived from dspy.Signature, found {cls!r}.")
    fields = [_from_info(name, info) for name, info in cls.fields.items()]
    return Signature(fields, name=cls.__name__, instructions=cls.instructions)


def field_from_info(name: str, info: Any, tp: Any, declared: bool) -> Field:
    """Return the field that a `FieldInfo` of DSPy says."""
    extra = info.json_schema_extra or {}
    said = read_metadata(info.metadata)
    constraints = dict(said.constraints)
    if isinstance(extra.get("pattern"), str):
        constraints["pattern"] = extra["pattern"]
    description = extra.get("desc")
    if description in (None, "", f"${{{name}}}"):
        description = info.description or said.description
    if said.rest:
        tp = typing.Annotated[(tp, *said.rest)]
    default = MISSING if info.is_required() else info.get_default(call_default_factory=True)
    return Field(
        name,
        tp,
        role="input" if extra.get("__dspy_field_type") == "input" else "output",
        description=description,
        default=default,
        constraints=constraints,
        declared=declared,
    )


def _from_info(name: str, info: Any) -> Field:
    declared = not (info.json_schema_extra or {}).get(_UNDEFINED, False)
    return field_from_info(name, info, info.annotation, declared)
