"""What goes wrong with a model in this process, in the words of engines (``dspy.lm15``). Imports DSPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dspy.lm15 import (
    ConfigurationError,
    ContextLengthError,
    InvalidRequestError,
    LM15Error,
    ProviderError,
    UnsupportedFeatureError,
    UnsupportedModelError,
)

if TYPE_CHECKING:
    from dspy.lm15 import Response

PROVIDER = "local"


class LocalOutOfMemory(ProviderError):
    """The device's memory does not hold the model, or the model and this request. Not retried: it would fail again.

    Attributes:
        device: whose memory, as torch names it.
    """

    device = ""


class GarbledAnswer(ProviderError):
    """The answer is not what ``response_format`` asked for, or the model's numbers broke down.

    Attributes:
        partial: what was written, as a ``Response``; None where nothing was.
    """

    partial: Response | None = None


def out_of_memory(what: str, device: str, problem: BaseException) -> LocalOutOfMemory:
    """Return the error for memory that was not enough for ``what``."""
    elsewhere = "" if device == "cpu" else ", or device='cpu'"
    error = LocalOutOfMemory(
        f"The memory of {device!r} is not enough for {what}. Take a smaller model, dtype='bfloat16', shorter prompts, "
        f"a lower max_tokens or max_batch{elsewhere}. torch said: {one_line(problem)[:300]}",
        provider=PROVIDER,
        provider_code="out_of_memory",
    )
    error.device = device
    return error


def garbled(message: str, partial: Response | None = None) -> GarbledAnswer:
    """Return the error for an answer that cannot be used."""
    error = GarbledAnswer(message, provider=PROVIDER, provider_code="garbled_answer")
    error.partial = partial
    return error


def failed(problem: BaseException) -> ProviderError:
    """Return the error for a model that broke down on a request."""
    error = ProviderError(
        f"The model failed: {type(problem).__name__}: {one_line(problem)}",
        provider=PROVIDER,
        provider_code="model_failed",
    )
    error.__cause__ = problem
    return error


def unsupported(feature: str, message: str) -> UnsupportedFeatureError:
    """Return the error for something asked that this engine cannot do; ``feature`` is its path in the request."""
    return UnsupportedFeatureError(message, feature=feature, provider=PROVIDER)


def bad_model(name: str, message: str) -> UnsupportedModelError:
    """Return the error for a checkpoint that is not there or is not loaded."""
    return UnsupportedModelError(f"The local model {name!r} cannot be loaded: {message}", provider=PROVIDER)


def bad_request(message: str) -> InvalidRequestError:
    """Return the error for a request that no model could answer."""
    return InvalidRequestError(message, provider=PROVIDER)


def is_out_of_memory(problem: BaseException) -> bool:
    """Say whether ``problem`` is torch's or Python's way to say that memory is not enough."""
    if isinstance(problem, MemoryError) or type(problem).__name__ == "OutOfMemoryError":
        return True
    words: Any = str(problem).lower()
    return isinstance(problem, RuntimeError) and ("out of memory" in words or "can't allocate memory" in words)


def one_line(problem: BaseException) -> str:
    """Return what an error says, on one line and not too long."""
    return " ".join(str(problem).split())[:500] or type(problem).__name__


class Failure(NamedTuple):
    """An engine's error as plain data: DSPy's own cannot be pickled."""

    kind: str
    message: str
    code: str | None = None
    feature: str = ""
    device: str = ""


#: What a local model raises, by name.
_KINDS: dict[str, type[LM15Error]] = {
    kind.__name__: kind
    for kind in (
        ConfigurationError,
        ContextLengthError,
        GarbledAnswer,
        InvalidRequestError,
        LocalOutOfMemory,
        ProviderError,
        UnsupportedFeatureError,
        UnsupportedModelError,
    )
}


def failure_of(error: LM15Error) -> Failure:
    """Return an engine's error so that it can travel."""
    feature, device = getattr(error, "feature", None) or "", getattr(error, "device", "")
    return Failure(type(error).__name__, error.message, error.provider_code, feature, device)


def error_of(failure: Failure) -> LM15Error:
    """Return the error that has travelled."""
    kind = _KINDS.get(failure.kind, ProviderError)
    if kind is UnsupportedFeatureError:
        return unsupported(failure.feature, failure.message)
    error = kind(failure.message, provider=PROVIDER, provider_code=failure.code)
    if isinstance(error, LocalOutOfMemory):
        error.device = failure.device
    return error
