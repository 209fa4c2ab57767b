"""Which fields a step takes and gives, read off a function, a DSPy module or a signature."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import textwrap
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

from dspex_lab.errors import PipelineError

_MISSING = object()


@dataclass(frozen=True, slots=True)
class StepField:
    """A field a step takes or gives; ``type`` is ``Any`` where nothing is declared."""

    name: str
    type: Any = Any
    required: bool = True


@dataclass(frozen=True)
class Shape:
    """What a step takes and gives.

    ``whole`` names the single field that receives the return value as it is; None means that the return value is a
    mapping, dataclass or model whose fields are the outputs. ``label`` is the function's name, for spans.
    """

    inputs: dict[str, StepField]
    outputs: dict[str, StepField]
    whole: str | None = None
    label: str | None = None

    @functools.cached_property
    def single(self) -> Any:
        """The type of the single output field, None where there are several."""
        return None if self.whole is None else self.outputs[self.whole].type


def type_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of ``function``, unresolved ones left out."""
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {k: v for k, v in getattr(function, "__annotations__", {}).items() if not isinstance(v, str)}


def _record_fields(annotation: Any) -> dict[str, StepField] | None:
    """Return the fields of a TypedDict, dataclass or Pydantic model, or None for any other type."""
    if not isinstance(annotation, type):
        return None
    if is_typeddict(annotation) or dataclasses.is_dataclass(annotation):
        return {name: StepField(name, hint) for name, hint in get_type_hints(annotation).items()}
    fields = getattr(annotation, "model_fields", None)
    if isinstance(fields, dict):
        return {name: StepField(name, info.annotation) for name, info in fields.items()}
    return None


def _returned_keys(function: Callable[..., Any]) -> list[str] | None:
    """Return the keys of a function whose every ``return`` is a dict display with constant keys, else None."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return None
    found: list[str] = []
    definition = next((n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)), None)
    if definition is None:
        return None
    returns = _own_returns(definition)
    for node in returns:
        if not isinstance(node.value, ast.Dict):
            return None
        for key in node.value.keys:
            if not (isinstance(key, ast.Constant) and isinstance(key.value, str) and key.value.isidentifier()):
                return None
            if key.value not in found:
                found.append(key.value)
    return found or None


def _own_returns(definition: ast.AST) -> list[ast.Return]:
    out: list[ast.Return] = []
    for node in ast.iter_child_nodes(definition):
        if isinstance(node, ast.Return):
            out.append(node)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            out.extend(_own_returns(node))
    return out


def function_shape(name: str, function: Callable[..., Any], outputs: tuple[str, ...] = ()) -> Shape:
    """Return the fields of a native step.

    Inputs are the parameters; those with a default are optional. Outputs are, in this order: ``outputs`` where
    given, the fields of an annotated TypedDict, dataclass or Pydantic model, the constant keys where every ``return``
    is a dict display, else one field named like the step.

    Raises:
        PipelineError: the function takes positional-only or variable parameters, so fields cannot be matched by name.
    """
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise PipelineError(
            f"Step {name!r}: the parameters of {function!r} cannot be read.",
            step=name,
            hint="Wrap it in a function with named parameters.",
        ) from error
    hints, label = type_hints(function), getattr(function, "__name__", type(function).__name__)
    inputs: dict[str, StepField] = {}
    for parameter in parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise PipelineError(
                f"Step {name!r}: parameter {parameter.name!r} of {getattr(function, '__name__', function)!r} cannot be matched "
                "to a field by name.",
                step=name,
                hint="Give the function one named parameter per field.",
            )
        required = parameter.default is parameter.empty
        inputs[parameter.name] = StepField(parameter.name, hints.get(parameter.name, Any), required)
    returned = hints.get("return", _MISSING)
    if outputs:
        return Shape(inputs, {o: StepField(o) for o in outputs}, outputs[0] if len(outputs) == 1 else None, label)
    record = _record_fields(returned)
    if record is not None:
        return Shape(inputs, record, None, label)
    keys = None
    if returned is _MISSING or returned is dict or get_origin(returned) in (dict, Mapping):
        keys = _returned_keys(function)
    if keys is not None:
        values = get_args(returned)[1] if get_origin(returned) is dict and len(get_args(returned)) == 2 else Any
        return Shape(inputs, {k: StepField(k, values) for k in keys}, None, label)
    kind = Any if returned is _MISSING or returned is None else returned
    return Shape(inputs, {name: StepField(name, kind)}, name, label)


def split_result(name: str, shape: Shape, value: Any) -> dict[str, Any]:
    """Return a step's return value as its output fields.

    Raises:
        PipelineError: the value lacks a field the step is to give.
    """
    if shape.whole is not None:
        return {shape.whole: value}
    if isinstance(value, Mapping):
        found: Mapping[str, Any] = value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    elif hasattr(type(value), "model_fields"):
        found = {f: getattr(value, f) for f in type(value).model_fields}
    else:
        raise PipelineError(
            f"Step {name!r} returned {type(value).__name__}, not the fields {', '.join(shape.outputs)}.",
            step=name,
            hint="Return a dict, dataclass or Pydantic model with these fields.",
        )
    missing = [f for f in shape.outputs if f not in found]
    if missing:
        raise PipelineError(
            f"Step {name!r} returned no {', '.join(map(repr, missing))}; "
            f"it returned {', '.join(map(repr, found)) or 'nothing'}.",
            step=name,
            hint="Return every field on every path, None where there is nothing.",
        )
    return {f: found[f] for f in shape.outputs}


def constant_outputs(name: str, shape: Shape, value: Any) -> dict[str, Any]:
    """Return a fallback that is no function as output fields: a mapping of exactly these fields, or the one field's value.

    Raises:
        PipelineError: a field is missing or of the wrong type.
    """
    if isinstance(value, Mapping) and set(value) == set(shape.outputs):
        outputs = dict(value)
    else:
        outputs = split_result(name, shape, value)
    for field, given in outputs.items():
        why = misfit(shape.outputs[field].type, given)
        if why is not None:
            raise PipelineError(f"Step {name!r}: the fallback's field {field!r} does not fit: {why}.", step=name)
    return outputs


@functools.lru_cache(maxsize=1024)
def _adapter(annotation: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter
    from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

    try:
        try:
            return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
        except PydanticUserError:
            return TypeAdapter(annotation)
    except PydanticSchemaGenerationError:
        return None


def adapter_of(annotation: Any) -> Any:
    """Return Pydantic's adapter of a type, None where there is nothing to check or Pydantic knows nothing of it."""
    if annotation is Any:
        return None
    try:
        return _adapter(annotation)
    except TypeError:  # unhashable, such as Annotated with a list in it
        return _adapter.__wrapped__(annotation)


def misfit(annotation: Any, value: Any) -> str | None:
    """Return why ``value`` is not of the type ``annotation`` (strictly: "3" is no int), or None where it is."""
    if annotation is Any or (isinstance(annotation, type) and type(value) is annotation):
        return None
    from pydantic import ValidationError

    adapter = adapter_of(annotation)
    if adapter is None:
        return None
    try:
        adapter.validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(p) for p in first["loc"])
        found = repr(value)
        found = found if len(found) <= 80 else found[:77] + "..."
        return f"expected {type_name(annotation)}, found {found} ({type(value).__name__}{': at ' + where if where else ''})"
    except Exception as error:  # a validator of the user's own
        return f"{type_name(annotation)} could not be checked: {type(error).__name__}: {error}"
    return None


def type_name(annotation: Any) -> str:
    """Return a short readable name of a type."""
    if annotation is Any:
        return "any"
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation.__name__
    return str(annotation).replace("typing.", "")


def checked(name: str, shape: Shape, outputs: dict[str, Any]) -> dict[str, Any]:
    """Return a native step's output fields if they are of the types it declares.

    Raises:
        PipelineError: one is not.
    """
    for field, declared in shape.outputs.items():
        why = misfit(declared.type, outputs[field])
        if why is not None:
            raise PipelineError(
                f"Step {name!r} gave a field {field!r} that is not of its declared type: {why}.",
                step=name,
                hint="Correct the function, or the type it declares.",
            )
    return outputs
