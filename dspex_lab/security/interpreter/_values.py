"""Values on their way into the sandbox: JSON, and a note of what to make of it there."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from dspex_lab.errors import ConfigurationError

#: The key of a JSON object that stands for what JSON has no word for.
MARK = "__dspex__"

#: Run once in a sandbox before the first such value; the code sees it, and may not be harmed by it.
DECODER = f"""
def __dspex_value__(tree):
    if isinstance(tree, list):
        return [__dspex_value__(one) for one in tree]
    if not isinstance(tree, dict):
        return tree
    kind = tree.get({MARK!r})
    if kind is None:
        return {{key: __dspex_value__(one) for key, one in tree.items()}}
    if kind == "float":
        return float(tree["value"])
    if kind == "dict":
        return {{key: __dspex_value__(one) for key, one in tree["items"]}}
    if kind == "array":
        import base64
        import numpy
        made = numpy.frombuffer(base64.b64decode(tree["bytes"]), dtype=tree["dtype"])
        return made.reshape(tree["shape"]).copy()
    import pandas
    if kind == "series":
        made = pandas.Series(__dspex_value__(tree["values"]), name=tree["name"], dtype=tree["via"])
        return made if tree["via"] == tree["dtype"] else made.astype(tree["dtype"])
    if kind == "category":
        groups = __dspex_value__(tree["groups"])
        codes = __dspex_value__(tree["codes"])
        made = pandas.Categorical.from_codes(codes, categories=groups.array, ordered=tree["ordered"])
        return pandas.Series(made, name=tree["name"])
    if kind == "column":
        return __dspex_value__(tree["frame"]).iloc[:, 0]
    index = __dspex_value__(tree["index"])
    columns = [__dspex_value__(one) for one in tree["columns"]]
    made = pandas.concat(columns, axis=1) if columns else pandas.DataFrame()
    made.columns = pandas.Index([tuple(n) if isinstance(n, list) else n for n in tree["names"]])
    if index is not None:
        made.index = pandas.Index(index.array, name=index.name)
    return made
"""


def encode(value: Any) -> Any:
    """Return ``value`` as a JSON tree, as DSPy's interpreter takes it: models and dataclasses as dicts, tuples and sets as
    lists, dates as ISO text.

    Beyond DSPy's: NumPy arrays, pandas Series and DataFrames (Polars and Arrow tables as such) stay what they are, and a dict
    keeps keys that are no text.

    Raises:
        ConfigurationError: there is no JSON form of it.
    """
    if value is None or isinstance(value, str | bool | int):
        return _plain(value)
    if isinstance(value, float):
        finite = value == value and value not in (float("inf"), float("-inf"))
        return float(value) if finite else {MARK: "float", "value": repr(float(value))}
    if isinstance(value, Mapping):
        if all(type(key) is str for key in value) and MARK not in value:
            return {key: encode(one) for key, one in value.items()}
        return {MARK: "dict", "items": [[_key(key), encode(one)] for key, one in value.items()]}
    if isinstance(value, list | tuple):
        return [encode(one) for one in value]
    if isinstance(value, set | frozenset):
        return [encode(one) for one in _sorted(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return encode({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    dump = getattr(value, "model_dump", None)
    if callable(dump) and hasattr(type(value), "model_fields"):
        return encode(dump(mode="json"))
    return _table(value)


def is_marked(tree: Any) -> bool:
    """Say whether a tree holds what JSON has no word for."""
    if isinstance(tree, dict):
        return MARK in tree or any(map(is_marked, tree.values()))
    return isinstance(tree, list) and any(map(is_marked, tree))


def jsonable(value: Any) -> Any:
    """Return what a tool gave as plain JSON values; what has no JSON form becomes its ``str``, as in DSPy."""
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    try:
        made = to_jsonable_python(value)
        json.dumps(made, allow_nan=False)
        return made
    except (PydanticSerializationError, TypeError, ValueError):
        return value if isinstance(value, str) else str(value)


def _plain(value: Any) -> Any:
    # A subclass, such as an enum's member, is sent as what it is made of.
    for kind in (bool, int, str):
        if isinstance(value, kind):
            return value if type(value) is kind else kind.__call__(value.value if hasattr(value, "value") else value)
    return None


def _key(key: Any) -> Any:
    if key is None or isinstance(key, str | bool | int | float):
        return key
    raise _no_form(key, "a key of a dict")


def _sorted(values: Any) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:
        return list(values)


def _table(value: Any) -> Any:
    home = type(value).__module__.partition(".")[0]
    if home in ("polars", "pyarrow") and hasattr(value, "to_pandas"):
        value, home = value.to_pandas(), "pandas"
    if home == "numpy":
        return _array(value) if hasattr(value, "shape") and value.shape else encode(value.item())
    if home == "pandas" and hasattr(value, "columns"):
        return _frame(value)
    if home == "pandas" and hasattr(value, "to_numpy") and hasattr(value, "to_frame"):
        return {MARK: "column", "frame": _frame(value.to_frame())}
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    try:
        made = to_jsonable_python(value)
    except PydanticSerializationError:
        raise _no_form(value, "a value") from None
    return encode(made)


def _array(value: Any) -> Any:
    if value.dtype.hasobject:
        return encode(value.tolist())
    data = base64.b64encode(value.tobytes()).decode("ascii")
    return {MARK: "array", "bytes": data, "dtype": value.dtype.str, "shape": list(value.shape)}


def _frame(frame: Any) -> Any:
    import pandas

    plain_index = isinstance(frame.index, pandas.RangeIndex) and frame.index.equals(pandas.RangeIndex(len(frame)))
    if isinstance(frame.index, pandas.MultiIndex):
        raise _no_form(frame, "a DataFrame with an index of several levels", "Give frame.reset_index().")
    return {
        MARK: "frame",
        "index": None if plain_index else _series(frame.index.to_series().reset_index(drop=True).rename(frame.index.name)),
        "names": [encode(name) for name in frame.columns],
        "columns": [_series(frame.iloc[:, n].reset_index(drop=True)) for n in range(frame.shape[1])],
    }


def _series(series: Any) -> Any:
    """Return a column: numbers and times as their bytes; others value by value, with the type to be made of them there."""
    dtype = series.dtype
    name = series.name if series.name is None or isinstance(series.name, str | int | float | bool) else str(series.name)
    if getattr(dtype, "kind", "O") in "biuf" and hasattr(dtype, "str"):
        return {MARK: "series", "name": name, "via": dtype.str, "dtype": dtype.str, "values": _array(series.to_numpy())}
    if getattr(dtype, "kind", "O") in "mM":  # times: whole numbers, exact, in the unit of the type
        return {MARK: "series", "name": name, "via": "int64", "dtype": str(dtype), "values": _array(series.array.asi8)}
    if hasattr(dtype, "categories"):
        groups = _series(dtype.categories.to_series().reset_index(drop=True))
        codes = _array(series.cat.codes.to_numpy())
        return {MARK: "category", "name": name, "codes": codes, "groups": groups, "ordered": bool(dtype.ordered)}
    missing = series.isna()
    values = [None if gone else encode(_cell(one)) for one, gone in zip(series.tolist(), missing, strict=True)]
    kind = str(dtype)
    return {MARK: "series", "name": name, "via": "object", "dtype": kind, "values": values}


def _cell(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def _no_form(value: Any, what: str, hint: str | None = None) -> ConfigurationError:
    return ConfigurationError(
        f"{what.capitalize()} of type {type(value).__name__} cannot be given to sandboxed code: it has no JSON form.",
        key="variables",
        actual=type(value).__name__,
        hint=hint or "Give text, numbers, lists, dicts, models, arrays or DataFrames.",
    )
