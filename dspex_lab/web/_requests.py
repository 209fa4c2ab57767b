"""The bodies of requests, as OpenAI's clients send them and as our own API has them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from dspex_lab.events import new_id
from dspex_lab.web._ask import AUTO, Ask
from dspex_lab.web._errors import Refused
from dspex_lab.web._inputs import shallow

#: Seconds that a client may ask for.
Seconds = Annotated[float, Field(gt=0, le=86_400)]
#: Values by name.
Values = Annotated[dict[str, Any], AfterValidator(shallow)]
#: What OpenAI's clients may send that would change the answer, and that pipelines have no word in.
REFUSED = (
    *("tools", "tool_choice", "functions", "function_call", "response_format", "logprobs", "modalities", "audio", "stop"),
    "logit_bias",
)
#: What of it says only what is so in any case.
_HARMLESS: tuple[Any, ...] = (None, [], {}, False, "auto", "none", {"type": "text"}, ["text"])


def _own(tag: str) -> str:
    """Refuse a tag by which runs are found."""
    if tag.startswith("request:"):
        raise ValueError("may not begin with 'request:'")
    return tag


#: A tag that a client may give a run.
Tag = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_own)]


class Part(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(extra="allow", strict=True)
    type: str
    text: str | None = None


class Message(BaseModel):
    """A turn of a conversation."""

    model_config = ConfigDict(extra="allow", strict=True)
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None

    def text(self, at: int) -> str:
        """Return what it says.

        Raises:
            Refused: it is something else than text.
        """
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        for part in self.content:
            if part.type != "text" or part.text is None:
                raise Refused(
                    400,
                    f"Parts of type {part.type!r} are not taken, only text.",
                    param=f"messages.{at}.content",
                    code="unsupported",
                )
        return "".join(part.text or "" for part in self.content)


class StreamOptions(BaseModel):
    """OpenAI's ``stream_options``."""

    model_config = ConfigDict(extra="allow", strict=True)
    include_usage: bool | None = False


class ChatRequest(BaseModel):
    """The body of ``POST /v1/chat/completions``; ``inputs``, ``session`` and ``deadline`` are ours."""

    model_config = ConfigDict(extra="allow", strict=True)
    model: str = Field(AUTO, max_length=200)
    messages: list[Message] = Field(min_length=1, max_length=1000)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    max_completion_tokens: int | None = Field(None, ge=1, le=1_000_000)
    seed: int | None = Field(None, ge=-(2**53), le=2**53)
    n: int | None = Field(None, ge=1, le=1)
    inputs: Values | None = None
    session: str | None = Field(None, min_length=1, max_length=200)
    deadline: Seconds | None = None

    def ask(self) -> Ask:
        """Return what is asked.

        Raises:
            Refused: it asks for something that pipelines cannot do.
        """
        for name in REFUSED:
            if (self.model_extra or {}).get(name) not in _HARMLESS:
                raise Refused(
                    400, f"{name!r} is not supported: the pipeline decides that.", param=name, code="unsupported_parameter"
                )
        last = next((at for at in reversed(range(len(self.messages))) if self.messages[at].role == "user"), None)
        if last is None and self.inputs is None:
            raise Refused(400, "There is no message of a user.", param="messages", code="invalid_messages")
        text = None if last is None else self.messages[last].text(last)
        turns = [{"role": m.role, "content": m.text(at)} for at, m in enumerate(self.messages) if last is None or at < last]
        longest = self.max_completion_tokens or self.max_tokens
        settings = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": longest,
            "frequency_penalty": self.frequency_penalty or None,  # 0 is what many clients send, and what not all models take
            "presence_penalty": self.presence_penalty or None,
        }
        return Ask(
            new_id(),
            self.model,
            text,
            self.inputs,
            turns,
            {name: value for name, value in settings.items() if value is not None},
            self.deadline,
            self.session,
            seed=self.seed,
        )


class RunRequest(BaseModel):
    """The body of ``POST /api/runs``: a text, or inputs by name."""

    model_config = ConfigDict(extra="forbid", strict=True)
    pipeline: str = Field(AUTO, max_length=200)
    text: str | None = Field(None, max_length=4_000_000)
    inputs: Values | None = None
    session: str | None = Field(None, min_length=1, max_length=200)
    deadline: Seconds | None = None
    tags: list[Tag] = Field([], max_length=20)

    def ask(self) -> Ask:
        """Return what is asked.

        Raises:
            Refused: it asks nothing.
        """
        if self.text is None and self.inputs is None:
            raise Refused(422, "There is neither a text nor inputs.", param="inputs", code="invalid_inputs")
        return Ask(
            new_id(), self.pipeline, self.text, self.inputs, deadline=self.deadline, session=self.session, tags=tuple(self.tags)
        )


class FeedbackRequest(BaseModel):
    """The body of ``POST /api/runs/{id}/feedback``."""

    model_config = ConfigDict(extra="forbid", strict=True)
    verdict: Literal["up", "down"] | None = None
    correction: Values | None = None
    note: str | None = Field(None, max_length=10_000)
    who: str | None = Field(None, max_length=200)
