"""Programs as variables: every knob of a DSPy program found, named by path, and bound both ways."""

from dspex_lab.variables.expose._adapter import adapter_of
from dspex_lab.variables.expose._bindings import Builder
from dspex_lab.variables.expose._exposure import Exposure, Running
from dspex_lab.variables.expose._predictors import (
    IN_USE,
    as_demos,
    call_settings,
    examples,
    model_choice,
    named_models,
    with_model,
)
from dspex_lab.variables.expose._program import apply, build, copy_of, knobs, present
from dspex_lab.variables.expose._values import UNSET, domain_of, is_plain, widened

__all__ = [
    "IN_USE",
    "UNSET",
    "Builder",
    "Exposure",
    "Running",
    "adapter_of",
    "apply",
    "as_demos",
    "build",
    "call_settings",
    "copy_of",
    "domain_of",
    "examples",
    "is_plain",
    "knobs",
    "model_choice",
    "named_models",
    "present",
    "widened",
    "with_model",
]
