"""Engines behind ``dspy.LM``: what answers for a model. Each is a sync class and its async half, loaded when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex_lab import _lazy

if TYPE_CHECKING:
    from dspex_lab.lms.engines._http import AsyncHttpEngine, HttpEngine, http_lm
    from dspex_lab.lms.engines._http_answers import BrokenStream, UnusableAnswer
    from dspex_lab.lms.engines._http_embed import HttpEmbedder
    from dspex_lab.lms.engines._http_endpoint import Endpoint
    from dspex_lab.lms.engines._instructor import AsyncInstructorEngine, InstructorEngine, instructor_lm
    from dspex_lab.lms.engines._instructor_schema import SchemaMismatch
    from dspex_lab.lms.engines._local import AsyncLocalEngine, LocalEngine, local_lm

_HOME = {
    "AsyncHttpEngine": "_http",
    "AsyncInstructorEngine": "_instructor",
    "AsyncLocalEngine": "_local",
    "BrokenStream": "_http_answers",
    "Endpoint": "_http_endpoint",
    "HttpEmbedder": "_http_embed",
    "HttpEngine": "_http",
    "InstructorEngine": "_instructor",
    "LocalEngine": "_local",
    "SchemaMismatch": "_instructor_schema",
    "UnusableAnswer": "_http_answers",
    "http_lm": "_http",
    "instructor_lm": "_instructor",
    "local_lm": "_local",
}

__all__ = [
    "AsyncHttpEngine",
    "AsyncInstructorEngine",
    "AsyncLocalEngine",
    "BrokenStream",
    "Endpoint",
    "HttpEmbedder",
    "HttpEngine",
    "InstructorEngine",
    "LocalEngine",
    "SchemaMismatch",
    "UnusableAnswer",
    "http_lm",
    "instructor_lm",
    "local_lm",
]


__getattr__ = _lazy.names(__name__, _HOME)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
