"""The finished file of a map, written from its journal in the order of the rows, some rows at a time."""

from __future__ import annotations

import csv
import datetime as dt
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex_lab.pipelines.maps._journal import Journal, refused
from dspex_lab.pipelines.maps._json import decode, encode

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows that are in memory at once.
_PIECE = 2_000
#: An object with more different keys than this is kept as text, not as a column for each key.
_MOST_KEYS = 64


def compose(journal: Journal, tail: Sequence[str], types: Mapping[str, Any]) -> Path:
    """Write the file that the journal's outcomes make beside the journal and return its path.

    Args:
        tail: the columns that come last: the outputs and what the map says of a row.
        types: Arrow types of columns that lose theirs in JSON.

    Raises:
        PipelineError: the disk refuses; the journal is whole.
    """
    path = journal.folder / f"whole{journal.out.suffix}"
    write = {".parquet": _parquet, ".csv": _csv}.get(journal.out.suffix.lower(), _jsonl)
    try:
        write(journal.lines, path, tail, types)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise refused(journal.out, error, kept=len(journal.ledger)) from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


Lines = Callable[[], Iterator[bytes]]


def _jsonl(lines: Lines, path: Path, tail: Sequence[str], types: Mapping[str, Any]) -> None:
    with path.open("wb", buffering=1 << 20) as file:
        for line in lines():
            # The journal keeps what JSON has no word for; here it is null.
            special = b"NaN" in line or b"Infinity" in line
            file.write(encode(decode(line), strict=True) if special else line)
            file.write(b"\n")


def _pieces(lines: Lines) -> Iterator[list[dict[str, Any]]]:
    found = lines()
    while piece := [decode(line) for line in itertools.islice(found, _PIECE)]:
        yield piece


def _ordered(names: Iterable[str], tail: Sequence[str]) -> list[str]:
    return [*(n for n in names if n not in tail), *tail]


def _csv(lines: Lines, path: Path, tail: Sequence[str], types: Mapping[str, Any]) -> None:
    names = _ordered(dict.fromkeys(n for piece in _pieces(lines) for row in piece for n in row), tail)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for piece in _pieces(lines):
            writer.writerows([_cell(row.get(n)) for n in names] for row in piece)


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


# --- Parquet ------------------------------------------------------------------------------------------------------------


def _parquet(lines: Lines, path: Path, tail: Sequence[str], types: Mapping[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = _found_types(_pieces(lines), types)
    names = _ordered(found, tail)
    schema = pa.schema([(n, found.get(n) or pa.string()) for n in names])
    with pq.ParquetWriter(path, schema) as writer:
        for piece in _pieces(lines):
            arrays = [_array([row.get(field.name) for row in piece], field.type) for field in schema]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _found_types(pieces: Iterator[list[dict[str, Any]]], types: Mapping[str, Any]) -> dict[str, pa.DataType]:
    """Return the narrowest type of each column that all its values fit; text (of JSON) where there is none but that."""
    import pyarrow as pa

    found: dict[str, pa.DataType] = {}
    for piece in pieces:
        for name in dict.fromkeys(n for row in piece for n in row):
            before = found.get(name)
            if before == pa.string():
                continue
            values = [row.get(name) for row in piece]
            if (before is None and name in types) or (before is not None and before == types.get(name)):
                if _fits(values, types[name]):
                    found[name] = types[name]
                    continue
                before = pa.string() if before is not None else None
            found[name] = _joined(before, _type_of(values))
    return {n: pa.string() if pa.types.is_null(t) or not _writable(t) else t for n, t in found.items()}


def _fits(values: list[Any], kind: pa.DataType) -> bool:
    import pyarrow as pa

    try:
        _array(values, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return True


def _type_of(values: list[Any]) -> pa.DataType:
    import pyarrow as pa

    try:
        return pa.array(values).type
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return pa.string()


def _joined(before: pa.DataType | None, now: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    if before is None or before == now or pa.types.is_null(before):
        return now
    if pa.types.is_null(now):
        return before
    fields = [pa.schema([("x", t)]) for t in (before, now)]
    try:
        joined = pa.unify_schemas(fields, promote_options="permissive").field("x").type
    except (pa.ArrowException, TypeError):
        return pa.string()
    # A boolean is no number here, and a date no text.
    plain = (pa.types.is_boolean(before), pa.types.is_boolean(now))
    return pa.string() if any(plain) and not all(plain) else joined


def _writable(kind: pa.DataType) -> bool:
    """Say whether Parquet can hold the type and a reader can use it: no empty objects, no object with many keys."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return 0 < kind.num_fields <= _MOST_KEYS and all(_writable(kind.field(i).type) for i in range(kind.num_fields))
    if pa.types.is_list(kind):
        return _writable(kind.value_type)
    return True


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        texts = [v if v is None or isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in values]
        return pa.array(texts, kind)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_time(kind) or pa.types.is_decimal(kind):
        return pa.array([None if v is None else _ago(v, kind) for v in values], kind)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        import base64

        return pa.array([None if v is None else base64.b64decode(v, altchars=b"-_", validate=True) for v in values], kind)
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, TypeError):
        return pa.array([_coerced(v, kind) for v in values], kind)


def _coerced(value: Any, kind: pa.DataType) -> Any:
    """Return ``value`` as the type that was found for a column of several pieces, in each of which it is another one."""
    import pyarrow as pa

    if value is None:
        return None
    if pa.types.is_floating(kind) and isinstance(value, int):
        return float(value)
    if pa.types.is_string(kind):
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if pa.types.is_list(kind) and isinstance(value, list):
        return [_coerced(v, kind.value_type) for v in value]
    if pa.types.is_struct(kind) and isinstance(value, dict):
        return {f.name: _coerced(value.get(f.name), f.type) for f in kind}
    return value


def _ago(value: Any, kind: pa.DataType) -> Any:
    """Return what JSON has as text as the moment or number it was."""
    import decimal

    import pyarrow as pa

    if pa.types.is_decimal(kind):
        return decimal.Decimal(str(value))
    if not isinstance(value, str):
        raise TypeError(value)
    if pa.types.is_timestamp(kind):
        moment = dt.datetime.fromisoformat(value)
        if (moment.tzinfo is None) != (kind.tz is None):
            raise TypeError(value)  # Arrow would take one for the other
        return moment
    return dt.date.fromisoformat(value) if pa.types.is_date(kind) else dt.time.fromisoformat(value)


def declared_types(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the Arrow types of output fields that say theirs, by field name.

    Args:
        outputs: the declared Python types.
    """
    import pyarrow as pa

    kinds: dict[Any, Any] = {
        str: pa.string(),
        int: pa.int64(),
        float: pa.float64(),
        bool: pa.bool_(),
        dt.date: pa.date32(),
        dt.datetime: pa.timestamp("us"),
        bytes: pa.binary(),
    }
    return {name: kinds[kind] for name, kind in outputs.items() if isinstance(kind, type) and kind in kinds}
