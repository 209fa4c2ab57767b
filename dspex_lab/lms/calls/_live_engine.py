"""Engines that tell of what they answer piece by piece, while DSPy waits for the whole."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dspy.lm15 import Request, Response

    from dspex_lab.lms.calls._streaming import LiveCall


class LiveEngine:
    """A sync engine whose ``complete`` reads the engine's stream and tells of each piece.

    The stream is read in a thread of its own, which does not keep the process from ending: an engine may stay silent for
    ever, and a call that was abandoned must not wait for it. Such a stream is closed when its next event comes.
    """

    def __init__(self, engine: Any, live: LiveCall, provider: str | None = None) -> None:
        self._engine = engine
        self._live = live
        self._provider = provider

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def complete(self, request: Request) -> Response:
        """Answer one request as the engine would.

        Raises:
            asyncio.CancelledError: nobody watches any more.
        """
        self._live.begin()
        work = Work(functools.partial(self._read, request), "dspex-stream")
        forget = self._live.on_close(work.abandon)
        try:
            response: Response = work.result()
            return response
        finally:
            forget()

    def _read(self, request: Request) -> Response:
        from dspy.clients.engines.lifecycle import closing_stream
        from dspy.clients.engines.stream_guard import checked_stream
        from dspy.lm15 import UnsupportedFeatureError

        begun = False
        accumulated = _accumulator(request)
        try:
            with closing_stream(checked_stream(self._engine.stream(request), provider=self._provider)) as events:
                for event in events:
                    begun = True
                    accumulated.push(event)
                    self._live.event(event)
            response: Response = accumulated.response()
            return response
        except (UnsupportedFeatureError, NotImplementedError):
            if begun:
                raise
            unstreamed: Response = self._engine.complete(request)
            return unstreamed
        except Exception as error:
            broken = _broken_off(error, accumulated)
            if broken is error:
                raise
            raise broken from error

    def stream(self, request: Request) -> Iterator[Any]:
        """Yield the engine's own stream, and tell of it: DSPy itself streams this call (``send_stream``)."""
        from dspy.clients.engines.lifecycle import closing_stream

        self._live.begin()
        with closing_stream(self._engine.stream(request)) as events:
            for event in events:
                self._live.event(event)
                yield event


class AsyncLiveEngine:
    """The async half of :class:`LiveEngine`; a call that is cancelled closes the engine's stream at once."""

    def __init__(self, engine: Any, live: LiveCall, provider: str | None = None) -> None:
        self._engine = engine
        self._live = live
        self._provider = provider

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def complete(self, request: Request) -> Response:
        """Answer one request as the engine would.

        Raises:
            asyncio.CancelledError: nobody watches any more.
        """
        from dspy.clients.engines.lifecycle import aclosing_stream
        from dspy.clients.engines.stream_guard import achecked_stream
        from dspy.lm15 import UnsupportedFeatureError

        self._live.begin()
        begun = False
        accumulated = _accumulator(request)
        try:
            async with aclosing_stream(achecked_stream(self._engine.stream(request), provider=self._provider)) as events:
                async for event in events:
                    begun = True
                    accumulated.push(event)
                    self._live.event(event)
                    await asyncio.sleep(0)  # pieces that came at once: who watches has each before the next is read
            response: Response = accumulated.response()
            return response
        except (UnsupportedFeatureError, NotImplementedError):
            if begun:
                raise
            unstreamed: Response = await self._engine.complete(request)
            return unstreamed
        except Exception as error:
            broken = _broken_off(error, accumulated)
            if broken is error:
                raise
            raise broken from error

    async def stream(self, request: Request) -> AsyncIterator[Any]:
        """Yield the engine's own stream, and tell of it: DSPy itself streams this call (``send_stream``)."""
        from dspy.clients.engines.lifecycle import aclosing_stream

        self._live.begin()
        async with aclosing_stream(self._engine.stream(request)) as events:
            async for event in events:
                self._live.event(event)
                yield event


class Work:
    """Something done in a daemon thread, for which one waits until it is done or given up.

    Args:
        do: sees a copy of the caller's context variables.
        name: the thread's.
    """

    def __init__(self, do: Callable[[], Any], name: str) -> None:
        self._do = do
        self._over = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None
        self._done = False
        surroundings = contextvars.copy_context()
        threading.Thread(target=surroundings.run, args=(self._run,), name=name, daemon=True).start()

    def _run(self) -> None:
        try:
            self._value = self._do()
        except BaseException as error:  # raised again where the result is waited for
            self._error = error
        self._done = True
        self._over.set()

    def abandon(self) -> None:
        """Have :meth:`result` raise at once."""
        self._over.set()

    def result(self, seconds: float | None = None, who: str = "It") -> Any:
        """Return what was done, or raise what it raised.

        Args:
            seconds: for how long to wait for it.
            who: does it, for the error.

        Raises:
            asyncio.CancelledError: it was given up.
            TimeoutError: it is not done yet; it goes on, and nobody hears of it.
        """
        if not self._over.wait(seconds):
            raise TimeoutError(f"{who} did not answer within {seconds:.2g} s.")
        if not self._done:
            raise asyncio.CancelledError("the stream of the run was abandoned")
        if self._error is not None:
            raise self._error
        return self._value


def _accumulator(request: Request) -> Any:
    from dspy._vendor.lm15.result import StreamAccumulator

    return StreamAccumulator(request)


def _broken_off(error: Exception, accumulated: Any) -> Exception:
    """Return what is raised for a stream that failed: with what had come of the answer, where anything had.

    Such an answer was paid for, so it is not asked for again by itself (``_failures.py``). What the provider said in the
    stream keeps its class; a broken connection and what cannot be read is a ``StreamAssemblyError``.
    """
    from dspy.clients.execution import _partial
    from dspy.lm15 import CollectionLimitError, ProviderError, StreamAssemblyError

    if isinstance(error, CollectionLimitError):
        return error
    partial = getattr(error, "partial", None) or _partial(accumulated)
    if partial is None or not any(part.type != "text" or part.text for part in partial.message.parts):
        return error
    if not isinstance(error, ProviderError | StreamAssemblyError):
        words = f"{type(error).__name__}: {error}"
        return StreamAssemblyError(f"The answer broke off: {words}", partial=partial, provider=getattr(error, "provider", None))
    error.partial = partial
    return error


def live_engine(engine: Any, live: LiveCall, asynchronous: bool, provider: str | None = None) -> Any:
    """Return ``engine`` so that ``complete`` tells ``live`` of each piece; the engine itself where it cannot stream."""
    if not callable(getattr(engine, "stream", None)):
        return engine
    return (AsyncLiveEngine if asynchronous else LiveEngine)(engine, live, provider)
