"""The errors of dspex_lab: one root, one small tree.

    DspexError
    ├── SignatureError       text, line, column, field
    ├── PipelineError        step, outcomes
    ├── LMError              engine, status
    │   └── BudgetExceeded
    ├── PoolError            pool, worker, task, traceback
    │   ├── OutOfMemory
    │   │   └── GpuOutOfMemory
    │   ├── WorkerKilled
    │   │   ├── WorkerCrashed
    │   │   └── WorkerStuck
    │   ├── TaskTimeout
    │   │   └── CpuTimeExceeded
    │   ├── TaskImportError
    │   ├── PoisonTask
    │   ├── PoolBusy
    │   └── Unserialisable   path
    ├── SessionError         session
    ├── VariableError        name
    │   ├── VersionConflict  expected, actual
    │   ├── ConstraintError  constraint
    │   └── LeaseError       holder
    ├── JobError             job, state
    ├── ConfigurationError   key, expected, actual
    ├── StoreError           path
    ├── SandboxError         level
    │   ├── SandboxUnavailable
    │   ├── SandboxTimeout
    │   ├── SandboxOutOfMemory
    │   ├── SandboxOutputLimit
    │   ├── SandboxViolation
    │   └── SandboxDied
    ├── CircuitOpen          target, retry_after
    └── BulkheadFull         target, retry_after

A message says what was wrong, where, what was found and what to do. The original exception stays as
``__cause__``. In a notebook an error shows as its message and, where the text of a cell is known, that line
with a caret; the interpreter's frames are left out unless they belong to the user's own code.
"""

from __future__ import annotations

import difflib
import traceback as _traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = [
    "BudgetExceeded",
    "BulkheadFull",
    "CircuitOpen",
    "ConfigurationError",
    "ConstraintError",
    "CpuTimeExceeded",
    "DspexError",
    "GpuOutOfMemory",
    "JobError",
    "LMError",
    "LeaseError",
    "OutOfMemory",
    "PipelineError",
    "PoisonTask",
    "PoolBusy",
    "PoolError",
    "SandboxDied",
    "SandboxError",
    "SandboxOutOfMemory",
    "SandboxOutputLimit",
    "SandboxTimeout",
    "SandboxUnavailable",
    "SandboxViolation",
    "SessionError",
    "SignatureError",
    "StoreError",
    "TaskImportError",
    "TaskTimeout",
    "Unserialisable",
    "VariableError",
    "VersionConflict",
    "WorkerCrashed",
    "WorkerKilled",
    "WorkerStuck",
    "did_you_mean",
]

_PACKAGE = str(Path(__file__).parent)


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the nearest candidate, or the empty string if none is near."""
    known = [str(c) for c in candidates]
    lowered = {c.lower(): c for c in known}
    near = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return f" Did you mean {lowered[near[0]]!r}?" if near else ""


class DspexError(Exception):
    """Root of all errors raised on purpose.

    Args:
        message: what was wrong, where, and what was found.
        hint: what to do about it, one sentence.
    """

    #: The text the error points into (a cell, a file), with a 1-based line and a 1-based column.
    text: str | None = None
    line: int | None = None
    column: int | None = None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        if not self.hint:
            return self.message
        return f"{self.message}{'' if self.message.endswith(('.', '?', '!', ':')) else '.'} {self.hint}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only arguments do not survive the default protocol, and errors cross process boundaries.
        return (_rebuild, (type(self), self.args, self.__dict__))

    def at(self, text: str, line: int, column: int = 1) -> DspexError:
        """Point the error at a place in ``text`` and return it."""
        self.text, self.line, self.column = text, line, column
        return self

    def excerpt(self) -> list[str]:
        """Return the line pointed at and a caret under its column, or nothing when no place is known."""
        if not self.text or not self.line:
            return []
        lines = self.text.splitlines()
        if not 1 <= self.line <= len(lines):
            return []
        label = f"line {self.line} | "
        source = lines[self.line - 1].replace("\t", " ")
        return [label + source, " " * (len(label) + max((self.column or 1) - 1, 0)) + "^"]

    def _user_frames(self) -> list[str]:
        cause = self.__cause__
        if cause is None or isinstance(cause, DspexError):
            return []
        frames = [
            f
            for f in _traceback.extract_tb(cause.__traceback__)
            if not f.filename.startswith((_PACKAGE, "<pipeline", "<magic"))
            and "site-packages" not in f.filename
            and "/lib/python3" not in f.filename
        ]
        out = [f"  {_cell_name(f.filename)}:{f.lineno} in {f.name}\n    {f.line}" for f in frames[-3:]]
        return [*out, f"  {type(cause).__name__}: {cause}"] if out else []

    def _render_traceback_(self) -> list[str]:
        """Return what Jupyter shows: the message, the line with its caret, the user's own frames, the remedy."""
        lines = [f"{type(self).__name__}: {self.message}", *self.excerpt(), *self._user_frames()]
        if self.hint:
            lines.append(f"→ {self.hint}")
        return lines


def _cell_name(filename: str) -> str:
    return "cell" if "ipykernel" in filename or filename.startswith("<ipython") else Path(filename).name


def _rebuild(cls: type[DspexError], args: tuple[Any, ...], state: dict[str, Any]) -> DspexError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class SignatureError(DspexError):
    """A signature that cannot be read, or a value that does not fit one.

    Args:
        text: the source of the signature; with ``line`` and ``column`` (both 1-based) the place in it.
        field: the field concerned, if one is.
    """

    def __init__(
        self,
        message: str,
        *,
        text: str | None = None,
        line: int | None = None,
        column: int | None = None,
        field: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.text, self.line, self.column, self.field = text, line, column, field


class PipelineError(DspexError):
    """A pipeline that cannot run, or a step that failed.

    Args:
        step: the step concerned.
        outcomes: what the steps before it computed, by step name; nothing computed is lost.
    """

    def __init__(
        self, message: str, *, step: str | None = None, outcomes: Mapping[str, Any] | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.step = step
        self.outcomes = dict(outcomes or {})


class LMError(DspexError):
    """A language model that could not be made or did not answer.

    Args:
        engine: the engine or model concerned.
        status: the HTTP status, where there was one.
    """

    def __init__(self, message: str, *, engine: str | None = None, status: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.engine = engine
        self.status = status


class BudgetExceeded(LMError):
    """A call that would cross a limit in tokens, money or calls; it was not made."""


class PoolError(DspexError):
    """Work on a pool that failed for a reason of the pool's, not of the step's.

    Args:
        pool: the pool's name.
        worker: the worker's name, where one is known.
        task: what was to be done, by its label.
        traceback: the traceback in the worker, as text.
    """

    def __init__(
        self,
        message: str,
        *,
        pool: str | None = None,
        worker: str | None = None,
        task: str | None = None,
        traceback: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.pool = pool
        self.worker = worker
        self.task = task
        self.traceback = traceback


class OutOfMemory(PoolError):
    """The task needed more memory than its worker may have."""


class GpuOutOfMemory(OutOfMemory):
    """The task needed more of its GPU's memory than there was."""


class WorkerKilled(PoolError):
    """The worker's process died under the task."""


class WorkerCrashed(WorkerKilled):
    """Native code broke the worker's process: a segmentation fault, an abort, an illegal instruction."""


class WorkerStuck(WorkerKilled):
    """The worker did not answer any more (stopped, or hung in native code) and was ended."""


class TaskTimeout(PoolError):
    """The task did not finish in the time it was given."""


class CpuTimeExceeded(TaskTimeout):
    """The task used more processor time than it was given."""


class TaskImportError(PoolError):
    """What the task imports is not there in the worker."""


class PoisonTask(PoolError):
    """The task has killed its worker twice and is not given to a third."""


class PoolBusy(PoolError):
    """The task waited too long for a worker; it was not begun."""


class Unserialisable(PoolError):
    """A value that cannot travel to a worker; ``path`` says which part of it."""

    path: str = ""


class SessionError(DspexError):
    """A session that does not exist, is in use, is full or cannot go on.

    Args:
        session: its name.
    """

    def __init__(self, message: str, *, session: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.session = session


class VariableError(DspexError):
    """A variable that does not exist or a value it cannot take."""

    def __init__(self, message: str, *, name: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.name = name


class VersionConflict(VariableError):
    """A commit was made for a version of a variable that is not the present one any more.

    Args:
        expected: the version that the commit was made for.
        actual: the present one.
    """

    def __init__(
        self, message: str, *, name: str | None = None, expected: int = 0, actual: int = 0, hint: str | None = None
    ) -> None:
        super().__init__(message, name=name, hint=hint)
        self.expected, self.actual = expected, actual


class ConstraintError(VariableError):
    """Values that together break a constraint, or constraints that no values can meet.

    Args:
        constraint: its name.
    """

    def __init__(
        self, message: str, *, name: str | None = None, constraint: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, name=name, hint=hint)
        self.constraint = constraint


class LeaseError(VariableError):
    """A variable is leased to somebody else, or a lease is over.

    Args:
        holder: who has it.
    """

    def __init__(self, message: str, *, name: str | None = None, holder: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, name=name, hint=hint)
        self.holder = holder


class JobError(DspexError):
    """A job that does not exist, failed, or cannot do what it is asked in its state.

    Args:
        job: its id.
        state: its state.
    """

    def __init__(self, message: str, *, job: str | None = None, state: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.job, self.state = job, state


class ConfigurationError(DspexError):
    """A setting, an argument or an environment that does not fit.

    Args:
        key: the setting.
        expected: what it may be.
        actual: what it was.
    """

    def __init__(
        self, message: str, *, key: str | None = None, expected: object = None, actual: object = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.key, self.expected, self.actual = key, expected, actual


class StoreError(DspexError):
    """A store that cannot be opened, read or written.

    Args:
        path: the store's file.
    """

    def __init__(self, message: str, *, path: str | Path | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = str(path) if path is not None else None


class SandboxError(DspexError):
    """Model-written code that was refused or that broke a rule; ``level`` is the protection that was had."""

    def __init__(self, message: str, *, level: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.level = level


class SandboxUnavailable(SandboxError):
    """This machine gives too little protection to run the code; nothing was run."""


class SandboxTimeout(SandboxError):
    """The code ran for longer, or used more processor time, than it was given."""


class SandboxOutOfMemory(SandboxError):
    """The code needed more memory than it was given."""


class SandboxOutputLimit(SandboxError):
    """The code printed, returned or wrote more than it may."""


class SandboxViolation(SandboxError):
    """The code tried what it may not: a file, a socket, another process."""


class SandboxDied(SandboxError):
    """The code ended its process instead of giving a result."""


class CircuitOpen(DspexError):
    """A call that was not made because its target fails.

    Args:
        target: what fails.
        retry_after: seconds until it will be tried again.
    """

    def __init__(
        self, message: str, *, target: str | None = None, retry_after: float | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.target, self.retry_after = target, retry_after


class BulkheadFull(DspexError):
    """A call that was not made because too many wait for the same provider already.

    Args:
        target: the provider.
        retry_after: seconds after which there may be room; None where nobody knows.
    """

    def __init__(
        self, message: str, *, target: str | None = None, retry_after: float | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.target, self.retry_after = target, retry_after
