"""Where rows come from, read in pieces: frames, files, spooled queries and anything that can be iterated."""

from __future__ import annotations

import itertools
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines.maps._files import CHUNK, SUFFIXES, CsvTable, count_lines, json_rows, rows_file
from dspex_lab.pipelines.maps._frames import frame_hash, unreadable
from dspex_lab.pipelines.maps._json import encode

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

#: Seconds after which the rows an iterable gave so far are run, however few they are.
_PATIENCE = 0.05
#: Of a long list only so many rows, evenly spread, are looked at to know it again.
_LOOKED_AT = 10_000


class Source:
    """Rows of data; derive from it.

    Attributes:
        columns: the names of the columns; of rows without a table's form, those of the first ones.
        total: how many rows there are, None where only reading them tells.
        identity: what the same data is known by, as plain JSON; ``"kind"`` says which sort of data it is.
        types: the Arrow types of columns whose values lose theirs in JSON.
    """

    columns: list[str]
    total: int | None
    identity: dict[str, Any]
    types: Mapping[str, pa.DataType]

    def chunks(self) -> Iterator[list[Any]]:
        """Give the rows in order, some at a time, as dicts of plain Python values, None for what is missing.

        What is no row is given as it is. Called once; the iterator is used by one thread at a time.

        Raises:
            PipelineError: the data breaks off; the rows before were given.
        """
        raise NotImplementedError


def open_source(data: Any, text: Sequence[str] = ()) -> Source:
    """Return ``data`` as a source.

    Args:
        text: columns of a CSV file that hold text, also where it looks like numbers.

    Raises:
        PipelineError: the file is not there, cannot be read or is of another kind; or ``data`` is no rows.
    """
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        return FrameSource(data)
    if isinstance(data, str | Path):
        path = rows_file(data)
        suffix = path.suffix.lower()
        return ParquetSource(path) if suffix == ".parquet" else CsvSource(path, text) if suffix == ".csv" else JsonSource(path)
    try:
        rows = iter(data)
    except TypeError as error:
        raise PipelineError(
            f"{type(data).__name__} cannot be read as rows: {error}.",
            hint=f"Give a DataFrame, a path to {', '.join(SUFFIXES)}, a query, or dicts in any iterable.",
        ) from error
    return IterableSource(data, rows)


def of_file(path: Path) -> dict[str, Any]:
    """Return what a file is known by."""
    found = path.stat()
    return {"kind": "file", "path": str(path.resolve()), "bytes": found.st_size, "changed": found.st_mtime_ns}


class FrameSource(Source):
    """The rows of a data frame.

    Args:
        only: the columns that are wanted, by default all.
    """

    def __init__(self, frame: pd.DataFrame, only: Sequence[str] | None = None) -> None:
        self._frame = frame
        self.columns = [str(c) for c in frame.columns]
        self._only = self.columns if only is None else list(only)
        self.total = len(frame)
        self.identity: dict[str, Any] = {"kind": "frame", "rows": len(frame)}
        if len(set(self.columns)) == len(self.columns):
            named = frame.set_axis(self.columns, axis=1)
            self.identity["hash"] = frame_hash(named, self._only)
            self._frame = named
        self.types = _frame_types(frame) if only is None else {}

    def chunks(self) -> Iterator[list[Any]]:
        """Give the rows."""
        names = self._only
        rows = self._frame[names].itertuples(index=False, name=None) if names else iter([()] * len(self._frame))
        while piece := list(itertools.islice(rows, CHUNK)):
            yield [{n: plain(v) for n, v in zip(names, values, strict=True)} for values in piece]


class ParquetSource(Source):
    """The rows of a Parquet file, which is never whole in memory."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self._path = path
        try:
            file = pq.ParquetFile(path)
        except Exception as error:
            raise unreadable(path, error) from error
        with file:
            schema = file.schema_arrow
            self.total = file.metadata.num_rows
        self.columns = list(schema.names)
        self.identity = of_file(path)
        self.types = {field.name: field.type for field in schema}

    def chunks(self) -> Iterator[list[Any]]:
        """Give the rows."""
        import pyarrow.parquet as pq

        given = 0
        try:
            with pq.ParquetFile(self._path, pre_buffer=False) as file:
                for batch in file.iter_batches(CHUNK, use_threads=False):
                    rows = batch.to_pylist()
                    yield rows
                    given += len(rows)
        except (OSError, ValueError, RuntimeError) as error:  # among them pyarrow's own
            raise unreadable(self._path, error, after=given) from error


class CsvSource(Source):
    """The rows of a CSV file, read twice: for the columns' types, then for the rows."""

    def __init__(self, path: Path, text: Sequence[str]) -> None:
        self._table = CsvTable(path, text)
        self.columns, self.total, self.identity = self._table.columns, self._table.total, of_file(path)
        self.types = {}

    def chunks(self) -> Iterator[list[Any]]:
        """Give the rows."""
        return self._table.rows()


class JsonSource(Source):
    """The rows of a file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self.total = count_lines(path)
        self.identity = of_file(path)
        self.types = {}
        self._chunks = _Peeked(json_rows(path))
        self.columns = self._chunks.columns

    def chunks(self) -> Iterator[list[Any]]:
        """Give the rows."""
        return iter(self._chunks)


class IterableSource(Source):
    """Rows from a list or any other iterable, taken as they come."""

    def __init__(self, data: Any, rows: Iterator[Any]) -> None:
        whole = isinstance(data, list | tuple)
        self.total = len(data) if whole else None
        # Of what gives rows only once nothing is known beforehand: whoever goes on gives the same rows again.
        self.identity = {"kind": "list", "rows": len(data), "hash": _list_hash(data)} if whole else {"kind": "iterable"}
        self.types = {}
        self._chunks = _Peeked(_timed(rows))
        self.columns = self._chunks.columns

    def chunks(self) -> Iterator[list[Any]]:
        """Give the rows."""
        return iter(self._chunks)


class _Peeked:
    """An iterator of chunks whose first one was read already, for the names of the columns."""

    def __init__(self, chunks: Iterator[list[Any]]) -> None:
        self._rest = chunks
        self._first: list[list[Any]] = []
        self._problem: PipelineError | None = None
        try:
            self._first = list(itertools.islice(chunks, 1))
        except PipelineError as error:
            self._problem = error  # told when the rows are asked for
        rows = [row for chunk in self._first for row in chunk if isinstance(row, Mapping)]
        self.columns = list(dict.fromkeys(str(name) for row in rows for name in row))
        if not rows and self._problem is not None:
            raise self._problem

    def __iter__(self) -> Iterator[list[Any]]:
        yield from self._first
        self._first = []
        yield from self._rest


def _timed(rows: Iterator[Any]) -> Iterator[list[Any]]:
    given = 0
    while True:
        chunk: list[Any] = []
        limit = time.monotonic() + _PATIENCE
        problem: Exception | None = None
        try:
            for row in rows:
                chunk.append({str(k): plain(v) for k, v in row.items()} if isinstance(row, Mapping) else row)
                if len(chunk) == CHUNK or time.monotonic() > limit:
                    break
        except Exception as error:
            problem = error
        given += len(chunk)
        if chunk:
            yield chunk
        if problem is not None:
            raise PipelineError(
                f"The data broke off after {given:,} rows: {type(problem).__name__}: {problem}",
                hint="Mend what gives the rows.",
            ) from problem
        if not chunk:
            return


def _list_hash(rows: Sequence[Any]) -> str:
    found = 0
    for index in range(0, len(rows), max(len(rows) // _LOOKED_AT, 1)):
        found = zlib.crc32(encode(rows[index]), found)
    return f"{found:08x}"


def _frame_types(frame: pd.DataFrame) -> dict[str, pa.DataType]:
    """Return the Arrow types of the columns that are dates, times or categories; JSON keeps those of the others."""
    import pyarrow as pa

    found = {}
    for name, column in frame.items():
        if str(column.dtype).startswith(("datetime", "timestamp")):
            found[str(name)] = pa.array(column.head(1)).type
    return found


def plain(value: Any) -> Any:
    """Return a cell as a plain Python value, None for what is missing."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is float:
        return None if value != value else value
    if hasattr(value, "dtype") and hasattr(value, "item"):
        if getattr(value, "ndim", 0):
            return value
        value = value.item()
        return None if value != value else value
    if kind.__module__.partition(".")[0] == "pandas" and str(value) in ("<NA>", "NaT"):
        return None
    return value


def inputs_from(pipeline: Pipeline) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return the function that takes one row's inputs from its plain values.

    What is missing is None, or left to the default of an input that has one. A column of whole numbers with a gap is one
    of floats in pandas: its values are whole again where the input is an ``int``. An array is a list where the input is.
    """
    wanted = []
    for name, declared in pipeline.inputs.items():
        kinds = get_args(declared.type) or (declared.type,)
        origins = {getattr(k, "__origin__", k) for k in (declared.type, *kinds)}
        wanted.append((name, declared.required, int in kinds and float not in kinds, list in origins))

    def take(row: Mapping[str, Any]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name, required, whole, listed in wanted:
            value = row.get(name)
            if value is None:
                if required:
                    out[name] = None
                continue
            if whole and type(value) is float and value.is_integer():
                value = int(value)
            elif listed and hasattr(value, "tolist"):
                value = value.tolist()
            out[name] = value
        return out

    return take
