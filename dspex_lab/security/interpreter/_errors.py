"""What went wrong in the sandbox, as an error of ours that is one of DSPy's too.

DSPy's modules show a :class:`~dspy.primitives.code_interpreter.CodeExecutionError` to the model, which then writes its code
anew, and give up at any other :class:`~dspy.primitives.code_interpreter.CodeInterpreterError`. Code that ran too long or tried
what it may not is the model's to mend; a machine without a sandbox is not. This module imports DSPy: import it where it is
needed.
"""

from __future__ import annotations

from dspy.primitives.code_interpreter import CodeExecutionError, CodeInterpreterError

from dspex_lab import errors


class SandboxError(errors.SandboxError, CodeExecutionError):
    """A broken rule of a kind that has no name of its own."""


class SandboxTimeout(errors.SandboxTimeout, CodeExecutionError):
    """The code ran for longer than it may."""


class SandboxOutOfMemory(errors.SandboxOutOfMemory, CodeExecutionError):
    """The code needed more memory than it may have."""


class SandboxOutputLimit(errors.SandboxOutputLimit, CodeExecutionError):
    """The code printed or returned more than it may."""


class SandboxViolation(errors.SandboxViolation, CodeExecutionError):
    """The code tried what it may not."""


class SandboxDied(errors.SandboxDied, CodeExecutionError):
    """The code ended its process."""


class SandboxUnavailable(errors.SandboxUnavailable, CodeInterpreterError):
    """There is no sandbox here."""


class ConfigurationError(errors.ConfigurationError, CodeInterpreterError):
    """What was given to the interpreter cannot be given to code."""


class SessionLost(errors.SandboxError, CodeInterpreterError):
    """The state of the session is gone and cannot be made again."""


_OURS: tuple[type[errors.SandboxError], ...] = (
    SandboxTimeout,
    SandboxOutOfMemory,
    SandboxOutputLimit,
    SandboxViolation,
    SandboxDied,
    SandboxUnavailable,
    SandboxError,
)


def both(error: errors.SandboxError, hint: str | None = None) -> errors.SandboxError:
    """Return ``error`` as one that DSPy knows how to take; ``hint`` stands in the place of its own."""
    kind = next((k for k in _OURS if isinstance(error, k.__bases__[0])), SandboxError)
    made: errors.SandboxError = kind(error.message, level=error.level, hint=hint or error.hint)
    for name in ("stdout", "stderr"):
        setattr(made, name, getattr(error, name, ""))
    return made


def wrongly_given(error: errors.ConfigurationError) -> ConfigurationError:
    """Return ``error`` as one that DSPy knows how to take."""
    return ConfigurationError(error.message, key=error.key, expected=error.expected, actual=error.actual, hint=error.hint)


__all__ = ["CodeExecutionError", "CodeInterpreterError", "SessionLost", "both", "wrongly_given"]
