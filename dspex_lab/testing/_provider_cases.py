"""The failures of providers, and what each must become."""
# ruff: noqa: S101 - these are tests

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from dspex_lab.testing._faulty_fault import Fault


class Case(NamedTuple):
    """A failure of a provider, and what it must become: the error's class in ``dspy.lm15`` (one of those between bars) and
    through ``dspy.LM``, with the status, the seconds to wait, and a part of the provider's words."""

    name: str
    fault: Fault
    lm15: str
    lm: str
    status: int | None = None
    retry_after: float | None = None
    words: str = ""


#: There is no answer, and nothing that could be called half of one.
UNUSABLE = "ProviderError|StreamAssemblyError"
#: What comes with a status.
REFUSALS = [
    Case("rate_limit", Fault.rate_limit(7), "RateLimitError", "LMRateLimitError", 429, 7.0, "Rate limit reached"),
    Case("rate_limit_by_date", Fault.rate_limit(3600, as_date=True), "RateLimitError", "LMRateLimitError", 429, 3600, "Used"),
    Case("rate_limit_without_a_time", Fault.rate_limit(), "RateLimitError", "LMRateLimitError", 429, None, "Used 3"),
    Case("quota", Fault.quota(), "BillingError", "LMBillingError", 429, None, "exceeded your current quota"),
    Case("payment", Fault.payment_required(), "BillingError", "LMBillingError", 402, None, "Insufficient Balance"),
    Case("server_error", Fault.server_error(), "ServerError", "LMServerError", 500, None, "Sorry about that"),
    Case("bad_gateway", Fault.bad_gateway(), "ServerError", "LMServerError", 502, None, "502 Bad Gateway"),
    Case("unavailable", Fault.unavailable(2), "ServerError", "LMServerError", 503, 2.0, "currently overloaded"),
    Case("gateway_timeout", Fault.gateway_timeout(), "TimeoutError", "LMTimeoutError", 504, None, "did not answer in time"),
    Case("overloaded", Fault.overloaded(), "ServerError", "LMServerError", 529, None, "Overloaded"),
    Case("wrong_key", Fault.wrong_key(), "AuthError", "LMAuthError", 401, None, "Incorrect API key provided"),
    Case("forbidden", Fault.forbidden(), "AuthError", "LMAuthError", 403, None, "not allowed to sample"),
    Case("unknown_model", Fault.unknown_model(), "UnsupportedModelError", "LMUnsupportedModelError", 404, None, "not exist"),
    Case(
        "context",
        Fault.context_length(),
        "ContextLengthError",
        "ContextWindowExceededError",
        400,
        None,
        "context length",
    ),
    Case("policy", Fault.content_policy(), "InvalidRequestError", "LMInvalidRequestError", 400, None, "management policy"),
]
#: What goes wrong with a whole answer on its way or in it.
SPOILT = [
    Case("reset", Fault.reset(), "TransportError", "LMTransportError"),
    Case("reset_in_the_body", Fault.reset(0), "TransportError", "LMTransportError"),
    Case("cut", Fault.cut(), "TransportError", "LMTransportError"),
    Case("garbage", Fault.garbage(), "ProviderError", "LMProviderError", words='"choices": [{"mess'),
    Case("no_body", Fault.empty("body"), "ProviderError", "LMProviderError"),
    Case("empty_choices", Fault.empty("choices"), UNUSABLE, "LMError"),
    Case("no_choices", Fault.empty("no_choices"), UNUSABLE, "LMError"),
    Case("error_in_the_answer", Fault.error_event(), "ProviderError", "LMError", words="The server had an error"),
]
#: What breaks a stream after its second piece.
BROKEN = [
    Case("cut", Fault.cut(2), "LM15Error", "LMError"),
    Case("cut_clean", Fault.cut(2, clean=True), "LM15Error", "LMError"),
    Case("reset", Fault.reset(2), "TransportError|StreamAssemblyError", "LMError"),
    Case("bad_sse", Fault.bad_sse(2), "LM15Error", "LMError"),
    Case("error_event", Fault.error_event(2), "LM15Error", "LMError", words="The server had an error"),
]
USAGES = ["missing", "null", "negative", "nonsense", "partial"]


def names(cases: list[Case]) -> list[str]:
    """Return the names, which stand in the ids of tests."""
    return [case.name for case in cases]


def lm15(classes: str) -> Any:
    """Return the classes of ``dspy.lm15`` that stand between bars."""
    import dspy.lm15

    return tuple(getattr(dspy.lm15, name) for name in classes.split("|"))


def check_error(error: Any, case: Case) -> None:
    """Check the error of an engine."""
    assert isinstance(error, lm15(case.lm15))
    if case.status is not None:
        assert error.status == case.status
    assert case.words in str(error)
    if case.retry_after is None:
        assert error.retry_after is None
    elif case.name.endswith("by_date"):
        assert case.retry_after - 600 < error.retry_after <= case.retry_after
    else:
        assert error.retry_after == case.retry_after


def dspy_error(name: str) -> Any:
    """Return a class of DSPy's errors."""
    from dspy.utils import exceptions

    return getattr(exceptions, name)


def either(call: Callable[[], Any]) -> tuple[Any, Any]:
    """Return what a call gives, or the error of an LM that it raises."""
    try:
        return call(), None
    except dspy_error("LMError") as error:
        return None, error


def check_raised(error: Any, case: Case) -> None:
    """Check what ``dspy.LM`` raised, and the engine's error behind it."""
    assert isinstance(error, dspy_error(case.lm))
    assert type(error) is not dspy_error("LMUnexpectedError")
    check_error(error.__cause__, case)
    assert error.status == error.__cause__.status
    assert error.retry_after == error.__cause__.retry_after
    assert case.words in str(error)


def all_of(error: BaseException) -> Iterator[str]:
    """Yield all that an error shows: its traceback, its arguments and notes, and those of what caused it."""
    yield "".join(traceback.format_exception(error))
    seen: list[BaseException] = []
    following: list[BaseException | None] = [error]
    while following:
        one = following.pop()
        if one is None or one in seen:
            continue
        seen.append(one)
        yield f"{one!s} {one!r} {one.args!r} {getattr(one, '__notes__', ())!r}"
        following += [one.__cause__, one.__context__]
