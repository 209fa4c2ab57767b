"""The values of a space, their versions, and what a commit would make of them. Pure: it knows no lock, clock or journal.

A plan says everything that a commit changes before anything is changed: what is written, what is derived from that (in
topological order), which variables come to count or cease to, and that all constraints hold. :meth:`Values.apply` makes it so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dspex_lab.errors import VariableError, VersionConflict
from dspex_lab.variables._constraints import Constraints
from dspex_lab.variables._entry import Cell, Entry
from dspex_lab.variables._formula import unknown
from dspex_lab.variables._frozen import Frozen
from dspex_lab.variables._graph import Graph
from dspex_lab.variables._protocols import Author, Change, Commit, Snapshot

Expected = Mapping[str, int] | int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a commit would do: ``commit`` for people, ``cells`` for :meth:`Values.apply`, ``touched`` for constraints."""

    commit: Commit
    cells: Mapping[str, Cell]
    touched: Mapping[str, Any]


class _Seen(Mapping[str, Any]):
    """The values as they would be."""

    def __init__(self, cells: Mapping[str, Cell], new: Mapping[str, Cell]) -> None:
        self._cells, self._new = cells, new

    def __getitem__(self, name: str) -> Any:
        return (self._new.get(name) or self._cells[name]).value

    def __iter__(self) -> Iterator[str]:
        return iter(self._cells)

    def __len__(self) -> int:
        return len(self._cells)


@dataclass
class Values:
    """Variables and their values at one version of the space."""

    version: int = 0
    entries: dict[str, Entry] = field(default_factory=dict)
    cells: dict[str, Cell] = field(default_factory=dict)
    graph: Graph = field(default_factory=Graph)
    constraints: Constraints = field(default_factory=Constraints)

    # ---- what is there ----------------------------------------------------------------------------------------------

    def entry(self, name: str) -> Entry:
        """Return a variable.

        Raises:
            VariableError: there is none of that name; the message says which may be meant.
        """
        found = self.entries.get(name)
        if found is None:
            raise unknown(name, self.entries, f"There is no variable {name!r}.")
        return found

    def snapshot(self, plan: Plan | None = None) -> Snapshot:
        """Return the values that count, as they are or as a plan would make them."""
        cells = self.cells if plan is None else {**self.cells, **plan.cells}
        active = {name: cell for name, cell in cells.items() if cell.active}
        return Snapshot(
            self.version if plan is None else plan.commit.version,
            Frozen({name: cell.value for name, cell in active.items()}),
            Frozen({name: cell.version for name, cell in active.items()}),
        )

    def then(self, version: int, found: Mapping[str, tuple[Any, int]]) -> Snapshot:
        """Return the snapshot of values of another time, by today's conditions."""
        cells = {name: Cell(value, since) for name, (value, since) in found.items()}
        for name in self.graph.after(cells):
            if name in cells and any(read not in cells for read in self.entries[name].reads):
                cells[name] = replace(cells[name], active=False)
            elif name in cells:
                cells[name] = replace(cells[name], active=self._counts(self.entries[name], cells, {}))
        active = {name: cells[name] for name in found if cells[name].active}
        values = Frozen({name: cell.value for name, cell in active.items()})
        return Snapshot(version, values, Frozen({name: cell.version for name, cell in active.items()}))

    # ---- what may be written ----------------------------------------------------------------------------------------

    def plan(
        self,
        values: Mapping[str, Any],
        *,
        author: Author,
        time: float = 0.0,
        expect: Expected = None,
        fence: int | None = None,
        undone: int | None = None,
    ) -> Plan:
        """Return what committing ``values`` would do; nothing is changed yet.

        Raises:
            VersionConflict: something was written since ``expect``.
            ConstraintError: a constraint would not hold.
            VariableError: no such variable, or it is derived or pinned, or cannot take the value.
        """
        if not isinstance(values, Mapping):
            raise VariableError(f"Values come as a dict from names, found {type(values).__name__}.")
        for name in values:
            if self.entry(name).derive is not None:
                raise VariableError(
                    f"Variable {name!r} is derived ({self.entries[name].derive.text}) and cannot be set.",  # type: ignore[union-attr]
                    name=name,
                    hint=f"Set what it reads: {', '.join(self.entries[name].derive.reads)}.",  # type: ignore[union-attr]
                )
        self.expect(expect)
        written = {}
        for name, value in values.items():
            entry = self.entries[name]
            cast = entry.domain.cast(value, name)
            if entry.domain.equal(cast, self.cells[name].value):
                continue
            if entry.pinned:
                raise _pinned(name)
            written[name] = cast
        plan = self._propagate(written, (), Commit(self.version + 1, time, {}, author, fence, undone))
        self._constrain(plan.touched, plan.cells)
        return plan

    def expect(self, expect: Expected) -> None:
        """Return if nothing was written since.

        Args:
            expect: the version at which the space was read, or those at which variables got the values that were read.

        Raises:
            VersionConflict: something was.
        """
        if expect is None:
            return
        if isinstance(expect, Mapping):
            for name, version in expect.items():
                self.entry(name)
                if (now := self.cells[name].version) != version:
                    raise VersionConflict(
                        f"Variable {name!r} is at version {now} and no longer at {version}: somebody else has written it.",
                        name=name,
                        expected=version,
                        actual=now,
                        hint="Read it again and decide anew.",
                    )
        elif isinstance(expect, bool) or not isinstance(expect, int):
            raise VariableError(f"expect={expect!r} is no version.", hint="Give space.version, or {name: variable.version}.")
        elif expect != self.version:
            raise VersionConflict(
                f"The space is at version {self.version} and no longer at {expect}: somebody else has written to it.",
                expected=expect,
                actual=self.version,
                hint="Read it again and decide anew.",
            )

    def define(self, entry: Entry) -> Callable[[], None]:
        """Put a variable, in place of one of that name, and return what takes this back; its value is not planned yet.

        Raises:
            VariableError: it would come to read itself.
        """
        name, old, cell, reads = (
            entry.name,
            self.entries.get(entry.name),
            self.cells.get(entry.name),
            self.graph.reads(entry.name),
        )
        self.graph.put(name, entry.reads)
        self.entries[name] = entry

        def undo() -> None:
            self.graph.put(name, reads)
            if old is None:
                del self.entries[name]
                self.cells.pop(name, None)
            else:
                self.entries[name] = old
            if cell is not None:
                self.cells[name] = cell

        return undo

    def plan_defined(self, defined: Mapping[str, Entry | None], *, author: Author, time: float) -> Plan:
        """Return what giving newly defined variables their values would do: what each had, if it still may, else its default.

        Constraints may be broken by it, as several definitions may have to change before they hold again; commits may not.

        Args:
            defined: names, and what each was before; None for one that is new.

        Raises:
            VariableError: as :meth:`plan` does.
        """
        written: dict[str, Any] = {}
        for name, before in defined.items():
            entry, cell = self.entries[name], self.cells.get(name)
            if entry.derive is not None:
                continue
            if cell is None or before is None:
                written[name] = entry.default
                continue
            value = _carried(entry, cell, before)
            if type(value) is type(cell.value) and entry.domain.equal(value, cell.value):
                continue
            if entry.pinned:
                raise _pinned(name)
            written[name] = value
        return self._propagate(written, defined, Commit(self.version + 1, time, {}, author))

    def check_all(self, plan: Plan) -> None:
        """Return if all constraints would hold, also those that the plan does not touch.

        Raises:
            ConstraintError: one would not.
        """
        self._constrain(None, plan.cells)

    def copy(self) -> Values:
        """Return one that can be planned with while this one changes."""
        return Values(self.version, dict(self.entries), dict(self.cells), self.graph.copy(), self.constraints.copy())

    def apply(self, plan: Plan) -> None:
        """Make the plan true."""
        self.cells.update(plan.cells)
        if plan.commit.changes:
            self.version = plan.commit.version

    def drop(self, name: str) -> None:
        """Forget a variable, or a constraint.

        Raises:
            VariableError: others read it, or there is none.
        """
        if name in self.constraints:
            self.constraints.remove(name)
            return
        self.entry(name)
        readers = [*self.graph.readers(name), *(f"the constraint {each.name!r}" for each in self.constraints.of({name: None}))]
        if readers:
            raise VariableError(
                f"Variable {name!r} cannot be dropped: {', '.join(readers)} read{'s' if len(readers) == 1 else ''} it.",
                name=name,
                hint="Drop these first.",
            )
        self.graph.remove(name)
        del self.entries[name]
        self.cells.pop(name, None)

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _propagate(self, written: Mapping[str, Any], forced: Iterable[str], commit: Commit) -> Plan:
        """Return the plan for values that were checked, and for variables whose formulas are new (``forced``)."""
        new: dict[str, Cell] = {}
        changes: dict[str, Change] = {}
        touched = dict.fromkeys([*forced, *written])
        for name in self.graph.after(list(touched)):
            entry = self.entries[name]
            ours = name in touched
            if not ours and not any(read in touched for read in entry.reads):
                continue
            cell = self.cells.get(name)
            active = self._counts(entry, self.cells, new) if entry.reads else True
            if entry.derive is not None and entry.derive.lost:
                active = False  # its kept value is not that of what it reads any more
            value, moved = self._value(entry, cell, written, active, new)
            if moved:
                parent = cell.version if cell else 0
                who = "derived" if entry.derive else commit.author.who
                changes[name] = Change(name, cell.value if cell else None, value, parent, who)
                new[name] = Cell(value, commit.version, active)
            elif cell is None or cell.active != active:
                new[name] = Cell(value, cell.version if cell else 0, active)
            if name in new:
                touched[name] = None
        version = commit.version if changes else self.version
        made = Commit(version, commit.time, Frozen(changes), commit.author, commit.fence, commit.undone)
        return Plan(made, new, touched)

    def _value(
        self, entry: Entry, cell: Cell | None, written: Mapping[str, Any], active: bool, new: Mapping[str, Cell]
    ) -> tuple[Any, bool]:
        """Return the value that a variable would have, and whether that is another one."""
        if entry.derive is None:
            return (
                (written[entry.name], True) if entry.name in written else (cell.value if cell else entry.default, cell is None)
            )
        if not active:
            return (cell.value if cell else None), False
        value = entry.domain.cast(self._derived(entry, new), entry.name)
        fresh = cell is None or cell.version == 0 or type(value) is not type(cell.value)
        return value, fresh or not entry.domain.equal(value, cell.value)  # type: ignore[union-attr]

    def _derived(self, entry: Entry, new: Mapping[str, Cell]) -> Any:
        assert entry.derive is not None  # noqa: S101
        try:
            return entry.derive(_Seen(self.cells, new))
        except VariableError:
            raise
        except Exception as error:  # a function is the user's, and may raise anything
            raise VariableError(
                f"Variable {entry.name!r} cannot be derived: {type(error).__name__}: {error}", name=entry.name
            ) from error

    def _counts(self, entry: Entry, cells: Mapping[str, Cell], new: Mapping[str, Cell]) -> bool:
        """Say whether a variable counts: all that it reads does, and its condition holds.

        What a function of an earlier process would say of it is not known: it does not count until that is given again.
        """
        if entry.when is not None and entry.when.lost:
            return False
        if not all((new.get(read) or cells[read]).active for read in entry.reads):
            return False
        try:
            return entry.when is None or bool(entry.when(_Seen(cells, new)))
        except VariableError:
            raise
        except Exception as error:  # as above
            raise VariableError(
                f"Nobody can tell whether variable {entry.name!r} counts: {type(error).__name__}: {error}", name=entry.name
            ) from error

    def _constrain(self, touched: Mapping[str, Any] | None, new: Mapping[str, Cell]) -> None:
        if not self.constraints:
            return
        seen = _Seen(self.cells, new)
        for constraint in self.constraints if touched is None else self.constraints.of(touched):
            if all((new.get(read) or self.cells[read]).active for read in constraint.reads):
                constraint.check(seen)


def _pinned(name: str) -> VariableError:
    return VariableError(
        f"Variable {name!r} is pinned and keeps its value.", name=name, hint=f"Let it change again: space.unpin({name!r})."
    )


def _carried(entry: Entry, cell: Cell, before: Entry | None) -> Any:
    """Return the value of a variable that is defined anew: a default follows, another value is kept if it may."""
    if before is not None and before.derive is None and before.domain.equal(cell.value, before.default):
        return entry.default
    try:
        return entry.domain.cast(cell.value, entry.name)
    except VariableError:
        return entry.default
