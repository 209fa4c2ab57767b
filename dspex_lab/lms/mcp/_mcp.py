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
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from dspex_lab._lazy import require
from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.lms.mcp._session import MOST_TOOLS, NOT_CARRIED, Session
from dspex_lab.lms.mcp._target import Target, unfit

if TYPE_CHECKING:
    import dspy

_PURPOSE = "for MCP tools"


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
    target = Target.of(command, url, headers, env, cwd)
    for key, seconds in (("timeout", timeout), ("start_timeout", start_timeout)):
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds < float("inf"):
            unfit(key, "seconds above 0", seconds)
    if isinstance(include, str):
        unfit("include", "a list of names", include)
    return MCPTools(target, include, prefix, float(timeout), float(start_timeout))


class MCPTools:
    """The tools of one MCP server: a collection of ``dspy.Tool``, a context manager, and what ends the server.

    Iterating, indexing (by number or name) and ``len`` connect when that has not been done; so do ``with`` and ``async with``.
    Dropped without :meth:`close`, it is closed when none of its tools is held any more, and at the end of the process.
    """

    def __init__(
        self, target: Target, include: Sequence[str] | None, prefix: str, timeout: float, start_timeout: float
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
        from dspex_lab.lms.mcp._tool import Unfit, as_tool

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
            elif len(tools) >= MOST_TOOLS:
                self.skipped[tool.name] = f"more than {MOST_TOOLS} tools"
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
        raise TypeError(NOT_CARRIED)


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
