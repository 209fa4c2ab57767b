"""What must hold of several values together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dspex_lab.errors import ConstraintError, VariableError
from dspex_lab.variables._formula import Formula
from dspex_lab.variables.domains._base import shown


@dataclass(frozen=True, slots=True)
class Constraint:
    """A condition over several variables that every commit has to meet.

    It counts where all variables that it reads count.

    Args:
        name: its own.
        formula: what says whether it holds.
    """

    name: str
    formula: Formula

    @property
    def reads(self) -> tuple[str, ...]:
        """The variables that it reads."""
        return self.formula.reads

    def check(self, values: Mapping[str, Any]) -> None:
        """Return if it holds.

        Raises:
            ConstraintError: it does not, or nobody can tell; with the values it reads.
        """
        read = ", ".join(f"{name} = {shown(values[name])}" for name in self.reads)
        try:
            holds = bool(self.formula(values))
        except Exception as error:  # a function is the user's, and may raise anything
            reason = str(error) if isinstance(error, VariableError) else f"{type(error).__name__}: {error}"
            raise ConstraintError(
                f"Nobody can tell whether the constraint {self.name!r} holds of {read}: {reason}",
                name=self.reads[0] if self.reads else None,
                constraint=self.name,
            ) from error
        if not holds:
            text = "" if self.formula.text == self.name or self.formula.source is not None else f" ({self.formula.text})"
            raise ConstraintError(
                f"The constraint {self.name!r}{text} does not hold: {read}.",
                name=self.reads[0] if self.reads else None,
                constraint=self.name,
                hint="Change them in one commit so that it does.",
            )


class Constraints:
    """Constraints by name, and by the variables that they read."""

    def __init__(self) -> None:
        self._by_name: dict[str, Constraint] = {}
        self._readers: dict[str, dict[str, None]] = {}

    def copy(self) -> Constraints:
        """Return one of its own."""
        made = Constraints()
        for constraint in self:
            made.put(constraint)
        return made

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[Constraint]:
        return iter(tuple(self._by_name.values()))

    def __len__(self) -> int:
        return len(self._by_name)

    def put(self, constraint: Constraint) -> None:
        """Keep it, in place of an earlier one of that name."""
        self.remove(constraint.name)
        self._by_name[constraint.name] = constraint
        for name in constraint.reads:
            self._readers.setdefault(name, {})[constraint.name] = None

    def remove(self, name: str) -> None:
        """Forget one."""
        found = self._by_name.pop(name, None)
        for read in found.reads if found else ():
            readers = self._readers[read]
            readers.pop(name, None)
            if not readers:
                del self._readers[read]

    def of(self, names: Collection[str]) -> Iterable[Constraint]:
        """Return those that read one of ``names``, each once."""
        touched: dict[str, None] = {}
        for name in names if len(names) <= len(self._readers) else [name for name in self._readers if name in names]:
            touched.update(self._readers.get(name, ()))
        return [self._by_name[name] for name in touched]
