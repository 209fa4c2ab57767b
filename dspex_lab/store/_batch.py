"""Records into Arrow tables: fast where every value fits its column, value by value where one does not."""

from __future__ import annotations

import datetime as dt
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dspex_lab.security import Redactor
from dspex_lab.security import redact as default_redact
from dspex_lab.store._encode import LARGEST, LARGEST_WHOLE, Redact, dump, finished, to_text
from dspex_lab.store._schema import TABLES

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("dspex_lab")

#: Times beyond the year 9999 are no times, and Python could not show them.
_LAST_TIME = 253_402_300_800.0


def tables_of(records: Sequence[Any], lab_id: str, redact: Redact | None) -> dict[str, pa.Table]:
    """Return one Arrow table per table of the store, with the columns' names; a value that does not fit becomes NULL."""
    import pyarrow as pa

    if redact is default_redact:
        redact = Redactor()
    by_type: dict[type[Any], list[Any]] = {}
    for record in records:
        by_type.setdefault(type(record), []).append(record)
    out: dict[str, pa.Table] = {}
    for kind, rows in by_type.items():
        table = TABLES[kind]
        arrays = {
            name: _array(column, values, redact)
            for (name, column), values in zip(table.columns, zip(*rows, strict=True), strict=True)
        }
        if table.of_lab:
            arrays["lab_id"] = pa.array([lab_id] * len(rows), pa.string())
        out[table.name] = pa.table(arrays)
    return out


#: So many values are turned into JSON before other threads are let in.
_CHUNK = 64


def breathe() -> None:
    """Let other threads run: one that waits for the interpreter otherwise waits until this one has had its 5 ms."""
    time.sleep(0)


def _array(kind: str, values: Sequence[Any], redact: Redact | None) -> pa.Array:
    breathe()
    try:
        return _FAST[kind](values, redact)
    except (TypeError, ValueError, OverflowError) as error:
        # pyarrow's errors and UnicodeEncodeError are among these.
        log.warning("a record has a value that does not fit a %s column (%s); that value is kept as NULL or text", kind, error)
        return _FAST[kind]([_lenient(kind, value) for value in values], redact)


def _ids(values: Sequence[Any], redact: Redact | None) -> pa.Array:
    import pyarrow as pa

    return pa.array(values, pa.string())


def _texts(values: Sequence[Any], redact: Redact | None) -> pa.Array:
    import pyarrow as pa

    # Texts are mostly short, clean and the same again: one look at all of them together spares a look at each.
    texts = set(values)
    texts.discard(None)
    joined = "\n".join(texts)
    short = len(joined) <= LARGEST or max(map(len, texts)) <= LARGEST
    if not short or not _is_clean(joined, redact):
        values = [to_text(v, redact) for v in values]
    return pa.array(values, pa.string())


def _wholes(values: Sequence[Any], redact: Redact | None) -> pa.Array:
    return _jsons(values, redact, LARGEST_WHOLE)


def _jsons(values: Sequence[Any], redact: Redact | None, largest: int = LARGEST) -> pa.Array:
    import pyarrow as pa

    if not any(values) and all(v is None for v in values):
        return pa.nulls(len(values), pa.string())
    texts: list[str | None] = []
    for start in range(0, len(values), _CHUNK):
        texts += [None if v is None else dump(v) for v in values[start : start + _CHUNK]]
        breathe()
    if _is_clean("\n".join([t for t in texts if t is not None]), redact):
        redact = None
    return pa.array([None if t is None else finished(t, redact, largest) for t in texts], pa.string())


def _is_clean(joined: str, redact: Redact | None) -> bool:
    # What a hook of somebody else's looks for is not known, so it is shown every value.
    return redact is None or (isinstance(redact, Redactor) and not redact.may_hold(joined))


def _floats(values: Sequence[Any], redact: Redact | None) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    numbers = np.array(values, dtype=np.float64)
    # One NaN would turn every sum over the column into NaN.
    return pa.array(numbers, pa.float64(), mask=~np.isfinite(numbers))


def _times(values: Sequence[Any], redact: Redact | None) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    seconds = np.array(values, dtype=np.float64)
    wrong = ~(np.abs(seconds) < _LAST_TIME)
    micros = np.round(np.where(wrong, 0.0, seconds) * 1e6).astype(np.int64)
    return pa.array(micros, pa.int64(), mask=wrong).cast(pa.timestamp("us"))


def _ints(values: Sequence[Any], redact: Redact | None) -> pa.Array:
    import pyarrow as pa

    return pa.array(values, pa.int64())


def _bools(values: Sequence[Any], redact: Redact | None) -> pa.Array:
    import pyarrow as pa

    return pa.array(values, pa.bool_())


def _lists(values: Sequence[Any], redact: Redact | None) -> pa.Array:
    import pyarrow as pa

    if redact is not None:
        values = [v if not v else [to_text(x, redact) for x in v] for v in values]
    return pa.array(values, pa.list_(pa.string()))


_FAST: dict[str, Callable[[Sequence[Any], Redact | None], pa.Array]] = {
    "id": _ids,
    "text": _texts,
    "json": _jsons,
    "whole": _wholes,
    "time": _times,
    "float": _floats,
    "int": _ints,
    "bool": _bools,
    "texts": _lists,
}


def _lenient(kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind in {"id", "text"}:
        return to_text(value)
    if kind == "texts":
        return [to_text(v) for v in value] if isinstance(value, (list, tuple, set, frozenset)) else [to_text(value)]
    if kind == "bool":
        return value if isinstance(value, bool) else None
    if kind == "time" and isinstance(value, dt.datetime):
        return (value if value.tzinfo else value.replace(tzinfo=dt.UTC)).timestamp()
    return _number(value, whole=kind == "int")


def _number(value: Any, *, whole: bool) -> float | int | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if not whole:
        return number
    return int(number) if math.isfinite(number) and abs(number) < 2**63 else None
