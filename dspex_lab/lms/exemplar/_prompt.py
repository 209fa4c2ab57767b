"""Reads the prompt of a DSPy adapter as a model would: the task, the demonstrations, the question.

Understood are the prompts of ChatAdapter, JSONAdapter, XMLAdapter, BAMLAdapter and TwoStepAdapter. Any other prompt is a
free text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

from dspex_lab.lms.exemplar._baml import shape_of_baml
from dspex_lab.lms.exemplar._reflection import writes_instructions
from dspex_lab.lms.exemplar._shapes import Shape, shape_of, shape_of_xml

_INPUTS, _OUTPUTS = "Your input fields are:\n", "Your output fields are:\n"
_STRUCTURE = "All interactions will be structured in the following way"
_OBJECTIVE = "In adhering to this structure, your objective is:"
_CONSTRAINTS = "\nConstraints: "
_NUMBERED = re.compile(r"^\d+\. `(\w+)` \((.*)", re.MULTILINE)
_NOTE = re.compile(r"# note: the value you produce (.*)", re.DOTALL)
#: A note goes on to the next field: a label may hold line breaks.
_NOTES = re.compile(r"\{(\w+)\}\s+# note: the value you produce (.*?)(?=\n\n\[\[ ## |\n</|\Z)", re.DOTALL)
_BAML = re.compile(
    r"^Output field `(\w+)` should be of type: (.*?)"
    r"(?=\n\n?\[\[ ## \w+ ## \]\]\nOutput field `|\n\n?\[\[ ## completed ## \]\])",
    re.DOTALL | re.MULTILINE,
)
_GIVEN, _MADE = "As input, you will be provided with:\n", "Your outputs must contain:\n"
_LAID_OUT = "You should lay out your outputs in detail so that your answer can be understood by another agent"
_SPECIFIC = "\nSpecific instructions: "
#: How the report on an earlier answer begins (see ``lms/calls/_feedback.py``), where no reminder of the form stands before it.
_REPORTS = ("An earlier answer to this was not accepted.\n", "Earlier answers to this were not accepted.\n")
#: The input in which ``dspy.Refine`` puts its advice.
_HINT = "hint_"
_PARTIAL = "This is an example of the task, though some input or output fields are not supplied."
_NOT_SUPPLIED = ("Not supplied for this particular example.", "Not supplied for this conversation history message.")
_REMINDERS = (
    "\n\nRespond with the corresponding output fields",
    "\n\nRespond with a JSON object in the following order of fields",
)
_REMINDER = "\n\nRespond with "
_REMINDED = tuple(reminder.lstrip() for reminder in _REMINDERS)
_HEADER = re.compile(r"^\[\[ ## (\w+) ## \]\][ \t]*", re.MULTILINE)


@dataclass(frozen=True)
class FieldSpec:
    """A field as the prompt defines it."""

    name: str
    description: str
    shape: Shape


@dataclass(frozen=True)
class Task:
    """What the system message says: the fields, the instructions, and the style the answer must have.

    ``style`` is ``"chat"``, ``"json"``, ``"xml"`` or ``"plain"`` (lines of ``name: value``). ``role`` says what sort of work it
    is: that of an ``"agent"`` (DSPy's ReAct), of one that ``"calls"`` tools, a reflection (see ``_reflection``), or ``""``.
    """

    inputs: tuple[FieldSpec, ...]
    outputs: tuple[FieldSpec, ...]
    instructions: str
    style: str
    role: str = ""


@dataclass(frozen=True)
class Demonstration:
    """An earlier turn: the inputs and the outputs it gives, as text; what it does not supply is left out."""

    inputs: dict[str, str]
    outputs: dict[str, Any]


@dataclass(frozen=True)
class Prompt:
    """A whole prompt. ``task`` is None for a free text, which then stands in ``text`` alone.

    ``feedback`` is what is said about earlier answers, after the question or as a hint. ``turns`` are the messages, for
    work that calls tools.
    """

    text: str
    task: Task | None
    demonstrations: tuple[Demonstration, ...] = ()
    inputs: tuple[tuple[str, str], ...] = ()
    feedback: str = ""
    turns: tuple[tuple[str, str], ...] = ()

    @property
    def question(self) -> dict[str, str]:
        """Return the inputs to answer, by field."""
        return dict(self.inputs)


def read_prompt(system: str, turns: Sequence[tuple[str, str]]) -> Prompt:
    """Read a prompt.

    Args:
        system: the system message; may be empty.
        turns: the other messages, each as role and text; the last user message is the question.
    """
    last = next((i for i in range(len(turns) - 1, -1, -1) if turns[i][0] == "user"), None)
    asked = turns[last][1] if last is not None else ""
    task = read_task(system) or read_plain_task(system)
    if task is None:
        return Prompt("\n\n".join(t for t in (system, asked) if t), None)
    told, feedback = split_feedback(asked)
    names = tuple([f.name for f in task.inputs])
    inputs = read_inputs(told, names, task.style) or {"text": told}
    if _HINT in inputs:
        feedback = "\n".join(filter(None, [inputs.pop(_HINT), feedback]))
    if task.role == "calls":
        return Prompt(asked, task, (), tuple(inputs.items()), feedback, tuple(turns))
    return Prompt(asked, task, _demonstrations(task, turns[:last]), tuple(inputs.items()), feedback)


def split_feedback(text: str) -> tuple[str, str]:
    """Return a user message without what was put after it about earlier answers, and that; empty where there is none."""
    if text.startswith(_REMINDED):
        text = f"\n\n{text}"
    at = text.rfind(_REMINDER)
    while at >= 0 and not text.startswith(_REMINDERS, at):
        at = text.rfind(_REMINDER, 0, at)
    if at >= 0:
        end = text.find("\n\n", at + 2)
        return (text, "") if end < 0 else (text[:end], text[end + 2 :])
    begin = min((i for i in (text.find(f"\n\n{report}") for report in _REPORTS) if i >= 0), default=-1)
    return (text, "") if begin < 0 else (text[:begin], text[begin + 2 :])


def _demonstrations(task: Task, turns: Sequence[tuple[str, str]]) -> tuple[Demonstration, ...]:
    names, wanted = tuple(f.name for f in task.inputs), tuple(f.name for f in task.outputs)
    found = []
    for (role, given), (next_role, answered) in pairwise(turns):
        if role == "user" and next_role == "assistant":
            inputs, outputs = read_inputs(given, names, task.style), read_outputs(answered, wanted, task.style)
            if inputs and outputs:
                found.append(Demonstration(inputs, outputs))
    return tuple(found)


@lru_cache(maxsize=256)
def read_task(system: str) -> Task | None:
    """Read a system message; None if no DSPy adapter wrote it."""
    start, middle, end = system.find(_INPUTS), system.find(_OUTPUTS), system.find(_STRUCTURE)
    if min(start, middle, end) < 0:
        return None
    structure, _, objective = system[end:].partition(_OBJECTIVE)
    style = _style_of(structure)
    notes = _json_notes(structure) if style == "json" else {m.group(1): m.group(2) for m in _NOTES.finditer(structure)}
    shapes = {m.group(1): shape_of_baml(m.group(2)) for m in _BAML.finditer(structure)}
    instructions = "\n".join(line.removeprefix(" " * 8) for line in objective.strip("\n").splitlines()).strip()
    inputs = _fields(system[start + len(_INPUTS) : middle], {})
    outputs = _fields(system[middle + len(_OUTPUTS) : end], notes)
    if style == "xml":
        outputs = tuple(_nested(f, structure) for f in outputs)
    elif shapes:
        outputs = tuple(_typed(f, shapes.get(f.name)) for f in outputs)
    return Task(inputs, outputs, instructions, style, _role(inputs, outputs))


@lru_cache(maxsize=64)
def read_plain_task(system: str) -> Task | None:
    """Read the first of TwoStepAdapter's system messages, which asks for no form; None if it is none."""
    start, middle, end = system.find(_GIVEN), system.find(_MADE), system.find(_LAID_OUT)
    if min(start, middle, end) < 0 or not start < middle < end:
        return None
    inputs = _fields(system[start + len(_GIVEN) : middle], {})
    outputs = _fields(system[middle + len(_MADE) : end], {})
    instructions = system[end + len(_LAID_OUT) :].removeprefix(_SPECIFIC).strip()
    return Task(inputs, outputs, instructions, "plain", _role(inputs, outputs))


def _role(inputs: Sequence[FieldSpec], outputs: Sequence[FieldSpec]) -> str:
    names = [f.name for f in outputs]
    if "next_tool_name" in names and "next_tool_args" in names:
        return "agent"
    if any(f.shape.kind == "calls" for f in outputs):
        return "calls"
    return writes_instructions([f.name for f in inputs], names) or ""


def _typed(field: FieldSpec, shape: Shape | None) -> FieldSpec:
    """Return a field with the shape that BAML's type says, where its annotation is only the name of a class."""
    if shape is None or field.shape.kind not in ("str", "list", "object"):
        return field
    return replace(field, shape=replace(shape, nullable=shape.nullable or field.shape.nullable))


def _style_of(structure: str) -> str:
    if "Outputs will be a JSON object" in structure or "\nOutput field `" in structure:
        return "json"
    return "chat" if _HEADER.search(structure) else "xml"


def _json_notes(structure: str) -> dict[str, str]:
    opening = structure.rfind("\n{")
    try:
        fields = json.JSONDecoder().raw_decode(structure[opening + 1 :])[0] if opening >= 0 else {}
    except ValueError:
        return {}
    found = {name: _NOTE.search(text) for name, text in fields.items() if isinstance(text, str)}
    return {name: match.group(1) for name, match in found.items() if match}


def _fields(section: str, notes: dict[str, str]) -> tuple[FieldSpec, ...]:
    heads = list(_NUMBERED.finditer(section))
    found = []
    for head, following in zip(heads, [*heads[1:], None], strict=False):
        body = section[head.start(2) : following.start() if following else len(section)].strip()
        annotation, rest = _split_annotation(body)
        description, _, constraints = rest.partition(_CONSTRAINTS)
        description = description.strip()
        name = head.group(1)
        shape = shape_of(annotation, notes.get(name, ""), constraints.strip(), description)
        found.append(FieldSpec(name, description, shape))
    return tuple(found)


def _nested(field: FieldSpec, structure: str) -> FieldSpec:
    """Return a field of an XML prompt with the shape of its nested structure, where its type's name alone says nothing."""
    item = field.shape.item if field.shape.kind == "list" else field.shape
    shown = re.search(rf"^<{field.name}>(<.*>)</{field.name}>$", structure, re.MULTILINE)
    if shown is None or item is None or item.kind != "str":
        return field
    return FieldSpec(field.name, field.description, shape_of_xml(shown.group(1)))


def _split_annotation(body: str) -> tuple[str, str]:
    """Split ``type): description`` where the type ends, which may itself hold parentheses and colons."""
    for match in re.finditer(r"\):(?=\s|$)", body):
        annotation = body[: match.start()]
        if annotation.count("(") <= annotation.count(")") and annotation.count("[") <= annotation.count("]"):
            return annotation, body[match.end() :]
    return "", body


@lru_cache(maxsize=8192)
def _read_inputs(text: str, names: tuple[str, ...], style: str) -> tuple[tuple[str, str], ...]:
    text = text.removeprefix(_PARTIAL).strip()
    for reminder in _REMINDERS:
        at = text.rfind(reminder)
        if at >= 0:
            text = text[:at]
    return tuple(_sections(text, names, style).items())


def read_inputs(text: str, names: tuple[str, ...], style: str) -> dict[str, str]:
    """Return the input fields that a user message gives, by name."""
    return dict(_read_inputs(text, names, style))


def asked_inputs(turns: Sequence[tuple[str, str]], task: Task) -> dict[str, str]:
    """Return the inputs that a conversation about one request gives, later ones in the place of earlier ones."""
    names = tuple(f.name for f in task.inputs)
    found: dict[str, str] = {}
    for role, text in turns:
        if role == "user":
            found.update(read_inputs(split_feedback(text)[0], names, task.style))
    return found


@lru_cache(maxsize=8192)
def _read_outputs(text: str, names: tuple[str, ...], style: str) -> tuple[tuple[str, Any], ...]:
    if style == "json":
        try:
            loaded = json.loads(text)
        except ValueError:
            return ()
        found = {name: loaded[name] for name in names if name in loaded} if isinstance(loaded, dict) else {}
    else:
        found = _sections(text, names, style)
    return tuple(
        (name, value) for name, value in found.items() if not (isinstance(value, str) and value.strip() in _NOT_SUPPLIED)
    )


def read_outputs(text: str, names: tuple[str, ...], style: str) -> dict[str, Any]:
    """Return the output fields that an assistant message supplies, by name; JSON keeps its types."""
    return dict(_read_outputs(text, names, style))


def _sections(text: str, names: tuple[str, ...], style: str) -> dict[str, str]:
    if style == "xml":
        found = {n: re.search(rf"<{n}>(.*?)</{n}>", text, re.DOTALL) for n in names}
        return {name: _unescape(match.group(1).strip()) for name, match in found.items() if match}
    if style == "plain":
        heads = list(re.finditer(rf"^({'|'.join(map(re.escape, names))}): ?", text, re.MULTILINE)) if names else []
        ends = [head.start() for head in heads[1:]] + [len(text)]
        plain = {h.group(1): text[h.end() : end].strip() for h, end in reversed(list(zip(heads, ends, strict=True)))}
        return {name: plain[name] for name in names if name in plain}
    sections: dict[str, str] = {}
    # Only the headers of this task's fields count, each once and in order: a message may hold text that looks like one.
    marks: list[tuple[str, int, int]] = []
    for match in _HEADER.finditer(text):
        name = match.group(1)
        if (name in names or name == "completed") and all(name != seen for seen, _, _ in marks):
            marks.append((name, match.start(), match.end()))
    for (name, _, begin), following in zip(marks, [*marks[1:], None], strict=False):
        if name != "completed":
            sections[name] = text[begin : following[1] if following else len(text)].strip()
    return sections


def _unescape(text: str) -> str:
    return text.replace("&lt;", "<").replace("&amp;", "&")
