"""Knobs of agents: which of their tools they may use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from dspex_lab.variables._protocols import Knob
from dspex_lab.variables.domains import Bool
from dspex_lab.variables.expose._places import Place
from dspex_lab.variables.expose._walk import Part

#: The rank of switches of tools: they are written after the instructions, in which tools are listed.
TOOLS = 1

#: Tools that an agent ends with; it cannot do without them.
_LAST = ("finish", "submit")


@dataclass(frozen=True, slots=True)
class ToolSwitch:
    """Whether an agent may use a tool.

    Args:
        tool: the tool itself, which an agent that may not use it does not hold; copies share it.
        order: the names of all its tools.
        line: what its instructions say of the tool; None where they have no line for it.
    """

    path: str
    place: Place
    name: str
    tool: Any
    order: tuple[str, ...]
    line: str | None

    def find(self, program: Any) -> Any:
        """Return the agent.

        Raises:
            VariableError: there is none any more.
        """
        found = self.place.find(program, self.path)
        if not isinstance(getattr(found, "tools", None), dict) or not hasattr(found, "react"):
            raise self.place.vanished(self.path, found)
        return found

    def read(self, program: Any) -> bool:
        """Say whether it may."""
        return self.name in self.find(program).tools

    def write(self, program: Any, value: bool) -> None:
        """Let the agent have it or not: in its tools, in the names it chooses from, and in the list in its instructions."""
        agent = self.find(program)
        if (self.name in agent.tools) is value and not (self._listed_in(agent) and not value):
            return
        held = {**agent.tools, self.name: self.tool}
        agent.tools = {n: held[n] for n in self._sorted(held) if n != self.name or value}
        signature = agent.react.signature
        if self.line is not None:
            signature = signature.with_instructions(self._listed(signature.instructions, value))
        if "next_tool_name" in signature.fields:
            names = Literal[tuple(agent.tools)]  # type: ignore[valid-type]
            signature = signature.with_updated_fields("next_tool_name", type_=names)
        agent.react.signature = signature

    def _listed_in(self, agent: Any) -> bool:
        return self.line is not None and self.line in agent.react.signature.instructions.split("\n")

    def _sorted(self, held: Any) -> list[str]:
        rest = [n for n in held if n not in self.order]
        return [*(n for n in self.order if n in held and n not in _LAST), *rest, *(n for n in _LAST if n in held)]

    def _listed(self, text: str, value: bool) -> str:
        """Return instructions with the tool's line where ``value``, else without; a list that was rewritten stays."""
        lines = text.split("\n")
        if not value:
            return "\n".join(line for line in lines if line != self.line)
        if self.line in lines:
            return text
        number = int(self.line[1 : self.line.index(")")])  # type: ignore[index, union-attr]
        places = [i for i, line in enumerate(lines) if _number(line) is not None]
        if not places:
            return text
        after = next((i for i in places if _number(lines[i]) > number), places[-1] + 1)  # type: ignore[operator]
        return "\n".join([*lines[:after], str(self.line), *lines[after:]])


def _number(line: str) -> int | None:
    head, bracket, _ = line.partition(") ")
    return int(head[1:]) if bracket and head.startswith("(") and head[1:].isdigit() else None


def tool_knobs(part: Part) -> Iterator[Knob]:
    """Return a switch for each tool of a ReAct or ReActV2, but not for the tool that ends its work."""
    import dspy

    if not isinstance(part.value, dspy.ReAct | dspy.ReActV2) or not hasattr(part.value, "react"):
        return
    tools = part.value.tools
    start = f"{part.place.name}." if part.place.legs else ""
    lines = part.value.react.signature.instructions.split("\n")
    for name, tool in tools.items():
        if name in _LAST:
            continue
        line = next((li for li in lines if _number(li) is not None and li.partition(") ")[2] == str(tool)), None)
        switch = ToolSwitch(f"{start}tools.{name}", part.place, name, tool, tuple(tools), line)
        note = f"whether the tool {name!r} may be used"
        yield Knob(switch.path, Bool(), switch.read, switch.write, True, note, part.frozen, rank=TOOLS)
