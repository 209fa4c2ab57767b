"""The session with an MCP server, on a private event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import weakref
from concurrent.futures import Future
from contextlib import AsyncExitStack
from typing import Any, NoReturn

from dspex_lab._closing import closed_at_exit, forget
from dspex_lab._loop import LoopThread
from dspex_lab.errors import ConfigurationError
from dspex_lab.lms.mcp._target import Target
from dspex_lab.security import redact

#: Tools of a server that are looked at, pages of its list, and characters of an answer, of which a prompt holds many.
MOST_TOOLS = 256
_MOST_PAGES = 100
_LONGEST_ANSWER = 20_000
#: Bytes kept of what a server says on its standard error.
_TAIL = 4_000
#: Seconds that closing waits for the server; it gets two to leave by itself, two more after a signal.
_PATIENCE = 15.0
#: Seconds after which a thread that waits looks whether it was interrupted.
_BREATH = 0.5

NOT_CARRIED = "MCP tools belong to the process that has the session: call mcp_tools(...) where they are used"


class Session:
    """A connection to a server, as tools hold it. Thread-safe; ended by :meth:`close`, or when nobody holds it."""

    def __init__(self, target: Target, timeout: float) -> None:
        self._connection = _Connection(target, timeout)
        self._end = weakref.finalize(self, _close_aside, self._connection)
        self._end.atexit = False
        closed_at_exit(self)

    def start(self, timeout: float) -> list[Any]:
        """Connect, and return the tools as the server describes them; ``timeout`` is in seconds.

        Raises:
            ConfigurationError: the server cannot be started or reached.
        """
        return self._connection.start(timeout)

    def call(self, name: str, arguments: dict[str, Any]) -> str:
        """Call a tool and wait; returns what it gave, or what went wrong as text that begins with ``Error:``."""
        future = self._connection.submit(name, arguments)
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        try:
            while not done.wait(_BREATH):
                pass  # an interrupt that came just before the wait began is taken now
            return future.result()
        except BaseException:
            future.cancel()  # an interrupt: the server is told that nobody waits
            raise

    async def acall(self, name: str, arguments: dict[str, Any]) -> str:
        """Call a tool from any event loop; cancelling it cancels the call on the server."""
        return await asyncio.wrap_future(self._connection.submit(name, arguments))

    def close(self) -> None:
        """End the connection; calling it again does nothing."""
        self._end.detach()
        forget(self)
        self._connection.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(NOT_CARRIED)


def _close_aside(connection: _Connection) -> None:
    # Called while memory is being collected, in any thread: closing waits, and must not wait there.
    threading.Thread(target=connection.close, name="dspex-mcp-close", daemon=True).start()


class _Connection:
    """What happens on the private loop: one task that opens the session, keeps it, and closes it."""

    def __init__(self, target: Target, timeout: float) -> None:
        self._target = target
        self._timeout = timeout
        self._loop = LoopThread("dspex-mcp")
        self._stop = asyncio.Event()
        self._scope: Any = None
        self._client: Any = None
        self._ready: Future[list[Any]] = Future()
        self._served: Future[None] | None = None
        self._errors = _Tail()
        self._lock = threading.Lock()

    def start(self, timeout: float) -> list[Any]:
        self._served = self._loop.submit(self._serve())
        try:
            return self._ready.result(timeout)
        except TimeoutError as error:
            raise self._unreachable(f"it did not answer within {timeout:g} s") from error
        except Exception as error:
            raise self._unreachable(_innermost(error)) from error

    def _unreachable(self, why: str) -> ConfigurationError:
        said = redact(self._target.masked(self._errors.text()))
        return ConfigurationError(
            f"The MCP server {str(self._target)!r} cannot be used: {why}.{f' It said: {said}' if said else ''}",
            key="mcp",
            hint="Start it by hand and look, or give start_timeout= more seconds.",
        )

    async def _serve(self) -> None:
        import anyio

        problem: BaseException = RuntimeError("it was closed")
        try:
            # Cancelled by this scope and not as a task, which would break off the ending of the server's process too.
            with anyio.CancelScope() as self._scope:
                if self._stop.is_set():
                    return
                async with AsyncExitStack() as stack:
                    with self._errors.writer() as errors:
                        client = await self._target.open(stack, errors)
                    tools = await list_tools(client)
                    self._client = client
                    self._ready.set_result(tools)
                    await self._stop.wait()
        except BaseException as error:
            problem = error
            if self._ready.done():
                raise
        finally:
            self._client = None
            if not self._ready.done():
                self._ready.set_exception(problem)

    def submit(self, name: str, arguments: dict[str, Any]) -> Future[str]:
        try:
            return self._loop.submit(self._call(name, arguments))
        except RuntimeError as error:
            raise ConfigurationError(
                f"The MCP tools that {name!r} belongs to are closed.", key="mcp", hint="Make them anew with mcp_tools(...)."
            ) from error

    async def _call(self, name: str, arguments: dict[str, Any]) -> str:
        client = self._client
        if client is None:
            return f"Error: the MCP server {str(self._target)!r} is gone."
        try:
            async with asyncio.timeout(self._timeout):
                return text_of(name, await client.call_tool(name, arguments))
        except TimeoutError:
            return f"Error: {name} did not answer within {self._timeout:g} s."
        except Exception as error:  # whatever the server or the way to it did: an agent reads it and goes on
            return f"Error: {name} failed: {_innermost(error)}"

    def close(self) -> None:
        with self._lock:
            if self._loop.loop.is_closed():
                return
            if self._served is not None and not self._served.done():
                self._loop.loop.call_soon_threadsafe(self._end)
                _settled(self._served)
            self._loop.close()
            self._errors.close()

    def _end(self) -> None:
        self._stop.set()
        if self._client is None and self._scope is not None:
            self._scope.cancel()


def _settled(future: Future[None]) -> None:
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    done.wait(_PATIENCE)


async def list_tools(client: Any) -> list[Any]:
    tools: list[Any] = []
    cursor = None
    for _ in range(_MOST_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None or len(tools) > 2 * MOST_TOOLS:
            break
    return tools


def text_of(name: str, result: Any) -> str:
    """Return what a tool gave as one text."""
    parts = []
    for part in result.content:
        if part.type == "text":
            parts.append(part.text)
        elif part.type == "resource" and getattr(part.resource, "text", None) is not None:
            parts.append(part.resource.text)
        else:  # an image, a sound, a link: a prompt of text can only name it
            about = getattr(part, "mime_type", None) or getattr(part, "uri", None) or ""
            parts.append(f"({part.type} {about})".replace(" )", ")"))
    if not parts and result.structured_content is not None:
        parts.append(json.dumps(result.structured_content, ensure_ascii=False))
    text = "\n".join(parts)
    if len(text) > _LONGEST_ANSWER:
        text = f"{text[:_LONGEST_ANSWER]}… (cut: {len(text) - _LONGEST_ANSWER:,} more characters)"
    return f"Error: {text or name}" if result.is_error else text


def _innermost(error: BaseException) -> str:
    """Return what an error says that may be a group of groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    message = getattr(error, "message", None) or str(error)
    return f"{type(error).__name__}: {message}"[:500].rstrip(".")


class _Tail:
    """Keeps the end of what a server says on its standard error, whatever its length."""

    def __init__(self) -> None:
        self._kept = b""
        self._over = threading.Event()
        self._over.set()
        self._thread: threading.Thread | None = None

    def writer(self) -> Any:
        """Return the file the server writes to; closing it here leaves it the server's alone."""
        reading, writing = os.pipe()
        self._over.clear()
        self._thread = threading.Thread(target=self._read, args=(reading,), name="dspex-mcp-errors", daemon=True)
        self._thread.start()
        return os.fdopen(writing, "w")

    def _read(self, reading: int) -> None:
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            while chunk := pipe.read(65536):
                self._kept = (self._kept + chunk)[-_TAIL:]
        self._over.set()

    def text(self) -> str:
        """Return it on one line; waits a moment for a server that has just ended."""
        self._over.wait(1.0)
        return " ".join(self._kept.decode("utf-8", errors="replace").split())[-500:]

    def close(self) -> None:
        """Wait a moment for the last words."""
        if self._thread is not None:
            self._thread.join(1.0)
