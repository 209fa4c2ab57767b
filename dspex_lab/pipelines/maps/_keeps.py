"""The two places where outcomes are recorded: a file beside its journal, and the Lab's store."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from dspex_lab.errors import StoreError
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines.maps import _journal
from dspex_lab.pipelines.maps._frames import FILE_COLUMNS, renamed
from dspex_lab.pipelines.maps._gate import Keep
from dspex_lab.pipelines.maps._journal import Journal
from dspex_lab.pipelines.maps._outcome import Outcome

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("dspex_lab")

#: Rows whose outcomes may wait in the store's queue: one batch of its writer.
STORE_BATCH = 1_000


class Recorded(Protocol):
    """A map that a store has recorded (``store.RecordedMap``)."""

    run_id: str
    name: str
    status: str
    started: float
    seconds: float
    told: dict[str, Any]
    rows: dict[int, Any]
    doubled: tuple[str, ...]
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: float | None


class Records(Protocol):
    """The Lab's store, as maps need it."""

    def flush(self) -> None:
        """Return when everything that was told of before is recorded."""
        ...

    def query(self, sql: str) -> pd.DataFrame:
        """Return the rows of a query."""
        ...

    def stream(self, sql: str) -> AbstractContextManager[Any]:
        """Return the rows of a query as Arrow record batches, with their ``schema``."""
        ...

    def last_map(self, name: str, statuses: Sequence[str] = ...) -> str | None:
        """Return the run id of the newest map that ended so."""
        ...

    def recorded_map(self, run_id: str) -> Any:
        """Return what is recorded of a map (:class:`Recorded`)."""
        ...

    def reopen_map(self, run_id: str, without: Sequence[str] = ()) -> None:
        """Take back the end of a map, and the outcomes of the rows whose run ids are given."""
        ...


class InStore(Keep):
    """Outcomes that the store records as runs, and that are held for the DataFrame that comes of them.

    Args:
        restored: the outcomes of the rows that ran before.
    """

    batch = STORE_BATCH

    def __init__(self, records: Records, restored: Mapping[int, Outcome] | None = None) -> None:
        self._records = records
        self.outcomes: dict[int, Outcome] = dict(restored or {})
        self._counts = Counter(o.status for o in self.outcomes.values())
        self._failed = False

    def add(self, outcome: Outcome) -> None:
        """Hold an outcome."""
        self.outcomes[outcome.row_index] = outcome
        self._counts[outcome.status] += 1

    def flush(self, outcomes: Sequence[Outcome]) -> None:
        """Wait until the store has them. Where it can record nothing any more, the rows still come back as a frame."""
        if self._failed:
            return
        try:
            self._records.flush()
        except StoreError as error:
            self._failed = True
            log.warning("the rows of a map are no longer recorded: %s", error)

    def done(self, index: int) -> bool:
        """Say whether the row ran before."""
        return index in self.outcomes

    def counts(self) -> Counter[str]:
        """Return how many rows ended how."""
        return self._counts


class InFile(Keep):
    """Outcomes that go to a journal, each with its row.

    Args:
        retry: rows that failed or lack an output have no outcome that counts.
    """

    rows = True

    def __init__(self, journal: Journal, pipeline: Pipeline, retry: bool) -> None:
        self.batch, self.linger = _journal.BATCH, _journal.LINGER
        self.journal, self._retry = journal, retry
        self._outputs = list(pipeline.outputs)
        self._pipeline = pipeline
        self._names: dict[tuple[str, ...], dict[str, str]] = {}
        #: The columns that come last in the file.
        self.tail = (*self._outputs, *FILE_COLUMNS)

    def add(self, outcome: Outcome) -> None:
        """Nothing is held."""

    def flush(self, outcomes: Sequence[Outcome]) -> None:
        """Write them."""
        self.journal.write(outcomes, self._line)

    def done(self, index: int) -> bool:
        """Say whether the journal has the row."""
        return self.journal.ledger.done(index, self._retry)

    def counts(self) -> Counter[str]:
        """Return how many rows the journal has with which status."""
        return Counter(self.journal.counts())

    def _line(self, outcome: Outcome) -> dict[str, Any]:
        row = outcome.row or {}
        columns = tuple(row)
        names = self._names.get(columns)
        if names is None:
            names = renamed(self._pipeline, columns, FILE_COLUMNS)
            if len(self._names) < 1_000:
                self._names[columns] = names
        line = {new: row[old] for old, new in names.items()}
        for name in self._outputs:
            line[name] = outcome.outputs.get(name)
        line["row_index"] = outcome.row_index
        line["status"], line["error"], line["run_id"] = outcome.status, outcome.error, outcome.run_id
        return line


def spooled(journal: Journal, batches: Iterator[Any], schema: Any) -> None:
    """Write a query's rows beside the journal, so that a map that goes on finds the same ones in the same order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    part = journal.spool.with_suffix(".part")
    try:
        with pq.ParquetWriter(part, schema) as writer:
            for batch in batches:
                if batch.num_rows:
                    writer.write_table(pa.Table.from_batches([batch]))
        part.replace(journal.spool)
    except OSError as error:
        raise _journal.refused(journal.out, error) from error
    finally:
        part.unlink(missing_ok=True)
