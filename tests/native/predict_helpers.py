"""What native predictors and DSPy's are asked alike: signatures with inputs and answers, and an engine that listens."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

import dspy
import pydantic
from dspy.lm15 import Message, Response, TextPart, ThinkingPart, Usage


class Colour(enum.Enum):
    RED = "red"
    DARK_BLUE = "dark blue"


class Place(pydantic.BaseModel):
    city: str
    floors: list[int] = []


class Order(pydantic.BaseModel):
    place: Place
    note: str | None = None


class Spy:
    """An engine that answers in turn and keeps what it was asked."""

    simulated = True

    def __init__(self, replies: Sequence[str | Exception], **abilities: Any) -> None:
        self.replies = list(replies)
        self.requests: list[Any] = []
        vars(self).update(abilities)

    def complete(self, request: Any) -> Response:
        self.requests.append(request)
        reply = self.replies[(len(self.requests) - 1) % len(self.replies)]
        if isinstance(reply, Exception):
            raise reply
        thought, _, text = reply.rpartition("\0")
        parts = [*([ThinkingPart(text=thought)] if thought else []), *([TextPart(text)] if text else [])] or [TextPart("")]
        usage = Usage(input_tokens=7, output_tokens=len(text))
        return Response(id=None, model=request.model, message=Message.assistant(parts), finish_reason="stop", usage=usage)


class AsyncSpy:
    def __init__(self, engine: Spy) -> None:
        self.engine = engine

    async def complete(self, request: Any) -> Response:
        return self.engine.complete(request)


def spy_lm(replies: Sequence[str | Exception], abilities: dict[str, Any] | None = None, **options: Any) -> Any:
    engine = Spy(replies, **(abilities or {}))
    options = {"cache": False, "num_retries": 0, **options}
    return dspy.LM("spy/model", engine=engine, async_engine=AsyncSpy(engine), **options)


def chat(**fields: Any) -> str:
    return "".join(f"[[ ## {k} ## ]]\n{v}\n\n" for k, v in fields.items()) + "[[ ## completed ## ]]\n"


class Rich(dspy.Signature):
    """Say what is asked.

    Indented, over lines: "quotes" and {braces}.
    """

    question: str = dspy.InputField(desc="what is asked")
    notes: list[str] = dspy.InputField()
    limit: int = dspy.InputField(default=3, ge=1)
    answer: str = dspy.OutputField(desc="in a few words", max_length=100)
    sure: float = dspy.OutputField(ge=0, le=1)


PLAIN = "question -> answer"
MANY = (
    "text, colours: list[str], extra: dict[str, int] -> label: Literal['a', 'b', \"it's\"], number: int, share: float, "
    "yes: bool, tags: list[str], table: dict[str, int], maybe: Optional[str], pair: tuple[int, str], either: int | None"
)
MODELS = dspy.Signature(
    {
        "order": (Order, dspy.InputField()),
        "colours": (list[Colour], dspy.InputField()),
        "place": (Place, dspy.OutputField()),
        "colour": (Colour, dspy.OutputField()),
        "orders": (list[Order], dspy.OutputField()),
        "code": (dspy.Code["python"], dspy.OutputField()),
    }
)
IMAGE = "image: dspy.Image, images: list[dspy.Image], question -> answer"
PIXEL = dspy.Image("data:image/png;base64,iVBORw0KGgo=")
MANY_IN = {"text": "x", "colours": ["red", "a\nb", "«c»"], "extra": {"ä": 1}}
MANY_OUT = {
    "label": "b",
    "number": "3",
    "share": "0.5",
    "yes": "True",
    "tags": '["x", "y"]',
    "table": '{"k": 1}',
    "maybe": "null",
    "pair": '[1, "z"]',
    "either": "4",
}
MODELS_IN = {"order": Order(place=Place(city="Ulm")), "colours": [Colour.RED, Colour.DARK_BLUE]}
MODELS_OUT = {
    "place": '{"city": "Bonn", "floors": [1, 2]}',
    "colour": "dark blue",
    "orders": '[{"place": {"city": "A"}}]',
    "code": "```python\nx = 1\n```",
}
MODELS_JSON = '{"place": {"city": "Bonn"}, "colour": "RED", "orders": [{"place": {"city": "A"}, "note": "n"}], "code": "x = 1"}'
CASES: dict[str, tuple[Any, dict[str, Any], str, str]] = {
    "plain": (PLAIN, {"question": "Is it?"}, chat(answer="yes"), '{"answer": "yes"}'),
    "rich": (Rich, {"question": "q", "notes": []}, chat(answer="a\n\nb", sure=0.5), '{"answer": "a", "sure": 0.5}'),
    "many types": (
        MANY,
        MANY_IN,
        chat(**MANY_OUT),
        '{"label": "a", "number": 3, "share": 1, "yes": false, "tags": [], "table": {}, "maybe": null, "pair": [1, "z"], '
        '"either": null}',
    ),
    "models": (MODELS, MODELS_IN, chat(**MODELS_OUT), MODELS_JSON),
    "images": (IMAGE, {"image": PIXEL, "images": [PIXEL, PIXEL], "question": "q"}, chat(answer="a"), '{"answer": "a"}'),
    "a marker in the text": (
        PLAIN,
        {"question": "x <<CUSTOM-TYPE-START-IDENTIFIER>>[]<<CUSTOM-TYPE-END-IDENTIFIER>> y"},
        chat(answer="a"),
        '{"answer": "a"}',
    ),
}
ADAPTERS = {
    "default": None,
    "chat": dspy.ChatAdapter(),
    "chat alone": dspy.ChatAdapter(use_json_adapter_fallback=False),
    "chat with tool calls": dspy.ChatAdapter(use_native_function_calling=True),
    "json": dspy.JSONAdapter(),
    "json without tool calls": dspy.JSONAdapter(use_native_function_calling=False),
}
ABILITIES = {
    "a bare engine": {},
    "json mode": {"supported_params": ["response_format"]},
    "structured output": {"supported_params": ["response_format"], "supports_response_schema": True},
}
