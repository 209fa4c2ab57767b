"""Which value of an example and of a prediction is compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.native.metrics._values import as_record

#: Fields that programs add by themselves and that no one is marked for.
_ADDED = frozenset(["reasoning", "rationale"])


def input_names(example: Any) -> tuple[str, ...]:
    """Return the names of an example's inputs; none where it does not say."""
    told = getattr(type(example), "inputs", None)
    if not callable(told):
        return ()
    try:
        return tuple(example.inputs().keys())
    except ValueError:  # DSPy: with_inputs() was not called
        return ()


def record_of(example: Any) -> dict[str, Any]:
    """Return the fields of an example.

    Raises:
        ConfigurationError: it has none.
    """
    fields = as_record(example)
    if fields is None:
        raise ConfigurationError(
            f"A metric compares a prediction with an example; this example is {_kind(example)}.",
            key="example",
            expected="a dspy.Example or a dict",
            actual=type(example).__name__,
            hint="For two bare values use metric.score(prediction, reference).",
        )
    return fields


def context_of(example: Any) -> dict[str, Any]:
    """Return the inputs of an example: what was asked."""
    fields = record_of(example)
    return {name: fields[name] for name in input_names(example) if name in fields}


def wanted(example: Any) -> dict[str, Any]:
    """Return the fields of an example that are no inputs: what was hoped for."""
    inputs = set(input_names(example))
    return {k: v for k, v in record_of(example).items() if k not in inputs}


def pick(example: Any, prediction: Any, field: str | None, reference: str | None, *, optional: bool) -> tuple[str, Any, Any]:
    """Return the name of the compared field, its predicted value and its reference.

    Args:
        field: the prediction's field; None is the only one that both have.
        reference: the example's field; None is the one of the same name.
        optional: the example may lack a reference, which is then None.

    Raises:
        ConfigurationError: a field is missing, or it cannot be told which one is meant.
    """
    made = as_record(prediction)
    hoped = wanted(example)
    if made is None:  # a program that returns a bare value
        name = reference or field or _only(hoped, optional)
        return name, prediction, _reference(example, name, optional)
    if field is None:
        named = reference is not None
        field = reference if reference is not None and reference in made else _common(hoped, made, optional or named)
    if field not in made:
        raise _missing("prediction", "field", field, made)
    return field, made[field], _reference(example, reference or field, optional and reference is None)


def _reference(example: Any, name: str, optional: bool) -> Any:
    fields = record_of(example)
    if name in fields:
        return fields[name]
    if optional:
        return None
    raise _missing("example", "reference", name, fields)


def _common(hoped: Mapping[str, Any], made: Mapping[str, Any], alone: bool) -> str:
    """Return the one field that both have; with ``alone``, else the only one that was made."""
    both = [k for k in made if k in hoped]
    found = both if len(both) == 1 else [k for k in both if k not in _ADDED]
    if alone and not found:
        found = [k for k in made if k not in _ADDED]
    if len(found) == 1:
        return found[0]
    raise ConfigurationError(
        "It cannot be told which field to compare: "
        + (
            f"the example and the prediction share {_listed(found)}."
            if found
            else f"the prediction has {_listed(made)} and the example {_listed(hoped)}."
        ),
        key="field",
        expected="one field",
        actual=tuple(found),
        hint=f"Say which: field={(found or list(made) or ['answer'])[0]!r}"
        + ("." if found else f", reference={(list(hoped) or ['answer'])[0]!r}."),
    )


def _only(hoped: Mapping[str, Any], optional: bool) -> str:
    if len(hoped) == 1 or (optional and not hoped):
        return next(iter(hoped), "answer")
    raise ConfigurationError(
        f"It cannot be told which field of the example is the reference: it has {_listed(hoped)}.",
        key="reference",
        expected="one field",
        actual=tuple(hoped),
        hint="Say which: reference='answer'.",
    )


def _missing(where: str, option: str, name: str, fields: Mapping[str, Any]) -> ConfigurationError:
    return ConfigurationError(
        f"The {where} has no field {name!r}; it has {_listed(fields)}.{did_you_mean(name, map(str, fields))}",
        key=option,
        expected=tuple(fields),
        actual=name,
        hint=f"Give {option}= one of these.",
    )


def _listed(names: Any) -> str:
    return ", ".join(repr(str(n)) for n in names) or "no fields"


def _kind(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"
