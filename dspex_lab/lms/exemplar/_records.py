"""Examples of a task as optimizers show them to a model that writes instructions: inputs, right outputs, feedback.

Understood are the examples with feedback of GEPA (JSON or Markdown), a row's ``repr`` (MIPROv2's summary of the data),
the demonstrations of MIPROv2's proposer, those of ``InferRules``, the trajectories of SIMBA and ``dspy.Refine``, and
examples that stand in an instruction, as pairs of lines (``Input: …`` / ``Output: …``) or with an arrow.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dspex_lab.lms.exemplar._verdict import right_value

_MARKDOWN = re.compile(r"^# Example \d+\s*$", re.MULTILINE)
_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_MEMBER = re.compile(r"^### (.+)$", re.MULTILINE)
_ROW = re.compile(r"Example\((\{.*?\})\) \(input_keys=(\{.*?\}|set\(\)|None)\)(?=,? ?(?:Example\(|\]|\Z))", re.DOTALL)
_RULES = re.compile(r"Input Fields:\n(.*?)\n\n=========\nOutput Fields:\n(.*?)(?=\n\nInput Fields:\n|\n*\Z)", re.DOTALL)
_KEYED = re.compile(r"^[\s*•-]*([A-Za-z][\w ]{0,30}):[ \t]+(.+)$")
_ARROW = re.compile(r"^[\s*•-]*[\"'“«]?(.{3,300}?)[\"'”»]?\s*(?:->|=>|→)\s*[\"'`]?([^\"'`]{1,60}?)[\"'`]?[.;]?\s*$")
#: The names under which examples hold their parts, in lower case.
_INPUTS, _OUTPUTS, _FEEDBACK = ("inputs", "input"), ("generated outputs", "outputs", "output"), ("feedback",)


@dataclass(frozen=True)
class Record:
    """An example: its inputs, the outputs known to be right, those that were given, and what was said about them."""

    inputs: dict[str, str]
    right: dict[str, str]
    given: dict[str, str]
    feedback: str = ""

    @property
    def text(self) -> str:
        """The inputs as one text."""
        return "\n".join(self.inputs.values())

    @property
    def failed(self) -> bool:
        """Whether an answer was given that is known to be wrong, or not known to be right."""
        return bool(self.given) and any(self.right.get(name) != value for name, value in self.given.items())


def reflective_records(text: str) -> list[Record]:
    """Return the examples with feedback that GEPA shows, as JSON or as Markdown."""
    try:
        loaded = json.loads(text)
    except (ValueError, RecursionError):
        loaded = list(_markdown(text))
    rows = [row for row in loaded if isinstance(row, dict)] if isinstance(loaded, list) else []
    raw = [(_texts(_part(r, _INPUTS)), _texts(_part(r, _OUTPUTS)), str(_part(r, _FEEDBACK) or "")) for r in rows]
    known = Counter(value for _, outputs, _ in raw for value in outputs.values())
    records = []
    for inputs, outputs, feedback in raw:
        right = {}
        for name, value in outputs.items():
            found = right_value(feedback, name, value, tuple(outputs), tuple(known))
            if found is not None:
                right[name] = found
        records.append(Record(inputs, right, outputs, feedback))
    return [r for r in records if r.inputs]


def _part(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((value for name, value in row.items() if name.strip().lower() in names), None)


def _texts(value: Any) -> dict[str, str]:
    if isinstance(value, dict):
        return {
            str(k): v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for k, v in value.items() if v is not None
        }
    return {}


def _markdown(text: str) -> Iterator[dict[str, Any]]:
    for block in _MARKDOWN.split(text)[1:]:
        row: dict[str, Any] = {}
        for name, body in _split(_SECTION, block):
            members = dict(_split(_MEMBER, body))
            row[name] = members or body
        yield row


def _split(pattern: re.Pattern[str], text: str) -> Iterator[tuple[str, str]]:
    heads = list(pattern.finditer(text))
    for i, head in enumerate(heads):
        end = heads[i + 1].start() if i + 1 < len(heads) else len(text)
        yield head.group(1).strip(), text[head.end() : end].strip()


def row_records(text: str) -> list[Record]:
    """Return the rows whose ``repr`` is shown: plain values only, others are left out."""
    found = []
    for match in _ROW.finditer(text):
        values, keys = _literal(match.group(1)), _literal(match.group(2))
        if isinstance(values, dict):
            inputs = set(keys) if isinstance(keys, set | list | tuple | dict) else set(list(values)[:-1])
            texts = _texts(values)
            found.append(
                Record({k: v for k, v in texts.items() if k in inputs}, {k: v for k, v in texts.items() if k not in inputs}, {})
            )
    return [r for r in found if r.inputs and r.right]


def _literal(source: str) -> Any:
    if len(source) > 50_000:
        return None
    try:
        return ast.literal_eval(source)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def rule_records(text: str) -> list[Record]:
    """Return the examples from which ``InferRules`` has rules induced."""
    found = [Record(dict(_lines(given)), dict(_lines(said)), {}) for given, said in _RULES.findall(text)]
    return [r for r in found if r.inputs and r.right]


def _lines(text: str) -> Iterable[tuple[str, str]]:
    current: tuple[str, list[str]] | None = None
    for line in text.splitlines():
        name, colon, value = line.partition(": ")
        if colon and re.fullmatch(r"\w+", name):
            if current:
                yield current[0], "\n".join(current[1])
            current = name, [value]
        elif current:
            current[1].append(line)
    if current:
        yield current[0], "\n".join(current[1])


def told_records(text: str, outputs: Sequence[str] = ()) -> list[Record]:
    """Return the examples that stand in a text: pairs of lines with names that come again, or with an arrow.

    Args:
        outputs: names of the fields that are outputs; the last of each example where none is given.
    """
    wanted = {_plain(name) for name in outputs}
    found: list[Record] = []
    current: dict[str, str] = {}
    keyed = [(m.group(1).strip(), m.group(2).strip()) if (m := _KEYED.match(line)) else None for line in text.splitlines()]
    often = Counter(one[0] for one in keyed if one)
    repeated = [name for name, count in often.items() if count > 1 or wanted]
    for one, line in zip(keyed, text.splitlines(), strict=True):
        if one is None or one[0] not in repeated:
            if arrow := _ARROW.match(line):
                found.append(Record({"input": arrow.group(1)}, {"output": arrow.group(2).strip()}, {}))
            continue
        if one[0] in current:
            found += _record(current, wanted)
            current = {}
        current[one[0]] = one[1].strip("\"'“”")
    return found + _record(current, wanted)


def without_told(text: str) -> str:
    """Return ``text`` without the examples that stand in it."""
    keyed = [(line, m.group(1).strip() if (m := _KEYED.match(line)) else None) for line in text.splitlines()]
    often = Counter(name for _, name in keyed if name)
    kept = [line for line, name in keyed if not _ARROW.match(line) and (name is None or often[name] < 2)]
    return "\n".join(kept).strip()


def _plain(name: str) -> str:
    return "".join(name.lower().replace("_", " ").split())


def _record(fields: Mapping[str, str], wanted: set[str]) -> list[Record]:
    outputs = {k for k in fields if _plain(k) in wanted} or set(list(fields)[-1:])
    inputs = {k: v for k, v in fields.items() if k not in outputs}
    return [Record(inputs, {k: fields[k] for k in fields if k in outputs}, {})] if inputs and outputs else []


def trial_records(inputs: Mapping[str, str]) -> list[Record]:
    """Return the example on which SIMBA or ``dspy.Refine`` reports: right is what the data say, else the better outputs."""
    given = _texts(_object(inputs.get("program_inputs", "")))
    labels = _texts(_object(inputs.get("oracle_metadata", "")))
    worse = _texts(_object(inputs.get("worse_program_outputs", inputs.get("program_outputs", ""))))
    better = _texts(_object(inputs.get("better_program_outputs", "")))
    if not labels and _number(inputs.get("better_reward_value")) > _number(inputs.get("worse_reward_value")):
        labels = better
    return [Record(given, labels, worse)] if given and labels else []


def _object(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {}


def _number(text: str | None) -> float:
    try:
        return float(text or 0.0)
    except ValueError:
        return 0.0
