"""The engine for any OpenAI-compatible server.

It is lm15's dialect and transport without lm15's router, which costs half of a call: ``tests/bench/http_engine.py`` has
the figures, also of raw httpx, the openai client and LiteLLM. Nothing here imports LiteLLM.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Self

from dspy.clients.engines.base import validate_request
from dspy.clients.engines.lifecycle import aclosing_stream, closing_stream

from dspex_lab.errors import ConfigurationError, LMError
from dspex_lab.lms._portable import register_engine
from dspex_lab.lms.engines._http_chat import AsyncChat, Chat, dialect_of
from dspex_lab.lms.engines._http_endpoint import Endpoint
from dspex_lab.lms.engines._http_transport import Transport

if TYPE_CHECKING:
    import dspy
    from dspy.lm15 import Request, Response

_engines: weakref.WeakSet[_OnEndpoint] = weakref.WeakSet()
#: Idle connections of a parent's event loops; see ``AsyncTransport.forsake``.
_inherited: list[Any] = []


class _OnEndpoint:
    """What the sync and the async engine share. Copies share the pool; a pickle has none and makes its own."""

    simulated = False
    #: What stands before the slash in the name of a model that such an engine answers for.
    prefix = "http"

    def __init__(self, endpoint: Endpoint | str, **options: Any) -> None:
        self.endpoint = endpoint_of(endpoint, options)
        dialect_of(self.endpoint)  # an unknown one is said now, not at the first call
        self._lock = threading.Lock()
        _engines.add(self)

    @property
    def api_base(self) -> str:
        """The root of the server's API."""
        return self.endpoint.api_base

    @property
    def supports_function_calling(self) -> bool:
        """Whether DSPy's adapters may send tools."""
        return self.endpoint.tools

    @property
    def supports_response_schema(self) -> bool:
        """Whether DSPy's adapters may send a JSON schema."""
        return self.endpoint.structured

    @property
    def supports_reasoning(self) -> bool:
        """Whether DSPy's adapters may ask for reasoning."""
        return self.endpoint.reasoning

    @property
    def supported_params(self) -> frozenset[str]:
        """The parameters that DSPy's adapters may set."""
        always = ["temperature", "max_tokens", "top_p", "stream", "stop", "max_completion_tokens", "logprobs", "top_logprobs",
                  "seed", "presence_penalty", "frequency_penalty", "logit_bias", "user"]  # fmt: skip
        tools = ["tools", "tool_choice", "parallel_tool_calls"] if self.endpoint.tools else []
        form = ["response_format"] if self.endpoint.tools or self.endpoint.structured else []
        return frozenset([*always, *tools, *form, *(["reasoning_effort"] if self.endpoint.reasoning else [])])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.endpoint.api_base!r})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).load_state, (self.dump_state(),)

    def dump_state(self) -> dict[str, Any]:
        """Return what :meth:`load_state` makes an equal engine from; the key is not in it, only its variable's name."""
        return self.endpoint.dump()

    @classmethod
    def load_state(cls, state: Mapping[str, Any]) -> Self:
        """Make the engine that :meth:`dump_state` described.

        Raises:
            ConfigurationError: the state is none.
        """
        return cls(Endpoint.load(state))

    def wire(self, request: Request) -> Request:
        """Return the request as this server knows its model.

        Raises:
            TypeError, ValueError: it is no request that an engine may be given.
        """
        validate_request(request)
        name = self.endpoint.model or request.model.removeprefix(f"{self.prefix}/").removesuffix(f"@{self.endpoint.authority}")
        return request if name == request.model else replace(request, model=name)


@register_engine
class HttpEngine(_OnEndpoint):
    """A DSPy engine: one attempt at an OpenAI-compatible server over pooled keep-alive connections. Thread-safe.

    Chat, tools, JSON schemas, streams, log probabilities, reasoning, images and audio as lm15's Chat Completions dialect
    writes them; usage with cached and reasoning tokens. It retries nothing and caches nothing: that is done above it.
    What goes wrong is one of ``dspy.lm15``'s errors with the provider's own words, ``retry_after`` in seconds, and, where
    something had come, ``partial``; an answer that is cut, empty, garbled, refused or too large is an
    :class:`UnusableAnswer`. Redirects are followed on the same server only.

    Args:
        endpoint: an :class:`Endpoint`, or its ``api_base`` with the endpoint's other arguments as ``options``.

    Raises:
        ConfigurationError: the endpoint does not fit.
    """

    def __init__(self, endpoint: Endpoint | str, **options: Any) -> None:
        super().__init__(endpoint, **options)
        self._made: Chat | None = None

    def asynchronous(self) -> AsyncHttpEngine:
        """Return the async half, on the same endpoint."""
        return AsyncHttpEngine(self.endpoint)

    def chat(self) -> Chat:
        """Return lm15's dialect over this engine's pool, which is opened when it is first needed."""
        with self._lock:
            if self._made is None:
                self._made = Chat(self.endpoint, Transport(self.endpoint))
            return self._made

    def complete(self, request: Request) -> Response:
        """Answer one request.

        Raises:
            LM15Error: it was not answered, or not usably.
        """
        response: Response = self.chat().complete(self.wire(request))
        return response

    def stream(self, request: Request) -> Iterator[Any]:
        """Yield the answer's events as they come. Closing the stream early closes its connection.

        Raises:
            LM15Error: it was not answered, or not usably; what had come is in ``partial``.
        """
        with closing_stream(self.chat().stream(self.wire(request))) as events:
            yield from events

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.close()

    def _after_fork(self) -> None:
        # The child's copies of the sockets close when they are collected; the parent's stay open.
        self._lock, self._made = threading.Lock(), None


@register_engine
class AsyncHttpEngine(_OnEndpoint):
    """The async half of :class:`HttpEngine`: a pool for each event loop. Cancelling a call closes its connection."""

    def __init__(self, endpoint: Endpoint | str, **options: Any) -> None:
        super().__init__(endpoint, **options)
        self._made: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncChat] = weakref.WeakKeyDictionary()

    def chat(self) -> AsyncChat:
        """Return lm15's dialect over the running loop's pool. Pools of loops that have closed are let go."""
        loop = asyncio.get_running_loop()
        with self._lock:
            made = self._made.get(loop)
            if made is None:
                for closed in [other for other in self._made if other.is_closed()]:
                    del self._made[closed]
                made = self._made[loop] = AsyncChat(self.endpoint)
            return made

    async def complete(self, request: Request) -> Response:
        """Answer one request; see :meth:`HttpEngine.complete`."""
        response: Response = await self.chat().complete(self.wire(request))
        return response

    async def stream(self, request: Request) -> AsyncIterator[Any]:
        """Yield the answer's events as they come; see :meth:`HttpEngine.stream`."""
        async with aclosing_stream(self.chat().stream(self.wire(request))) as events:
            async for event in events:
                yield event

    async def aclose(self) -> None:
        """Close the running loop's connections; a later call opens new ones."""
        with self._lock:
            made = self._made.pop(asyncio.get_running_loop(), None)
        if made is not None:
            await made.aclose()

    def _after_fork(self) -> None:
        for made in self._made.values():
            _inherited.extend(made.transport.forsake())
        self._lock, self._made = threading.Lock(), weakref.WeakKeyDictionary()


def http_lm(model: str, *, api_base: str, api_key_env: str | None = None, **options: Any) -> dspy.LM:
    """Return a ``dspy.LM`` on an OpenAI-compatible server.

    Args:
        model: the model's name as the server knows it.
        api_base: the root of the server's API.
        api_key_env: the environment variable that holds the key; that of the provider, where the address is a known one's.
        options: arguments of :class:`Endpoint` (``tools``, ``structured``, ``total_timeout``, …) and of ``dspy.LM``
            (``temperature``, ``max_tokens``, ``cache``, …).

    Returns:
        An LM called ``http/MODEL@HOST``, so that two servers share no answers in DSPy's cache.

    Raises:
        ConfigurationError: the endpoint does not fit.
        LMError: the model has no name, or DSPy refuses an option.
    """
    return lm_on(HttpEngine, model, {"api_base": api_base, "api_key_env": api_key_env, **options})


def lm_on(make: Callable[[Endpoint], HttpEngine], model: str, options: dict[str, Any]) -> dspy.LM:
    """Return a ``dspy.LM`` on an engine that ``make`` makes; see :func:`http_lm`."""
    import dspy

    names = {f.name for f in fields(Endpoint)} - {"provider"}  # dspy.LM has one of its own
    engine = make(Endpoint(**{name: options.pop(name) for name in list(options) if name in names}))
    wire = str(model).strip().removeprefix(f"{engine.prefix}/")
    if not wire:
        raise LMError("A model has a name.", engine=str(model), hint="Give the name as the server knows it.")
    name = f"{engine.prefix}/{wire}@{engine.endpoint.authority}"
    try:
        return dspy.LM(name, engine=engine, async_engine=engine.asynchronous(), **options)
    except (TypeError, ValueError) as error:
        raise LMError(
            f"DSPy refuses {wire!r} with these options: {error}", engine=wire, hint="Leave that option out."
        ) from error


def endpoint_of(endpoint: Endpoint | str, options: Mapping[str, Any]) -> Endpoint:
    """Return the endpoint that an engine was given.

    Raises:
        ConfigurationError: it is none.
    """
    if isinstance(endpoint, Endpoint):
        if options:
            return replace(endpoint, **options)
        return endpoint
    if "api_base" in options:
        raise ConfigurationError("An engine has one address.", key="api_base", actual="two")
    return Endpoint.load({"api_base": endpoint, **options})


def _forked() -> None:
    for engine in list(_engines):
        engine._after_fork()  # type: ignore[attr-defined]


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_forked)
