"""What an agent has done so far: its calls and what came of them, from DSPy's trajectory or from a conversation."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_CHAT = re.compile(r"^\[\[ ## (thought|tool_name|tool_args|observation)_(\d{1,4}) ## \]\][ \t]*", re.MULTILINE)
_XML = re.compile(r"<(thought|tool_name|tool_args|observation)_(\d{1,4})>\n?(.*?)\n?</\1_\2>", re.DOTALL)
_EMPTY = re.compile(
    r"\A\W*(?:none|null|nan|n/a|\[\]|\{\}|nothing(?: (?:was )?found)?|unknown"
    r"|no (?:results?|match(?:es)?|such|entry|entries|rows?|data)\b.*"
    r"|.{0,60}\bnot (?:found|available|known|exist)\b.*)?\W*\Z",
    re.IGNORECASE | re.DOTALL,
)
_FAILED = re.compile(r"\A(?:Execution error in|Unknown tool\b|Traceback|Error\b|Error:|error:)")


@dataclass(frozen=True)
class Call:
    """A call of a tool and its result; ``failed`` where it raised or found nothing."""

    name: str
    arguments: dict[str, Any]
    result: str
    failed: bool

    @property
    def said(self) -> str:
        """The values it was called with."""
        return " ".join(str(v) for v in self.arguments.values())


def call_of(name: str, arguments: Any, result: str, error: bool = False) -> Call:
    """Return a call; whether it failed is read off its result."""
    given = arguments if isinstance(arguments, dict) else _object(str(arguments))
    return Call(name, given, result, error or bool(_FAILED.match(result)) or (len(result) < 200 and bool(_EMPTY.match(result))))


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def read_trajectory(text: str) -> list[Call]:
    """Return the calls that a trajectory of ``dspy.ReAct`` tells of, those that end it left out."""
    steps: dict[int, dict[str, str]] = {}
    heads = list(_CHAT.finditer(text))
    for i, head in enumerate(heads):
        end = heads[i + 1].start() if i + 1 < len(heads) else len(text)
        steps.setdefault(int(head.group(2)), {}).setdefault(head.group(1), text[head.end() : end].strip())
    if not heads:
        for match in _XML.finditer(text):
            steps.setdefault(int(match.group(2)), {})[match.group(1)] = match.group(3).strip()
    return [
        call_of(step["tool_name"], step.get("tool_args", "{}"), step["observation"])
        for _, step in sorted(steps.items())
        if "tool_name" in step and "observation" in step and step["tool_name"] != "finish"
    ]


def read_results(text: str) -> list[tuple[str, str, bool]]:
    """Return name, result and whether it is an error for each result in a text that ``dspy.ReActV2`` made of a call."""
    marker = "[[ ## tool_call_results ## ]]"
    body = text.partition(marker)[2] if marker in text else text
    found = _object(body.replace("</tool_call_results>", "").replace("<tool_call_results>", "").strip())
    listed = found.get("tool_call_results")
    results = []
    for one in listed if isinstance(listed, list) else []:
        if isinstance(one, dict) and "value" in one:
            value = one["value"]
            said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            results.append((str(one.get("name", "")), said, bool(one.get("is_error"))))
    return results


def results_text(calls: Sequence[Call]) -> list[str]:
    """Return what the successful calls gave."""
    return [c.result for c in calls if not c.failed]
