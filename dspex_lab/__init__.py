"""A Jupyter workbench for DSPy programs. Start in a notebook with ``%load_ext dspex_lab``, in Python with ``dx.lab()``."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dspex_lab._version import __version__

if TYPE_CHECKING:
    from dspex_lab._shipped import shipped
    from dspex_lab.config import Config
    from dspex_lab.errors import (
        BudgetExceeded,
        BulkheadFull,
        CircuitOpen,
        ConfigurationError,
        DspexError,
        LMError,
        OutOfMemory,
        PipelineError,
        PoolError,
        SandboxError,
        SignatureError,
        StoreError,
        TaskTimeout,
        Unserialisable,
        VariableError,
        WorkerKilled,
    )
    from dspex_lab.events import RunOptions
    from dspex_lab.lms import Budget, Requirements, mcp_tools, set_model, set_price
    from dspex_lab.magics import load_ipython_extension, unload_ipython_extension
    from dspex_lab.native.metrics import combine, metric, register_metric
    from dspex_lab.pipelines import (
        Batch,
        Index,
        Kind,
        Pipeline,
        Result,
        Step,
        Work,
        assert_,
        chain_of_thought,
        each,
        index,
        load_pipeline,
        loop,
        parallel,
        pipeline,
        predict,
        retrieve,
        step,
        step_kind,
        suggest,
        template,
        when,
    )
    from dspex_lab.resilience import BreakerSettings, BulkheadSettings, Hedge, Policy, Retry
    from dspex_lab.signatures import Signature, signature
    from dspex_lab.workbench import Lab, autolog, lab

_HOME = {
    "autolog": "workbench",
    "mcp_tools": "lms",
    "Budget": "lms",
    "BulkheadFull": "errors",
    "Policy": "resilience",
    "Retry": "resilience",
    "BreakerSettings": "resilience",
    "BulkheadSettings": "resilience",
    "Hedge": "resilience",
    "set_price": "lms",
    "set_model": "lms",
    "Requirements": "lms",
    "load_pipeline": "pipelines",
    "template": "pipelines",
    "suggest": "pipelines",
    "retrieve": "pipelines",
    "index": "pipelines",
    "assert_": "pipelines",
    "Index": "pipelines",
    "Batch": "pipelines",
    "register_metric": "workbench",
    "metric": "workbench",
    "combine": "workbench",
    "when": "pipelines",
    "step_kind": "pipelines",
    "parallel": "pipelines",
    "loop": "pipelines",
    "each": "pipelines",
    "Work": "pipelines",
    "Step": "pipelines",
    "Kind": "pipelines",
    "Config": "config",
    "Lab": "workbench",
    "Pipeline": "pipelines",
    "Result": "pipelines",
    "RunOptions": "events",
    "Signature": "signatures",
    "chain_of_thought": "pipelines",
    "lab": "workbench",
    "load_ipython_extension": "magics",
    "pipeline": "pipelines",
    "predict": "pipelines",
    "shipped": "_shipped",
    "signature": "signatures",
    "step": "pipelines",
    "unload_ipython_extension": "magics",
    "BudgetExceeded": "errors",
    "CircuitOpen": "errors",
    "ConfigurationError": "errors",
    "DspexError": "errors",
    "LMError": "errors",
    "OutOfMemory": "errors",
    "PipelineError": "errors",
    "PoolError": "errors",
    "SandboxError": "errors",
    "SignatureError": "errors",
    "StoreError": "errors",
    "TaskTimeout": "errors",
    "Unserialisable": "errors",
    "VariableError": "errors",
    "WorkerKilled": "errors",
}

__all__ = [
    "Batch",
    "BreakerSettings",
    "Budget",
    "BudgetExceeded",
    "BulkheadFull",
    "BulkheadSettings",
    "CircuitOpen",
    "Config",
    "ConfigurationError",
    "DspexError",
    "Hedge",
    "Index",
    "Kind",
    "LMError",
    "Lab",
    "OutOfMemory",
    "Pipeline",
    "PipelineError",
    "Policy",
    "PoolError",
    "Requirements",
    "Result",
    "Retry",
    "RunOptions",
    "SandboxError",
    "Signature",
    "SignatureError",
    "Step",
    "StoreError",
    "TaskTimeout",
    "Unserialisable",
    "VariableError",
    "Work",
    "WorkerKilled",
    "__version__",
    "assert_",
    "autolog",
    "chain_of_thought",
    "combine",
    "each",
    "index",
    "lab",
    "load_ipython_extension",
    "load_pipeline",
    "loop",
    "mcp_tools",
    "metric",
    "parallel",
    "pipeline",
    "predict",
    "register_metric",
    "retrieve",
    "set_model",
    "set_price",
    "shipped",
    "signature",
    "step",
    "step_kind",
    "suggest",
    "template",
    "unload_ipython_extension",
    "when",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'dspex_lab' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"dspex_lab.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
