"""Tools of MCP servers (Model Context Protocol) for ``dspy.ReAct`` and whatever else takes a ``dspy.Tool``.

::

    with mcp_tools(command=["uvx", "mcp-server-time"]) as tools:
        agent = dspy.ReAct("question -> answer", tools=list(tools))
        agent(question="What time is it in Lagos?")

    tools = mcp_tools(url="http://127.0.0.1:8000/mcp", include=["search_*"])      # open until close(), or the process ends

The session lives on a private event loop in a thread of its own, so the tools work in plain calls, in threads and in any
event loop. A server that is a command gets none of this process's environment but ``PATH``, ``HOME`` and their like.
"""

from __future__ import annotations

import asyncio
import fnmatch
import os
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from dspex_lab._closing import closed_at_exit, forget
from dspex_lab._lazy import require
from dspex_lab._loop import LoopThread
from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.security import MASK, redact

if TYPE_CHECKING:
    import dspy

_LOOPBACK = frozenset(["127.0.0.1", "localhost", "::1"])
_PURPOSE = "for MCP tools"
#: Characters of an answer, of which a prompt holds many; tools of a server; pages of its list.
_LONGEST_ANSWER = 20_000
_MOST_TOOLS = 256
_MOST_PAGES = 100
#: Bytes kept of what a server says on its standard error.
_TAIL = 4_000
#: Seconds that closing waits for the server; it gets two to leave by itself, two more after a signal.
_PATIENCE = 15.0


def mcp_tools(
    command: Sequence[str] | None = None,
    *,
    url: str | None = None,
    headers: Mapping[str, str] | None = None,
    env: Mapping[str, str] | Sequence[str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    include: Sequence[str] | None = None,
    prefix: str = "",
    timeout: float = 30.0,
    start_timeout: float = 60.0,
) -> MCPTools:
    """Return the tools of an MCP server. Nothing is started before they are first asked for.

    Args:
        command: the program of a server that speaks over its standard input and output, and its arguments.
        url: or the address of one that speaks streamable HTTP.
        headers: sent to ``url`` (``{"Authorization": …}``); only over https, or to this machine.
        env: variables for ``command``: a dict of values, or names of variables to hand on from this process.
        cwd: the folder in which ``command`` is started.
        include: names or patterns (``"read_*"``) of the tools wanted; all by default.
        prefix: put before the name of each tool, to tell those of several servers apart.
        timeout: seconds one call may take; ``start_timeout`` until the server is there.

    Raises:
        ConfigurationError: the arguments do not fit, or the package ``mcp`` is missing.
    """
    if not hasattr(require("mcp", _PURPOSE), "Client"):
        raise ConfigurationError("MCP tools need version 2 of the package 'mcp'.", key="mcp", hint='pip install "mcp>=2,<3"')
    target = _Target.of(command, url, headers, env, cwd)
    for key, seconds in (("timeout", timeout), ("start_timeout", start_timeout)):
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds < float("inf"):
            _unfit(key, "seconds above 0", seconds)
    if isinstance(include, str):
        _unfit("include", "a list of names", include)
    return MCPTools(target, include, prefix, float(timeout), float(start_timeout))


def _unfit(key: str, expected: str, actual: object) -> NoReturn:
    raise ConfigurationError(
        f"{key}={actual!r} does not fit MCP tools.", key=key, expected=expected, actual=actual, hint=f"Give {expected}."
    )


class _Target:
    """Which server, and how it is reached. Holds secrets; what it shows does not."""

    def __init__(
        self, command: list[str], url: str | None, headers: dict[str, str], env: dict[str, str], cwd: str | None
    ) -> None:
        self.command, self.url, self.headers, self.env, self.cwd = command, url, headers, env, cwd

    @classmethod
    def of(cls, command: Any, url: Any, headers: Any, env: Any, cwd: Any) -> _Target:
        if (command is None) == (url is None):
            raise ConfigurationError(
                "MCP tools need either a command or a url.",
                key="command",
                hint="For example command=['uvx', 'mcp-server-time'].",
            )
        if url is not None:
            if env is not None or cwd is not None:
                _unfit("env" if env is not None else "cwd", "no env and no cwd beside a url: they are for a command", "…")
            return cls([], _checked_url(url, bool(headers)), dict(headers or {}), {}, None)
        if isinstance(command, str) or not command or not all(isinstance(word, str) for word in command):
            _unfit("command", "a list of words, such as ['python', 'server.py']", command)
        if headers is not None:
            _unfit("headers", "no headers beside a command: they are for a url", "…")
        return cls(list(command), None, {}, _environment(env), None if cwd is None else os.fspath(cwd))

    def __str__(self) -> str:
        if self.url is None:
            return os.path.basename(self.command[0])
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"

    def masked(self, text: str) -> str:
        """Return ``text`` without the values that were given to the server."""
        for value in (*self.env.values(), *self.headers.values()):
            text = text.replace(value, MASK) if len(value) > 3 else text
        return text

    async def open(self, stack: AsyncExitStack, errors: Any) -> Any:
        """Return a client of the server, connected; ``errors`` takes what a command says on its standard error."""
        from mcp import Client, StdioServerParameters
        from mcp.client.stdio import stdio_client
        from mcp.client.streamable_http import streamable_http_client

        if self.url is None:
            about = StdioServerParameters(command=self.command[0], args=self.command[1:], env=self.env, cwd=self.cwd)
            return await stack.enter_async_context(Client(stdio_client(about, errlog=errors)))
        import httpx2

        http = httpx2.AsyncClient(
            headers=self.headers,
            timeout=httpx2.Timeout(30.0, read=300.0),  # a server may hold an answer's stream open
            trust_env=urlsplit(self.url).hostname not in _LOOPBACK,  # a proxy does not reach this machine
        )
        await stack.enter_async_context(http)
        return await stack.enter_async_context(Client(streamable_http_client(self.url, http_client=http)))


def _checked_url(url: Any, secret: bool) -> str:
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        _unfit("url", "an address that begins with http:// or https://", url)
    if (secret or parts.password) and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ConfigurationError(
            f"Headers would travel to {parts.hostname} unencrypted.", key="url", hint="Use https, or leave out headers."
        )
    return str(url)


def _environment(env: Any) -> dict[str, str]:
    if env is None:
        return {}
    if isinstance(env, str) or not all(isinstance(name, str) for name in env):
        _unfit("env", "a dict of values, or a list of names", type(env).__name__)
    if isinstance(env, Mapping):
        return {name: str(value) for name, value in env.items()}
    missing = [name for name in env if name not in os.environ]
    if missing:
        raise ConfigurationError(
            f"The variable {missing[0]} is to be handed to the MCP server and is not set here.",
            key="env",
            hint="Set it, or give env={name: value}.",
        )
    return {name: os.environ[name] for name in env}


class MCPTools:
    """The tools of one MCP server: a collection of ``dspy.Tool``, a context manager, and what ends the server.

    Iterating, indexing (by number or name) and ``len`` connect when that has not been done; so do ``with`` and ``async with``.
    Dropped without :meth:`close`, it is closed when none of its tools is held any more, and at the end of the process.
    """

    def __init__(
        self, target: _Target, include: Sequence[str] | None, prefix: str, timeout: float, start_timeout: float
    ) -> None:
        self._target = target
        self._include = include
        self._prefix = prefix
        self._timeout = timeout
        self._start_timeout = start_timeout
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._tools: tuple[dspy.Tool, ...] = ()
        self._closed = False
        #: The tools that are not offered, with the reason.
        self.skipped: dict[str, str] = {}

    @property
    def tools(self) -> list[dspy.Tool]:
        """Return the tools; connects where that has not been done.

        Raises:
            ConfigurationError: the server cannot be started or reached, ``include`` names a tool it does not have, or the
                tools are closed.
        """
        with self._lock:
            if self._closed:
                raise ConfigurationError("These MCP tools are closed.", key="mcp", hint="Make them anew with mcp_tools(...).")
            if self._session is None:
                session = Session(self._target, self._timeout)
                try:
                    self._tools = self._offered(session, session.start(self._start_timeout))
                except BaseException:
                    session.close()
                    raise
                self._session = session
            return list(self._tools)

    def _offered(self, session: Session, found: list[Any]) -> tuple[dspy.Tool, ...]:
        from dspex_lab.lms._mcp_tool import Unfit, as_tool

        wanted = _wanted([tool.name for tool in found], self._include)
        tools: dict[str, dspy.Tool] = {}
        for tool in found:
            if tool.name not in wanted:
                continue
            try:
                made = as_tool(session, tool, self._prefix)
            except Unfit as problem:
                self.skipped[tool.name] = str(problem)
                continue
            if made.name in tools:
                self.skipped[tool.name] = f"another tool is called {made.name} too"
            elif len(tools) >= _MOST_TOOLS:
                self.skipped[tool.name] = f"more than {_MOST_TOOLS} tools"
            else:
                tools[made.name] = made
        return tuple(tools.values())

    def close(self) -> None:
        """End the session and the server's process, if there is one. Calling it again does nothing."""
        with self._lock:
            self._closed = True
            session, self._session, self._tools = self._session, None, ()
        if session is not None:
            session.close()

    def __iter__(self) -> Iterator[dspy.Tool]:
        return iter(self.tools)

    def __len__(self) -> int:
        return len(self.tools)

    def __getitem__(self, key: int | str) -> dspy.Tool:
        tools = self.tools
        if isinstance(key, int):
            return tools[key]
        named = {str(tool.name): tool for tool in tools}
        if key not in named:
            raise KeyError(f"There is no tool {key!r}.{did_you_mean(key, named)} There are: {', '.join(named) or 'none'}.")
        return named[key]

    def __enter__(self) -> MCPTools:
        self.tools  # noqa: B018 - connects
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    async def __aenter__(self) -> MCPTools:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *exception: object) -> None:
        await asyncio.to_thread(self.close)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "not connected" if self._session is None else f"{len(self._tools)} tools"
        return f"MCPTools({str(self._target)!r}, {state})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(_NOT_CARRIED)


_NOT_CARRIED = "MCP tools belong to the process that has the session: call mcp_tools(...) where they are used"


def _wanted(names: list[str], include: Sequence[str] | None) -> set[str]:
    if include is None:
        return set(names)
    chosen: set[str] = set()
    for pattern in include:
        hits = fnmatch.filter(names, pattern)
        if not hits:
            raise ConfigurationError(
                f"The MCP server has no tool {pattern!r}.{did_you_mean(pattern, names)}",
                key="include",
                expected=names,
                actual=pattern,
                hint=f"It has: {', '.join(names[:20]) or 'none'}.",
            )
        chosen.update(hits)
    return chosen


class Session:
    """A connection to a server, as tools hold it. Thread-safe; ended by :meth:`close`, or when nobody holds it."""

    def __init__(self, target: _Target, timeout: float) -> None:
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
        try:
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
        raise TypeError(_NOT_CARRIED)


def _close_aside(connection: _Connection) -> None:
    # Called while memory is being collected, in any thread: closing waits, and must not wait there.
    threading.Thread(target=connection.close, name="dspex-mcp-close", daemon=True).start()


class _Connection:
    """What happens on the private loop: one task that opens the session, keeps it, and closes it."""

    def __init__(self, target: _Target, timeout: float) -> None:
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
                async with AsyncExitStack() as stack:
                    with self._errors.writer() as errors:
                        client = await self._target.open(stack, errors)
                    tools = await _list_tools(client)
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
                return _text_of(name, await client.call_tool(name, arguments))
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
        if self._client is not None:
            self._stop.set()
        elif self._scope is not None:
            self._scope.cancel()


def _settled(future: Future[None]) -> None:
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    done.wait(_PATIENCE)


async def _list_tools(client: Any) -> list[Any]:
    tools: list[Any] = []
    cursor = None
    for _ in range(_MOST_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None or len(tools) > 2 * _MOST_TOOLS:
            break
    return tools


def _text_of(name: str, result: Any) -> str:
    """Return what a tool gave as one text."""
    import json

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
