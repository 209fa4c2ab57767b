"""A request to a local model as plain data, and its answer: what may cross to a worker process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex_lab.lms._schema_check import violation

if TYPE_CHECKING:
    from dspy.lm15 import Request, Response

#: Options that a request may carry and that do not change the answer.
_HARMLESS = frozenset(["metadata"])
_NOT_HERE = ("reasoning", "probabilities")


@dataclass(frozen=True)
class Ask:
    """What is asked of a local model.

    Args:
        turns: role (``"system"``, ``"user"``, ``"assistant"``) and text of each message, in order.
        max_tokens: the most tokens to write; None for the engine's default.
        temperature: 0 always takes the likeliest token; None for what the checkpoint's own configuration says.
        logprobs: None for none, 0 for those of the tokens written, n for the n likeliest at each place too.
        schema: the JSON schema of the answer; ``{}`` for any JSON; None for text.
    """

    turns: tuple[tuple[str, str], ...]
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logprobs: int | None = None
    schema: dict[str, Any] | None = None


class Score(NamedTuple):
    """The log probability of one token that was written, and of the likeliest ones in its place."""

    token: str
    token_id: int
    logprob: float
    top: tuple[tuple[str, int, float], ...] = ()


class Begun(NamedTuple):
    """An answer is about to be written: it may have ``allowed`` tokens, where fewer than the ``asked`` ones fit."""

    asked: int | None = None
    allowed: int | None = None


class Piece(NamedTuple):
    """Some of the text of an answer, as it is written."""

    text: str
    scores: tuple[Score, ...] = ()
    scored: bool = True


@dataclass(frozen=True)
class Answer:
    """A whole answer.

    Args:
        finish: ``"stop"`` or ``"length"``.
        scored: the scores cover the whole text; not so where a stop sequence cut a token in two.
        allowed: the number of tokens it might have, where fewer than were asked for fit into the context.
    """

    text: str
    finish: str
    input_tokens: int
    output_tokens: int
    scores: tuple[Score, ...] | None = None
    scored: bool = True
    allowed: int | None = None
    asked: int | None = None


def ask_of(request: Request) -> Ask:
    """Return the request as plain data.

    Raises:
        UnsupportedFeatureError: it holds tools, images or an option that no local model takes.
    """
    from dspex_lab.lms.engines._local_errors import unsupported

    config = request.config
    if request.tools:
        raise unsupported("tools", "A local model takes no native tools; dspy.ReAct describes them in the prompt instead.")
    for name in _NOT_HERE:
        if getattr(config, name, None) is not None:
            raise unsupported(f"config.{name}", f"A local model has no setting {name!r}.")
    for name in config.extensions or {}:
        if name not in _HARMLESS:
            raise unsupported(f"config.extensions.{name}", f"A local model has no setting {name!r}.")
    return Ask(
        turns=_turns(request),
        max_tokens=config.max_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        seed=config.seed,
        stop=config.stop,
        frequency_penalty=config.frequency_penalty or 0.0,
        presence_penalty=config.presence_penalty or 0.0,
        logprobs=config.logprobs,
        schema=_schema(config.response_format),
    )


def _schema(response_format: Any) -> dict[str, Any] | None:
    if response_format is None:
        return None
    return dict(response_format["schema"]) if response_format["type"] == "json_schema" else {"type": "object"}


def _turns(request: Request) -> tuple[tuple[str, str], ...]:
    turns = []
    if request.system is not None:
        parts = request.system
        turns.append(("system", parts if isinstance(parts, str) else _text(parts, "system")))
    for number, message in enumerate(request.messages):
        text = _text(message.parts, f"messages[{number}]")
        role: str = message.role
        if role == "developer":
            # Few templates know this role: instructions at the start are the system message.
            role, text = ("user", f"[developer] {text}") if turns else ("system", text)
        turns.append((role, text))
    return tuple(turns)


def _text(parts: Any, where: str) -> str:
    from dspex_lab.lms.engines._local_errors import unsupported

    texts = []
    for number, part in enumerate(parts):
        if part.type == "thinking":
            continue  # what a model thought is not told to it again
        if part.type != "text":
            raise unsupported(f"{where}.parts[{number}]", f"A local model reads text; this is a part of type {part.type!r}.")
        texts.append(part.text)
    return "\n".join(texts)


def response_of(request: Request, answer: Answer) -> Response:
    """Return the answer as a response, its text checked against ``response_format``.

    Raises:
        GarbledAnswer: a structured answer was asked for, and this is none.
    """
    from dspy.lm15 import Message, Response, TextPart, Usage

    response = Response(
        id=None,
        model=request.model,
        message=Message.assistant([TextPart(answer.text)]),
        finish_reason=answer.finish,
        usage=Usage(input_tokens=answer.input_tokens, output_tokens=answer.output_tokens),
        logprobs=None if answer.scores is None else logprobs_of(answer.scores),
        adaptations=adaptations_of(answer),
        logprobs_complete=answer.scored,
    )
    check_structure(_schema(request.config.response_format), answer, response)
    return response


def adaptations_of(answer: Answer | Begun) -> tuple[Any, ...]:
    """Return what was done otherwise than asked: the room that ``max_tokens`` was cut to, if it was."""
    from dspy.lm15 import Adaptation

    if answer.allowed is None:
        return ()
    reason = "the model's context holds no more after this prompt"
    return (Adaptation("config.max_tokens", "clamped", reason, asked=answer.asked, applied=answer.allowed),)


def logprobs_of(scores: tuple[Score, ...]) -> tuple[Any, ...]:
    """Return scores as lm15's log probabilities."""
    from dspy.lm15 import TokenLogprob, TopLogprob

    return tuple(
        TokenLogprob(
            s.token,
            s.logprob,
            _bytes(s.token),
            s.token_id,
            tuple(TopLogprob(token, logprob, _bytes(token), number) for token, number, logprob in s.top),
        )
        for s in scores
    )


def _bytes(token: str) -> tuple[int, ...] | None:
    # A token that is a part of a character decodes to the replacement character: its bytes are not known here.
    return None if "\ufffd" in token else tuple(token.encode())


def check_structure(schema: dict[str, Any] | None, answer: Answer, response: Response) -> None:
    """Refuse an answer that is not the JSON that was asked for.

    Raises:
        GarbledAnswer: it is not; the text is kept in its ``partial``.
        InvalidRequestError: what was asked for is no JSON schema.
    """
    from dspex_lab.lms.engines._local_errors import bad_request, garbled

    if schema is None:
        return
    if answer.finish == "length":
        raise garbled(
            f"The JSON answer was cut after {answer.output_tokens} tokens (max_tokens). Allow more. It begins: "
            f"{answer.text[:200]!r}",
            response,
        )
    try:
        value = json.loads(answer.text)
    except ValueError as error:
        raise garbled(f"The answer is no JSON ({error}). It begins: {answer.text[:200]!r}", response) from error
    try:
        problem = violation(schema, value)
    except ValueError as error:
        raise bad_request(str(error)) from error
    if problem is not None:
        raise garbled(f"The answer does not fit its schema: {problem}. It begins: {answer.text[:200]!r}", response)
