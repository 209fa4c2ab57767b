"""Answers a prompt, field by field, and says on what evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dspex_lab.lms.exemplar._agent import next_step
from dspex_lab.lms.exemplar._calls import Work, calls_to_make, told_work
from dspex_lab.lms.exemplar._choices import choice, truth
from dspex_lab.lms.exemplar._estimates import number
from dspex_lab.lms.exemplar._lists import listing, mapping
from dspex_lab.lms.exemplar._prompt import FieldSpec, Prompt, Task
from dspex_lab.lms.exemplar._reading import Reading, explains, read_value, spread
from dspex_lab.lms.exemplar._reflection import reflect
from dspex_lab.lms.exemplar._shapes import TEXT, shape_of_schema
from dspex_lab.lms.exemplar._tools import Tool, loaded, told_tools
from dspex_lab.lms.exemplar._trajectory import results_text
from dspex_lab.lms.exemplar._wording import wording


def _first_draw() -> int:
    return 0


class Answerer:
    """Answers one prompt of a DSPy adapter from what stands in it.

    Args:
        prompt: what is asked.
        task: the prompt's task.
        draw: gives the number of the draw; asked only where a proposal is to be made (see ``_draws``).
    """

    def __init__(self, prompt: Prompt, task: Task, draw: Callable[[], int] = _first_draw) -> None:
        self.prompt = prompt
        self.task = task
        self.draw = draw
        self.reading = Reading(prompt, task)

    @property
    def evidence(self) -> list[str]:
        """Sentences that say what each answer rests on."""
        return self.reading.evidence

    def answers(self) -> dict[str, Any]:
        """Return a value for every output field, in the order of the task; None for one that has none."""
        outputs = self.task.outputs
        found = self._work() if self.task.role else {}
        waiting = []
        for field in outputs:
            if field.name in found:
                continue
            if len(outputs) > 1 and explains(field):
                waiting.append(field)
            else:
                found[field.name] = self.value(field, [d.outputs.get(field.name) for d in self.prompt.demonstrations])
        for field in waiting:
            found[field.name] = self.reasoning()
        return {f.name: found[f.name] for f in outputs} if len(outputs) > 1 else found

    def _work(self) -> dict[str, Any]:
        """Return the outputs of a task that is no plain reading: an agent's next step, calls, a proposal."""
        if self.task.role == "agent":
            return self._step()
        if self.task.role == "calls":
            name = next(f.name for f in self.task.outputs if f.shape.kind == "calls")
            made, why = calls_to_make(told_work(self.prompt, self.task), finisher(self.task.instructions))
            self.reading.say(why)
            return {name: {"tool_calls": [{"name": tool, "args": arguments} for tool, arguments in made]}}
        names = [f.name for f in self.task.outputs]
        return reflect(self.task.role, self.reading.inputs, names, self.draw())

    def _step(self) -> dict[str, Any]:
        tools = told_tools(self.task.instructions)
        step = next_step(self.reading.request(), tools, self.reading.calls)
        ending = next((t.name for t in tools if t.ends), None)
        self.reading.say(step.why)
        if step.tool is None and ending is None:
            return {}
        return {"next_tool_name": step.tool.name if step.tool else ending, "next_tool_args": step.arguments}

    def value(self, field: FieldSpec, shown: Sequence[Any]) -> Any:
        """Return the value of one field.

        Args:
            field: what is asked.
            shown: what each demonstration gives for it, as the prompt writes it; None where it gives nothing.
        """
        shape = field.shape
        given = [(i, value) for i, value in enumerate(read_value(shape, v) for v in shown) if value is not None]
        if shape.kind == "choice":
            return choice(self.reading, field, shape.options, given)
        if shape.kind == "bool":
            return truth(self.reading, field, given)
        if shape.kind in ("int", "float"):
            return number(self.reading, field, given)
        if shape.kind == "list":
            return listing(self.reading, field, given, self._on)
        if shape.kind == "tuple":
            return [self.value(FieldSpec(name, said, inner), []) for name, inner, said in shape.properties]
        if shape.kind == "object":
            return self._members(field, given, len(shown))
        return wording(self.reading, field, given)

    def _members(self, field: FieldSpec, given: Sequence[tuple[int, Any]], count: int) -> dict[str, Any]:
        shape = field.shape
        if not shape.properties:
            return mapping(self.reading, field, shape.item or TEXT, self._on)
        return {
            name: self.value(FieldSpec(name, said, inner), [_member(v, name) for v in spread(given, count)])
            for name, inner, said in shape.properties
        }

    def _on(self, field: FieldSpec, text: str) -> Any:
        """Answer a field on a part of the text; demonstrations say nothing about parts."""
        if text == self.reading.text:
            return self.value(field, [])
        part = Answerer(Prompt(text, self.task, (), (("text", text),), self.reading.feedback), self.task)
        return part.value(field, [])

    def reasoning(self) -> str:
        """Return what the answers rest on, in words."""
        return " ".join(self.evidence) or "Nothing in the prompt speaks for one answer over another."


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def finisher(instructions: str) -> Callable[[Work, Tool], dict[str, Any]]:
    """Return what gives the arguments of the tool that ends an agent's work under these instructions.

    They are answered as the outputs of a task whose inputs are the request and what the tools gave.
    """

    def finish(work: Work, tool: Tool) -> dict[str, Any]:
        outputs = tuple(
            FieldSpec(name, str(loaded(schema).get("description", "")), shape_of_schema(loaded(schema)))
            for name, schema in tool.arguments
        )
        task = Task((), outputs, instructions, "json")
        inputs = {**work.inputs, "trajectory": "\n".join(results_text(work.calls))}
        answerer = Answerer(Prompt(work.request, task, (), tuple(inputs.items())), task)
        answerer.reading.calls = list(work.calls)
        return answerer.answers()

    return finish
