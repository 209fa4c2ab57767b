"""People's SQL: read-only, interruptible, and with errors that point at the place."""

from __future__ import annotations

import contextlib
import re
import threading
import time
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import StoreError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from duckdb import DuckDBPyConnection

Parameters = Sequence[Any] | Mapping[str, Any] | None

_PLACE = re.compile(r"^LINE (\d+): (.*)\n( *)\^", re.MULTILINE)
_NO_TABLE = re.compile(r"Table with name (\S+) does not exist")
_SUGGESTED = re.compile(r'\s*Did you mean "([^"]*)"\?')
_INTERNAL = ("pg_", "duckdb_", "sqlite_", "information_schema", "pragma_")


def run_query(
    con: DuckDBPyConnection, root: DuckDBPyConnection, sql: str, parameters: Parameters, timeout: float | None, path: str
) -> pd.DataFrame:
    """Run the statements of ``sql`` on a cursor of their own, close it, and return the last one's rows.

    The work is done in a thread of its own, since DuckDB does not look for Ctrl-C while it works: KeyboardInterrupt in
    the calling thread, and ``timeout`` (seconds), interrupt it.

    Raises:
        StoreError: a statement that is not a query, an error in it, or the time was up.
    """
    try:
        pieces = checked(con, root, sql, path)
    except BaseException:
        con.close()
        raise
    work = _Work(con, sql, pieces, parameters)
    thread = threading.Thread(target=work.run, name="dspex-store-query", daemon=True)
    try:
        thread.start()
        in_time = work.done.wait(timeout)
    except RuntimeError:  # there can be no more threads
        con.close()
        raise
    except BaseException:  # among them an interrupt, which may come anywhere in here
        work.interrupt()
        raise
    if not in_time:
        work.interrupt()
    if isinstance(work.error, StoreError):
        raise work.error
    if work.error is not None:
        raise explained(root, work.error, sql, work.offset, path) from work.error
    if work.frame is None or not in_time:
        raise StoreError(
            f"The query took longer than {timeout:g} s and was stopped." if not in_time else "The query was stopped.",
            path=path,
            hint="Ask for less (a WHERE on the time, a LIMIT), or give it more time: timeout=…" if not in_time else None,
        )
    return work.frame


class _Work:
    """One query under way."""

    def __init__(self, con: DuckDBPyConnection, sql: str, pieces: list[tuple[str, set[str]]], parameters: Parameters) -> None:
        self._con, self._pieces, self._parameters = con, pieces, parameters
        self._length = len(sql)
        self._stopped = False
        self.done = threading.Event()
        self._ending = threading.Lock()
        self.offset = 0
        self.frame: pd.DataFrame | None = None
        self.error: Exception | None = None

    def run(self) -> None:
        import duckdb

        try:
            # Statement types are not enough: WITH x AS (INSERT …) and EXPLAIN ANALYZE DELETE … count as queries.
            self._con.execute("BEGIN TRANSACTION READ ONLY")
            for number, (piece, names) in enumerate(self._pieces):
                if self._stopped:
                    return
                self.offset = self._length - sum(len(p) for p, _ in self._pieces[number:])
                frame = _frame(self._con.execute(piece, _fitting(self._parameters, names, len(self._pieces))))
            self.frame = frame
        except duckdb.InterruptException as error:
            if not self._stopped:
                self.error = StoreError("The query was interrupted: the store is being closed.")
                self.error.__cause__ = error
        except Exception as error:
            # DuckDB reports an interrupt within a conversion as RuntimeError.
            if not self._stopped:
                self.error = error
        finally:
            with self._ending:
                self._con.close()  # which also ends the transaction
            self.done.set()

    def interrupt(self) -> None:
        """Stop the work and wait until it has, five seconds at most."""
        import duckdb

        self._stopped = True
        deadline = time.monotonic() + 5
        while not self.done.is_set() and time.monotonic() < deadline:
            # A call that comes between two of the work's own is refused; the next one is not.
            with self._ending, contextlib.suppress(duckdb.Error):
                self._con.interrupt()
            self.done.wait(0.05)


def checked(con: DuckDBPyConnection, root: DuckDBPyConnection, sql: str, path: str) -> list[tuple[str, set[str]]]:
    """Return the text and the parameters' names of each statement, all of them queries."""
    import duckdb

    try:
        statements = con.extract_statements(sql)
    except duckdb.Error as error:
        raise explained(root, error, sql, 0, path) from error
    if not statements:
        raise StoreError("There is no SQL statement in this text.", path=path, hint="For example: SELECT * FROM runs").at(
            sql, 1
        )
    pieces = [(s.query, set(s.named_parameters)) for s in statements]
    for number, statement in enumerate(statements):
        kind = statement.type.name
        # PIVOT comes as several statements in one; it writes nothing but a type of its own cursor.
        pivot = kind == "MULTI" and re.search(r"\bPIVOT\b|\bPIVOT_WIDER\b", statement.query, re.IGNORECASE)
        if kind in {"SELECT", "EXPLAIN"} or pivot:
            continue
        raise StoreError(
            f"{kind.replace('_', ' ')} is not a query; the store's tables are read-only here.",
            path=path,
            hint="Use SELECT, WITH, VALUES, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN. Records are written by runs.",
        ).at(sql, *_line_and_column(sql, len(sql) - sum(len(p) for p, _ in pieces[number:])))
    return pieces


def stopping(error: Exception) -> bool:
    """Say whether an error is that of a query stopped from outside."""
    import duckdb

    return isinstance(error, duckdb.InterruptException)


def _fitting(parameters: Parameters, names: set[str], statements: int) -> Any:
    """Return the parameters a statement takes; of several statements each is given only its own."""
    if statements == 1 or not parameters:
        return parameters
    if isinstance(parameters, Mapping):
        return {k: v for k, v in parameters.items() if k in names}
    return parameters if names else None


def _frame(result: DuckDBPyConnection) -> pd.DataFrame:
    if any("TIME ZONE" in str(column[1]).upper() for column in result.description or ()):
        # DuckDB 2.0's own conversion of such columns uses a keyword that pandas 3.1 deprecates.
        warnings.filterwarnings("ignore", message="The inplace keyword in DataFrame.drop", module=r"dspex_lab\.store\._sql")
    return result.df()


def explained(root: DuckDBPyConnection, error: Exception, sql: str, offset: int, path: str) -> StoreError:
    """Return DuckDB's error as ours: its words with its suggestion, the place in the text, and what there is."""
    text = str(error).strip()
    place = _PLACE.search(text)
    words = " ".join((text[: place.start()] if place else text).split())
    found = StoreError(words, path=path, hint=None)
    missing = _NO_TABLE.search(words)
    if missing:
        tables = _tables(root)
        found.message = _SUGGESTED.sub(_without_internal, words)
        if "Did you mean" not in found.message:
            found.message += did_you_mean(missing[1], tables)
        found.hint = f"The tables are {', '.join(tables)}." if tables else None
    elif "file system operations are disabled" in words:
        found.hint = (
            'SQL here reads the store\'s own tables, and files in the folder "exports" beside it. Load others with pandas.'
        )
    elif "read-only mode" in words:
        found.message = "The store's tables are read-only here."
        found.hint = "Records are written by runs."
    found.args = (found.message,)
    if place:
        line, column = _place(sql, offset, place)
        found.at(sql, line, column)
    return found


def _without_internal(suggestion: re.Match[str]) -> str:
    names = [n for n in suggestion[1].split(" or ") if not n.startswith(_INTERNAL)]
    return f' Did you mean "{" or ".join(names)}"?' if names else ""


def _tables(root: DuckDBPyConnection) -> list[str]:
    import duckdb

    try:
        with root.cursor() as cursor:
            rows = cursor.execute(
                "SELECT table_name FROM duckdb_tables() WHERE NOT internal "
                "UNION ALL SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY 1"
            ).fetchall()
    except duckdb.Error:
        return []  # closed meanwhile; the error being explained matters more
    return [row[0] for row in rows]


def _line_and_column(sql: str, position: int) -> tuple[int, int]:
    before = sql[:position]
    return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1


def _place(sql: str, offset: int, place: re.Match[str]) -> tuple[int, int]:
    """Return line and column in the whole text; DuckDB counts within the statement and shows long lines in part."""
    first_line, first_column = _line_and_column(sql, offset)
    line = first_line + int(place[1]) - 1
    shown, caret = place[2], len(place[3]) - len(f"LINE {place[1]}: ")
    whole = sql.splitlines()[line - 1] if line <= len(sql.splitlines()) else ""
    if shown.startswith("..."):
        shown, caret = shown[3:], caret - 3
    start = whole.find(shown.removesuffix("..."))
    if start < 0:
        return line, (first_column if int(place[1]) == 1 else 1)
    return line, start + _index_at(shown, caret) + 1


def _index_at(shown: str, width: int) -> int:
    """Return which character begins at a width of the terminal, as DuckDB counts: wide characters 2, tabs 0."""
    for index, character in enumerate(shown):
        own = 0 if unicodedata.category(character) in {"Cc", "Mn", "Me"} else 1
        if unicodedata.east_asian_width(character) in "WF":
            own = 2
        if width < own:
            return index
        width -= own
    return max(len(shown) - 1, 0)
