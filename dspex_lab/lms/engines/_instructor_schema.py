"""JSON schemas as instructor takes them, and what it finds wrong as who asks again needs it."""

from __future__ import annotations

import copy
import functools
import json
import re
from typing import Any

from dspy.lm15 import Response, StreamAssemblyError

from dspex_lab._lazy import require
from dspex_lab.errors import ConfigurationError
from dspex_lab.lms.engines._http_answers import UnusableAnswer

_SHOWN = 5


class SchemaMismatch(UnusableAnswer, StreamAssemblyError):
    """An answer that is not what the schema wants. DSPy counts its tokens, because it is a ``StreamAssemblyError``.

    Attributes:
        text: what the model wrote.
        errors: what is wrong with it, each ``{"path": "orders[0].price", "message": "…"}``; the path of the whole is "".
        partial: the answer as it came, with its token counts.
    """

    default_code = "stream_assembly"

    def __init__(self, message: str, *, text: str = "", errors: list[dict[str, str]] | None = None, **details: Any) -> None:
        super().__init__(message, **{"reason": "schema", **details})
        self.text = text
        self.errors = errors or []

    @classmethod
    def of(cls, errors: list[dict[str, str]], **details: Any) -> SchemaMismatch:
        """Return the error that tells of ``errors``."""
        shown = "; ".join(f"{each['path'] or 'the answer'}: {each['message']}" for each in errors[:_SHOWN])
        more = f" (and {len(errors) - _SHOWN} more)" if len(errors) > _SHOWN else ""
        return cls(f"The answer does not fit its schema: {shown}{more}.", errors=errors, **details)


@functools.lru_cache(maxsize=256)
def model_of(name: str, schema_text: str) -> Any:
    """Return a Pydantic class of any object that fits a JSON schema; instructor writes and checks that schema."""
    import pydantic
    from pydantic_core import PydanticCustomError

    instructor = require("instructor", "for structured answers validated by instructor")
    jsonschema = require("jsonschema", "for structured answers validated by instructor")
    schema = json.loads(schema_text)
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ConfigurationError(f"This is no JSON schema: {error.message}", key="response_format") from error
    registry = require("referencing", "for JSON schemas").Registry()  # an empty one: a $ref asks no network
    checker = jsonschema.Draft202012Validator(schema, registry=registry)

    def fits(cls: type, data: Any) -> Any:
        wrong = [fault(_path(e.absolute_path), e.message) for e in checker.iter_errors(data)]
        if wrong:
            raise PydanticCustomError("json_schema", "it does not fit its schema", {"faults": wrong})
        return data

    before: Any = pydantic.model_validator(mode="before")
    made: Any = pydantic.create_model(
        re.sub(r"\W", "_", name),
        __config__=pydantic.ConfigDict(extra="allow"),
        __validators__={"fits": before(classmethod(fits))},
    )
    shown = {"title": name, **schema}  # instructor names its tool so
    made.model_json_schema = classmethod(lambda cls, *args, **options: copy.deepcopy(shown))
    return instructor.openai_schema(made)


def constructed(body: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a completion with the parts that instructor reads as objects, and nothing checked twice."""
    from openai.types import CompletionUsage
    from openai.types.chat import ChatCompletionMessage
    from openai.types.chat.chat_completion import Choice
    from openai.types.chat.chat_completion_message_function_tool_call import ChatCompletionMessageFunctionToolCall, Function

    choice = body["choices"][0]
    message = dict(choice.get("message") or {})
    message["tool_calls"] = [
        ChatCompletionMessageFunctionToolCall.model_construct(
            id=str(call.get("id") or ""), type="function", function=Function.model_construct(**call["function"])
        )
        for call in message.get("tool_calls") or []
    ]
    made = Choice.model_construct(
        index=0,
        finish_reason=choice.get("finish_reason"),
        message=ChatCompletionMessage.model_construct(**{"refusal": None, "content": None, **message}),
    )
    usage = CompletionUsage.model_construct(prompt_tokens=0, completion_tokens=0, total_tokens=0)  # kept elsewhere
    return {**body, "choices": [made], "usage": usage}


def kind(schema: Any) -> Any:
    """Return the type a schema says of the whole; one that says none may be an object."""
    if not isinstance(schema, dict):
        return None
    ref = schema.get("$ref")
    if isinstance(ref, str) and ref.startswith("#/$defs/"):
        return kind(schema.get("$defs", {}).get(ref.removeprefix("#/$defs/")))
    return schema.get("type", "object")


def was_cut(response: Response) -> bool:
    """Whether the model stopped at max_tokens; a call of a tool hides it in lm15's reading."""
    return bool(_choice(response).get("finish_reason") == "length")


def written(response: Response) -> str:
    """Return what the model wrote: its text, or the arguments of its call as they came."""
    message = _choice(response).get("message") or {}
    calls = [call.get("function") or {} for call in message.get("tool_calls") or []]
    arguments = calls[0].get("arguments") if calls else None
    return arguments if isinstance(arguments, str) else str(message.get("content") or "")


def _choice(response: Response) -> dict[str, Any]:
    found: dict[str, Any] = ((response.provider_data or {}).get("choices") or [{}])[0]
    return found


def faults(error: BaseException) -> list[dict[str, str]]:
    """Return what pydantic or instructor found wrong."""
    from pydantic import ValidationError

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ValidationError):
        cause = cause.__cause__
    if cause is None:
        return [fault("", str(error.__cause__ or error))]
    found: list[dict[str, str]] = []
    for each in cause.errors(include_url=False, include_input=False):
        found += each.get("ctx", {}).get("faults") or [fault(_path(each["loc"]), each["msg"])]
    return found


def fault(path: str, message: str) -> dict[str, str]:
    return {"path": path, "message": message}


def _path(parts: Any) -> str:
    """Return ``orders[0].price`` for the steps to a value."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")
