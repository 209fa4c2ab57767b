"""Tool calls: as a field of an answer, or natively, as parts of a response; with the conversation that led to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dspex_lab.lms.exemplar._agent import Step, next_step
from dspex_lab.lms.exemplar._prompt import Prompt, Task, asked_inputs, split_feedback
from dspex_lab.lms.exemplar._sentences import listed
from dspex_lab.lms.exemplar._tools import ENDING, Tool, told_tools, tool_of
from dspex_lab.lms.exemplar._trajectory import Call, call_of, read_results

if TYPE_CHECKING:
    from dspy.lm15 import Request

#: The names that DSPy's agents give to what is not part of the request.
_NOT_ASKED = frozenset(["tools", "history", "tool_call_results"])
_RESULTS = "tool_call_results"


@dataclass(frozen=True)
class Work:
    """What an agent was asked, with which tools, and what it did."""

    inputs: dict[str, str]
    tools: tuple[Tool, ...]
    calls: tuple[Call, ...]

    @property
    def request(self) -> str:
        """The request as one text."""
        return "\n".join(self.inputs.values())

    def step(self) -> Step:
        """Return what to do next."""
        return next_step(self.request, self.tools, self.calls)


#: Gives the arguments of the call that ends the work: the outputs, from the request and what the tools gave.
Finish = Callable[[Work, Tool], dict[str, Any]]


def calls_to_make(work: Work, finish: Finish) -> tuple[list[tuple[str, dict[str, Any]]], str]:
    """Return names and arguments of the calls to make, and why; none where the work is done and no tool ends it."""
    step = work.step()
    if step.tool is not None:
        return [(step.tool.name, step.arguments)], step.why
    ending = next((t for t in work.tools if t.ends), None)
    return ([(ending.name, finish(work, ending))] if ending is not None else []), step.why


def forced_call(work: Work, finish: Finish) -> tuple[list[tuple[str, dict[str, Any]]], str]:
    """Return a call where there must be one: the next step, or what ends the work, or the first tool with what fits."""
    made, why = calls_to_make(work, finish)
    if made or not work.tools:
        return made, why
    step = replace(work, calls=()).step()
    if step.tool is not None:
        return [(step.tool.name, step.arguments)], step.why
    return [(work.tools[0].name, finish(work, work.tools[0]))], why


def told_work(prompt: Prompt, task: Task) -> Work:
    """Return the work of a prompt that describes tools in an input, with the conversation before it."""
    inputs = asked_inputs(prompt.turns, task)
    calls: list[Call] = []
    asked: list[tuple[str, Any]] = []
    output = next(f.name for f in task.outputs if f.shape.kind == "calls")
    for role, text in prompt.turns:
        if role == "assistant":
            asked = _calls_said(text, output)
        elif _RESULTS in text and (results := read_results(split_feedback(text)[0])):
            given = [arguments for _, arguments in asked] + [{}] * len(results)
            calls += [call_of(n, a, said, bad) for (n, said, bad), a in zip(results, given, strict=False)]
    told = "\n".join(listed(inputs.get("tools", "")) or (inputs.get("tools", ""),))
    tools = told_tools(told) or told_tools("\n".join(inputs.values()))
    working = {n: v for n, v in inputs.items() if n not in _NOT_ASKED and not told_tools(v)}
    return Work(working, tools, tuple(c for c in calls if c.name not in ENDING))


def _calls_said(text: str, output: str) -> list[tuple[str, Any]]:
    """Return the calls that an assistant's turn says, by the JSON after the name of the field."""
    at = text.find('{"tool_calls"', max(text.find(output), 0))
    at = at if at >= 0 else text.find('"tool_calls": [')
    if at < 0:
        return []
    try:
        found = json.JSONDecoder().raw_decode(text[at:] if text[at] == "{" else "{" + text[at:] + "}")[0]
    except (ValueError, RecursionError):
        return []
    listed_calls = found.get("tool_calls") if isinstance(found, dict) else None
    return [(str(c.get("name")), c.get("args")) for c in listed_calls or [] if isinstance(c, dict)]


def native_work(request: Request, inputs: Mapping[str, str], *, whole: bool) -> Work:
    """Return the work of a request that brings its tools along.

    Args:
        inputs: what is asked; the last user message where there is nothing.
        whole: the whole conversation is about one request; else calls count that came after the last user message.
    """
    choice = request.config.tool_choice
    allowed = set(choice.allowed) if choice is not None and choice.allowed else None
    tools = tuple(_native_tool(t) for t in request.tools if t.type == "function" and (allowed is None or t.name in allowed))
    last = max((i for i, m in enumerate(request.messages) if m.role == "user"), default=0)
    question = dict(inputs) or {"question": request.messages[last].text or ""}
    asked: dict[str, tuple[str, Any]] = {}
    calls: list[Call] = []
    for message in request.messages[0 if whole else last :]:
        for part in message.parts:
            if part.type == "tool_call":
                asked[part.id] = part.name, part.input
            elif part.type == "tool_result":
                name, arguments = asked.get(part.id, (part.name or "", {}))
                said = "".join(getattr(p, "text", None) or "" for p in part.content)
                calls.append(call_of(name, arguments, said, part.is_error))
    return Work(question, tools, tuple(c for c in calls if c.name not in ENDING))


def _native_tool(tool: Any) -> Tool:
    schema = tool.parameters or {}
    properties, required = schema.get("properties"), schema.get("required")
    return tool_of(
        tool.name,
        tool.description or "",
        properties if isinstance(properties, dict) else {},
        [str(n) for n in required] if isinstance(required, list) else [],
    )


def must_call(request: Request) -> bool:
    """Whether a request leaves no other answer than a call."""
    choice = request.config.tool_choice
    return choice is not None and choice.mode == "required"
