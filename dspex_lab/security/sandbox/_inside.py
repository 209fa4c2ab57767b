"""What runs in the sandbox around the code: takes it, executes it, says what came of it. Standard library only.

The code shares this process and can change anything here. Nothing depends on its not doing so: who reads the messages
(``_process.py``) trusts none of them, and what the process may do was settled before the first one.
"""

from __future__ import annotations

import ast
import builtins
import errno
import inspect
import io
import json
import linecache
import mmap
import os
import sys
import traceback
import types
from collections.abc import Callable
from types import CodeType
from typing import Any

from dspex_lab.security.sandbox import _frames

_RESULT = "__dspex_result__"
#: Bytes that become free when the code has used up its memory, so that this can be said.
_RESERVE = 4 << 20
#: Characters kept of a repr, and of the end of a traceback.
_MOST_SHOWN = 100_000
_NO_THREADS = "can't start new thread"


class ToolError(RuntimeError):
    """A tool failed; the text has its error."""

    __module__ = "builtins"  # so that tracebacks show its name only


class LimitError(RuntimeError):
    """A message was too large to be sent."""

    __module__ = "builtins"


class Ended(BaseException):
    """A tool has ended the run. Not an Exception, so that ``except Exception`` lets it pass."""


class Channel:
    """Messages to and from the kernel over one descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def receive(self) -> dict[str, Any] | None:
        """Return the next message; None where the kernel is gone."""
        header = self._exactly(_frames.HEADER.size)
        data = self._exactly(_frames.length(bytes(header))) if header is not None else None
        return None if data is None else json.loads(data.decode())

    def send(self, message: bytes) -> None:
        """Send a packed message, whole."""
        view = memoryview(message)
        while view:
            view = view[os.write(self._fd, view) :]

    def _exactly(self, size: int) -> bytearray | None:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            got = os.readv(self._fd, [view])
            if not got:
                return None
            view = view[got:]
        return data


class Harness:
    """Runs code again and again in one namespace."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        # A module, because pickle, dataclasses and typing look for the names of a class in that of its module.
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        main.__dict__["__builtins__"] = builtins
        self._names: dict[str, Any] = main.__dict__
        self._tools: dict[str, Any] = {}
        self._number = 0
        self._calling = False
        self._reserve: mmap.mmap | None = None
        self._keep_reserve()

    def serve(self) -> None:
        """Run what comes until the kernel closes the channel."""
        while (request := self._channel.receive()) is not None:
            self._answer(request)

    def _answer(self, request: dict[str, Any]) -> None:
        self._token, self._most, self._depth = request["token"], request["most"], request["depth"]
        self._number += 1
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        self._offer(request["tools"])
        self._names.update(request["variables"])
        try:
            value = self._execute(request["code"], f"<code {self._number}>")
            answer = self._done(value)
        except Ended:
            answer = self._packed({"kind": "done", "result": None, "repr": False})
        except BaseException as error:
            if self._reserve is not None:
                self._reserve.close()
                self._reserve = None
            answer = self._packed({"kind": "failed", **described(error, self._most)})
        for stream in (sys.__stdout__, sys.__stderr__):
            try:
                stream.flush()  # type: ignore[union-attr]
            except (OSError, ValueError):  # the code has closed it
                continue
        self._keep_reserve()
        self._channel.send(answer)

    def _keep_reserve(self) -> None:
        # Where the names hold all the memory there is, this ends the process: nothing could be run in it any more.
        if self._reserve is None:
            mmap.mmap(-1, 3 * _RESERVE).close()
            self._reserve = mmap.mmap(-1, _RESERVE)

    def _execute(self, code: str, filename: str) -> Any:
        linecache.cache[filename] = (len(code), None, code.splitlines(keepends=True), filename)
        ran = eval(compiled(code, filename), self._names)  # noqa: S307 - what a sandbox is for
        if inspect.iscoroutine(ran):
            import asyncio

            asyncio.run(ran)
        return self._names.pop(_RESULT, None)

    def _done(self, value: Any) -> bytes:
        try:
            return self._packed({"kind": "done", "result": value, "repr": False})
        except (TypeError, ValueError, RecursionError):
            shown = repr(value)
        shown = shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}…"
        return self._packed({"kind": "done", "result": shown, "repr": True})

    def _packed(self, message: dict[str, Any]) -> bytes:
        try:
            # One level is the message itself.
            return _frames.pack({"token": self._token, **message}, self._most, self._depth + 1)
        except _frames.TooLarge as error:
            raise LimitError(f"The result is too large: {error}.") from None

    # --- tools ------------------------------------------------------------------------------------------------------

    def _offer(self, names: list[str]) -> None:
        for name in [n for n in self._tools if n not in names]:
            tool = self._tools.pop(name)
            if self._names.get(name) is tool:
                del self._names[name]
        for name in names:
            self._tools.setdefault(name, self._tool(name))
            self._names[name] = self._tools[name]

    def _tool(self, name: str) -> Callable[..., Any]:
        def tool(*args: Any, **kwargs: Any) -> Any:
            return self._ask(name, args, kwargs)

        tool.__name__ = tool.__qualname__ = name
        return tool

    def _ask(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._calling:
            raise RuntimeError(f"{name} was called while another tool is at work.")
        message = {"token": self._token, "kind": "call", "name": name, "args": args, "kwargs": kwargs}
        try:
            packed = _frames.pack(message, self._most, self._depth + 2)
        except _frames.TooLarge as error:
            raise LimitError(f"The arguments of {name} are too large: {error}.") from None
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(f"The arguments of {name} must be JSON values: {error}") from None
        self._calling = True
        try:
            self._channel.send(packed)
            answer = self._channel.receive()
        finally:
            self._calling = False
        if answer is None or answer.get("end"):
            raise Ended
        if "error" in answer:
            raise ToolError(answer["error"])
        return answer["value"]


def compiled(code: str, filename: str) -> CodeType:
    """Return the code, changed so that the value of a last expression is bound to a name."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    tree: ast.Module = compile(code, filename, "exec", flags | ast.PyCF_ONLY_AST, dont_inherit=True)
    if tree.body and isinstance(last := tree.body[-1], ast.Expr):
        target = ast.copy_location(ast.Name(_RESULT, ast.Store()), last)
        tree.body[-1] = ast.copy_location(ast.Assign([target], last.value), last)
    made: CodeType = compile(tree, filename, "exec", flags, dont_inherit=True)
    return made


def described(error: BaseException, most: int) -> dict[str, Any]:
    """Return what is said of an exception of the code, in fewer than ``most`` bytes."""
    shown = min(_MOST_SHOWN, most // 32)  # a character is at most 12 bytes of JSON, and there are two texts
    told = {"type": type(error).__name__[:100], "detail": "", "line": None, "column": None, "traceback": ""}
    try:
        told |= _explained(error, shown)
    except Exception as problem:  # the exception is of the code's making, and so is what its methods do
        told["detail"] = f"(its text could not be had: {type(problem).__name__})"[:shown]
    return {**told, "limit": _limit(error)}


def _explained(error: BaseException, shown: int) -> dict[str, Any]:
    own = traceback.TracebackException(type(error), error, error.__traceback__, compact=True)
    _keep_own(own)
    line = own.stack[-1].lineno if own.stack else None
    told = {"detail": str(own)[:shown], "line": line, "traceback": "".join(own.format())[-shown:]}
    if isinstance(error, SyntaxError) and (error.filename or "").startswith("<code "):
        told |= {"detail": str(error.msg)[:shown], "line": error.lineno, "column": error.offset}
    return told


def _limit(error: BaseException) -> str | None:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return "memory"
    if isinstance(error, LimitError):
        return "output"
    refused = isinstance(error, PermissionError) and error.errno in (errno.EPERM, errno.EACCES)
    if refused or (isinstance(error, RuntimeError) and error.args[:1] == (_NO_THREADS,)):
        return "violation"
    return None


def _keep_own(told: traceback.TracebackException | None) -> None:
    while told is not None:
        told.stack = traceback.StackSummary.from_list([f for f in told.stack if f.filename.startswith("<code ")])
        _keep_own(told.__cause__)
        for part in getattr(told, "exceptions", None) or ():
            _keep_own(part)
        told = told.__context__


def open_streams() -> None:
    """Make stdin, stdout and stderr anew from the first three descriptors; what was printed is not lost in a crash."""
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.FileIO(0, "r", closefd=False), encoding="utf-8")  # type: ignore[misc]
    for fd, name in ((1, "stdout"), (2, "stderr")):
        raw = io.BufferedWriter(io.FileIO(fd, "w", closefd=False))
        stream = io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
