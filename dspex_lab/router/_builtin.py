"""The built-in implementations: natively, by DSPy's own modules, and by these on the general pool."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from typing import Any

from dspex_lab.lms import DirectCalls
from dspex_lab.native import NativeCoT, NativePredict, adapter_in_force, supports
from dspex_lab.pipelines import Operation
from dspex_lab.router._registry import Implementation, Registry


def dspy_predict(signature: Any, demos: tuple[Any, ...] = (), config: Mapping[str, Any] | None = None) -> Any:
    """Return ``dspy.Predict`` for a signature."""
    import dspy

    made = dspy.Predict(signature.to_dspy(), **(config or {}))
    made.demos = list(demos)
    return made


def dspy_chain_of_thought(signature: Any, demos: tuple[Any, ...] = (), config: Mapping[str, Any] | None = None) -> Any:
    """Return ``dspy.ChainOfThought`` for a signature."""
    import dspy

    made = dspy.ChainOfThought(signature.to_dspy(), **(config or {}))
    made.predict.demos = list(demos)
    return made


def native_predict(signature: Any, demos: tuple[Any, ...] = (), config: Mapping[str, Any] | None = None) -> NativePredict:
    """Return :class:`NativePredict` for a signature."""
    return NativePredict(signature, demos=demos, config=config, transport=DirectCalls())


def native_chain_of_thought(signature: Any, demos: tuple[Any, ...] = (), config: Mapping[str, Any] | None = None) -> NativeCoT:
    """Return :class:`NativeCoT` for a signature."""
    return NativeCoT(signature, demos=demos, config=config, transport=DirectCalls())


def runs_natively(operation: Operation, inputs: Mapping[str, Any]) -> bool:
    """Say whether the native form does all that DSPy would do here.

    It does not for field types and adapters that it has no equal of, for a model that is no ``dspy.LM``, where callbacks
    wait to be told of modules and adapters, and where DSPy streams.
    """
    if _supported(operation.signature) is not None:
        return False
    dspy = sys.modules.get("dspy")
    if dspy is None:
        return True
    settings = dspy.settings
    if settings.callbacks or settings.send_stream is not None:
        return False
    if settings.lm is not None and not isinstance(settings.lm, dspy.BaseLM):
        return False
    return not isinstance(adapter_in_force(settings.adapter), str)


_supported = functools.lru_cache(maxsize=1024)(supports)


def with_builtins() -> Registry:
    """Return a registry with what answers in the kernel, native first, and, on request, on the general pool."""
    registry = Registry()
    for operation, native, build in (
        ("predict", native_predict, dspy_predict),
        ("chain_of_thought", native_chain_of_thought, dspy_chain_of_thought),
    ):
        registry.add(operation, Implementation("native", native, can_run=runs_natively, instead_of=("dspy",)))
        registry.add(operation, Implementation("dspy", build))
        registry.add(operation, Implementation("pool", build, pool="general", on_request=True))
    return registry
