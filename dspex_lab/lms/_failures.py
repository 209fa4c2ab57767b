"""What a failure of an engine says: whether to ask again, and whether the provider ails."""

from __future__ import annotations

from dspex_lab.errors import DspexError
from dspex_lab.resilience import retryable


def transient(error: BaseException) -> bool:
    """Say whether the same request may be answered later: a rate limit, a timeout, a broken connection, a server's failure.

    Not a spent quota, which providers answer with 429 too, and not an answer that broke off: it may have been paid for.
    """
    from dspy import lm15
    from dspy.utils.exceptions import LMError, is_retryable_lm_error

    if isinstance(error, LMError):
        return bool(is_retryable_lm_error(error))
    if isinstance(error, lm15.LM15Error):
        kinds = (lm15.RateLimitError, lm15.TimeoutError, lm15.ServerError, lm15.LockTimeoutError, lm15.TransportError)
        return isinstance(error, kinds) and not isinstance(error, lm15.BillingError)
    return isinstance(error, OSError | TimeoutError) and retryable(error)


def ailing(error: BaseException) -> bool:
    """Say whether the provider does not work: what is :func:`transient` but a rate limit, and an answer that broke off."""
    from dspy import lm15
    from dspy.utils.exceptions import LMRateLimitError, LMStreamAssemblyError

    if isinstance(error, lm15.RateLimitError | LMRateLimitError | DspexError):
        return False
    return transient(error) or isinstance(error, lm15.StreamAssemblyError | LMStreamAssemblyError)
