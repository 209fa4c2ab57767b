"""The native engine: predictions, templates, answers, checks and conditions without DSPy in the way.

Metrics have a room of their own, `dspex_lab.native.metrics`. Names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dspex_lab import _lazy

if TYPE_CHECKING:
    from dspex_lab.native import metrics
    from dspex_lab.native._conditions import Condition
    from dspex_lab.native._convert import supports
    from dspex_lab.native._filters import template_filters
    from dspex_lab.native._parsing import Parsed, parse_as
    from dspex_lab.native._predict import NativeCoT, NativePredict
    from dspex_lab.native._registry import Registry
    from dspex_lab.native._style import adapter_in_force
    from dspex_lab.native._template import Template
    from dspex_lab.native._transport import LMCalls, Transport, use_transport
    from dspex_lab.native._validators import (
        Validator,
        between,
        contains,
        either,
        ends_with,
        every,
        is_json,
        is_url,
        length,
        matches,
        max_lines,
        max_words,
        min_words,
        not_contains,
        not_empty,
        one_of,
        satisfies,
        starts_with,
        unique,
        validate,
        validator,
        validators,
    )

_HOME = {
    "Condition": "_conditions",
    "LMCalls": "_transport",
    "NativeCoT": "_predict",
    "NativePredict": "_predict",
    "Parsed": "_parsing",
    "Registry": "_registry",
    "Template": "_template",
    "Transport": "_transport",
    "Validator": "_validators",
    "adapter_in_force": "_style",
    "between": "_validators",
    "contains": "_validators",
    "either": "_validators",
    "ends_with": "_validators",
    "every": "_validators",
    "is_json": "_validators",
    "is_url": "_validators",
    "length": "_validators",
    "matches": "_validators",
    "max_lines": "_validators",
    "max_words": "_validators",
    "min_words": "_validators",
    "not_contains": "_validators",
    "not_empty": "_validators",
    "one_of": "_validators",
    "parse_as": "_parsing",
    "satisfies": "_validators",
    "starts_with": "_validators",
    "supports": "_convert",
    "template_filters": "_filters",
    "unique": "_validators",
    "use_transport": "_transport",
    "validate": "_validators",
    "validator": "_validators",
    "validators": "_validators",
}

__all__ = [
    "Condition",
    "LMCalls",
    "NativeCoT",
    "NativePredict",
    "Parsed",
    "Registry",
    "Template",
    "Transport",
    "Validator",
    "adapter_in_force",
    "between",
    "contains",
    "either",
    "ends_with",
    "every",
    "is_json",
    "is_url",
    "length",
    "matches",
    "max_lines",
    "max_words",
    "metrics",
    "min_words",
    "not_contains",
    "not_empty",
    "one_of",
    "parse_as",
    "satisfies",
    "starts_with",
    "supports",
    "template_filters",
    "unique",
    "use_transport",
    "validate",
    "validator",
    "validators",
]


_load = _lazy.names(__name__, _HOME, keep=True)


def __getattr__(name: str) -> Any:
    return importlib.import_module("dspex_lab.native.metrics") if name == "metrics" else _load(name)


def __dir__() -> list[str]:
    return sorted(__all__)
