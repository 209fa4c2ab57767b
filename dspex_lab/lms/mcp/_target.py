"""Which MCP server, and the way to it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, NoReturn
from urllib.parse import urlsplit

from dspex_lab.errors import ConfigurationError
from dspex_lab.security import MASK

_LOOPBACK = frozenset(["127.0.0.1", "localhost", "::1"])


def unfit(key: str, expected: str, actual: object) -> NoReturn:
    raise ConfigurationError(
        f"{key}={actual!r} does not fit MCP tools.", key=key, expected=expected, actual=actual, hint=f"Give {expected}."
    )


class Target:
    """Which server, and how it is reached. Holds secrets; what it shows does not."""

    def __init__(
        self, command: list[str], url: str | None, headers: dict[str, str], env: dict[str, str], cwd: str | None
    ) -> None:
        self.command, self.url, self.headers, self.env, self.cwd = command, url, headers, env, cwd

    @classmethod
    def of(cls, command: Any, url: Any, headers: Any, env: Any, cwd: Any) -> Target:
        if (command is None) == (url is None):
            raise ConfigurationError(
                "MCP tools need either a command or a url.",
                key="command",
                hint="For example command=['uvx', 'mcp-server-time'].",
            )
        if url is not None:
            if env is not None or cwd is not None:
                unfit("env" if env is not None else "cwd", "no env and no cwd beside a url: they are for a command", "…")
            return cls([], _checked_url(url, bool(headers)), dict(headers or {}), {}, None)
        if isinstance(command, str) or not command or not all(isinstance(word, str) for word in command):
            unfit("command", "a list of words, such as ['python', 'server.py']", command)
        if headers is not None:
            unfit("headers", "no headers beside a command: they are for a url", "…")
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
        unfit("url", "an address that begins with http:// or https://", url)
    if (secret or parts.password) and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ConfigurationError(
            f"Headers would travel to {parts.hostname} unencrypted.", key="url", hint="Use https, or leave out headers."
        )
    return str(url)


def _environment(env: Any) -> dict[str, str]:
    if env is None:
        return {}
    if isinstance(env, str) or not all(isinstance(name, str) for name in env):
        unfit("env", "a dict of values, or a list of names", type(env).__name__)
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
