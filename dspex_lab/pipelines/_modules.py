"""What is to be known of a step's function or DSPy module before it is called."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable
from typing import Any, NamedTuple

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines._fields import Shape, StepField, function_shape
from dspex_lab.signatures import MISSING, Signature


class Facts(NamedTuple):
    """How something is called.

    ``awaited``: calling it gives something to await. ``acall``: it has an ``acall`` that may be used. ``sync``: it can be
    called without an event loop. ``names_dspy``: its code names DSPy.
    """

    module: bool
    awaited: bool
    acall: bool
    sync: bool
    names_dspy: bool


def facts_of(target: Any) -> Facts:
    """Return how ``target`` is called; looked up once per object where it can be."""
    try:
        return _facts(target)
    except TypeError:  # unhashable
        return _facts.__wrapped__(target)


@functools.lru_cache(maxsize=512)
def _facts(target: Any) -> Facts:
    names_dspy = "dspy" in getattr(getattr(target, "__code__", None), "co_names", ())
    if is_dspy_module(target):
        return Facts(True, False, runs_async(target), has_forward(target), names_dspy)
    acall = inspect.getattr_static(type(target), "acall", None)
    return Facts(False, is_async(target), inspect.iscoroutinefunction(acall), True, names_dspy)


def is_dspy_module(value: Any) -> bool:
    """Say whether ``value`` is a ``dspy.Module``, without importing DSPy."""
    dspy = sys.modules.get("dspy")
    return dspy is not None and isinstance(value, dspy.Module)


def is_async(target: Any) -> bool:
    """Say whether calling ``target`` gives something to await."""
    while isinstance(target, functools.partial):
        target = target.func
    call = inspect.getattr_static(type(target), "__call__", None)
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(call)


def has_forward(module: Any) -> bool:
    """Say whether a DSPy module can be called without an event loop."""
    return inspect.getattr_static(module, "forward", None) is not None


def runs_async(module: Any) -> bool:
    """Say whether ``module`` may be run by ``acall``: not where only ``forward`` was overridden below ``aforward``."""
    # What runs model-written code waits for it without awaiting (dspy.RLM's aforward does): it would stop the loop.
    if "forward" in vars(module) or hasattr(module, "_interpreter_factory"):
        return False
    owners: dict[str, int] = {}
    for depth, kind in enumerate(type(module).__mro__):
        for method in ("forward", "aforward"):
            if method in vars(kind):
                owners.setdefault(method, depth)
    return "aforward" in owners and owners["aforward"] <= owners.get("forward", len(type(module).__mro__))


def module_contract(module: Any) -> tuple[Signature | None, tuple[str, ...]]:
    """Return the signature a DSPy module answers and the fields the module itself adds to it.

    Returns:
        The signature, or None for a module of the user's own without one, and the added names (``reasoning``).
    """
    import dspy

    if isinstance(module, dspy.ChainOfThought):
        full = _known(module.predict.signature)
        return full, ("reasoning",) if len(full.outputs) > 1 and next(iter(full.outputs)) == "reasoning" else ()
    declared = getattr(module, "signature", None)
    if isinstance(declared, type) and hasattr(declared, "input_fields"):
        return _known(declared), ()
    return None, ()


@functools.lru_cache(maxsize=512)
def _known(declared: Any) -> Signature:
    """Return our signature of a DSPy class, made once: with it goes the compiled validator."""
    return Signature.from_dspy(declared)


def signature_shape(contract: Signature, hidden: tuple[str, ...] = ()) -> Shape:
    """Return the fields of a signature, those of ``hidden`` left out."""
    inputs = {n: StepField(n, f.type if f.declared else Any, f.default is MISSING) for n, f in contract.inputs.items()}
    outputs = {n: StepField(n, f.type) for n, f in contract.outputs.items() if n not in hidden}
    return Shape(inputs, outputs)


def module_shape(name: str, module: Any, outputs: tuple[str, ...] = ()) -> Shape:
    """Return what a DSPy module takes and gives.

    Raises:
        PipelineError: its fields cannot be told.
    """
    contract, hidden = module_contract(module)
    if contract is not None:
        return signature_shape(contract, hidden)
    whole = getattr(module, "pipeline", None)
    if whole is not None and hasattr(module, "step_modules"):
        return Shape(dict(whole.inputs), dict(whole.outputs))
    own = function_shape(name, _forward_of(module), outputs)
    if outputs:
        return Shape(own.inputs, own.outputs)
    predictors = module.named_predictors()
    if not predictors:
        raise PipelineError(
            f"Step {name!r}: the output fields of {type(module).__name__} cannot be told.",
            step=name,
            hint="Name them: step(module, outputs=['answer']).",
        )
    last = predictors[-1][1].signature.output_fields
    return Shape(own.inputs, {f: StepField(f, info.annotation) for f, info in last.items()})


def _forward_of(module: Any) -> Callable[..., Any]:
    # DSPy logs a warning when `forward` is looked up on a module in the ordinary way.
    found = inspect.getattr_static(module, "forward", None) or inspect.getattr_static(module, "aforward", None)
    if found is None:
        raise PipelineError(f"{type(module).__name__} has no forward().", hint="Define forward(self, field, ...).")
    return types.MethodType(found, module) if inspect.isfunction(found) else found
