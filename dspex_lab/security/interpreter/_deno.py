"""DSPy's own interpreter (Pyodide on Deno) where this machine gives too little for ours, with a limit of time around it.

It has a sandbox of its own (WebAssembly, no network, no files) but neither a limit of time nor of memory, and its runner loads
parts from the network when it is first used. This module imports DSPy: import it where it is needed.
"""

from __future__ import annotations

import contextlib
import functools
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from dspy.primitives.code_interpreter import CodeExecutionError, CodeInterpreterError, FinalOutput
from dspy.primitives.python_interpreter import PythonInterpreter, _find_deno_executable, _get_deno_version

from dspex_lab.errors import (
    ConfigurationError,
    SandboxDied,
    SandboxError,
    SandboxOutputLimit,
    SandboxTimeout,
    SandboxUnavailable,
)
from dspex_lab.security.interpreter._session import Answer, Done, Output
from dspex_lab.security.sandbox import CodeError

LEVEL = "deno"


def deno_version() -> str | None:
    """Return the version of the Deno that DSPy would use, None where there is none."""
    found = _get_deno_version(_find_deno_executable())
    return None if found is None else ".".join(map(str, found))


class _Quiet(PythonInterpreter):
    """DSPy's interpreter without its callbacks: those of the interpreter around it are told."""

    start = PythonInterpreter.start.__wrapped__
    execute = PythonInterpreter.execute.__wrapped__
    shutdown = PythonInterpreter.shutdown.__wrapped__
    invoke_tool = PythonInterpreter.invoke_tool.__wrapped__


class DenoSession:
    """One session of DSPy's interpreter. Not thread-safe: one execution at a time.

    Args:
        timeout: seconds one execution may take, the time in tools left out.
        output: the most characters it may print or return.

    Raises:
        SandboxUnavailable: its runner cannot be started.
    """

    level = LEVEL

    def __init__(self, *, timeout: float, output: int) -> None:
        self._timeout, self._output = timeout, output
        self._inner = _Quiet()
        try:
            self._guarded(self._inner.start, max(timeout, 60.0))
        except (CodeInterpreterError, SandboxError) as error:
            said = self._complaint() or str(error)
            self.close()
            raise SandboxUnavailable(
                f"Deno is installed, but DSPy's interpreter could not be started on it: {_first_line(said)}",
                level=LEVEL,
                hint="Its runner is fetched from the network once; run dspy.PythonInterpreter().start() where there is one.",
            ) from error

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        process = self._inner.deno_process
        return process is not None and process.poll() is None

    def prepare(self, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the variables as :meth:`run` takes them."""
        return dict(variables)

    def run(
        self, code: str, given: Mapping[str, Any], tools: Mapping[str, Callable[..., Any]], answer: Answer, fields: Output
    ) -> Done:
        """Run ``code``; see :class:`~dspex_lab.security.interpreter._session.Session`."""
        waited = _Clock()
        inner = self._inner
        inner.tools = {name: _asking(name, tool, answer, waited) for name, tool in tools.items()}
        inner.output_fields = None if fields is None else [dict(field) for field in fields]
        inner._tools_registered = False
        inner._owner_thread = None  # whoever asks holds the lock of the interpreter around this
        try:
            value = self._guarded(lambda: inner.execute(code, dict(given)), self._timeout, waited)
        except SyntaxError as error:
            detail = str(error).removeprefix("Invalid Python syntax. message:").strip() or "invalid syntax"
            raise CodeError(detail, type="SyntaxError", detail=detail) from error
        except CodeExecutionError as error:
            kind, _, detail = str(error).partition(": ")
            raise CodeError(str(error), type=kind, detail=detail) from error
        except CodeInterpreterError as error:
            if not inner._session_ended:
                raise ConfigurationError(str(error), key="variables") from error
            self.close()
            raise SandboxDied(f"The code ended its process: {_first_line(str(error))}", level=LEVEL) from error
        size = len(value) if isinstance(value, str) else 0
        if size > self._output:
            raise SandboxOutputLimit(f"The code printed {size:,} characters; it may print {self._output:,}.", level=LEVEL)
        if isinstance(value, FinalOutput):
            return Done(value.output, final=True)
        return Done(None, value) if isinstance(value, str) else Done(value)

    def _complaint(self) -> str:
        """Return what a process that would not start wrote to its stderr."""
        process = self._inner.deno_process
        if process is None or process.stderr is None or process.stderr.closed:
            return ""
        process.kill()
        return str(process.stderr.read())

    def close(self) -> None:
        """End the process."""
        process = self._inner.deno_process
        self._inner._session_ended = True
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):  # what was not sent yet has nobody to go to
                        stream.close()
            self._inner.deno_process = None

    def _guarded(self, work: Callable[[], Any], limit: float, waited: _Clock | None = None) -> Any:
        """Return what ``work`` gives; the process is killed when it takes longer."""
        done, late, clock = threading.Event(), threading.Event(), waited or _Clock()
        started = time.monotonic()

        def watch() -> None:
            while True:
                left = limit - (time.monotonic() - started - clock.seconds())
                if done.wait(max(left, 0.0)):
                    return
                if limit - (time.monotonic() - started - clock.seconds()) <= 0:
                    late.set()
                    process = self._inner.deno_process
                    if process is not None:
                        process.kill()
                    done.wait(0.05)  # it may not have been started yet

        watcher = threading.Thread(target=watch, name="dspex-deno-watch", daemon=True)
        watcher.start()
        try:
            return work()
        except CodeInterpreterError as error:
            if late.is_set():
                self.close()
                raise SandboxTimeout(
                    f"The code ran for longer than the {limit:g} s it may.", level=LEVEL, hint="Write code that ends sooner."
                ) from error
            raise
        finally:
            done.set()
            watcher.join()


class _Clock:
    """How long tools took: that time is not the code's."""

    def __init__(self) -> None:
        self._spent = 0.0
        self._since: float | None = None

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        since, self._since = self._since, None
        self._spent += time.monotonic() - (since or 0.0)

    def seconds(self) -> float:
        since = self._since
        return self._spent + (0.0 if since is None else time.monotonic() - since)


def _asking(name: str, tool: Callable[..., Any], answer: Answer, clock: _Clock) -> Callable[..., Any]:
    @functools.wraps(tool)
    def ask(**kwargs: Any) -> Any:
        with clock:
            return answer(name, (), kwargs)

    return ask


def _first_line(text: str) -> str:
    """Return the line that says what is wrong, without the colours of a terminal."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).strip().splitlines()
    wanted = [line for line in lines if "error" in line.lower()] or lines or ["nothing was said"]
    return wanted[0][:300]
