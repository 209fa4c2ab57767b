"""Rows to map over, from a data frame, a file or a list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from dspex_lab.errors import PipelineError, did_you_mean
from dspex_lab.pipelines._pipeline import Pipeline

if TYPE_CHECKING:
    import pandas as pd

#: What a map says of each row, beside the pipeline's own fields.
ROW_COLUMNS = ("status", "error", "run_id")

_SUFFIXES = (".csv", ".parquet", ".jsonl", ".ndjson")


def read_rows(data: Any, text: Sequence[str] = ()) -> pd.DataFrame:
    """Return ``data`` as a data frame with a fresh index.

    Args:
        text: columns of a CSV file that hold text, also where it looks like numbers ("00501").
        data: a DataFrame, the path of a ``.csv``, ``.parquet`` or ``.jsonl`` file, or a list of dicts.

    Raises:
        PipelineError: the file is not there, cannot be read, or is of another kind.
    """
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        return data.reset_index(drop=True)
    if isinstance(data, str | Path):
        return _read_file(Path(data), text)
    try:
        return pd.DataFrame(list(data))
    except (TypeError, ValueError) as error:
        raise PipelineError(
            f"{type(data).__name__} cannot be read as rows: {error}.",
            hint="Give a DataFrame, a path to .csv, .parquet or .jsonl, or a list of dicts.",
        ) from error


def _read_file(path: Path, text: Sequence[str]) -> pd.DataFrame:
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
            # Only an empty field is missing: "None" and "N/A" are words a column may hold. Whole numbers stay whole.
            kinds = dict.fromkeys(text, str)
            frame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=kinds, dtype_backend="numpy_nullable")
            return frame.astype({c: object for c in frame.columns if isinstance(frame[c].dtype, pd.StringDtype)})
        if suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_json(path, lines=True)
    except Exception as error:
        raise PipelineError(
            f"{path} cannot be read as {suffix[1:]}: {type(error).__name__}: {' '.join(str(error).split())}",
            hint="Is it whole, saved as UTF-8, and its columns separated by commas?"
            if suffix == ".csv"
            else "Is the file whole?",
        ) from error


def check_columns(pipeline: Pipeline, frame: pd.DataFrame) -> list[str]:
    """Return the inputs of ``pipeline`` that ``frame`` has a column for.

    Raises:
        PipelineError: a required input has no column, or there are no rows.
    """
    columns = [str(c) for c in frame.columns]
    if len(set(columns)) < len(columns):
        twice = next(c for c in columns if columns.count(c) > 1)
        raise PipelineError(f"The data has two columns {twice!r}.", hint="Rename one.")
    taken = [f for f in pipeline.outputs if f in ROW_COLUMNS]
    if taken:
        raise PipelineError(
            f"The pipeline {pipeline.name!r} gives a field {taken[0]!r}, which in a map is the name of a column of its own.",
            hint="Rename the field.",
        )
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
    if text == label:
        raise PipelineError(f"The text and the label are the same column, {text!r}.", hint="Name two columns.")
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


def row_inputs(pipeline: Pipeline, names: list[str], values: tuple[Any, ...]) -> dict[str, Any]:
    """Return one row's inputs as plain Python values.

    What is missing is None, or left to the default of an input that has one. A column of whole numbers with a gap is one
    of floats in pandas: its values are whole again where the input is an ``int``.
    """
    import pandas as pd

    out: dict[str, Any] = {}
    for name, value in zip(names, values, strict=True):
        declared = pipeline.inputs[name]
        if pd.api.types.is_scalar(value) and pd.isna(value):
            if declared.required:
                out[name] = None
            continue
        plain = value.item() if hasattr(value, "item") and not hasattr(value, "__len__") else value
        kinds = get_args(declared.type) or (declared.type,)
        whole = isinstance(plain, float) and plain.is_integer() and int in kinds and float not in kinds
        out[name] = int(plain) if whole else plain
    return out
