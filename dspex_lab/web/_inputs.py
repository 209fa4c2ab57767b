"""What clients send, as a pipeline takes it: JSON values to its types, with every misfit named by its field."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from dspex_lab.errors import did_you_mean
from dspex_lab.pipelines import Operation, Pipeline, Step, is_dspy_module, module_contract

T = TypeVar("T")
log = logging.getLogger("dspex_lab.web")

#: Levels of objects and lists in what a client gives.
DEEPEST = 64


class Misfit(NamedTuple):
    """What is wrong with a field: where (``inputs.urgency``) and why."""

    where: str
    why: str


class Unfit(Exception):
    """A request that its pipeline cannot start on; nothing was run.

    Args:
        misfits: all that is wrong with it.
    """

    def __init__(self, *misfits: Misfit) -> None:
        super().__init__("; ".join(f"{m.where}: {m.why}" for m in misfits))
        self.misfits = misfits


def read_inputs(pipeline: Pipeline, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON values as those that the pipeline takes: a date from its text, a model from its object.

    Raises:
        Unfit: one is missing, unknown or cannot be read, or a step that gets it would refuse it.
    """
    wrong: list[Misfit] = []
    read: dict[str, Any] = {}
    for name, value in given.items():
        if name not in pipeline.inputs:
            wrong.append(Misfit(f"inputs.{name}", f"is not an input.{did_you_mean(name, pipeline.inputs)}"))
            continue
        first, *others = wanted(pipeline)[name]
        try:
            read[name] = _read(name, first, value)
            for kind in others:
                _read(name, kind, read[name], strict=True)
        except Unfit as error:
            wrong += error.misfits
    missing = [n for n, f in pipeline.inputs.items() if f.required and n not in given]
    wrong += [Misfit(f"inputs.{name}", "is missing") for name in missing]
    if wrong:
        raise Unfit(*wrong)
    return read


def _read(name: str, kind: Any, value: Any, *, strict: bool = False) -> Any:
    adapter = adapter_of(kind)
    if adapter is None and strict:
        return value  # the step itself cannot check it either
    if adapter is None:
        raise Unfit(Misfit(f"inputs.{name}", "is of a type that cannot be given over HTTP"))
    try:
        return adapter.validate_python(value, strict=strict)
    except ValidationError as error:
        raise Unfit(
            *(
                Misfit(".".join(["inputs", name, *(str(part) for part in each["loc"])]), each["msg"])
                for each in error.errors(include_url=False, include_context=False, include_input=False)
            )
        ) from error
    except Exception as error:  # of a validator that is not ours
        log.warning("a validator of the input %r failed", name, exc_info=True)
        raise Unfit(Misfit(f"inputs.{name}", f"cannot be read: {type(error).__name__}")) from error


_WANTED: WeakKeyDictionary[Pipeline, dict[str, list[Any]]] = WeakKeyDictionary()


def wanted(pipeline: Pipeline) -> dict[str, list[Any]]:
    """Return for each input the types that the steps which get it want, with the limits of their signatures; at least one."""
    found = _WANTED.get(pipeline)
    if found is None:
        found = _WANTED[pipeline] = {name: _of_steps(pipeline, name) or [Any] for name in pipeline.inputs}
    return found


def _of_steps(pipeline: Pipeline, name: str) -> list[Any]:
    kinds: list[Any] = []
    for node in pipeline.structure.nodes:
        if node.reads.get(name) == (name, -1):
            kinds += _of_step(pipeline.steps[node.name], name) or [pipeline.shapes[node.name].inputs[name].type]
    return [kind for at, kind in enumerate(kinds) if kind is not Any and kind not in kinds[:at]]


def _of_step(item: Step, name: str) -> list[Any]:
    """Return the types of a field that say more than the step's own shape does."""
    target = item.target
    if isinstance(target, Pipeline):
        return wanted(target).get(name, [])
    contract = target.signature if isinstance(target, Operation) else None
    if contract is None and is_dspy_module(target):
        contract = module_contract(target)[0]
    return [contract.inputs[name].checked_type] if contract is not None and name in contract.inputs else []


def shallow(value: T, most: int = DEEPEST) -> T:
    """Return a value, if it has no more than so many levels: what walks it later has to come to an end.

    Raises:
        ValueError: it has more.
    """
    layer: list[Any] = [value]
    for _ in range(most):
        layer = [inner for each in layer if isinstance(each, dict | list) for inner in _inside(each)]
        if not layer:
            return value
    raise ValueError(f"has more than {most} levels")


def _inside(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def schema_of(pipeline: Pipeline) -> dict[str, Any]:
    """Return the JSON schema of a pipeline's inputs."""
    properties: dict[str, Any] = {}
    for name, kinds in wanted(pipeline).items():
        adapter = adapter_of(kinds[0])
        try:
            properties[name] = {} if adapter is None else adapter.json_schema()
        except PydanticUserError:  # a type that validates and has no JSON schema
            properties[name] = {}
    required = [name for name, field in pipeline.inputs.items() if field.required]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def adapter_of(kind: Any) -> TypeAdapter[Any] | None:
    """Return what reads values of a type; None where nothing can."""
    try:
        return _made(kind)
    except TypeError:  # unhashable
        return _made.__wrapped__(kind)


@lru_cache(maxsize=512)
def _made(kind: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(kind)
    except PydanticSchemaGenerationError:
        return None
