"""Structured answers validated by the instructor library, over the wire of :class:`HttpEngine`.

Instructor writes the request in one of its modes and parses and validates what comes; the wire, its keys, limits, errors and
cancellation are the HTTP engine's (an openai client would take five times as long per call and have rules of its own).
One attempt is made: ``max_retries=0`` is instructor's word for that.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from dspy._vendor.lm15.providers.base import HttpResponse
from dspy._vendor.lm15.providers.common import json_dumps
from dspy._vendor.lm15.result import response_to_events
from dspy._vendor.lm15.transports import TransportRequest
from dspy.lm15 import LM15Error, Message, RefusalPart, Response, TextPart, ThinkingPart, UnsupportedFeatureError

from dspex_lab._lazy import require
from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.lms._portable import register_engine
from dspex_lab.lms.engines._http import AsyncHttpEngine, HttpEngine, lm_on
from dspex_lab.lms.engines._http_answers import excerpt, refused
from dspex_lab.lms.engines._http_endpoint import Endpoint
from dspex_lab.lms.engines._instructor_schema import (
    SchemaMismatch,
    constructed,
    fault,
    faults,
    kind,
    model_of,
    was_cut,
    written,
)

if TYPE_CHECKING:
    import dspy
    from dspy.lm15 import Request

    from dspex_lab.lms.engines._http_chat import Chat

Mode = Literal["tools", "json", "json_schema"]


@dataclass(frozen=True)
class _Work:
    """One request with a schema on its way: what instructor is given, and what the wire gives back."""

    chat: Chat
    request: Request
    mode: Mode

    def prepared(self) -> tuple[TransportRequest, tuple[Any, ...], dict[str, Any]]:
        """Return the request without its schema as the wire takes it, what was adapted in it, and its body."""
        bare = replace(self.request, config=replace(self.request.config, response_format=None))
        built, adaptations = self.chat._build(bare, stream=False)
        return built, adaptations, json.loads(built.body)

    def asked(self, built: TransportRequest, body: dict[str, Any]) -> TransportRequest:
        """Return the request that instructor has made of it."""
        form = body.get("response_format") or {}
        wanted = self.request.config.response_format
        if form.get("type") == "json_schema" and wanted.get("strict") is not None:
            form["json_schema"]["strict"] = wanted["strict"]
        return replace(built, body=json_dumps(body))

    def answered(self, reply: HttpResponse, got: list[Response]) -> Any:
        """Keep the answer, and return it as instructor takes it."""
        from openai.types.chat import ChatCompletion

        if reply.status >= 400:
            raise self.chat._http_error(reply)
        got.append(self.chat.parse_response(self.request, reply))
        refusal = got[0].message.first(RefusalPart)
        if refusal is not None:
            raise refused(refusal.text, self.chat.provider, got[0])
        return ChatCompletion.model_construct(**constructed(reply.json()))

    def model(self) -> Any:
        """Return the class that instructor validates with."""
        wanted = self.request.config.response_format
        return model_of(str(wanted.get("name") or "answer"), json.dumps(wanted["schema"]))

    def validated(self, answer: Any, response: Response, adaptations: tuple[Any, ...]) -> Response:
        """Return the response whose text is the validated object."""
        thinking = [part for part in response.message.parts if isinstance(part, ThinkingPart)]
        text = json.dumps(answer.model_dump(), ensure_ascii=False)
        message = Message(role="assistant", parts=(*thinking, TextPart(text=text)))
        finish = "stop" if response.finish_reason == "tool_call" else response.finish_reason
        whole = replace(response, message=message, finish_reason=finish)
        finished: Response = self.chat._finish_response(self.request, whole, adaptations)
        return finished

    def failed(self, error: Exception, got: list[Response]) -> LM15Error | None:
        """Return what an engine raises where instructor raised ``error``; None: that itself, for the answer is not at fault."""
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, LM15Error):
            cause = cause.__cause__
        if cause is not None or not got:
            return cause
        text = written(got[0])
        details = {"partial": got[0], "provider": self.chat.provider, "text": text}
        if was_cut(got[0]):
            message = f"The answer was cut at max_tokens; it begins {excerpt(text)}."
            return SchemaMismatch(message, reason="cut", errors=[fault("", "it is cut")], **details)
        return SchemaMismatch.of(faults(error), **details)


class _Validating:
    """What the sync and the async engine share."""

    endpoint: Endpoint
    mode: Mode
    prefix = "instructor"

    def _set_mode(self, mode: str) -> None:
        require("instructor", "for structured answers validated by instructor")
        if mode not in get_args(Mode):
            guess = did_you_mean(str(mode), get_args(Mode))
            raise ConfigurationError(
                f"InstructorEngine has no mode {mode!r}.{guess}", key="mode", expected=list(get_args(Mode)), actual=mode
            )
        logging.getLogger("instructor").addHandler(logging.NullHandler())  # what it logs, we raise
        self.mode = mode  # type: ignore[assignment]

    @property
    def supports_response_schema(self) -> bool:
        """It is what this engine is for."""
        return True

    @property
    def supported_params(self) -> frozenset[str]:
        """The parameters that DSPy's adapters may set."""
        return frozenset([*super().supported_params, "response_format"])  # type: ignore[misc]

    def dump_state(self) -> dict[str, Any]:
        """Return what :meth:`load_state` makes an equal engine from."""
        return {"endpoint": self.endpoint.dump(), "mode": self.mode}

    @classmethod
    def load_state(cls, state: Mapping[str, Any]) -> Self:
        """Make the engine that :meth:`dump_state` described.

        Raises:
            ConfigurationError: the state is none.
        """
        return cls(Endpoint.load(state.get("endpoint", {})), mode=state.get("mode"))  # type: ignore[call-arg]

    def _wants(self, request: Request) -> bool:
        """Whether the answer is to be validated; not where the model may call tools instead of answering."""
        wanted = request.config.response_format
        if not wanted or wanted.get("type") != "json_schema" or request.tools:
            return False
        if kind(wanted.get("schema")) != "object":
            message = "instructor answers with a JSON object; this schema is of something else."
            raise UnsupportedFeatureError(message, provider=self.endpoint.provider, feature="config.response_format")
        return True

    def _patched(self, create: Any) -> Any:
        import instructor

        modes = {"tools": instructor.Mode.TOOLS, "json": instructor.Mode.JSON, "json_schema": instructor.Mode.JSON_SCHEMA}
        return instructor.patch(create=create, mode=modes[self.mode])


@register_engine
class InstructorEngine(_Validating, HttpEngine):
    """A DSPy engine whose structured answers are validated by instructor. Thread-safe; one attempt.

    A request with a JSON schema is answered with an object that fits it, as JSON text; an answer that does not fit is a
    :class:`SchemaMismatch`, with what the model wrote, so that who is above can ask again. Requests without a schema, and
    those with tools, are :class:`HttpEngine`'s. A stream of a structured answer comes in one piece, when it is validated.

    Args:
        endpoint: an :class:`Endpoint`, or its ``api_base`` with the endpoint's other arguments as ``options``.
        mode: how the schema is asked for: as a tool that must be called (most servers), as ``json_object`` with the schema
            in the prompt, or as ``json_schema``.

    Raises:
        ConfigurationError: instructor is not installed, or the endpoint does not fit.
    """

    def __init__(self, endpoint: Endpoint | str, *, mode: Mode = "tools", **options: Any) -> None:
        super().__init__(endpoint, **options)
        self._set_mode(mode)

    def asynchronous(self) -> AsyncInstructorEngine:
        """Return the async half, on the same endpoint."""
        return AsyncInstructorEngine(self.endpoint, mode=self.mode)

    def complete(self, request: Request) -> Response:
        """Answer one request.

        Raises:
            SchemaMismatch: the answer does not fit the request's schema.
            LM15Error: it was not answered, or not usably.
        """
        if not self._wants(request):
            return super().complete(request)
        work = _Work(self.chat(), self.wire(request), self.mode)
        built, adaptations, body = work.prepared()
        got: list[Response] = []

        def create(**asked: Any) -> Any:
            return work.answered(work.chat._send(work.asked(built, asked)), got)

        try:
            answer = self._patched(create)(response_model=work.model(), max_retries=0, **body)
        except Exception as error:
            failure = work.failed(error, got)
            if failure is None:
                raise
        else:
            return work.validated(answer, got[0], adaptations)
        raise failure  # out here, without instructor's own, which cannot be unpickled; what that says is in this one

    def stream(self, request: Request) -> Iterator[Any]:
        """Yield the answer's events; see :meth:`HttpEngine.stream`."""
        if self._wants(request):
            yield from response_to_events(self.complete(request))
        else:
            yield from super().stream(request)


@register_engine
class AsyncInstructorEngine(_Validating, AsyncHttpEngine):
    """The async half of :class:`InstructorEngine`."""

    def __init__(self, endpoint: Endpoint | str, *, mode: Mode = "tools", **options: Any) -> None:
        super().__init__(endpoint, **options)
        self._set_mode(mode)

    async def complete(self, request: Request) -> Response:
        """Answer one request; see :meth:`InstructorEngine.complete`."""
        if not self._wants(request):
            return await super().complete(request)
        chat = self.chat()
        work = _Work(chat.chat, self.wire(request), self.mode)
        built, adaptations, body = work.prepared()
        got: list[Response] = []

        async def create(**asked: Any) -> Any:
            return work.answered(await chat._send(work.asked(built, asked)), got)

        try:
            answer = await self._patched(create)(response_model=work.model(), max_retries=0, **body)
        except Exception as error:
            failure = work.failed(error, got)
            if failure is None:
                raise
        else:
            return work.validated(answer, got[0], adaptations)
        raise failure

    async def stream(self, request: Request) -> AsyncIterator[Any]:
        """Yield the answer's events; see :meth:`HttpEngine.stream`."""
        if self._wants(request):
            for event in response_to_events(await self.complete(request)):
                yield event
        else:
            async for event in super().stream(request):
                yield event


def instructor_lm(model: str, *, api_base: str, mode: Mode = "tools", **options: Any) -> dspy.LM:
    """Return a ``dspy.LM`` whose structured answers are validated by instructor; the arguments are those of ``http_lm``.

    Raises:
        ConfigurationError: instructor is not installed, or the endpoint does not fit.
        LMError: the model has no name, or DSPy refuses an option.
    """
    return lm_on(functools.partial(InstructorEngine, mode=mode), model, {"api_base": api_base, **options})
