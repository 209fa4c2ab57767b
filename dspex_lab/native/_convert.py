"""Between native predictors and DSPy: which signatures and modules have a native form, and how they travel."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeAlias, get_args

from dspex_lab._lazy import require
from dspex_lab.errors import ConfigurationError

#: Names that ``dspy.Predict`` takes out of the inputs for itself.
_TAKEN = frozenset({"signature", "demos", "config", "lm", "new_signature", "prediction", "_trace"})
#: What makes a predictor: a subclass that changes one of these does something else.
_CALLS = ("__call__", "acall", "forward", "aforward", "_forward_preprocess", "_forward_postprocess")


class SignatureLike(Protocol):
    """What is needed of a signature of the package."""

    def to_dspy(self) -> Any:
        """Return the ``dspy.Signature`` class that says the same."""
        ...


#: A signature of this package, a ``dspy.Signature`` class, or the text of one.
Convertible: TypeAlias = SignatureLike | type | str


def as_dspy(signature: Convertible) -> Any:
    """Return ``signature`` as a ``dspy.Signature`` class that has a native form.

    Raises:
        ConfigurationError: it has none.
    """
    dspy = require("dspy", "for native predictors")
    made: Any = signature
    if isinstance(signature, str):
        made = dspy.Signature(signature)
    elif not (isinstance(signature, type) and issubclass(signature, dspy.Signature)):
        made = signature.to_dspy()  # type: ignore[union-attr]
    why = supports(made)
    if why is not None:
        raise ConfigurationError(
            f"The signature {made.__name__} cannot be answered natively: {why}.",
            key="signature",
            expected="fields that Chat and JSON prompts carry",
            actual=f"{', '.join(made.input_fields)} -> {', '.join(made.output_fields)}",
            hint="Run dspy.Predict; lab.predict(...) does so by itself.",
        )
    return made


def supports(signature: Any) -> str | None:
    """Return why ``signature`` has no native form, or None where it has one. Loads nothing.

    Args:
        signature: a ``dspy.Signature`` class, or any object with ``inputs`` and ``outputs`` (name → object with ``type``).
    """
    given = getattr(signature, "input_fields", None)
    inputs = given if given is not None else signature.inputs
    taken = [name for name in inputs if name in _TAKEN]
    if taken:
        return f"dspy.Predict keeps the input name {taken[0]!r} to itself"
    if "dspy" not in sys.modules:
        return None
    from dspy import ToolCalls
    from dspy.adapters.types.citation import Citations
    from dspy.adapters.types.decision import Choice, Noul, Score

    outputs = signature.output_fields if given is not None else signature.outputs
    for name, field in outputs.items():
        kinds = list(_kinds(getattr(field, "annotation", None) or getattr(field, "type", None)))
        kinds += [kind for said in getattr(field, "metadata", ()) for kind in _kinds(said)]
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, ToolCalls | Citations | Noul | Choice | Score):
                return f"the output {name!r} is of DSPy's type {kind.__name__}, which its adapters fill in ways of their own"
    return None


def _kinds(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)


def chain_signature(signature: Any) -> Any:
    """Return the signature ``dspy.ChainOfThought`` makes of ``signature``."""
    import dspy

    return dspy.ChainOfThought(signature).predict.signature


def check_plain(module: Any) -> tuple[Any, str]:
    """Return the predictor of a ``dspy.Predict`` or ``dspy.ChainOfThought`` and the name of its kind.

    Raises:
        ConfigurationError: it is neither, or does something of its own when called.
    """
    dspy = require("dspy", "for native predictors")
    for kind in (dspy.Predict, dspy.ChainOfThought):
        if isinstance(module, kind):
            _check_calls(module, kind)
            predictor = module if kind is dspy.Predict else module.predict
            if predictor is not module and not isinstance(predictor, dspy.Predict):
                raise _refused(module, f"its predict is {type(predictor).__name__}, not dspy.Predict")
            if predictor is not module:
                _check_calls(predictor, dspy.Predict)
            if predictor.fields:
                raise _refused(module, "it has criteria for decisions, which only DSPy applies")
            return predictor, str(kind.__name__)
    raise _refused(module, "only dspy.Predict and dspy.ChainOfThought have one")


def _check_calls(module: Any, kind: type) -> None:
    for name in _CALLS:
        own = name in vars(module) or getattr(type(module), name, None) is not getattr(kind, name, None)
        if own:
            raise _refused(module, f"{type(module).__name__} defines {name}() itself, which would be passed over")
    if module.callbacks:
        raise _refused(module, "callbacks hang on it, which would not be called")


def _refused(module: Any, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{type(module).__name__} has no native form: {why}.",
        key="module",
        expected=["dspy.Predict", "dspy.ChainOfThought"],
        actual=type(module).__name__,
        hint="Run it as it is.",
    )


def dumped(signature: Any, demos: Any, config: Any, adapter: Any, lm: Any, transport: Any) -> dict[str, Any]:
    """Return the state of a predictor as data for pickle.

    DSPy's signatures made from text cannot be pickled, so their fields go; of an LM goes what it dumps, without key
    and history.
    """
    return {
        "name": signature.__name__,
        "instructions": signature.instructions,
        "fields": {name: (field.annotation, field) for name, field in signature.fields.items()},
        "demos": demos,
        "config": config,
        "adapter": adapter,
        "lm": None if lm is None else lm.dump_state(),
        "transport": transport,
    }


def loaded(state: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the signature and the LM of a state that :func:`dumped` made."""
    import dspy

    signature = dspy.Signature(dict(state["fields"]), state["instructions"], signature_name=state["name"])
    # Whoever unpickles has trusted the data with running code already.
    lm = None if state["lm"] is None else dspy.BaseLM.load_state(state["lm"], allow_custom_lm_class=True)
    return signature, lm
