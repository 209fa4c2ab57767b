"""A step: a named unit of work with input and output fields."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines._fields import Shape, StepField, function_shape
from dspex_lab.signatures import MISSING, Signature, signature

OnError = Literal["stop", "continue", "fallback"]


@dataclass(frozen=True, eq=False, slots=True)
class Operation:
    """Work that several implementations can do; the router chooses which one does it.

    Args:
        name: the operation, such as ``"predict"``; implementations register under it.
        signature: what it takes and gives.
    """

    name: str
    signature: Signature

    @property
    def key(self) -> str:
        """Return the name under which statistics are kept: the operation and its signature's name or fields."""
        return f"{self.name}({self.signature.name or ', '.join([*self.signature.inputs, '->', *self.signature.outputs])})"


def predict(contract: Any) -> Operation:
    """Return the routed operation that answers ``contract`` (a signature, its text, or a ``dspy.Signature`` class)."""
    return Operation("predict", as_signature(contract, depth=2))


def chain_of_thought(contract: Any) -> Operation:
    """Return the routed operation that answers ``contract`` after reasoning step by step."""
    return Operation("chain_of_thought", as_signature(contract, depth=2))


def as_signature(contract: Any, depth: int = 1) -> Signature:
    """Return ``contract`` as a Signature; names of types are looked up in the caller's frame, ``depth`` frames up."""
    if isinstance(contract, Signature):
        return contract
    if isinstance(contract, type) and hasattr(contract, "input_fields"):
        return Signature.from_dspy(contract)
    frame = sys._getframe(depth)
    return signature(contract, types={**frame.f_globals, **frame.f_locals})


@dataclass(frozen=True, eq=False, slots=True)
class Step:
    """What a step does and how; made by :func:`step`."""

    target: Any
    kind: str
    name: str | None = None
    pool: str | None = None
    timeout: float | None = None
    on_error: OnError = "stop"
    fallback: Any = None
    replaces: bool = False
    outputs: tuple[str, ...] = field(default=())

    def with_target(self, target: Any) -> Step:
        """Return the same step doing ``target``."""
        return replace(self, target=target, kind=_kind(target, self.name))


def is_dspy_module(value: Any) -> bool:
    """Say whether ``value`` is a ``dspy.Module``, without importing DSPy."""
    dspy = sys.modules.get("dspy")
    return dspy is not None and isinstance(value, dspy.Module)


def step(
    target: Any,
    *,
    name: str | None = None,
    pool: str | None = None,
    timeout: float | None = None,
    on_error: OnError = "stop",
    fallback: Any = None,
    replaces: bool = False,
    outputs: tuple[str, ...] | list[str] = (),
) -> Step:
    """Return ``target`` as a step.

    Args:
        target: a function (sync or async), a ``dspy.Module``, or a routed operation such as ``dx.predict(...)``.
        name: how the step is called; in a pipeline the keyword it is given under.
        pool: the worker pool it runs on; None is in the kernel.
        timeout: seconds it may take.
        on_error: ``"stop"``: steps that need its fields are skipped and all others still run; ``"continue"``: its fields
            become None and the steps that need them run; ``"fallback"``: ``fallback`` does it instead. The run is then
            ``partial``.
        fallback: a function of the same inputs, or a dict with the output fields.
        replaces: its output may be a field that exists already; later steps see the new value.
        outputs: the names of the fields it gives, where they cannot be read off the function. One name receives the
            return value as it is.

    Raises:
        PipelineError: ``target`` is none of these, or the options contradict each other.
    """
    if isinstance(target, Step):
        raise PipelineError("A step was wrapped in step() twice.", hint="Give all options in one call.")
    if on_error not in ("stop", "continue", "fallback"):
        raise PipelineError(f"on_error={on_error!r} is unknown.", hint="Use 'stop', 'continue' or 'fallback'.")
    if (on_error == "fallback") != (fallback is not None):
        raise PipelineError("on_error='fallback' and fallback= belong together.", hint="Give both, or neither.")
    if timeout is not None and not timeout > 0:
        raise PipelineError(
            f"timeout={timeout!r} is not a number of seconds above 0.", hint="Give seconds, or None for no limit."
        )
    if pool is not None and isinstance(target, Operation):
        raise PipelineError(
            "A routed operation has no pool of its own.",
            hint='Pin it: RunOptions(pin={"predict": "pool"}), or give a dspy module.',
        )
    return Step(target, _kind(target, name), name, pool, timeout, on_error, fallback, replaces, tuple(outputs))


def _kind(target: Any, name: str | None) -> str:
    if isinstance(target, Operation):
        return "operation"
    if is_dspy_module(target):
        return "dspy"
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise PipelineError(
            f"{'Step ' + repr(name) if name else 'A step'} is a generator, whose values nobody would take.",
            step=name,
            hint="Return a list.",
        )
    if callable(target) and not isinstance(target, type):
        return "native"
    what = f"Step {name!r}" if name else "A step"
    raise PipelineError(
        f"{what} is {type(target).__name__} {_short(target)}, which cannot be run.",
        step=name,
        hint="Give a function, a dspy.Module such as dspy.Predict(...), or dx.predict(...) / dx.chain_of_thought(...).",
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def as_step(value: Any, name: str | None = None) -> Step:
    """Return a step as it is, anything else wrapped by :func:`step`; a signature becomes ``predict``."""
    if isinstance(value, Step):
        return value
    if isinstance(value, Signature) or (isinstance(value, type) and hasattr(value, "input_fields")):
        value = Operation("predict", as_signature(value))
    return step(value, name=name)


def _signature_shape(contract: Signature, hidden: tuple[str, ...] = ()) -> Shape:
    inputs = {n: StepField(n, f.type if f.declared else Any, f.default is MISSING) for n, f in contract.inputs.items()}
    outputs = {n: StepField(n, f.type) for n, f in contract.outputs.items() if n not in hidden}
    return Shape(inputs, outputs)


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


def step_shape(name: str, item: Step) -> Shape:
    """Return what the step called ``name`` takes and gives.

    Raises:
        PipelineError: its fields cannot be told.
    """
    if item.kind == "operation":
        return _signature_shape(item.target.signature)
    if item.kind == "native":
        return function_shape(name, item.target, item.outputs)
    contract, hidden = module_contract(item.target)
    if contract is not None:
        return _signature_shape(contract, hidden)
    whole = getattr(item.target, "pipeline", None)
    if whole is not None and hasattr(item.target, "step_modules"):
        return Shape(dict(whole.inputs), dict(whole.outputs))
    own = function_shape(name, _forward_of(item.target), item.outputs)
    if item.outputs:
        return Shape(own.inputs, own.outputs)
    predictors = item.target.named_predictors()
    if not predictors:
        raise PipelineError(
            f"Step {name!r}: the output fields of {type(item.target).__name__} cannot be told.",
            step=name,
            hint="Name them: step(module, outputs=['answer']).",
        )
    last = predictors[-1][1].signature.output_fields
    return Shape(own.inputs, {f: StepField(f, info.annotation) for f, info in last.items()})


def has_forward(module: Any) -> bool:
    """Say whether a DSPy module can be called without an event loop."""
    return inspect.getattr_static(module, "forward", None) is not None


def is_async(target: Any) -> bool:
    """Say whether calling ``target`` gives something to await."""
    call = inspect.getattr_static(type(target), "__call__", None)
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(call)


def _forward_of(module: Any) -> Any:
    # DSPy logs a warning when `forward` is looked up on a module in the ordinary way.
    found = inspect.getattr_static(module, "forward", None) or inspect.getattr_static(module, "aforward", None)
    if found is None:
        raise PipelineError(f"{type(module).__name__} has no forward().", hint="Define forward(self, field, ...).")
    return types.MethodType(found, module) if inspect.isfunction(found) else found


def label(target: Callable[..., Any] | Any) -> str:
    """Return a short name of what a step does, for views and spans."""
    if isinstance(target, Operation):
        return target.key
    whole = getattr(target, "pipeline", None)
    return getattr(whole, "name", None) or getattr(target, "__name__", None) or type(target).__name__
