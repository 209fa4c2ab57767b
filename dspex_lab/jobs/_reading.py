"""Rows from wherever they are: a DataFrame, dicts, DSPy examples, a Parquet, CSV or JSONL file."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dspex_lab.errors import ConfigurationError

_KINDS = "a DataFrame, a list of dicts, dspy.Examples, or a Parquet, CSV or JSONL file"


def rows_of(data: Any) -> list[dict[str, Any]]:
    """Return data as rows; what is not there in a table (NaN, NaT, NA) is not in the row.

    Raises:
        ConfigurationError: it is nothing of the kind, or a row is no mapping.
    """
    if isinstance(data, str | Path):
        return _from_file(Path(data))
    if hasattr(data, "to_dict") and hasattr(data, "columns"):
        return _from_frame(data)
    if isinstance(data, Mapping) or not isinstance(data, Iterable):
        raise _unread(data)
    return [_from_item(at, item) for at, item in enumerate(data)]


def declared_inputs(data: Any) -> tuple[str, ...] | None:
    """Return the inputs that DSPy examples say of themselves; None where they say none."""
    if isinstance(data, list | tuple) and data and getattr(data[0], "_input_keys", None):
        return tuple(sorted(data[0]._input_keys))
    return None


def _from_file(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        raise ConfigurationError(f"There is no file {str(path)!r}.", key="data", expected=_KINDS, actual=str(path))
    match path.suffix.lower():
        case ".parquet" | ".pq":
            import pandas as pd

            return _from_frame(pd.read_parquet(path))
        case ".csv" | ".tsv":
            import pandas as pd

            # An empty field of a text file is an empty text only where its column has texts; pandas says which.
            return _from_frame(pd.read_csv(path, sep="\t" if path.suffix.lower() == ".tsv" else ","))
        case ".jsonl" | ".ndjson":
            return list(_from_lines(path))
        case ".json":
            return rows_of(json.loads(path.read_text(encoding="utf-8")))
    raise ConfigurationError(
        f"{path.name} is no file of rows that is known.", key="data", expected=".parquet, .csv, .tsv, .jsonl or .json"
    )


def _from_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ConfigurationError(f"{path.name}, line {number} is no JSON: {error}.", key="data") from error
            if not isinstance(row, dict):
                raise ConfigurationError(f"{path.name}, line {number} is no JSON object.", key="data", actual=row)
            yield row


def _from_frame(frame: Any) -> list[dict[str, Any]]:
    rows = [{str(k): v for k, v in row.items() if not _missing(v)} for row in frame.to_dict("records")]
    return [{k: _python(v) for k, v in row.items()} for row in rows]


def _from_item(at: int, item: Any) -> dict[str, Any]:
    made = item.toDict() if hasattr(item, "toDict") else item
    if not isinstance(made, Mapping):
        said = f"Row {at} is a {type(item).__name__}, and not fields with values."
        raise ConfigurationError(said, key=f"data[{at}]", expected=_KINDS, actual=type(item).__name__)
    return {str(k): v for k, v in made.items() if not re.match(r"dspy_(uuid|split)$", str(k))}


def _missing(value: Any) -> bool:
    if value is None or isinstance(value, float):
        return value is None or math.isnan(value)
    return type(value).__name__ in ("NAType", "NaTType") or (hasattr(value, "dtype") and value.ndim == 0 and value != value)


def _python(value: Any) -> Any:
    """Return numpy's scalars as Python's; arrays stay."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value


def _unread(data: Any) -> ConfigurationError:
    return ConfigurationError(
        f"A {type(data).__name__} is no data set.",
        key="data",
        expected=_KINDS,
        actual=type(data).__name__,
        hint=f"Give {_KINDS}.",
    )
