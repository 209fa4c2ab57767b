"""What responses look like, for the description of the API. They are made elsewhere and not checked again on their way out;
the tests hold them to this."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from starlette.responses import PlainTextResponse


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Model(_Reply):
    """A pipeline as a model: OpenAI's fields, what it is for, the JSON schema of its inputs, and the names of its outputs."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    description: str
    inputs: dict[str, Any]
    outputs: list[str]


class Models(_Reply):
    """All of them."""

    object: Literal["list"]
    data: list[Model]


class Ranked(_Reply):
    """How well a pipeline fits a request."""

    pipeline: str
    score: float


class About(_Reply):
    """What a response says beside the answer: which pipeline answered, why, how long it took, and what stood in for what."""

    request_id: str
    run_id: str
    pipeline: str
    status: Literal["complete", "partial", "failed", "cancelled"]
    seconds: float
    routed_by: str
    ranking: list[Ranked]
    fallback_used: bool
    fallback_reason: str | None
    outputs: dict[str, Any]
    simulated: bool
    cost: float | None


class Said(_Reply):
    """The message of an answer."""

    role: Literal["assistant"]
    content: str


class Choice(_Reply):
    """OpenAI's choice; there is one."""

    index: int
    message: Said
    finish_reason: Literal["stop"]
    logprobs: None


class Usage(_Reply):
    """Tokens of the calls of models."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(_Reply):
    """OpenAI's ``chat.completion``; ``dspex`` has what it has no place for."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    dspex: About


class Run(BaseModel):
    """A run. One that has ended has what :class:`About` has; one of an earlier server what the store kept of it."""

    id: str
    object: Literal["run"]
    state: Literal["running", "complete", "partial", "failed", "cancelled", "interrupted"]
    pipeline: str
    error: str | None = None
    content: str | None = None
    run_id: str | None = None
    outputs: dict[str, Any] | None = None
    fallback_used: bool | None = None
    fallback_reason: str | None = None


class Feedback(_Reply):
    """What was kept."""

    id: str
    object: Literal["feedback"]
    run_id: str


class Job(_Reply):
    """A job: its state, how far it is, and the best score until now."""

    id: str
    object: Literal["job"]
    number: int
    kind: str
    name: str
    state: str
    done: float
    total: float | None
    best: float | None
    note: str | None
    error: str | None


class Jobs(_Reply):
    """All of them."""

    object: Literal["list"]
    data: list[Job]


class Health(_Reply):
    """That it is well."""

    status: Literal["ok", "ready"]


class Problem(_Reply):
    """OpenAI's error."""

    message: str
    type: str
    param: str | None
    code: str | None


class Failure(BaseModel):
    """What every response with a status from 400 on says; ``details`` by field, ``dspex`` of a run that gave no answer."""

    error: Problem
    details: list[dict[str, str]] = []
    dspex: dict[str, Any] | None = None


class Exposition(PlainTextResponse):
    """Counters in Prometheus's text format."""

    media_type = "text/plain"
