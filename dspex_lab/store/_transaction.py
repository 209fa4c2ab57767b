"""What is written at once, by whoever asks, and not through the writer's queue: state that outlives its process."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from dspex_lab.errors import StoreError
from dspex_lab.security import Redactor
from dspex_lab.store._encode import LARGEST_WHOLE, dump, finished

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from dspex_lab.store._store import Store

T = TypeVar("T")

#: Two transactions that write one row at the same time would refuse each other.
_lock = threading.Lock()


@contextmanager
def all_or_nothing(con: DuckDBPyConnection) -> Iterator[None]:
    """Let what the block writes be written whole, or not at all where it raises."""
    con.execute("BEGIN TRANSACTION")
    try:
        yield
    except BaseException:
        con.execute("ROLLBACK")
        raise
    con.execute("COMMIT")  # one that fails has ended the transaction itself


def whole(store: Store, work: Callable[[DuckDBPyConnection], T]) -> T:
    """Return what ``work`` gives for a cursor; all that it writes is on the disk when this returns, or nothing is."""

    def transaction(cursor: DuckDBPyConnection) -> T:
        with _lock, all_or_nothing(cursor):
            return work(cursor)

    return store._core.with_cursor(transaction)


def kept(value: Any, what: str, path: str) -> tuple[str | None, bool]:
    """Return a value as JSON text that is read back as it was, and whether secrets in it were masked.

    Args:
        what: what it is, for the error.

    Raises:
        StoreError: it is too large to be kept.
    """
    if value is None:
        return None, False
    text = dump(value)
    if len(text) > LARGEST_WHOLE:
        raise StoreError(
            f"{what} cannot be kept: as JSON it has {len(text) >> 20} million characters; {LARGEST_WHOLE >> 20} are the most.",
            path=path,
            hint="Keep the large part in a file, and its name here.",
        )
    mask = Redactor()
    if not mask.may_hold(text):
        return text, False
    masked = finished(text, mask, LARGEST_WHOLE)
    return masked, masked != text


def read(text: str | None) -> Any:
    """Return the value that JSON text of the store says, None for NULL."""
    return None if text is None else json.loads(text)


def micros(seconds: float | None) -> int | None:
    """Return seconds since the epoch as DuckDB's ``make_timestamp`` takes them."""
    return None if seconds is None else int(seconds * 1e6)
