"""Where a server is, how it wants to be asked, and how long and how much it may answer: one value for all HTTP engines."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.lms._portable import _PLACEHOLDERS, _holds_secret, _variable_with
from dspex_lab.lms.choice._providers import _registry

#: Shorter secrets are not looked for in what a server says: "local" is a word.
_MASKED_FROM = 8
_MISSING_KEY = "key_was_an_argument"
_SECONDS = ("connect_timeout", "read_timeout", "total_timeout", "keep_alive")
_COUNTS = ("max_body", "max_event", "max_connections")


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An OpenAI-compatible server. Frozen; its ``repr``, pickle and state hold no secret.

    Args:
        api_base: the root of its API, to which ``/chat/completions`` is added, such as ``http://localhost:8000/v1``.
        api_key_env: the environment variable that holds the key, read at each call.
        api_key: the key itself; it stays in this process: a copy made from a pickle or a state reads it from the variable
            that held it when the copy was made, and says so where there is none.
        model: the model's name on the wire; the request's, without ``http/``, where None.
        provider: the name that errors bear.
        dialect: what the server's own spelling is, by lm15's name (``openai``, ``vllm``, ``ollama``, ``groq``, …); told by
            the address where None, else the form that most servers take (system role, ``max_tokens``).
        headers: further headers; ``header_env``: those that are secret, by the variable that holds each.
        connect_timeout: seconds to the server; ``read_timeout``: from one byte to the next; ``total_timeout``: for the
            whole answer, None for no limit.
        keep_alive: seconds an idle connection is used again; most servers close theirs after 5, and a request that meets
            the closing is lost.
        max_body: bytes of an answer, or of all of a stream; ``max_event``: bytes of one event of a stream.
        max_connections: how many at once, for each engine and, where it is async, each event loop.
        proxy: a proxy's address; those of the environment (``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY``, ``NO_PROXY``,
            read when the engine is first used) where None and ``trust_env``.
        verify: whether certificates are checked; ``ca_bundle``: a file of further authorities.
        tools: whether the model takes tools; ``structured``: JSON schemas; ``reasoning``: an effort. DSPy's adapters ask.

    Raises:
        ConfigurationError: something does not fit, or a secret stands where it would be shown.
    """

    api_base: str
    api_key_env: str | None = None
    api_key: str | None = field(default=None, repr=False)
    model: str | None = None
    provider: str = "http"
    dialect: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    header_env: Mapping[str, str] = field(default_factory=dict)
    connect_timeout: float = 10.0
    read_timeout: float = 600.0
    total_timeout: float | None = None
    keep_alive: float = 4.0
    max_body: int = 16 << 20
    max_event: int = 8 << 20
    max_connections: int = 100
    proxy: str | None = None
    trust_env: bool = True
    verify: bool = True
    ca_bundle: str | None = None
    tools: bool = False
    structured: bool = False
    reasoning: bool = False
    key_was_an_argument: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "api_base", _checked_address(self.api_base, "api_base").rstrip("/"))
        if self.proxy is not None:
            _checked_address(self.proxy, "proxy")
        if self.api_key is not None and self.api_key_env is not None:
            raise _wrong("api_key", "a key or the variable that holds it, not both", "both")
        if self.api_key is not None:
            object.__setattr__(self, "api_key", _clean(self.api_key, "api_key"))
        for name, value in self.headers.items():
            if _holds_secret(name, value):
                raise _wrong("headers", "no secrets", f"a value for {name}", f"Give header_env={{{name!r}: 'THE_VARIABLE'}}.")
            _clean(name, "headers"), _clean(value, f"headers[{name!r}]")
        self._check_numbers()

    def _check_numbers(self) -> None:
        for name in _SECONDS:
            value = getattr(self, name)
            if value is None and name == "total_timeout":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not (0 < value < math.inf):
                raise _wrong(name, "a positive number of seconds", value)
        for name in _COUNTS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise _wrong(name, "a positive whole number", value)

    def __copy__(self) -> Endpoint:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Endpoint:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return self.dump()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(Endpoint.load(state).__dict__)

    def dump(self) -> dict[str, Any]:
        """Return it as JSON-able data without its key; see :meth:`load`."""
        default = {f.name: f.default for f in fields(self)}
        state = {name: getattr(self, name) for name in default if name != "api_key"}
        state = {name: value for name, value in state.items() if value != default[name] and value != {}}
        state |= {name: dict(state[name]) for name in ("headers", "header_env") if name in state}
        if self.api_key is not None and self.api_key.lower() in _PLACEHOLDERS:
            state["api_key"] = self.api_key
        elif self.api_key is not None:
            variable = _variable_with(self.api_key, ())
            state |= {"api_key_env": variable} if variable else {_MISSING_KEY: True}
        return state

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Endpoint:
        """Make the endpoint that :meth:`dump` described.

        Raises:
            ConfigurationError: the state is none.
        """
        known = {f.name for f in fields(cls)}
        for name in state:
            if name not in known:
                guess = did_you_mean(str(name), sorted(known))
                raise ConfigurationError(f"An endpoint has no {name!r}.{guess}", key=str(name), expected=sorted(known))
        if "api_base" not in state:
            raise _wrong("api_base", "an address", "nothing")
        return cls(**dict(state))

    @cached_property
    def authority(self) -> str:
        """The host, with its port where it is no usual one; an engine's model string ends in it."""
        return urlsplit(self.api_base).netloc

    @cached_property
    def server(self) -> str | None:
        """The name lm15 knows this address by, such as ``groq``; None where it is any server."""
        return _servers().get(self.authority.lower()) if self.api_base.startswith("https://") else None

    def key(self) -> str | None:
        """Return the key, or None where none is sent.

        Raises:
            lm15.NotConfiguredError: its variable is not set, or the key was an argument in another process.
        """
        from dspy.lm15 import NotConfiguredError

        if self.api_key is not None:
            return self.api_key
        names = (self.api_key_env,) if self.api_key_env else self._usual_variables()
        for name in names:
            if os.environ.get(name):
                return self._from_environment(name)
        if self.key_was_an_argument and not self.api_key_env:
            raise NotConfiguredError(
                f"The key for {self.authority} was given as an argument, and keys do not leave their process.",
                provider=self.provider,
                credential_hint="Put it into an environment variable, here too, and give api_key_env='THE_VARIABLE'",
            )
        if names:
            raise NotConfiguredError(
                f"{self.authority} wants a key, and {' or '.join(names)} is not set in this process.",
                provider=self.provider,
                credential_hint=f"Set {names[0]}",
            )
        return None

    def origin_of_key(self) -> str:
        """Say where the key comes from, never what it is."""
        if self.api_key is not None:
            return "the argument api_key"
        return f"the environment variable {self.api_key_env or ' or '.join(self._usual_variables())}"

    def _usual_variables(self) -> tuple[str, ...]:
        definition = _registry().get(self.server) if self.server else None
        return tuple(definition.env_keys) if definition is not None else ()

    def all_headers(self) -> dict[str, str]:
        """Return the further headers of a call.

        Raises:
            lm15.NotConfiguredError: the variable of one is not set, or holds what no header can.
        """
        return {**self.headers, **{header: self._from_environment(variable) for header, variable in self.header_env.items()}}

    def _from_environment(self, variable: str) -> str:
        from dspy.lm15 import NotConfiguredError

        value = os.environ.get(variable, "")
        if not value:
            message = (
                f"{self.authority} wants what is in the environment variable {variable}, which is not set in this process."
            )
            raise NotConfiguredError(message, provider=self.provider, credential_hint=f"Set {variable}")
        try:
            return _clean(value, f"The environment variable {variable}")
        except ConfigurationError as error:
            raise NotConfiguredError(str(error), provider=self.provider, credential_hint=f"Set {variable} again") from error

    def secrets(self) -> list[bytes]:
        """Return what must not come back in an answer or an error."""
        given = [self.api_key or (os.environ.get(self.api_key_env, "") if self.api_key_env else "")]
        given += [os.environ.get(name, "") for name in (*self._usual_variables(), *self.header_env.values())]
        return [value.strip().encode() for value in given if len(value.strip()) >= _MASKED_FROM]

    def proxy_address(self) -> str | None:
        """Return the proxy on the way to this server, or None."""
        if self.proxy is not None or not self.trust_env:
            return self.proxy
        parts = urlsplit(self.api_base)
        proxies = getproxies()
        found = proxies.get(parts.scheme) or proxies.get("all")
        return None if not found or proxy_bypass(parts.hostname or "") else found


def _servers() -> dict[str, str]:
    """Return the known chat servers by the host of their address."""
    from dspy._vendor.lm15.compat import OPENAI_CHAT_PRESET_BASE_URLS

    return {urlsplit(url).netloc: name for name, url in OPENAI_CHAT_PRESET_BASE_URLS.items() if url.startswith("https://")}


def _checked_address(url: object, key: str) -> str:
    if not isinstance(url, str) or not url.strip():
        raise _wrong(key, "an http or https address", type(url).__name__ if not isinstance(url, str) else "nothing")
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise _wrong(key, "an http or https address", str(error)) from error
    if parts.username or parts.password or "@" in parts.netloc:
        raise _wrong(key, "an address without a user and password", "one with them", _hint_for_password(key))
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url.strip():
        shown = url if "://" in url or len(url) < 80 else "another text"
        raise _wrong(key, "an http or https address, such as 'http://localhost:8000/v1'", shown)
    if parts.query or parts.fragment:
        raise _wrong(key, "an address without '?' or '#'", "one with it", "Keys belong into header_env={…}.")
    return url.strip()


def _hint_for_password(key: str) -> str:
    if key == "proxy":
        return "Put the whole address into HTTPS_PROXY or HTTP_PROXY, from where it is read."
    return "Give header_env={'Authorization': 'THE_VARIABLE'}."


def _clean(value: object, where: str) -> str:
    """Return a header's value, which must be printable ASCII; what it is, is not said: it may be a key."""
    text = value.strip() if isinstance(value, str) else ""
    if not text or not text.isascii() or not text.isprintable():
        raise ConfigurationError(
            f"{where} is no text that a header can hold: it is empty, or has a line break or a letter beyond ASCII in it.",
            key=where,
            expected="printable ASCII",
        )
    return text


def _wrong(key: str, expected: str, actual: object, hint: str | None = None) -> ConfigurationError:
    return ConfigurationError(f"{key} is {expected}; this is {actual}.", key=key, expected=expected, actual=actual, hint=hint)
