"""Values of a session's state as JSON text, and back. What is read is data: nothing in it is ever run or unpickled.

Kept are None, bool, int, float (also NaN and the infinities), str, bytes, lists, tuples, sets, dicts, dates, times, lengths of
time, Decimal, UUID, numpy arrays and scalars, pandas DataFrames, Series and Indexes, Arrow tables, and ``dspy.Example``. JSON
has not all of these, so they stand in it as ``{"$": KIND, "v": …}``: an array as the bytes of an ``.npy`` file without pickle,
a frame as an Arrow stream, both in base64.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import decimal
import io
import json
import math
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dspex_lab.errors import SessionError

#: Levels of lists and dicts in each other.
DEEPEST = 100

#: The key that marks what JSON has not; a dict of the user's that has it too is written as pairs.
MARK = "$"

_PLAIN = (str, int, bool, type(None))


def encode(value: Any, path: str) -> str:
    """Return ``value`` as JSON text that :func:`decode` turns into an equal value.

    Args:
        path: where it stands, for the error: ``state['cache']``.

    Raises:
        SessionError: a part of it cannot be kept; the error names the part.
    """
    return json.dumps(_plain(value, path, 0), separators=(",", ":"), allow_nan=False)


def decode(text: str, path: str) -> Any:
    """Return the value that ``text`` says.

    Raises:
        SessionError: it cannot be read.
    """
    try:
        return _value(json.loads(text))
    except Exception as error:
        raise SessionError(
            f"{path} cannot be read: {type(error).__name__}: {error}.",
            hint="What the store holds is damaged, or of another version. Set the key anew, or delete it.",
        ) from error


def texts_in(text: str) -> Iterator[str]:
    """Yield the texts that base64 hides in JSON text of :func:`encode`, so that secrets can be looked for in them."""
    if f'"{MARK}"' in text:
        yield from _hidden(json.loads(text))


def _refused(value: Any, path: str, why: str, hint: str | None = None) -> SessionError:
    return SessionError(
        f"{path} cannot be kept: it is {why}.",
        hint=hint
        or "A session keeps plain values, dates, numpy arrays, pandas frames and Arrow tables. Keep what it is made from, such "
        "as its fields as a dict.",
    )


def _marked(kind: str, value: Any) -> dict[str, Any]:
    return {MARK: kind, "v": value}


def _plain(value: Any, path: str, depth: int) -> Any:
    kind = type(value)
    if kind is str and not value.isascii():
        return _text(value)
    if kind in _PLAIN:
        return value
    if kind is float:
        return value if math.isfinite(value) else _marked("float", repr(value))
    if depth >= DEEPEST:
        raise _refused(value, _short(path), f"deeper than {DEEPEST} levels, or contains itself")
    if kind is list:
        return [_plain(v, f"{path}[{i}]", depth + 1) for i, v in enumerate(value)]
    if kind is dict:
        return _dict(value, path, depth)
    if kind in _MANY:
        members = sorted(value, key=_order) if kind in (set, frozenset) else value
        return _marked(kind.__name__, [_plain(v, f"{path}[{i}]", depth + 1) for i, v in enumerate(members)])
    if kind in _SIMPLE:
        return _marked(kind.__name__, _SIMPLE[kind][0](value))
    return _foreign(value, kind, path, depth)


def _text(value: str) -> Any:
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a pair: valid in Python, not in a store
        return _marked("text", _base64(value.encode("utf-8", "surrogatepass")))
    return value


def _order(value: Any) -> tuple[str, str]:
    return type(value).__name__, repr(value)


def _dict(value: dict[Any, Any], path: str, depth: int) -> Any:
    if MARK not in value and all(type(k) is str and _text(k) is k for k in value):
        return {k: _plain(v, f"{path}[{k!r}]", depth + 1) for k, v in value.items()}
    pairs = [[_plain(k, f"{path}: key {k!r}", depth + 1), _plain(v, f"{path}[{k!r}]", depth + 1)] for k, v in value.items()]
    return _marked("dict", pairs)


def _foreign(value: Any, kind: type, path: str, depth: int) -> Any:
    """Types of packages are known by their module, so that nothing is imported for them."""
    root, name = kind.__module__.partition(".")[0], kind.__name__
    if root == "numpy" and hasattr(value, "dtype"):
        return _array(value, path)
    if (root == "pandas" and name in ("DataFrame", "Series")) or (root == "pandas" and name.endswith("Index")):
        return _frame(value, name, path)
    if root == "pandas" and name == "Timestamp":
        return _marked("Timestamp", value.isoformat())
    if root == "pyarrow" and name == "Table":
        return _marked("Table", _base64(_stream(value)))
    if root == "dspy" and name == "Example":
        inputs = getattr(value, "_input_keys", None)
        fields = _plain(dict(value.toDict()), path, depth + 1)
        return _marked("Example", [fields, None if inputs is None else sorted(inputs)])
    raise _refused(value, _short(path), f"{_an(f'{kind.__module__}.{name}'.removeprefix('builtins.'))}")


def _an(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _short(path: str) -> str:
    return path if len(path) <= 300 else f"{path[:150]} … {path[-100:]}"


def _array(value: Any, path: str) -> dict[str, Any]:
    import numpy as np

    if value.dtype.hasobject:
        raise _refused(value, path, "an array of Python objects", "Give it a type, such as value.astype(str), or keep a list.")
    if isinstance(value, np.ndarray) and type(value) is not np.ndarray:
        raise _refused(value, path, f"a numpy.{type(value).__name__}", "Keep np.asarray(value) instead.")
    out = io.BytesIO()
    np.save(out, np.asarray(value), allow_pickle=False)
    return _marked("ndarray" if isinstance(value, np.ndarray) else "scalar", _base64(out.getvalue()))


def _frame(value: Any, name: str, path: str) -> dict[str, Any]:
    import pandas as pd
    import pyarrow as pa

    if name == "DataFrame":
        frame = value
    elif name == "Series":
        frame = value.to_frame("" if value.name is None else value.name)
    else:
        name, frame = "Index", value.to_frame(name="", index=False)
    if not frame.columns.is_unique:
        raise _refused(value, path, f"a {name} with two columns of one name", "Rename its columns.")
    labels = list(frame.columns)
    try:
        plain = frame.set_axis([str(i) for i in range(len(labels))], axis=1)
        table = pa.Table.from_pandas(plain, preserve_index=True)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise _refused(value, path, f"a {name} with values that Arrow has no type for ({error})") from error
    if any(pa.types.is_nested(kind) for kind in table.schema.types):
        hint = "Keep its rows: frame.to_dict('records')."
        raise _refused(value, path, f"a {name} with lists, tuples or dicts in its cells, which would come back as arrays", hint)
    about = {
        "labels": _plain(labels, f"{path}: columns", 0),
        "names": _plain(list(frame.columns.names), f"{path}: names of columns", 0),
        "tuples": frame.columns.nlevels > 1,
        "name": None if name == "DataFrame" else _plain(value.name, f"{path}: name", 0),
    }
    written = [_base64(_stream(table)), about]
    try:
        pd.testing.assert_frame_equal(_pandas(written)[0], frame, check_freq=False)
    except AssertionError as error:
        raise _refused(value, path, f"a {name} that Arrow gives back changed ({' '.join(str(error).split())[:120]})") from error
    return _marked(name, written)


def _stream(table: Any) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


# ---- back ------------------------------------------------------------------------------------------------------------


def _value(plain: Any) -> Any:
    if isinstance(plain, list):
        return [_value(v) for v in plain]
    if not isinstance(plain, dict):
        return plain
    kind = plain.get(MARK)
    if kind is None:
        return {k: _value(v) for k, v in plain.items()}
    return _READ[kind](plain["v"])


def _pairs(value: Any) -> dict[Any, Any]:
    return {_value(k): _value(v) for k, v in value}


def _numpy(value: Any) -> Any:
    import numpy as np

    return np.load(io.BytesIO(_bytes(value)), allow_pickle=False)


def _table(value: Any) -> Any:
    import pyarrow as pa

    with pa.ipc.open_stream(_bytes(value)) as reader:
        return reader.read_all()


def _pandas(value: Any) -> Any:
    import pandas as pd

    data, about = value
    frame = _table(data).to_pandas()
    labels, names = _value(about["labels"]), _value(about["names"])
    if about["tuples"]:
        frame.columns = pd.MultiIndex.from_tuples(labels, names=names)
    else:
        frame.columns = pd.Index(labels, name=names[0]) if labels else pd.RangeIndex(0, name=names[0])
    return frame, _value(about["name"])


def _series(value: Any) -> Any:
    frame, name = _pandas(value)
    return frame.iloc[:, 0].rename(name)


def _index(value: Any) -> Any:
    import pandas as pd

    frame, name = _pandas(value)
    return pd.Index(frame.iloc[:, 0]).rename(name)


def _timestamp(value: Any) -> Any:
    import pandas as pd

    return pd.Timestamp(value)


def _example(value: Any) -> Any:
    import dspy

    fields, inputs = value
    made = dspy.Example(**_value(fields))
    return made if inputs is None else made.with_inputs(*inputs)


def _bytes(value: str) -> bytes:
    return base64.b64decode(value, validate=True)


#: Types of one value: how each is written and read.
_SIMPLE: dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    bytes: (_base64, _bytes),
    bytearray: (_base64, lambda v: bytearray(_bytes(v))),
    complex: (lambda v: [repr(v.real), repr(v.imag)], lambda v: complex(float(v[0]), float(v[1]))),
    dt.datetime: (dt.datetime.isoformat, dt.datetime.fromisoformat),
    dt.date: (dt.date.isoformat, dt.date.fromisoformat),
    dt.time: (dt.time.isoformat, dt.time.fromisoformat),
    dt.timedelta: (lambda v: [v.days, v.seconds, v.microseconds], lambda v: dt.timedelta(*v)),
    decimal.Decimal: (str, decimal.Decimal),
    uuid.UUID: (str, uuid.UUID),
}
#: Types of many values beside list and dict.
_MANY: dict[type, Callable[[Any], Any]] = {tuple: tuple, set: set, frozenset: frozenset}

_READ: dict[str, Callable[[Any], Any]] = {
    **{kind.__name__: read for kind, (_, read) in _SIMPLE.items()},
    **{kind.__name__: lambda v, make=make: make(_value(v)) for kind, make in _MANY.items()},  # type: ignore[misc]
    "float": float,
    "text": lambda v: _bytes(v).decode("utf-8", "surrogatepass"),
    "dict": _pairs,
    "ndarray": _numpy,
    "scalar": lambda v: _numpy(v)[()],
    "DataFrame": lambda v: _pandas(v)[0],
    "Series": _series,
    "Index": _index,
    "Table": _table,
    "Timestamp": _timestamp,
    "Example": _example,
}


#: What begins with an Arrow stream.
_FRAMES = ("DataFrame", "Series", "Index")


def _said(cell: Any) -> str:
    return cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell)


def _hidden(plain: Any) -> Iterator[str]:
    if isinstance(plain, Mapping):
        kind, value = plain.get(MARK), plain.get("v")
        if kind in ("ndarray", "scalar") and isinstance(value, str):
            found = _numpy(value)
            if found.dtype.kind in "US":  # four bytes a letter, or end to end
                yield "\n".join(_said(one) for one in found.ravel().tolist())
            else:
                yield _bytes(value).decode("utf-8", "replace")
        # Arrow lays strings end to end, where a key is no longer seen to begin.
        stream = value if kind == "Table" else value[0] if kind in _FRAMES and isinstance(value, list) and value else None
        if isinstance(stream, str):
            for column in _table(stream).columns:
                yield "\n".join(_said(one) for one in column.to_pylist() if isinstance(one, str | bytes | list | dict))
        for part in plain.values():
            yield from _hidden(part)
    elif isinstance(plain, list):
        for part in plain:
            yield from _hidden(part)
    elif isinstance(plain, str) and len(plain) >= 8:
        try:
            yield _bytes(plain).decode("utf-8", "replace")
        except (binascii.Error, ValueError):
            return


def changeable(value: Any) -> bool:
    """Say whether a value can change in itself, so that it has to be looked at again."""
    return not isinstance(value, (*_PLAIN, float, complex, bytes, dt.date, dt.time, dt.timedelta, decimal.Decimal, uuid.UUID))


def memory_of(entries: Mapping[str, str]) -> int:
    """Return the bytes that entries take, as they are kept."""
    return sum(len(text) + len(json.dumps(key)) + 2 for key, text in entries.items())


def joined(entries: Mapping[str, str]) -> str:
    """Return entries, each a key and its value as JSON text, as one JSON object."""
    return "{" + ",".join(f"{json.dumps(key)}:{text}" for key, text in entries.items()) + "}"


def parted(text: str) -> dict[str, str]:
    """Return the entries of a JSON object, each value as JSON text."""
    found = json.loads(text)
    return {key: json.dumps(value, separators=(",", ":")) for key, value in found.items()}
