"""Which failed calls were surely not paid for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from dspex_lab.errors import DspexError
from dspex_lab.resilience import chain

#: Failures of httpx, lm15's transport and Python after which nothing had been sent.
_NEVER_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol")
#: Failures of lm15 in which the provider, or this machine, refused.
_REFUSED = (
    "AuthError",
    "BillingError",
    "RateLimitError",
    "InvalidRequestError",
    "ServerError",
    "ConfigurationError",
    "CapabilityError",
    "LockTimeoutError",
)


def unpaid(error: BaseException) -> bool:
    """Say whether a call that ended in ``error``, without a part of an answer, surely cost nothing.

    Where that cannot be known (a timeout after the request was sent, a broken connection, an answer that could not be read,
    a call that was given up) it says no: a guard of a budget takes the call as paid.
    """
    return any(_refused(each) for each in chain(error))


def _refused(error: BaseException) -> bool:
    status = getattr(error, "status", None)
    if isinstance(status, int) and not isinstance(status, bool) and status >= 400:
        return True
    if isinstance(error, DspexError | ConnectionRefusedError):
        return True
    return isinstance(error, tuple(_classes()))


def _classes() -> Iterator[type[BaseException]]:
    """Yield the classes that say so, of the packages that are loaded: what is not loaded has raised nothing."""
    for package, names in (("dspy.lm15", _REFUSED), ("dspy._vendor.lm15.transports", _NEVER_SENT), ("httpx", _NEVER_SENT)):
        module: Any = sys.modules.get(package)
        yield from (getattr(module, name) for name in names if module is not None and hasattr(module, name))
