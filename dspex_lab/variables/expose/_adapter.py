"""The knob of a whole program: by which adapter all its predictors ask."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dspex_lab.variables._protocols import Knob
from dspex_lab.variables.domains import AdapterChoice
from dspex_lab.variables.expose._values import UNSET

#: The name of the adapter of the settings in force.
IN_USE = "in use"
#: The ways into a module that an adapter stands around.
_WAYS = ("forward", "aforward")


class Adapted:
    """A program's ``forward`` (or ``aforward``) with an adapter around it; copies of the program get copies of it.

    DSPy keeps adapters in its settings alone, so a program that is to bring its own has to enter them.

    Args:
        program: whose it is.
        way: ``"forward"`` or ``"aforward"``.
        name: the adapter's, as the knob has it.
        before: what stood in the program's attributes under ``way``; None where the class's own is used.
    """

    def __init__(self, program: Any, way: str, name: str, adapter: Any, before: Any) -> None:
        self.program, self.way, self.name, self.adapter, self.before = program, way, name, adapter, before

    def __call__(self, *args: Any, **fields: Any) -> Any:
        if self.way == "aforward":
            return self._later(*args, **fields)
        import dspy

        with dspy.context(adapter=self.adapter):
            return self._inner()(*args, **fields)

    async def _later(self, *args: Any, **fields: Any) -> Any:
        import dspy

        with dspy.context(adapter=self.adapter):
            return await self._inner()(*args, **fields)

    def _inner(self) -> Any:
        if self.before is not None:
            return self.before
        # Looked up on the class: DSPy warns where `forward` is looked up on a module.
        return getattr(type(self.program), self.way).__get__(self.program)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._inner())


def replaced(around: Adapted, before: Any) -> Adapted:
    """Return the same adapter around another ``forward``."""
    return Adapted(around.program, around.way, around.name, around.adapter, before)


@dataclass(frozen=True, slots=True)
class ProgramAdapter:
    """By which adapter a program asks."""

    choice: AdapterChoice
    path: str = "adapter"

    def own(self, program: Any) -> Any:
        """Return the name of the program's adapter, ``UNSET`` where that of the settings holds."""
        found = adapter_of(program)
        return UNSET if found is None else found

    def read(self, program: Any) -> Any:
        """Return the name of the adapter."""
        found = self.own(program)
        return IN_USE if found is UNSET else found

    def write(self, program: Any, value: Any) -> None:
        """Let the program ask by the adapter of that name."""
        for way in _WAYS:
            held = vars(program).get(way)
            before = held.before if isinstance(held, Adapted) else held
            if value == IN_USE:
                if before is None:
                    vars(program).pop(way, None)
                else:
                    vars(program)[way] = before
            elif hasattr(type(program), way) or before is not None:
                vars(program)[way] = Adapted(program, way, value, self.choice.adapter(value), before)


def adapter_of(program: Any) -> str | None:
    """Return the name of the adapter that a program brings, None where it brings none."""
    found = vars(program).get("forward")
    return found.name if isinstance(found, Adapted) else None


def adapter_knob(program: Any, adapters: Mapping[str, Any]) -> Knob:
    """Return the knob for the adapter of a module; ``adapters`` are further ones by name."""
    names: dict[str, Any] = {IN_USE: None, **dict.fromkeys(("chat", "json", "xml")), **adapters}
    own = vars(program).get("forward")
    if isinstance(own, Adapted):
        names.setdefault(own.name, own.adapter)
    setting = ProgramAdapter(AdapterChoice(names))
    note = "how signatures become prompts, in the whole program"
    owned = setting.own(program) is not UNSET
    return Knob(setting.path, setting.choice, setting.read, setting.write, owned, note, own=setting.own, rank=3)
