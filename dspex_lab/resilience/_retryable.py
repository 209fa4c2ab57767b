"""Which failures are worth another try."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

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
    Unserialisable,
    VariableError,
)

#: HTTP statuses that say "later": a timeout, a conflict, too early, too many, and the server's own failures.
_LATER = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})

#: Never tried again, whatever a policy says: it was decided not to make the call, or the program is wrong as written.
NEVER: tuple[type[BaseException], ...] = (BudgetExceeded, ConfigurationError, SignatureError, Unserialisable)

#: The program, the machine or the request is wrong, and stays so.
_LASTING: tuple[type[BaseException], ...] = (
    CircuitOpen,  # the breaker says when to ask again
    SandboxError,
    VariableError,
    OutOfMemory,  # the same work needs the same memory, and would kill another worker
    MemoryError,
    RecursionError,
    NameError,
    SyntaxError,
    ImportError,
    NotImplementedError,
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
)


def retryable(error: BaseException) -> bool:
    """Say whether doing the same again may end otherwise.

    - Cancellation, an interrupt and an exit are no failures: no.
    - A model or server that says later (HTTP 408, 409, 425, 429, 5xx but 501 and 505) or says nothing: yes.
      Another status means that the request is wrong: no.
    - A broken connection, a timeout, any error of the operating system but a missing or forbidden file: yes.
    - A worker that died, was lost or was too slow: yes; one that ran out of memory: no.
    - A step or pipeline that failed (`PipelineError`): as what caused it. Without a cause it is wrong as defined: no.
    - A wrong setting, signature, variable or sandbox rule, a spent budget, an open circuit, a missing name or module:
      no.
    - Any other exception of a user's function: yes, for who asks for retries says that the step fails by chance.
    - A group: if all in it are.
    """
    if not isinstance(error, Exception) or isinstance(error, NEVER + _LASTING):
        return False
    if isinstance(error, ExceptionGroup):
        return all(retryable(inner) for inner in error.exceptions)
    if isinstance(error, PoolError):
        return True
    status = status_of(error)
    if status is not None:
        return status in _LATER
    if isinstance(error, LMError):
        # A model that was refused for a lasting reason has it as its cause.
        return error.__cause__ is None or retryable(error.__cause__)
    if isinstance(error, PipelineError):
        return error.__cause__ is not None and retryable(error.__cause__)
    return not isinstance(error, DspexError)


def retry_after(error: BaseException) -> float | None:
    """Return the seconds that ``error`` or what caused it asks to wait (its ``retry_after``), or None."""
    for each in chain(error):
        seconds = getattr(each, "retry_after", None)
        if isinstance(seconds, int | float) and not isinstance(seconds, bool) and math.isfinite(seconds) and seconds >= 0:
            return float(seconds)
    return None


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that an error of ours, of httpx, of OpenAI's or of LiteLLM's client carries."""
    for holder in (error, getattr(error, "response", None)):
        for name in ("status", "status_code"):
            status: Any = getattr(holder, name, None)
            if isinstance(status, int) and not isinstance(status, bool) and 100 <= status <= 599:
                return status
    return None


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield ``error`` and what caused it, each once."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__
