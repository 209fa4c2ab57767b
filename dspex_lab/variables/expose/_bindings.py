"""How an exposure holds its program: a DSPy program is written itself; of what cannot be written, another one is held."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from dspex_lab.errors import VariableError
from dspex_lab.variables._protocols import Knob
from dspex_lab.variables.expose._kept import Kept
from dspex_lab.variables.expose._modules import ModuleSlot
from dspex_lab.variables.expose._program import apply, copy_of
from dspex_lab.variables.expose._tools import TOOLS


class Builder(Protocol):
    """Makes programs that are not changed themselves, such as pipelines."""

    def __call__(self, program: Any, values: Mapping[str, Any], found: Sequence[Knob] | None = None) -> Any:
        """Return a program like ``program`` with these values, by path; ``program`` is left as it is."""
        ...

    def modules(self, program: Any) -> Sequence[Any]:
        """Return the DSPy modules in it, which a person may change in place."""
        ...


class Binding(Protocol):
    """A program whose knobs are known. Who calls :meth:`write` or :meth:`restore` sees to it that nobody runs it meanwhile."""

    @property
    def program(self) -> Any:
        """The program as it is now.

        Raises:
            VariableError: nobody has it any more.
        """
        ...

    @property
    def gone(self) -> bool:
        """Whether nobody has the program any more."""
        ...

    @property
    def anew(self) -> bool:
        """Whether :meth:`build` starts from what the program was at first, so that it needs all values."""
        ...

    def build(self, values: Mapping[str, Any], changed: Collection[str]) -> Any:
        """Return a program of its own with these values, by path.

        Args:
            values: of all knobs.
            changed: those that the program has not.
        """
        ...

    def write(self, values: Mapping[str, Any], changed: Collection[str]) -> bool:
        """Let the program have these values, all of them or, where it raises, none.

        Returns:
            Whether more than the knobs of ``changed`` may have another value now.
        """
        ...

    def restore(self) -> None:
        """Let it be what it was at first."""
        ...


class LiveProgram:
    """A DSPy program, which somebody else holds and which is written in place: its predictors stay the objects they are."""

    def __init__(self, program: Any, found: Sequence[Knob]) -> None:
        self._program, self._name = weakref.ref(program), type(program).__name__
        self._found = found
        self._kept = Kept(program)
        slots = [getattr(knob.write, "__self__", None) for knob in found]
        self._slots = [s for s in slots if isinstance(s, ModuleSlot)]
        #: What stood in each slot before anything was put there, and what was put there.
        self._before = {s.path: s.places[0].find(program, s.path) for s in self._slots if s.places[0].legs}
        self._put: dict[str, Any] = {}

    @property
    def program(self) -> Any:
        """The program.

        Raises:
            VariableError: nobody has it any more.
        """
        found = self._program()
        if found is None:
            raise VariableError(
                f"The {self._name} that was exposed is gone: nobody holds it any more.",
                hint="Keep the program in a variable, and expose it again.",
            )
        return found

    @property
    def gone(self) -> bool:
        """Whether nobody has the program any more."""
        return self._program() is None

    @property
    def anew(self) -> bool:
        """Whether a module stands where another one stood at first."""
        return bool(self._put)

    def _exchanged(self, program: Any) -> list[tuple[ModuleSlot, Any, Any]]:
        """Return the slots in which something else stands, with that and with what stood there before."""
        found: list[tuple[ModuleSlot, Any, Any]] = []
        for slot in self._slots:
            slot.read(program)  # says what is wrong where somebody put in what is no option
            now = slot.places[0].find(program, slot.path)
            if not slot.places[0].legs:
                if type(program) is self._put.get(slot.path):
                    found.append((slot, now, self._kept.stand_in(program)))
            elif now is self._put.get(slot.path):
                found.append((slot, now, self._before[slot.path]))
            else:
                self._before[slot.path] = now  # the one at first, or one that a person put there
        return found

    def build(self, values: Mapping[str, Any], changed: Collection[str]) -> Any:
        """Return a copy with these values; modules are exchanged from what stood there at first, so nothing wears off."""
        program = self.program
        exchanged = self._exchanged(program)
        instead = {id(now): before for _, now, before in exchanged}
        return apply(copy_of(program, instead), self._needed(values, changed, bool(exchanged)), self._found)

    def _needed(self, values: Mapping[str, Any], changed: Collection[str], anew: bool) -> Mapping[str, Any]:
        """Return what has to be written: all of it into what stood there at first, else what changed and what builds on it."""
        if anew:
            return values
        return {k.path: values[k.path] for k in self._found if k.path in values and (k.path in changed or k.rank == TOOLS)}

    def write(self, values: Mapping[str, Any], changed: Collection[str]) -> bool:
        """Write the values into the program; where that could fail on the way, after they went into a copy of it."""
        program = self.program
        exchanged = self._exchanged(program)
        needed = self._needed(values, changed, bool(exchanged))
        touched = [k for k in self._found if k.path in needed]
        more = bool(exchanged) or any(k.rank and k.path in changed for k in touched)
        if more:
            self.build(values, changed)
        else:
            for knob in touched:
                knob.read(program)
        for slot, _, before in exchanged:
            for place in slot.places:
                place.put(program, before)
        apply(program, needed, self._found)
        if more:
            self._note(program)
        return more

    def _note(self, program: Any) -> None:
        """Note what stands in the slots now that was not there at first."""
        self._put = {}
        for slot in self._slots:
            now = slot.places[0].find(program, slot.path)
            if not slot.places[0].legs:
                if type(now) is not self._kept.kind:
                    self._put[slot.path] = type(now)
            elif now is not self._before[slot.path]:
                self._put[slot.path] = now

    def restore(self) -> None:
        """Let the program be what it was, down to the very objects."""
        self._kept.restore(self.program)
        self._put = {}
        self._exchanged(self.program)


class HeldProgram:
    """A program that does not change: another one takes its place."""

    def __init__(self, program: Any, found: Sequence[Knob], builder: Builder) -> None:
        self._first, self._now, self._found, self._builder = program, program, found, builder
        self._kept = [(module, Kept(module)) for module in builder.modules(program)]

    @property
    def program(self) -> Any:
        """The one that has the values of now."""
        return self._now

    @property
    def gone(self) -> bool:
        """No: this holds it."""
        return False

    @property
    def anew(self) -> bool:
        """Yes."""
        return True

    def build(self, values: Mapping[str, Any], changed: Collection[str]) -> Any:
        """Return another one with these values."""
        return self._builder(self._first, values, self._found)

    def write(self, values: Mapping[str, Any], changed: Collection[str]) -> bool:
        """Hold another one with these values."""
        self._now = self.build(values, changed)
        return True

    def restore(self) -> None:
        """Hold the first one, and let the modules in it be what they were."""
        for module, kept in self._kept:
            kept.restore(module)
        self._now = self._first
