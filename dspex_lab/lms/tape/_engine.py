"""Engines that are recorded on a tape, or played from one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dspex_lab.lms.tape._entry import Entry
from dspex_lab.lms.tape._errors import error_from
from dspex_lab.lms.tape._request import Asked, canonical, canonical_legacy, secrets_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from dspy.lm15 import Request, Response

    from dspex_lab.lms.tape._tape import Tape


def taped(
    engine: Any,
    tape: Tape,
    *,
    asynchronous: bool | None = None,
    rollout: Any = None,
    secrets: Sequence[str] = (),
) -> TapedEngine | AsyncTapedEngine:
    """Return an engine that answers as ``engine`` does, by way of ``tape``.

    What the tape plays back never reaches ``engine``. Errors pass through and are recorded. The engine makes one attempt:
    retries belong around it, and each attempt is a call on the tape.

    Args:
        engine: a DSPy engine, sync or async; also DSPy's LiteLLM engine, which is asked by ``complete_legacy``. It may be
            None where the tape only plays back.
        tape: an open tape; it may be shared by any number of engines.
        asynchronous: whether it is an async engine; found out by its ``complete`` where None.
        rollout: DSPy's ``rollout_id`` of the call, where the engine is made for one call.
        secrets: values to mask beside those that have the form of a secret (``secrets_of(lm.kwargs)``).
    """
    if asynchronous is None:
        asynchronous = inspect.iscoroutinefunction(getattr(engine, "complete", None))
    return (AsyncTapedEngine if asynchronous else TapedEngine)(engine, tape, rollout, tuple(secrets))


def taped_for(engine: Any, tape: Tape, lm: Any, call: Any, asynchronous: bool) -> TapedEngine | AsyncTapedEngine:
    """Return the engine that DSPy chose for one call (``execution._engine``), by way of ``tape``.

    Args:
        lm: the model, whose key and headers are masked.
        call: DSPy's ``PreparedCall``, whose ``rollout_id`` is kept.
    """
    options = {**lm.kwargs, **call.kwargs}
    return taped(engine, tape, asynchronous=asynchronous, rollout=options.get("rollout_id"), secrets=secrets_of(options))


class _Taped:
    def __init__(self, engine: Any, tape: Tape, rollout: Any, secrets: tuple[str, ...]) -> None:
        self._engine, self._tape, self._rollout, self._secrets = engine, tape, rollout, secrets

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_engine" not in self.__dict__:
            raise AttributeError(name)
        found = getattr(self._engine, name)
        # Only an engine that has it may have it: DSPy takes its presence as a wish to be asked so.
        return functools.partial(self._legacy, found) if name == "complete_legacy" else found

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self._engine).__name__}, {self._tape!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> _Taped:
        return self

    def dump_state(self) -> dict[str, Any]:
        """Refuse: a tape is open in this process."""
        raise TypeError("an engine on a tape stays in its process; record in the worker, on a tape in memory")

    def asked(self, request: Request) -> Asked:
        """Return the request as it stands on the tape."""
        return self._tape.asked(canonical(request), self._rollout, self._secrets)

    def plays(self, request: Request | None) -> bool:
        """Say whether the next such call is answered from the tape; None stands for one in DSPy's older form."""
        return self._tape.mode == "replay" or (request is not None and self._tape.has(self.asked(request)))

    def _call(self, kind: Any, asked: Asked, secrets: Sequence[str] = ()) -> _Recording:
        return _Recording(self._tape, kind, asked, (*self._secrets, *secrets))

    def _of_legacy(self, lm: Any, request: Any) -> tuple[Asked, tuple[str, ...]]:
        secrets = secrets_of(request)
        rollout = self._rollout if self._rollout is not None else request.get("rollout_id")
        return self._tape.asked(canonical_legacy(lm.model_type, request), rollout, (*self._secrets, *secrets)), secrets


class _Recording:
    """One call that is being recorded; it is written once."""

    def __init__(self, tape: Tape, kind: Any, asked: Asked, secrets: Sequence[str]) -> None:
        self._tape, self._kind, self._asked, self._secrets = tape, kind, asked, secrets
        self._number, self._started = tape.number(), tape.clock()
        self._pieces: list[tuple[float, Any]] = []
        self._done = False

    def piece(self, event: Any) -> None:
        """Take note of an event of a stream; the last one ends the recording, for who reads it may stop there."""
        self._pieces.append((round(self._tape.clock() - self._started, 6), event))
        if getattr(event, "type", None) in ("end", "error"):
            self.end()

    def end(self, answer: Callable[[], Any] = lambda: None, error: Exception | None = None) -> None:
        """Write it."""
        if self._done:
            return
        self._done = True
        if self._kind == "stream":
            if not self._pieces and error is not None and _cannot_stream(error):
                return  # who asked for a stream now asks for the whole
            answer = self._events
        seconds = self._tape.clock() - self._started
        self._tape.add(self._kind, self._asked, self._number, seconds, answer=answer, error=error, secrets=self._secrets)

    def _events(self) -> list[list[Any]]:
        from dspy._vendor.lm15.serde import stream_event_to_dict

        return [[after, stream_event_to_dict(event)] for after, event in self._pieces]


class TapedEngine(_Taped):
    """The sync engine of :func:`taped`."""

    def complete(self, request: Request) -> Response:
        """Answer one request, from the tape or by the engine."""
        asked = self.asked(request)
        found = self._tape.find(asked)
        if found is not None:
            self._tape.pause(found.seconds)
            return _whole(found, request)
        recording = self._call("complete", asked)
        try:
            response: Response = self._engine.complete(request)
        except Exception as error:
            recording.end(error=error)
            raise
        recording.end(functools.partial(_response_data, response))
        return response

    def stream(self, request: Request) -> Iterator[Any]:
        """Yield the events of one answer; nothing is asked before the first is."""
        asked = self.asked(request)
        found = self._tape.find(asked)
        if found is not None:
            before = 0.0
            for after, event in _pieces(found):
                self._tape.pause(after - before)
                before = after
                yield event
            self._tape.pause(found.seconds - before)
            _raise(found)
            return
        from dspy.clients.engines.lifecycle import closing_stream

        recording = self._call("stream", asked)
        try:
            with closing_stream(self._engine.stream(request)) as events:
                for event in events:
                    recording.piece(event)
                    yield event
        except Exception as error:
            recording.end(error=error)
            raise
        recording.end()

    def _legacy(self, complete: Callable[..., Any], lm: Any, request: Any, **context: Any) -> Any:
        asked, secrets = self._of_legacy(lm, request)
        found = self._tape.find(asked)
        if found is not None:
            self._tape.pause(found.seconds)
            return _legacy_result(found)
        recording = self._call("legacy", asked, secrets)
        try:
            result = complete(lm, request, **context)
        except Exception as error:
            recording.end(error=error)
            raise
        recording.end(result.dump)
        return result

    def close(self) -> None:
        """Close the engine; the tape stays open."""
        if self._engine is not None:
            self._engine.close()


class AsyncTapedEngine(_Taped):
    """The async engine of :func:`taped`; waits can be cancelled."""

    async def complete(self, request: Request) -> Response:
        """Answer one request, from the tape or by the engine."""
        asked = self.asked(request)
        found = self._tape.find(asked)
        if found is not None:
            await self._tape.apause(found.seconds)
            return _whole(found, request)
        recording = self._call("complete", asked)
        try:
            response: Response = await self._engine.complete(request)
        except Exception as error:
            recording.end(error=error)
            raise
        recording.end(functools.partial(_response_data, response))
        return response

    async def stream(self, request: Request) -> AsyncIterator[Any]:
        """Yield the events of one answer; nothing is asked before the first is."""
        asked = self.asked(request)
        found = self._tape.find(asked)
        if found is not None:
            before = 0.0
            for after, event in _pieces(found):
                await self._tape.apause(after - before)
                before = after
                yield event
            await self._tape.apause(found.seconds - before)
            _raise(found)
            return
        from dspy.clients.engines.lifecycle import aclosing_stream

        recording = self._call("stream", asked)
        try:
            async with aclosing_stream(self._engine.stream(request)) as events:
                async for event in events:
                    recording.piece(event)
                    yield event
        except Exception as error:
            recording.end(error=error)
            raise
        recording.end()

    async def _legacy(self, complete: Callable[..., Any], lm: Any, request: Any, **context: Any) -> Any:
        asked, secrets = self._of_legacy(lm, request)
        found = self._tape.find(asked)
        if found is not None:
            await self._tape.apause(found.seconds)
            return _legacy_result(found)
        recording = self._call("legacy", asked, secrets)
        try:
            result = await complete(lm, request, **context)
        except Exception as error:
            recording.end(error=error)
            raise
        recording.end(result.dump)
        return result

    async def aclose(self) -> None:
        """Close the engine; the tape stays open."""
        if self._engine is not None:
            await self._engine.aclose()


def taped_embedder(
    embed: Callable[[Sequence[str]], Any] | None, tape: Tape, model: str, *, secrets: Sequence[str] = ()
) -> Callable[[Sequence[str]], npt.NDArray[np.float32]]:
    """Return a function from texts to vectors (as ``dspy.Embedder`` takes one) by way of ``tape``.

    Args:
        embed: the function; it may be None where the tape only plays back.
        model: by what name its vectors are kept.
        secrets: values to mask in texts, beside those that have the form of a secret.
    """

    def embedded(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        import numpy as np

        asked = tape.asked({"model": model, "texts": list(texts)}, None, secrets)
        found = tape.find(asked)
        if found is not None:
            tape.pause(found.seconds)
            if found.answer is None:
                _raise(found)
            return np.asarray(found.vectors(), np.float32)
        recording = _Recording(tape, "embed", asked, secrets)
        try:
            vectors = np.asarray(embed(texts), np.float32)  # type: ignore[misc]
        except Exception as error:
            recording.end(error=error)
            raise
        recording.end(lambda: {"vectors": [[float(f"{x:.9g}") for x in row] for row in vectors.tolist()]})
        return vectors

    return embedded


def _response_data(response: Any) -> dict[str, Any]:
    from dspy._vendor.lm15.serde import response_to_dict

    data: dict[str, Any] = response_to_dict(response, include_provider_data=True)
    return data


def _raise(found: Entry) -> None:
    if found.error is not None:
        raise error_from(found.error)


def _whole(found: Entry, request: Request) -> Response:
    if found.answer is None:
        _raise(found)
    return found.assembled(request)


def _legacy_result(found: Entry) -> Any:
    if found.answer is None:
        _raise(found)
    return found.call_result()


def _pieces(found: Entry) -> Iterator[tuple[float, Any]]:
    """Yield the pieces of a recorded stream, those of an answer that came as a whole where it was none."""
    if found.kind == "stream":
        yield from found.pieces()
    elif found.answer is not None:
        from dspy.lm15 import response_to_events

        for event in response_to_events(found.response()):
            yield found.seconds, event


def _cannot_stream(error: Exception) -> bool:
    from dspy.lm15 import UnsupportedFeatureError

    return isinstance(error, UnsupportedFeatureError | NotImplementedError)
