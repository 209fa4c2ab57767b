"""What a failure of a model says: whether to ask again, whether the provider ails, and what its user can do."""

from __future__ import annotations

import sys
from typing import Any

from dspex_lab.errors import DspexError
from dspex_lab.resilience import chain, retryable


def _hindered(error: BaseException) -> bool:
    """Say whether something was in the way that may pass: a rate limit, a timeout, a broken connection, a server's failure."""
    from dspy import lm15
    from dspy.utils.exceptions import LMError, is_retryable_lm_error

    if isinstance(error, LMError):
        return bool(is_retryable_lm_error(error))
    if isinstance(error, lm15.LM15Error):
        kinds = (lm15.RateLimitError, lm15.TimeoutError, lm15.ServerError, lm15.LockTimeoutError, lm15.TransportError)
        return isinstance(error, kinds) and not isinstance(error, lm15.BillingError)
    return isinstance(error, OSError | TimeoutError) and retryable(error)


def transient(error: BaseException) -> bool:
    """Say whether the same request is made again: something was in the way that may pass.

    Not a spent quota, which providers answer with 429 too, and not an answer that broke off: it was paid for, and asking for it
    again would cost as much again, unasked.
    """
    return _hindered(error) and getattr(error, "partial", None) is None


def ailing(error: BaseException) -> bool:
    """Say whether the provider does not work: what hinders but a rate limit, and an answer that broke off."""
    from dspy import lm15
    from dspy.utils.exceptions import LMRateLimitError, LMStreamAssemblyError

    if isinstance(error, lm15.RateLimitError | LMRateLimitError | DspexError):
        return False
    return _hindered(error) or isinstance(error, lm15.StreamAssemblyError | LMStreamAssemblyError)


def lasting(error: BaseException) -> bool:
    """Say whether a provider will answer so until somebody does something about it: a spent quota, which comes as a 429."""
    return any(type(each).__name__ in ("LMBillingError", "BillingError") for each in chain(error))


def named(error: TimeoutError, target: str) -> BaseException:
    """Return a timeout as DSPy's engines name it."""
    from dspy import lm15

    if isinstance(error, lm15.LM15Error):
        return error
    return lm15.TimeoutError(str(error) or f"{target!r} did not answer in time.")


def partial_of(error: BaseException | None) -> Any:
    """Return the part of an answer (``lm15.Response``) that had come when it broke off, None where there is none."""
    for each in chain(error):
        # The partial result of a collection limit is made when it is asked for, which a lack of memory does not allow.
        partial = None if type(each).__name__.endswith("CollectionLimitError") else getattr(each, "partial", None)
        if hasattr(partial, "message") and hasattr(partial, "text"):
            return partial
    return None


#: What to do about DSPy's errors, by their names; the first of an error's classes that is here counts.
_HINTS = {
    "LMAuthError": "Give the right key: %dspex key PROVIDER, or api_key=.",
    "LMNotConfiguredError": "Give a key: %dspex key PROVIDER, or api_key=.",
    "LMBillingError": "Put the account in order, or let another model answer: lab.use(MODEL, fallbacks=[…]).",
    "LMRateLimitError": "Ask less at once (concurrency=), wait, or let another model answer: lab.use(MODEL, fallbacks=[…]).",
    "LMUnsupportedModelError": "Check the name of the model and what the key may use.",
    "ContextWindowExceededError": "Shorten the inputs, show fewer demonstrations, or take a model that reads more: "
    "lab.lms.select(context=…).",
    "LMTimeoutError": "Give it more time (timeout=), or let another model answer: lab.use(MODEL, fallbacks=[…]).",
    "LMServerError": "Run it again later, or let another model answer: lab.use(MODEL, fallbacks=[…]).",
    "LMTransportError": "Check the address and the network, or let another model answer: lab.use(MODEL, fallbacks=[…]).",
    "LMStreamAssemblyError": "Run it again; what had come was paid for, and is in the note of the step's outcome.",
    "LMUnsupportedFeatureError": "Leave that setting out, or take a model that has it: lab.lms.select(…).",
    "AdapterParseError": "Ask more plainly, give the step retries=, or take a model that keeps to a schema: "
    "lab.lms.select(structured=True).",
}


def hint_of(error: BaseException | None) -> str | None:
    """Return what a user can do about an error: what it says itself, or else about one of DSPy's; None where nobody knows."""
    if isinstance(error, DspexError):
        return error.hint
    known = sys.modules.get("dspy.utils.exceptions")
    if error is None or known is None or not isinstance(error, known.DSPyError):
        return None
    return next((_HINTS[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _HINTS), None)
