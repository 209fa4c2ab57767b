"""A query's rows in pieces, so that a result larger than memory can be read."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from dspex_lab.errors import StoreError
from dspex_lab.store._sql import Parameters, checked, explained, stopping

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

#: Pieces that wait for whoever reads them.
_AHEAD = 4


class Stream:
    """The rows of one query as Arrow record batches; an iterator, and a context manager that stops the query.

    A thread of its own reads, so that KeyboardInterrupt reaches whoever waits for a piece. The rows are those of the
    moment the query began. Used by one thread at a time.

    Args:
        con: a cursor that from now on belongs to the stream.
        root: the connection that names the tables in messages.
        rows: the most rows in a piece.
        closed: called once when the query has ended.

    Raises:
        StoreError: the text is not one query, or there is an error in it.
    """

    def __init__(
        self,
        con: DuckDBPyConnection,
        root: DuckDBPyConnection,
        sql: str,
        parameters: Parameters,
        rows: int,
        path: str,
        closed: Callable[[], None],
    ) -> None:
        self._con, self._root, self._sql, self._path, self._closed = con, root, sql, path, closed
        self._stopped = False
        self._pieces: queue.Queue[pa.RecordBatch | Exception | None] = queue.Queue(_AHEAD)
        try:
            pieces = checked(con, root, sql, path)
            if len(pieces) > 1:
                raise StoreError("These are several statements; rows come from one query.", path=path, hint="Keep one SELECT.")
        except BaseException:
            con.close()
            closed()
            raise
        self._thread = threading.Thread(
            target=self._read, args=(pieces[0][0], parameters, rows), name="dspex-store-stream", daemon=True
        )
        self._ended = threading.Event()
        try:
            self._begin()
            first = self._take()  # the first piece is empty: it has the columns' names
        except BaseException:  # among them an interrupt, which may come anywhere in here
            self.close()
            raise
        #: The columns' names and types.
        self.schema: pa.Schema = getattr(first, "schema", None)
        self._first: pa.RecordBatch | None = first

    def _begin(self) -> None:
        try:
            self._thread.start()
        except RuntimeError:  # there can be no more threads
            self._end()
            raise

    def _end(self) -> None:
        self._con.close()  # which also ends the transaction
        self._closed()
        self._ended.set()

    def _read(self, sql: str, parameters: Parameters, rows: int) -> None:
        import pyarrow as pa

        last: Exception | None = None
        try:
            # Statement types are not enough: WITH x AS (INSERT …) counts as a query.
            self._con.execute("BEGIN TRANSACTION READ ONLY")
            reader = self._con.sql(sql, params=parameters or None).to_arrow_reader(rows)
            self._put(pa.RecordBatch.from_pylist([], schema=reader.schema))
            for batch in reader:
                if not self._put(batch):
                    break
        except Exception as error:
            last = error
        finally:
            self._end()
            self._put(last)

    def _put(self, item: pa.RecordBatch | Exception | None) -> bool:
        while not self._stopped:
            with contextlib.suppress(queue.Full):
                self._pieces.put(item, timeout=0.1)
                return True
        return False

    def _take(self) -> pa.RecordBatch | None:
        item = self._pieces.get()
        if isinstance(item, Exception):
            self._stopped = True
            if stopping(item):
                raise StoreError("The query was interrupted: the store is being closed.", path=self._path) from item
            raise explained(self._root, item, self._sql, 0, self._path) from item
        return item

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self

    def __next__(self) -> pa.RecordBatch:
        first, self._first = self._first, None
        if first is not None:
            return first
        item = None if self._stopped else self._take()
        if item is None:
            self._stopped = True
            raise StopIteration
        return item

    def close(self) -> None:
        """Stop the query and wait until it has, five seconds at most. May be repeated."""
        import duckdb

        self._stopped = True
        self._first = None
        for _ in range(100):
            if self._ended.is_set():
                break
            # A call that comes between two of the work's own is refused; the next one is not.
            with contextlib.suppress(duckdb.Error):
                self._con.interrupt()
            self._ended.wait(0.05)
        if self._ended.is_set() and self._thread.is_alive():
            self._thread.join(5)  # it only lets go of the piece it holds

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
