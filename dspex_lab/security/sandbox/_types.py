"""What goes into a sandbox and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from dspex_lab.errors import ConfigurationError, DspexError

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"

MB = 1 << 20
#: With less the interpreter around the code would not work; 1 where nothing is said.
_LEAST = {"seconds": 0.001, "cpu_seconds": 0.001, "memory": 32 * MB, "output": 0, "calls": 0, "received": 1000, "sent": 1000}


@dataclass(frozen=True, slots=True)
class Limits:
    """What code may use. All but ``memory`` are of one run.

    Attributes:
        seconds: of wall time, that of the tools left out.
        cpu_seconds: of processor time; None: as many as ``seconds``.
        memory: bytes beyond those of the bare interpreter.
        output: bytes kept of what is printed, of stdout and of stderr; the rest is dropped and ``Ran.truncated`` says so.
        flood: bytes printed that end the run.
        received: bytes of one message from the code, as JSON: its result, or a call of a tool.
        sent: bytes of one message to the code, as JSON: the code with its variables, or a tool's answer.
        depth: how deep JSON may be nested, both ways.
        calls: of tools.
    """

    seconds: float = 30.0
    cpu_seconds: float | None = None
    memory: int = 512 * MB
    output: int = 1 * MB
    flood: int = 64 * MB
    received: int = 4 * MB
    sent: int = 64 * MB
    depth: int = 100
    calls: int = 1000

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            least = _LEAST.get(name, 1)
            if value is None and name == "cpu_seconds":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
                raise ConfigurationError(
                    f"The limit {name} is {value!r}.", key=name, expected=f"a number from {least} up", actual=value
                )


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run gave.

    Attributes:
        result: the value of the last expression, as JSON gives it (tuples are lists, the keys of dicts texts), or what a tool
            submitted; None where the code ends with a statement.
        is_repr: the value has no JSON form, ``result`` is its ``repr``.
        submitted: ``result`` is what a tool gave to :class:`Submit`.
        stdout: what was printed, up to ``Limits.output`` bytes. ``stderr`` likewise.
        truncated: more was printed than is kept.
        seconds: wall time, that of the tools left out.
        cpu_seconds: processor time, as the kernel counted it.
        peak_memory: the most memory the process ever had, in bytes, as the kernel counted it.
        calls: how often tools were called.
        level: what held the code: ``"landlock 7 + seccomp + rlimits"``.
        fresh: the code began with no names of runs before it.
    """

    result: Any
    is_repr: bool
    submitted: bool
    stdout: str
    stderr: str
    truncated: bool
    seconds: float
    cpu_seconds: float
    peak_memory: int
    calls: int
    level: str
    fresh: bool


class CodeError(DspexError):
    """The code itself failed. The sandbox held, lives, and keeps the names the code had set until then.

    Attributes:
        type: the name of the exception's class, ``"ZeroDivisionError"``; ``"SyntaxError"`` where it is no Python.
        detail: the exception's text.
        line: the line of the code, 1-based; None where it is not known.
        column: of a SyntaxError, 1-based.
        traceback: the traceback, of the code's own lines only.
        stdout: what was printed before. ``stderr`` likewise.
        calls: how often tools were called.

    Where a tool failed and the code did not catch it, ``type`` is ``"ToolError"`` and ``__cause__`` the tool's own exception.
    """

    def __init__(
        self,
        message: str,
        *,
        type: str = "Exception",  # noqa: A002 - what every caller would look for
        detail: str = "",
        line: int | None = None,
        column: int | None = None,
        traceback: str = "",
        stdout: str = "",
        stderr: str = "",
        calls: int = 0,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.type, self.detail, self.line, self.column, self.traceback = type, detail, line, column, traceback
        self.stdout, self.stderr, self.calls = stdout, stderr, calls


class Submit(Exception):
    """Raised by a tool: the run ends now and ``value`` (any object of the caller's) is its result."""

    def __init__(self, value: Any = None) -> None:
        super().__init__(value)
        self.value = value
