"""A space from its journal, as it was left. What cannot be read is left out and named: one damaged row closes no space."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence

from dspex_lab.errors import VariableError
from dspex_lab.events import VariableRecord
from dspex_lab.variables._constraints import Constraint
from dspex_lab.variables._entry import Cell, Entry
from dspex_lab.variables._formula import Formula, kept_formula
from dspex_lab.variables._names import RESERVED
from dspex_lab.variables._protocols import Definition, Journal
from dspex_lab.variables._values import Values
from dspex_lab.variables.domains import domain_from

log = logging.getLogger("dspex_lab")

#: A constraint is kept as a definition with this domain, under a name that no variable may have.
_CONSTRAINT = {"kind": "constraint"}


def constraint_definition(constraint: Constraint) -> Definition:
    """Return a constraint as it is kept."""
    return Definition(constraint_key(constraint.name), dict(_CONSTRAINT), None, derived=constraint.formula.text)


def constraint_key(name: str) -> str:
    """Return the name under which a constraint is kept."""
    return RESERVED + name


def load(values: Values, journal: Journal, space: str) -> tuple[dict[str, str], list[str], int]:
    """Fill ``values`` from a journal.

    Returns:
        What could not be read, by name, and why; the variables that have no value of their own yet, each after what it reads;
        the greatest fencing number that was kept.
    """
    definitions, latest = journal.definitions(space), journal.latest(space)
    values.version = max((record.version for record in latest.values()), default=0)
    damaged: dict[str, str] = {}
    constraints = [each for each in definitions if each.domain == _CONSTRAINT]
    entries = _entries([each for each in definitions if each.domain != _CONSTRAINT], damaged)
    _put(values, entries, damaged)
    for definition in constraints:
        _constraint(values, definition, damaged)
    empty = [name for name in values.graph.after(values.entries) if not _fill(values, name, latest.get(name), damaged)]
    _count(values)
    for name, why in damaged.items():
        log.warning("%r of the space %r could not be read and is left out: %s", name, space, why)
    return damaged, empty, journal.fence(space)


def _entries(definitions: Sequence[Definition], damaged: dict[str, str]) -> dict[str, Entry]:
    """Return those that can be read; one that reads a damaged one is damaged."""
    readable = {definition.name: definition for definition in definitions}
    while True:
        found: dict[str, Entry] = {}
        lost = len(damaged)
        for name, definition in list(readable.items()):
            try:
                found[name] = _entry(definition, readable)
            except VariableError as error:
                damaged[name] = str(error)
                del readable[name]
        if len(damaged) == lost:
            return found


def _entry(definition: Definition, known: Collection[str]) -> Entry:
    name, derived = definition.name, definition.derived
    domain = domain_from(definition.domain)
    return Entry(
        name=name,
        domain=domain,
        default=None if derived else domain.cast(domain.from_json(definition.default), name),
        derive=kept_formula(derived, known, f"Variable {name!r}") if derived else None,
        when=_when(definition, known),
        pinned=definition.pinned,
        note=definition.note,
    )


def _when(definition: Definition, known: Collection[str]) -> Formula | None:
    if not definition.active:
        return None
    return kept_formula(definition.active, known, f"The condition of {definition.name!r}")


def _put(values: Values, entries: Mapping[str, Entry], damaged: dict[str, str]) -> None:
    for name, entry in entries.items():
        try:
            values.graph.put(name, entry.reads)
        except VariableError as error:  # a cycle, which no space has made
            damaged[name] = str(error)
        else:
            values.entries[name] = entry
    while orphans := [entry for entry in values.entries.values() if any(read not in values.entries for read in entry.reads)]:
        for entry in orphans:
            damaged[entry.name] = (
                f"It reads {next(read for read in entry.reads if read not in values.entries)!r}, which is damaged."
            )
            values.graph.remove(entry.name)
            del values.entries[entry.name]


def _constraint(values: Values, definition: Definition, damaged: dict[str, str]) -> None:
    name = definition.name.removeprefix(RESERVED)
    try:
        text = kept_formula(definition.derived or "", values.entries, f"The constraint {name!r}")
    except VariableError as error:
        damaged[name] = str(error)
        return
    if text.lost:
        damaged[name] = (
            "It is a function of an earlier process, and is not checked until the cell that defines it is run again."
        )
    else:
        values.constraints.put(Constraint(name, text))


def _fill(values: Values, name: str, record: VariableRecord | None, damaged: dict[str, str]) -> bool:
    """Give a variable its last value; say whether it has one that it may have."""
    entry = values.entries[name]
    if record is not None:
        try:
            values.cells[name] = Cell(entry.domain.cast(entry.domain.from_json(record.value), name), record.version)
            return True
        except VariableError as error:
            # The end came between a new definition and its first value.
            log.warning("the last value of the variable %r is none any more, and its default is taken: %s", name, error)
    values.cells[name] = Cell(None if entry.derive else entry.default, record.version if record else 0)
    return False


def _count(values: Values) -> None:
    """Find out which variables count."""
    active = values.then(0, {name: (cell.value, cell.version) for name, cell in values.cells.items()}).values
    for name, cell in values.cells.items():
        if name not in active:
            values.cells[name] = Cell(cell.value, cell.version, active=False)
