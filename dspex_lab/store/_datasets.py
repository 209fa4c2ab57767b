"""Named data sets: versioned, split and fingerprinted, with where their rows are from."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import StoreError, did_you_mean
from dspex_lab.store._transaction import kept, micros, read, whole

if TYPE_CHECKING:
    import pandas as pd
    from duckdb import DuckDBPyConnection

    from dspex_lab.store._store import Store

log = logging.getLogger("dspex_lab")


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """One split of one version of a data set; ``time`` is seconds since the epoch.

    ``version`` counts from 1 within its ``name``; ``fingerprint`` is that of the version, all its splits together; ``rows`` are
    JSON objects; ``source`` says where they are from; ``masked`` that secrets in them were masked.
    """

    name: str
    version: int
    split: str
    fingerprint: str
    rows: tuple[dict[str, Any], ...]
    time: float
    source: dict[str, Any] | None = None
    masked: bool = False


class DatasetTable:
    """Reads and writes data sets. Thread-safe; what is written is on the disk when a call returns.

    Args:
        store: where they are.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def add(
        self,
        name: str,
        splits: Mapping[str, Sequence[Mapping[str, Any]]],
        fingerprint: str,
        time: float,
        source: Mapping[str, Any] | None = None,
    ) -> int:
        """Keep a version of a data set and return its number; where the last one has this fingerprint, that is it.

        Args:
            splits: the rows by split, such as ``"train"`` and ``"test"``.

        Raises:
            StoreError: it is too large to be kept.
        """
        texts = {
            split: (len(rows), *kept([dict(row) for row in rows], f"Split {split!r} of data set {name!r}", self.store.path))
            for split, rows in splits.items()
        }
        origin = kept(None if source is None else dict(source), f"The source of data set {name!r}", self.store.path)[0]
        if any(masked for _, _, masked in texts.values()):
            log.warning("data set %s holds secrets: they are kept masked", name)

        def work(cursor: DuckDBPyConnection) -> int:
            last = cursor.execute(
                "SELECT version, fingerprint FROM datasets WHERE name = ? ORDER BY version DESC LIMIT 1", [name]
            ).fetchone()
            if last is not None and last[1] == fingerprint:
                return int(last[0])
            version = 1 if last is None else int(last[0]) + 1
            for split, (count, text, masked) in texts.items():
                cursor.execute(
                    "INSERT INTO datasets VALUES (?, ?, ?, ?, ?, ?::JSON, ?::JSON, make_timestamp(?::BIGINT), ?)",
                    [name, version, split, fingerprint, count, text, origin, micros(time), masked],
                )
            return version

        return whole(self.store, work)

    def get(self, name: str, version: int | None = None) -> dict[str, DatasetRow]:
        """Return a data set by split, its newest version by default.

        Raises:
            StoreError: there is none.
        """
        found = self.store._core.with_cursor(
            lambda cursor: cursor.execute(
                'SELECT name, version, split, fingerprint, d."rows"::VARCHAR, epoch(time), source::VARCHAR, masked '
                "FROM datasets d WHERE name = $name AND version = coalesce($version::BIGINT, "
                "(SELECT max(version) FROM datasets WHERE name = $name)) ORDER BY rowid",
                {"name": name, "version": version},
            ).fetchall()
        )
        if not found:
            raise self._unknown(name, version)
        return {
            split: DatasetRow(name, number, split, mark, tuple(read(rows)), at, read(source), bool(masked))
            for _, number, split, mark, rows, at, source, masked in found
        }

    def list(self) -> pd.DataFrame:
        """Return the versions of all data sets, the newest first: ``name, version, split, rows, fingerprint, time`` (UTC)."""
        return self.store.query(
            "SELECT name, version, split, count AS rows, fingerprint, time FROM datasets "
            "ORDER BY time DESC, name, version DESC, split",
            flush=False,
        )

    def _unknown(self, name: str, version: int | None) -> StoreError:
        known: Any = self.list()
        versions = sorted(set(known[known["name"] == name]["version"]))
        if versions:
            said = f"There is no version {version} of data set {name!r}."
            return StoreError(said, path=self.store.path, hint=f"There are {', '.join(map(str, versions))}.")
        names = sorted(set(known["name"]))
        return StoreError(
            f"There is no data set {name!r} in {self.store.path}.{did_you_mean(name, names)}",
            path=self.store.path,
            hint=f"There are: {', '.join(names) or 'none yet'}.",
        )
