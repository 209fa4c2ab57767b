"""Which failures are worth another try."""

from __future__ import annotations

import asyncio
import types

import httpx
import pytest

from dspex_lab.errors import (
    BudgetExceeded,
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
from dspex_lab.resilience import retryable


def caused(error: Exception, cause: BaseException | None) -> Exception:
    error.__cause__ = cause
    return error


def answered(status: int) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://127.0.0.1/")
    return httpx.HTTPStatusError("x", request=request, response=httpx.Response(status, request=request))


class OpenAIError(Exception):
    def __init__(self, status_code: object) -> None:
        self.status_code = status_code


YES = [
    ConnectionResetError(),
    TimeoutError(),
    TimeoutError(),
    OSError(),
    LMError("x"),
    LMError("x", status=408),
    LMError("x", status=409),
    LMError("x", status=425),
    LMError("x", status=429),
    LMError("x", status=500),
    LMError("x", status=503),
    LMError("x", status=529),
    caused(LMError("x"), ConnectionError()),
    answered(503),
    httpx.ConnectError("x"),
    OpenAIError(429),
    OpenAIError("429"),
    OpenAIError(True),
    WorkerKilled("x"),
    TaskTimeout("x"),
    PoolError("x"),
    ValueError(),
    KeyError(),
    RuntimeError(),
    caused(PipelineError("x"), ConnectionError()),
    caused(PipelineError("x"), caused(PipelineError("y"), LMError("z", status=503))),
    ExceptionGroup("x", [OSError(), TimeoutError()]),
]
NO = [
    asyncio.CancelledError(),
    KeyboardInterrupt(),
    SystemExit(),
    GeneratorExit(),
    BudgetExceeded("x"),
    CircuitOpen("x"),
    ConfigurationError("x"),
    SignatureError("x"),
    SandboxError("x"),
    VariableError("x"),
    StoreError("x"),
    DspexError("x"),
    Unserialisable("x"),
    OutOfMemory("x"),
    LMError("x", status=400),
    LMError("x", status=401),
    LMError("x", status=404),
    LMError("x", status=501),
    caused(LMError("x"), ConfigurationError("y")),
    caused(LMError("x"), answered(400)),
    answered(422),
    OpenAIError(401),
    PipelineError("x"),
    caused(PipelineError("x"), PipelineError("y")),
    caused(PipelineError("x"), asyncio.CancelledError()),
    FileNotFoundError(),
    PermissionError(),
    NameError(),
    ImportError(),
    NotImplementedError(),
    MemoryError(),
    RecursionError(),
    ExceptionGroup("x", [OSError(), FileNotFoundError()]),
    BaseExceptionGroup("x", [OSError(), KeyboardInterrupt()]),
]


@pytest.mark.parametrize("error", YES, ids=repr)
def test_it_may_end_otherwise(error: BaseException) -> None:
    assert retryable(error)


@pytest.mark.parametrize("error", NO, ids=repr)
def test_it_would_end_the_same(error: BaseException) -> None:
    assert not retryable(error)


def test_a_status_that_is_none_says_nothing() -> None:
    error = OpenAIError(7)
    error.response = types.SimpleNamespace(status_code=None)  # type: ignore[attr-defined]
    assert retryable(error)
