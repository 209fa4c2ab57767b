"""What was committed: as records, in a journal that lives as long as its process, and what the values were at a version."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from dspex_lab.errors import VariableError
from dspex_lab.events import VariableRecord
from dspex_lab.security import MASK
from dspex_lab.variables._entry import Entry
from dspex_lab.variables._protocols import Commit, Definition, Journal
from dspex_lab.variables._values import Values


def records(space: str, commit: Commit, entries: Mapping[str, Entry]) -> list[VariableRecord]:
    """Return a commit as it is kept: a record for each variable that it changed."""
    author = commit.author
    return [
        VariableRecord(
            space=space,
            name=name,
            version=commit.version,
            parent=change.parent,
            time=commit.time,
            value=entries[name].domain.to_json(change.value),
            who=change.who,
            author=author.name,
            why=author.why,
            score=author.score,
            fence=commit.fence,
        )
        for name, change in commit.changes.items()
    ]


class MemoryJournal:
    """A journal in memory; several spaces may share it. The space's lock stands around what writes."""

    def __init__(self) -> None:
        self._definitions: dict[str, dict[str, Definition]] = {}
        self._records: dict[str, deque[VariableRecord]] = {}
        self._by_name: dict[tuple[str, str], deque[VariableRecord]] = {}
        self._fences: dict[str, int] = {}

    def define(self, space: str, definition: Definition) -> None:
        """Keep a definition, in place of an earlier one of that name."""
        self._definitions.setdefault(space, {})[definition.name] = definition

    def drop(self, space: str, name: str) -> None:
        """Forget the definition of a variable; its history stays."""
        self._definitions.get(space, {}).pop(name, None)

    def definitions(self, space: str) -> Sequence[Definition]:
        """Return what was defined, in the order in which it first was."""
        return list(self._definitions.get(space, {}).values())

    def write(self, records: Sequence[VariableRecord]) -> None:
        """Keep one commit."""
        for record in records:
            self._records.setdefault(record.space, deque()).appendleft(record)
            self._by_name.setdefault((record.space, record.name), deque()).appendleft(record)
            if record.fence is not None:
                self._fences[record.space] = max(record.fence, self._fences.get(record.space, 0))

    def latest(self, space: str) -> Mapping[str, VariableRecord]:
        """Return each variable's last record."""
        return {name: kept[0] for (of, name), kept in list(self._by_name.items()) if of == space}

    def history(self, space: str, name: str | None = None, *, limit: int | None = None) -> Sequence[VariableRecord]:
        """Return records, the newest first."""
        kept = self._records.get(space) if name is None else self._by_name.get((space, name))
        # A copy is made at once, while others may write.
        return list(kept.copy() if limit is None else islice(kept.copy(), limit)) if kept else []

    def fence(self, space: str) -> int:
        """Return the greatest fencing number of all records."""
        return self._fences.get(space, 0)


# ---- earlier versions ---------------------------------------------------------------------------------------------


def checked_version(version: int, present: int) -> None:
    """Refuse what is no version.

    Raises:
        VariableError: it is below 0 or above the present one.
    """
    if isinstance(version, bool) or not isinstance(version, int) or not 0 <= version <= present:
        raise VariableError(f"There is no version {version!r}; the space is at {present}.")


def unmasked(values: Values, back: Mapping[str, Any]) -> None:
    """Refuse to bring back what a journal kept without its secret.

    Raises:
        VariableError: a value, which is another one today, has the mask in it.
    """
    for name, value in back.items():
        if (
            isinstance(value, str | tuple)
            and MASK in str(value)
            and not values.entries[name].domain.equal(value, values.cells[name].value)
        ):
            raise VariableError(
                f"The value that {name!r} had held a secret, which was not kept: it cannot come back.",
                name=name,
                hint="Set it anew, or name the variables to bring back without it.",
            )


def values_at(
    values: Values, journal: Journal, space: str, version: int, names: Sequence[str] | None = None
) -> dict[str, tuple[Any, int]]:
    """Return values, each with the version at which it came, as they were at ``version``.

    Args:
        names: of variables; all that there are today, and were then, where None.

    Raises:
        VariableError: one of ``names`` had none then; or a value cannot be read by the domain that its variable has today.
    """
    found: dict[str, tuple[Any, int]] = {}
    for record in _last(journal, space, version, names):
        entry = values.entries.get(record.name)
        if entry is not None and record.name not in found:
            try:
                found[record.name] = (entry.domain.from_json(record.value), record.version)
            except VariableError as error:
                raise VariableError(
                    f"The value that {record.name!r} had at version {record.version} does not fit what it is today: {error}",
                    name=record.name,
                ) from error
    for name in names or ():
        if name not in found:
            raise VariableError(f"Variable {name!r} had no value at version {version}: it was defined later.", name=name)
    return {name: found[name] for name in values.entries if name in found}


def _last(journal: Journal, space: str, version: int, names: Sequence[str] | None) -> Iterator[VariableRecord]:
    """Yield records up to ``version``, the newest of each variable first."""
    wanted: Sequence[str | None] = (None,) if names is None else names
    for name in wanted:
        for record in journal.history(space, name):
            if record.version <= version:
                yield record
                if name is not None:
                    break
