"""What a run came to: the last message of the code, as a result or as an exception."""

from __future__ import annotations

from typing import Any, NamedTuple

from dspex_lab.errors import DspexError, SandboxOutOfMemory, SandboxOutputLimit, SandboxViolation
from dspex_lab.security.sandbox._conversation import LOST, Conversation, memory_text
from dspex_lab.security.sandbox._process import Process
from dspex_lab.security.sandbox._types import CodeError, Limits, Ran, Submit

_MAY_NOT = "Code in the sandbox cannot write files, read any but Python's own, reach a network, or start threads or programs."


class Said(NamedTuple):
    """The last message of a run, its shape checked. ``type`` is None where the code did not fail."""

    result: Any = None
    is_repr: bool = False
    type: str | None = None
    detail: str = ""
    line: int | None = None
    column: int | None = None
    traceback: str = ""
    limit: str | None = None


def said(message: dict[str, Any]) -> Said:
    """Return what a message says.

    Raises:
        SandboxViolation: it is none that the sandbox would send.
    """
    kind = message.get("kind")
    if kind == "done" and "result" in message and isinstance(message.get("repr"), bool):
        return Said(message["result"], message["repr"])
    if kind == "failed":
        told = Said(None, False, *map(message.get, ("type", "detail", "line", "column", "traceback", "limit")))  # type: ignore[arg-type]
        texts = (told.type, told.detail, told.traceback)
        if (
            all(isinstance(text, str) for text in texts)
            and all(place is None or type(place) is int for place in (told.line, told.column))
            and told.limit in (None, "memory", "output", "violation")
        ):
            return told
    raise SandboxViolation("The code broke into the sandbox's own messages.", hint=LOST)


def finished(said: Said, talk: Conversation, calls: int, submitted: Submit | None, process: Process, fresh: bool) -> Ran:
    """Return what the run gave."""
    return Ran(
        result=said.result if submitted is None else submitted.value,
        is_repr=said.is_repr and submitted is None,
        submitted=submitted is not None,
        stdout=talk.out.text,
        stderr=talk.err.text,
        truncated=talk.out.truncated or talk.err.truncated,
        seconds=talk.seconds,
        cpu_seconds=talk.cpu_seconds,
        peak_memory=process.peak_memory(),
        calls=calls,
        level=process.level,
        fresh=fresh,
    )


def failure(said: Said, code: str, talk: Conversation, calls: int, limits: Limits, level: str) -> DspexError:
    """Return the exception that says how the code failed; it has ``stdout``, ``stderr`` and ``traceback``."""
    where = f" (line {said.line})" if said.line else ""
    what = f"{said.type}: {said.detail}" if said.detail else str(said.type)
    error: DspexError
    if said.limit == "memory":
        error = SandboxOutOfMemory(
            f"The code needed more than {memory_text(limits)}{where}.",
            level=level,
            hint="What its names hold counts from run to run.",
        )
    elif said.limit == "output":
        error = SandboxOutputLimit(said.detail, level=level, hint="Have it give less at once.")
    elif said.limit == "violation":
        error = SandboxViolation(f"The code tried what it may not{where}: {what}.", level=level, hint=_MAY_NOT)
    else:
        error = CodeError(
            f"{what}{where}",
            type=said.type or "",
            detail=said.detail,
            line=said.line,
            column=said.column,
            calls=calls,
        )
        if said.line and 0 < said.line <= code.count("\n") + 1:
            error.at(code, said.line, max(said.column or 1, 1))
    error.__dict__.update(stdout=talk.out.text, stderr=talk.err.text, traceback=said.traceback)
    return error
