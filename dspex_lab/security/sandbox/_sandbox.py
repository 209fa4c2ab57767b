"""A sandbox as its user sees it."""

from __future__ import annotations

import contextlib
import keyword
import os
import secrets
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from dspex_lab.errors import ConfigurationError, SandboxError, SandboxUnavailable
from dspex_lab.security._protection import protection
from dspex_lab.security.sandbox import _frames, _warm
from dspex_lab.security.sandbox._conversation import Conversation
from dspex_lab.security.sandbox._process import Process
from dspex_lab.security.sandbox._tools import Toolbox
from dspex_lab.security.sandbox._types import JSON, Limits, Ran
from dspex_lab.security.sandbox._verdict import Said, failure, finished

Tools = Mapping[str, Callable[..., Any]]


class Sandbox:
    """Runs Python that a model wrote, in a process that can compute and nothing else.

    Names persist from one run to the next. Thread-safe: runs take turns. The process is made by the first run, and again by
    the next one where it has ended; between runs it is stopped.

    Args:
        limits: what the code may use.
        tools: functions that the code can call by name, with JSON values; see :meth:`run`.
        readable: folders and files that the code may read.
        importable: folders of packages that the code may import from (and read).

    Raises:
        ConfigurationError: a tool has no usable name, or a folder does not exist.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        tools: Tools | None = None,
        *,
        readable: Sequence[str | Path] = (),
        importable: Sequence[str | Path] = (),
    ) -> None:
        self.limits = limits or Limits()
        self.tools = dict(tools or {})
        _check_names(self.tools, "tool")
        self._policy = {
            "memory": self.limits.memory,
            "readable": _folders(readable, "readable"),
            "importable": _folders(importable, "importable"),
        }
        self._hold = _Hold()
        self._finalizer = weakref.finalize(self, self._hold.end)
        self._closed = False
        self._lock = threading.Lock()
        self._runner: int | None = None
        _all.add(self)

    @property
    def level(self) -> str:
        """What this machine gives: ``"full"``, or the code is not run."""
        return protection().level

    @property
    def alive(self) -> bool:
        """Whether the process is there, with the names that runs have set."""
        process = self._hold.process
        return process is not None and process.alive

    @property
    def pid(self) -> int | None:
        """The process of the code, None where there is none."""
        process = self._hold.process
        return process.pid if process is not None and process.alive else None

    def run(
        self,
        code: str,
        variables: Mapping[str, JSON] | None = None,
        *,
        timeout: float | None = None,
        tools: Tools | None = None,
    ) -> Ran:
        """Run code and return what it gave.

        Args:
            code: Python. Its result is the value of its last expression. ``await`` needs no function around it.
            variables: set as global names first.
            timeout: seconds, in place of ``limits.seconds``; the time that tools take is left out.
            tools: added to those of the sandbox for this run. They are called in this thread; arguments, results and the
                text of an exception cross as JSON. One that raises :class:`Submit` ends the run.

        Raises:
            CodeError: what the code raised; the sandbox lives.
            SandboxError: which limit or rule it broke, by its class; has ``stdout`` and ``stderr``.
            SandboxUnavailable: this machine gives too little; nothing was run.
            ConfigurationError: a variable or a tool that cannot be given to code.
        """
        toolbox = Toolbox({**self.tools, **(tools or {})}, self.limits)
        _check_names(toolbox.tools, "tool")
        token = secrets.token_hex(16)
        request = self._request(code, dict(variables or {}), toolbox, token)
        seconds = self.limits.seconds if timeout is None else timeout
        if not seconds > 0:
            raise ConfigurationError(f"The timeout is {timeout!r}.", key="timeout", expected="seconds above 0", actual=timeout)
        if self._runner == threading.get_ident():
            raise SandboxError("A tool cannot run code in the sandbox that waits for it.", hint="Take another sandbox.")
        with self._lock:
            self._runner = threading.get_ident()
            try:
                return self._run(code, request, seconds, toolbox, token)
            finally:
                self._runner = None
                if self._closed:
                    self._hold.end()

    def reset(self) -> None:
        """Forget all names: the next run begins in a new process."""
        with self._lock:
            self._hold.drop()

    def close(self) -> None:
        """End the process and the use of the sandbox. Idempotent, from any thread: a run under way raises SandboxDied."""
        self._closed = True
        process = self._hold.process
        if process is not None:
            process.kill()
        if self._lock.acquire(blocking=False):  # else the run ends it
            try:
                self._finalizer()
            finally:
                self._lock.release()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"pid {self.pid}" if self.alive else "not started"
        return f"Sandbox({', '.join(self.tools)}{'; ' if self.tools else ''}{state})"

    # --- a run ------------------------------------------------------------------------------------------------------

    def _request(self, code: str, variables: dict[str, Any], toolbox: Toolbox, token: str) -> bytes:
        if not isinstance(code, str):
            raise ConfigurationError(f"code is {type(code).__name__}.", key="code", expected="text", actual=type(code).__name__)
        _check_names(variables, "variable", toolbox.tools)
        limits = self.limits
        message: dict[str, Any] = {"token": token, "code": code, "variables": variables, "tools": list(toolbox.tools)}
        message |= {"most": limits.received, "depth": limits.depth}
        try:
            return _frames.pack(message, limits.sent, limits.depth + 2)
        except _frames.TooLarge as error:
            raise ConfigurationError(
                f"The code and its variables are too large: {error}.", key="sent", hint="Raise Limits.sent, or give less."
            ) from None
        except (TypeError, ValueError, RecursionError) as error:
            name = next((n for n, v in variables.items() if not _is_json(v)), "code")
            raise ConfigurationError(
                f"The variable {name!r} has no JSON form: {error}", key=name, expected="a JSON value"
            ) from error

    def _run(self, code: str, request: bytes, seconds: float, toolbox: Toolbox, token: str) -> Ran:
        process, fresh = self._ready(token)
        talk = Conversation(process, self.limits, seconds, token)
        try:
            if fresh:
                _greet(talk, process)
            said = toolbox.serve(talk, request)
            talk.finish()
        except BaseException as error:
            self._hold.drop()
            if isinstance(error, SandboxError):
                error.level = error.level or process.level
                error.__dict__.update(stdout=talk.out.text, stderr=talk.err.text)
                if toolbox.submitted is not None:  # the code had its say, and cannot take it back
                    return finished(Said(), talk, toolbox.calls, toolbox.submitted, process, fresh)
            raise
        if said.type is not None and toolbox.submitted is None:
            failed = failure(said, code, talk, toolbox.calls, self.limits, process.level)
            raise failed from (toolbox.error if said.type == "ToolError" else None)
        return finished(said, talk, toolbox.calls, toolbox.submitted, process, fresh)

    def _ready(self, token: str) -> tuple[Process, bool]:
        if self._closed:
            raise SandboxError("This sandbox is closed.", hint="Make a new one.")
        process = self._hold.process
        if process is not None and process.alive:
            return process, False
        started = self._hold.start({**self._policy, "token": token})
        if self._closed:  # meanwhile, by somebody who found no process to end
            started.kill()
        return started, True

    def _renew(self) -> None:
        """Begin as at first, in a fork of the process that this sandbox belongs to."""
        self._lock = threading.Lock()
        self._runner = None
        self._hold.abandon()


def _greet(talk: Conversation, process: Process) -> None:
    """Hear what holds the new process, said before there was any code in it."""
    greeting = talk.receive()
    if "level" not in greeting:
        raise SandboxUnavailable(
            f"The kernel did not hold a process to its limits: {greeting.get('refused')}.", hint="Nothing was run."
        )
    process.level = greeting["level"]


def _folders(paths: Sequence[str | Path], what: str) -> list[str]:
    found = [os.path.realpath(path) for path in paths]
    for path in found:
        if not os.path.exists(path):
            raise ConfigurationError(f"{path} does not exist.", key=what, expected="a folder or file", actual=path)
    return found


def _check_names(names: Iterable[str], what: str, taken: Iterable[str] = ()) -> None:
    for name in names:
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
            raise ConfigurationError(f"The {what} {name!r} cannot be a name in code.", key=what, actual=name)
        if name in taken or name.startswith("__"):
            raise ConfigurationError(f"The {what} {name!r} has a name that is taken.", key=what, actual=name)


def _is_json(value: Any) -> bool:
    with contextlib.suppress(TypeError, ValueError, RecursionError):
        _frames.pack(value, sys.maxsize, sys.maxsize)
        return True
    return False


class _Hold:
    """What a sandbox has of the machine, so that it can be given back when the sandbox is forgotten."""

    def __init__(self) -> None:
        self.process: Process | None = None
        self._lease = _warm.Lease()

    def start(self, policy: dict[str, Any]) -> Process:
        self.drop()
        self._lease.take()
        try:
            self.process = Process(policy)
        except OSError as error:
            raise SandboxUnavailable(f"No sandboxed process could be made: {error}.", hint="Nothing was run.") from error
        return self.process

    def drop(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.close()

    def abandon(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.abandon()

    def end(self) -> None:
        self.drop()
        self._lease.end()


#: Those that a fork of this process would have copies of.
_all: weakref.WeakSet[Sandbox] = weakref.WeakSet()


def _renew_all() -> None:
    for sandbox in list(_all):
        sandbox._renew()


os.register_at_fork(after_in_child=_renew_all)
