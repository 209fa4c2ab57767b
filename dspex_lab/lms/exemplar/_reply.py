"""Makes the response to a request: the answer's text, within its limits and in its form, and the calls of tools."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from dspex_lab.lms.exemplar._agent import concluded
from dspex_lab.lms.exemplar._answer import Answerer, finisher
from dspex_lab.lms.exemplar._calls import calls_to_make, forced_call, must_call, native_work
from dspex_lab.lms.exemplar._constraints import constraints_in
from dspex_lab.lms.exemplar._draws import draw_of
from dspex_lab.lms.exemplar._fitting import fitted_text
from dspex_lab.lms.exemplar._prompt import FieldSpec, Prompt, Task, asked_inputs, read_prompt, split_feedback
from dspex_lab.lms.exemplar._qa import find
from dspex_lab.lms.exemplar._reading import explains
from dspex_lab.lms.exemplar._reflection import proposal_for
from dspex_lab.lms.exemplar._shapes import shape_of_schema
from dspex_lab.lms.exemplar._style import write
from dspex_lab.lms.exemplar._text import reply_to
from dspex_lab.lms.exemplar._trajectory import results_text

if TYPE_CHECKING:
    from dspy.lm15 import Request, Response

_CHARACTERS_PER_TOKEN = 4
_PIECE = re.compile(r"\s*\S+\s*")
Turns = list[tuple[str, str]]


def token_count(text: str) -> int:
    """Return the simulated number of tokens of ``text``: a quarter of its characters, rounded up."""
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def messages_of(request: Request) -> tuple[str, Turns]:
    """Return the system message of a request and its other messages as role and text."""
    system = request.system
    if system is None or isinstance(system, str):
        text = system or ""
    else:
        text = "".join(getattr(part, "text", None) or "" for part in system)
    return text, [(message.role, message.text or "") for message in request.messages]


def _best_guess() -> int:
    return 0


def answered(system: str, turns: Turns, request: Request | None = None) -> str:
    """Return the completion of a prompt; ``request`` is asked for its settings where they matter."""
    prompt = read_prompt(system, turns)
    draw = _best_guess if request is None else partial(draw_of, request)
    if prompt.task is not None:
        return write(Answerer(prompt, prompt.task, draw).answers(), prompt.task.style)
    form = request.config.response_format if request is not None else None
    if form is not None:
        return _as_json(prompt.text, form)
    proposal = proposal_for(prompt.text, draw())
    return proposal if proposal is not None else _free(prompt.text)


def _free(text: str) -> str:
    """Return an answer to a free text, in the form that it asks for."""
    asked, feedback = split_feedback(text)
    reply = reply_to(asked)
    wanted = (
        constraints_in(feedback, "answer", ("answer",), True)
        if feedback
        else constraints_in(asked, "answer", ("answer",), False)
    )
    return fitted_text(reply, wanted, asked) if wanted and not reply.startswith("```") else reply


def _as_json(text: str, form: Mapping[str, Any]) -> str:
    """Return an answer to a free text as one JSON object: with the members of the schema, or else ``answer``."""
    schema = form.get("schema")
    shape = shape_of_schema(schema) if isinstance(schema, dict) else None
    if shape is None or shape.kind != "object":
        return json.dumps({"answer": reply_to(text)}, ensure_ascii=False)
    outputs = tuple(FieldSpec(name, said, inner) for name, inner, said in shape.properties)
    task = Task((), outputs, "", "json")
    return write(Answerer(Prompt(text, task, (), (("text", text),)), task).answers(), "json")


def limited(text: str, request: Request) -> tuple[str, str]:
    """Return ``text`` as far as the request lets it come, and why it ends there: ``"stop"`` or ``"length"``."""
    config = request.config
    ends = [at for stop in config.stop if (at := text.find(stop)) >= 0]
    text = text[: min(ends)] if ends else text
    if config.max_tokens is not None and token_count(text) > config.max_tokens:
        return text[: config.max_tokens * _CHARACTERS_PER_TOKEN], "length"
    return text, "stop"


def respond(request: Request, text: str, finish_reason: str = "stop", parts: Sequence[Any] = ()) -> Response:
    """Return ``text`` as the response to ``request``, with the simulated count of tokens.

    Args:
        finish_reason: why the text ends.
        parts: calls of tools, which come after the text; their arguments are counted too.
    """
    from dspy.lm15 import Message, Response, TextPart, Usage

    system, turns = messages_of(request)
    asked = token_count(system + "".join(t for _, t in turns))
    said = token_count(text) + sum(token_count(p.name + json.dumps(p.input, ensure_ascii=False)) for p in parts)
    message = Message.assistant([*([TextPart(text)] if text or not parts else []), *parts])
    usage = Usage(input_tokens=asked, output_tokens=said)
    return Response(id=None, model=request.model, message=message, finish_reason=finish_reason, usage=usage)


def reply(request: Request) -> Response:
    """Answer one request."""
    choice = request.config.tool_choice
    if request.tools and (choice is None or choice.mode != "none"):
        return _with_tools(request)
    text, reason = limited(answered(*messages_of(request), request), request)
    return respond(request, text, reason)


def _with_tools(request: Request) -> Response:
    """Answer a request that brings tools: with a call, or in words where the tools' results answer it."""
    from dspy.lm15 import ToolCallPart

    system, turns = messages_of(request)
    prompt = read_prompt(system, [t for t in turns if t[0] in ("user", "assistant")])
    task = prompt.task
    asked = {} if task is None else asked_inputs(turns, task)
    work = native_work(request, asked, whole=task is not None)
    finish = finisher(task.instructions if task is not None else system)
    made, why = (forced_call if must_call(request) else calls_to_make)(work, finish)
    if not made:
        told = None if task is not None else _concluded(work.request, work.calls)
        return respond(request, *limited(told or answered(system, turns, request), request))
    text = "" if task is None else _beside(prompt, task, why)
    number = 1 + sum(part.type == "tool_call" for message in request.messages for part in message.parts)
    parts = [ToolCallPart(id=f"call_{number + i}", name=name, input=given) for i, (name, given) in enumerate(made)]
    return respond(request, text, "tool_call", parts)


def _beside(prompt: Prompt, task: Task, why: str) -> str:
    """Return the outputs that are asked for beside calls; those that say why say what the calls rest on."""
    if all(explains(f) for f in task.outputs):
        return write({f.name: why for f in task.outputs}, task.style) if task.outputs else ""
    values = Answerer(prompt, task).answers()
    return write({f.name: why if explains(f) else values[f.name] for f in task.outputs}, task.style)


def _concluded(question: str, calls: Sequence[Any]) -> str | None:
    """Return an answer in words from what the tools gave; None where none was called."""
    said = concluded(question, calls)
    if said is not None or not calls:
        return said
    results = results_text(calls)
    found = find(question, results)
    return found.text if found is not None else "\n".join(results)


def stream_events(response: Response, pieces: Sequence[str] | None = None) -> Iterator[Any]:
    """Yield ``response`` as the events of a stream that is only simulated: the whole answer is there before the first.

    Args:
        pieces: the pieces in which its text comes; word by word where None.
    """
    from dspy.lm15 import StreamDeltaEvent, StreamEndEvent, StreamStartEvent, TextDelta, ToolCallDelta

    text = response.text or ""
    words = _PIECE.findall(text) or ([text] if text else [])
    yield StreamStartEvent(id=response.id, model=response.model)
    for piece in words if pieces is None else pieces:
        yield StreamDeltaEvent(TextDelta(piece))
    for i, part in enumerate(response.message.parts):
        if part.type == "tool_call":
            given = json.dumps(part.input, ensure_ascii=False)
            yield StreamDeltaEvent(ToolCallDelta(given, part_index=i, id=part.id, name=part.name))
    yield StreamEndEvent(finish_reason=response.finish_reason, usage=response.usage)
