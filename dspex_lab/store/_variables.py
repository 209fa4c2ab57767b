"""The variables of a Lab: their definitions and every version of their values, so that a space outlives its process.

All of it goes through the store's writer, in order; the records of one commit are in one transaction.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import StoreError
from dspex_lab.events import VariableRecord
from dspex_lab.security import Redactor
from dspex_lab.store._encode import LARGEST_WHOLE, dump
from dspex_lab.store._schema import DefinitionRecord
from dspex_lab.store._transaction import read

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from dspex_lab.store._store import Store

log = logging.getLogger("dspex_lab")

_FIELDS = "space, name, version, parent, epoch(time), value::VARCHAR, who, author, why, score, fence"

#: What is neither large nor a secret.
_SMALL = frozenset((bool, int, float, type(None)))

#: Which table keeps a space of an open file: the id of the database, and the space.
_keepers: dict[tuple[int, str], weakref.ref[VariableTable]] = {}
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class DefinitionRow:
    """A variable as the store has it; the fields are those of ``dspex_lab.variables.Definition``."""

    name: str
    domain: dict[str, Any]
    default: Any
    derived: str | None = None
    active: str | None = None
    pinned: bool = False
    note: str | None = None


class VariableTable:
    """Keeps the variables of a store; the journal of a space. Thread-safe.

    What it is given is committed in order by the store's writer: within a quarter of a second, or when ``store.flush()``
    returns. A space of a file has one keeper at a time, because its versions are numbered by whoever commits.

    Args:
        store: where they are.
        clock: seconds since the epoch, for definitions.
    """

    def __init__(self, store: Store, *, clock: Any = time.time) -> None:
        self.store, self._clock = store, clock
        self._known: dict[str, dict[str, tuple[DefinitionRow, int]]] = {}
        self._revision = self._position = 0
        self._said: set[tuple[str, str]] = set()
        self._lock = threading.RLock()

    def define(self, space: str, definition: Any) -> None:
        """Keep a definition, in place of an earlier one of that name; an equal one costs nothing.

        Args:
            definition: has the fields of :class:`DefinitionRow`.

        Raises:
            StoreError: it is too large to be kept, or the store is closed.
        """
        row = DefinitionRow(
            definition.name,
            dict(definition.domain),
            definition.default,
            definition.derived,
            definition.active,
            bool(definition.pinned),
            definition.note,
        )
        with self._lock:
            known = self._loaded(space)
            before = known.get(row.name)
            if before is not None and before[0] == row:
                return
            self._check(space, row.name, {"domain": row.domain, "default": row.default})
            position = self._position + 1 if before is None else before[1]
            self._position = max(self._position, position)
            self._put(space, row, position)
            known[row.name] = (row, position)

    def drop(self, space: str, name: str) -> None:
        """Forget the definition of a variable; its history stays."""
        with self._lock:
            found = self._loaded(space).pop(name, None)
            if found is not None:
                self._put(space, found[0], found[1], dropped=True)

    def definitions(self, space: str) -> Sequence[DefinitionRow]:
        """Return what was defined, in the order in which it first was."""
        with self._lock:
            rows = sorted(self._loaded(space).values(), key=lambda entry: entry[1])
        return [row for row, _ in rows]

    def write(self, records: Sequence[VariableRecord]) -> None:
        """Keep one commit, whole or not at all.

        Raises:
            StoreError: a value is too large to be kept, or the store is closed; nothing of it is kept.
        """
        for record in records:
            self._check(record.space, record.name, record.value)
        for space in {record.space for record in records}:
            self._claim(space)
        self.store._core.writer.write_whole(records)

    def latest(self, space: str) -> dict[str, VariableRecord]:
        """Return each variable's last record, also of those that were dropped."""
        self._claim(space)
        return {
            record.name: record
            for record in self._records(
                "WHERE space = $space QUALIFY row_number() OVER (PARTITION BY name ORDER BY version DESC, time DESC) = 1 "
                "ORDER BY version, name",
                {"space": space},
            )
        }

    def history(self, space: str, name: str | None = None, *, limit: int | None = None) -> list[VariableRecord]:
        """Return records, the newest first; those of one commit in the order of their names."""
        return self._records(
            "WHERE space = $space AND ($name::VARCHAR IS NULL OR name = $name::VARCHAR) "
            "ORDER BY version DESC, name LIMIT $limit::BIGINT",
            {"space": space, "name": name, "limit": 2**62 if limit is None else limit},
        )

    def fence(self, space: str) -> int:
        """Return the greatest fencing number of all records; 0 where none has one."""
        text = "SELECT coalesce(max(fence), 0) FROM variable_history WHERE space = ?"
        (found,) = self._read(lambda cursor: cursor.execute(text, [space]).fetchone())
        return int(found)

    def spaces(self) -> list[str]:
        """Return the names of the spaces that have variables, in order."""
        found = self._read(lambda cursor: cursor.execute("SELECT DISTINCT space FROM variables ORDER BY space").fetchall())
        return [space for (space,) in found]

    # -- inside --------------------------------------------------------------------------------------------------------

    def _put(self, space: str, row: DefinitionRow, position: int, *, dropped: bool = False) -> None:
        self._revision += 1
        self.store._core.writer.write_whole(
            [
                DefinitionRecord(
                    *(space, row.name, position, self._revision, self._clock(), row.domain, row.default),
                    *(row.derived, row.active, row.pinned, row.note, dropped),
                )
            ]
        )

    def _loaded(self, space: str) -> dict[str, tuple[DefinitionRow, int]]:
        if space not in self._known:
            self._claim(space)
            rows, last = self._read(lambda cursor: _definitions(cursor, space))
            self._revision = max(self._revision, last)
            self._position = max(self._position, *(position for _, position in rows), 0)
            self._known[space] = {row.name: (row, position) for row, position in rows}
        return self._known[space]

    def _records(self, where: str, parameters: dict[str, Any]) -> list[VariableRecord]:
        text = f"SELECT {_FIELDS} FROM variable_history {where}"  # noqa: S608 - texts of this module
        found = self._read(lambda cursor: cursor.execute(text, parameters).fetchall())
        return [VariableRecord._make((*row[:5], read(row[5]), *row[6:])) for row in found]

    def _read(self, work: Any) -> Any:
        if not self.store._core.writer.is_current():
            self.store.flush()
        return self.store._core.with_cursor(work)

    def _check(self, space: str, name: str, value: Any) -> None:
        if type(value) in _SMALL:
            return
        text = dump(value)
        if len(text) > LARGEST_WHOLE:
            raise StoreError(
                f"Variable {name!r} cannot be kept: its value is {len(text) >> 20} million characters as JSON; "
                f"{LARGEST_WHOLE >> 20} are the most.",
                path=self.store.path,
                hint="Keep the large thing in a file, and its name in the variable.",
            )
        mask = Redactor()
        if mask.may_hold(text) and mask(text) != text and (space, name) not in self._said:
            self._said.add((space, name))
            log.warning(
                "variable %s holds a secret: it is kept masked in the store, and after a restart it has the masked value", name
            )

    def _claim(self, space: str) -> None:
        """Be the one who keeps the space.

        Raises:
            StoreError: another Lab of this process, on the same file, is.
        """
        key = (id(self.store._core.database), space)
        with _lock:
            found = _keepers.get(key)
            other = None if found is None else found()
            if other is self:
                return
            if other is not None and not other.store._core.closed and other.store._core.database is self.store._core.database:
                raise StoreError(
                    f"Another Lab of this process has the variables of {self.store.path}: {other.store.lab_id}.",
                    path=self.store.path,
                    hint="Use lab.variables of that Lab, close it, or give this one another path.",
                )
            _keepers[key] = weakref.ref(self)


def _definitions(cursor: DuckDBPyConnection, space: str) -> tuple[list[tuple[DefinitionRow, int]], int]:
    """Return the definitions of a space (its constraints among them) with their positions, and the highest revision of all."""
    found = cursor.execute(
        "SELECT name, domain::VARCHAR, initial::VARCHAR, derived, active, pinned, note, position FROM ("
        "SELECT * FROM variable_definitions WHERE space = ? "
        "QUALIFY row_number() OVER (PARTITION BY name ORDER BY revision DESC, time DESC) = 1) "
        "WHERE NOT dropped ORDER BY position",
        [space],
    ).fetchall()
    last = cursor.execute("SELECT max(revision) FROM variable_definitions").fetchone()
    rows = [(DefinitionRow(n, read(d), read(i), *rest), at) for n, d, i, *rest, at in found]
    return rows, (last and last[0]) or 0
