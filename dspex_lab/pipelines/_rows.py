"""Rows to map over, from a data frame, a file or a list."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import PipelineError, did_you_mean
from dspex_lab.pipelines._pipeline import Pipeline

if TYPE_CHECKING:
    import pandas as pd

_SUFFIXES = (".csv", ".parquet", ".jsonl", ".ndjson")


def read_rows(data: Any) -> pd.DataFrame:
    """Return ``data`` as a data frame with a fresh index.

    Args:
        data: a DataFrame, the path of a ``.csv``, ``.parquet`` or ``.jsonl`` file, or a list of dicts.

    Raises:
        PipelineError: the file is not there, cannot be read, or is of another kind.
    """
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        return data.reset_index(drop=True)
    if isinstance(data, str | Path):
        return _read_file(Path(data))
    try:
        return pd.DataFrame(list(data))
    except (TypeError, ValueError) as error:
        raise PipelineError(
            f"{type(data).__name__} cannot be read as rows: {error}.",
            hint="Give a DataFrame, a path to .csv, .parquet or .jsonl, or a list of dicts.",
        ) from error


def _read_file(path: Path) -> pd.DataFrame:
    import pandas as pd

    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise PipelineError(f"{path} is not a file of rows.", hint=f"Give one that ends in {', '.join(_SUFFIXES)}.")
    if not path.is_file():
        beside = [p.name for p in path.parent.glob("*") if p.suffix.lower() in _SUFFIXES] if path.parent.is_dir() else []
        near = did_you_mean(path.name, beside)
        raise PipelineError(f"There is no file {path} (looked in {path.parent.resolve()}).{near}", hint="Check the path.")
    try:
        if suffix == ".csv":
            return pd.read_csv(path)
        if suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_json(path, lines=True)
    except Exception as error:
        raise PipelineError(
            f"{path} cannot be read as {suffix[1:]}: {type(error).__name__}: {error}", hint="Check that the file is whole."
        ) from error


def check_columns(pipeline: Pipeline, frame: pd.DataFrame) -> list[str]:
    """Return the inputs of ``pipeline`` that ``frame`` has a column for.

    Raises:
        PipelineError: a required input has no column, or there are no rows.
    """
    columns = [str(c) for c in frame.columns]
    missing = [n for n, f in pipeline.inputs.items() if f.required and n not in columns]
    if missing:
        first = missing[0]
        raise PipelineError(
            f"The pipeline {pipeline.name!r} needs the column{'s' if len(missing) > 1 else ''} "
            f"{', '.join(map(repr, missing))}; the data has {', '.join(map(repr, columns)) or 'none'}."
            f"{did_you_mean(first, columns)}",
            hint=f"Rename the column: data.rename(columns={{'…': {first!r}}}).",
        )
    if frame.empty:
        raise PipelineError("There are no rows to map over.", hint="Give at least one row.")
    return [n for n in pipeline.inputs if n in columns]


def check_labels(frame: pd.DataFrame, text: str, label: str, source: str) -> None:
    """Refuse rows a classifier cannot be tried on.

    Args:
        text: the column with the text; ``label`` the one with the label.
        source: what the rows are called in errors.

    Raises:
        PipelineError: a column is missing, or there are fewer than two labels or ten labelled rows.
    """
    columns = [str(c) for c in frame.columns]
    for name in (text, label):
        if name not in columns:
            raise PipelineError(
                f"{source} has no column {name!r}; it has {', '.join(map(repr, columns)) or 'none'}."
                f"{did_you_mean(name, columns)}",
                hint="Name one of its columns.",
            )
    labelled = frame.dropna(subset=[text, label])
    labels = labelled[label].nunique()
    if labels < 2 or len(labelled) < 10:
        raise PipelineError(
            f"{source} has {len(labelled)} rows with a text and a label, and {labels} different label{'s' * (labels != 1)}.",
            hint="At least ten rows and two labels are needed to measure anything.",
        )


def row_inputs(names: list[str], values: tuple[Any, ...]) -> dict[str, Any]:
    """Return one row's inputs as plain Python values."""
    return {n: v.item() if hasattr(v, "item") and not hasattr(v, "__len__") else v for n, v in zip(names, values, strict=True)}
