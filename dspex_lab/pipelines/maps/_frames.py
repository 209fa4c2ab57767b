"""Rows to map over as a data frame, and the frame that a map gives back."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import PipelineError, did_you_mean
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines.maps._files import SUFFIXES, csv_header, json_rows, rows_file
from dspex_lab.pipelines.maps._json import encode

if TYPE_CHECKING:
    import pandas as pd

    from dspex_lab.pipelines.maps._outcome import Outcome

#: What a map says of each row, beside the pipeline's own fields; files say ``row_index`` too.
ROW_COLUMNS = ("status", "error", "run_id")
FILE_COLUMNS = ("row_index", *ROW_COLUMNS)


def read_rows(data: Any, text: Sequence[str] = ()) -> pd.DataFrame:
    """Return ``data`` as a data frame with a fresh index.

    Args:
        data: a DataFrame, the path of a ``.csv``, ``.parquet`` or ``.jsonl`` file, or dicts in a list or any iterable.
        text: columns of a CSV file that hold text, also where it looks like numbers ("00501").

    Raises:
        PipelineError: the file is not there, cannot be read, or is of another kind; or the iterable raised.
    """
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        return data.reset_index(drop=True)
    if isinstance(data, str | Path):
        return _read_file(rows_file(data), text)
    rows: list[Any] = []
    try:
        for row in data:
            rows.append(row)
    except Exception as error:
        if not rows and not hasattr(type(data), "__iter__"):
            raise PipelineError(
                f"{type(data).__name__} cannot be read as rows: {error}.",
                hint=f"Give a DataFrame, a path to {', '.join(SUFFIXES)}, a query, or dicts in any iterable.",
            ) from error
        raise PipelineError(
            f"The data broke off after {len(rows):,} rows: {type(error).__name__}: {error}", hint="Nothing was run."
        ) from error
    try:
        return pd.DataFrame(rows)
    except (TypeError, ValueError) as error:
        raise PipelineError(
            f"{type(data).__name__} cannot be read as rows: {error}.", hint="Give dicts, one to a row."
        ) from error


def _read_file(path: Path, text: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        return pd.DataFrame([row for chunk in json_rows(path) for row in chunk])
    if suffix == ".csv":
        csv_header(path)
    try:
        if suffix == ".parquet":
            return pd.read_parquet(path)
        # Only an empty field is missing: "None" and "N/A" are words a column may hold. Whole numbers stay whole.
        kinds = dict.fromkeys(text, str)
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=kinds, dtype_backend="numpy_nullable")
        return frame.astype({c: object for c in frame.columns if isinstance(frame[c].dtype, pd.StringDtype)})
    except Exception as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception, after: int | None = None) -> PipelineError:
    """Say that a file cannot be read; ``after`` is how many rows of it could be."""
    kind = path.suffix.lower()[1:]
    where = "" if after is None else f" beyond row {after:,}"
    return PipelineError(
        f"{path} cannot be read as {kind}{where}: {type(error).__name__}: {' '.join(str(error).split())}",
        hint="Is it whole, saved as UTF-8, and its columns separated by commas?" if kind == "csv" else "Is the file whole?",
    )


def check_columns(pipeline: Pipeline, given: pd.DataFrame | Sequence[str], taken: Sequence[str] = ROW_COLUMNS) -> list[str]:
    """Return the inputs of ``pipeline`` that the data has a column for.

    Args:
        given: the data, or the names of its columns.
        taken: names of columns that the map adds itself.

    Raises:
        PipelineError: a required input has no column, a column is there twice, or there are no rows.
    """
    columns = [str(c) for c in getattr(given, "columns", given)]
    # A frame's own "empty" is also true of rows without columns, which a pipeline of defaults can do with.
    rows = len(given) if hasattr(given, "columns") else None
    if rows == 0 and not columns:
        raise no_rows()
    if len(set(columns)) < len(columns):
        twice = next(c for c in columns if columns.count(c) > 1)
        raise PipelineError(f"The data has two columns {twice!r}.", hint="Rename one.")
    own = [f for f in pipeline.outputs if f in taken]
    if own:
        raise PipelineError(
            f"The pipeline {pipeline.name!r} gives a field {own[0]!r}, which in a map is the name of a column of its own.",
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
    if rows == 0:
        raise no_rows()
    return [n for n in pipeline.inputs if n in columns]


def no_rows() -> PipelineError:
    """Say that there is nothing to do."""
    return PipelineError("There are no rows to map over.", hint="Give at least one row.")


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


def frame_hash(frame: pd.DataFrame, names: Sequence[str]) -> str:
    """Return a short hash of the columns ``names``, equal for equal rows in equal order."""
    import pandas as pd

    part = frame[list(names)]
    if not names:
        return "none"
    try:
        return f"{zlib.crc32(pd.util.hash_pandas_object(part, index=False).to_numpy().tobytes()):08x}"
    except TypeError:  # lists and dicts in a column
        found = 0
        for row in part.itertuples(index=False, name=None):
            found = zlib.crc32(encode(row), found)
        return f"{found:08x}"


def renamed(pipeline: Pipeline, columns: Sequence[str], added: Sequence[str] = ROW_COLUMNS) -> dict[str, str]:
    """Return under which name each column of the data stands beside the outputs.

    A column that has the name of an output becomes ``NAME_given``, unless it is an input, which a step of the pipeline
    itself replaces: that one is left out.
    """
    made = {*pipeline.outputs, *added}
    return {c: f"{c}_given" if c in made else c for c in columns if c not in made or c not in pipeline.inputs}


def join_rows(frame: pd.DataFrame, pipeline: Pipeline, outcomes: Mapping[int, Outcome]) -> pd.DataFrame:
    """Return the rows with what came of each, in their order; all have an outcome."""
    import pandas as pd

    done = [outcomes[i] for i in range(len(frame))]
    columns: dict[str, Any] = {f: [o.outputs.get(f) for o in done] for f in pipeline.outputs}
    columns["status"] = [o.status for o in done]
    columns["error"] = pd.Series([o.error for o in done], index=frame.index, dtype=object)
    columns["run_id"] = [o.run_id for o in done]
    made = pd.DataFrame(columns, index=frame.index)
    names = renamed(pipeline, [str(c) for c in frame.columns])
    rest = frame[[c for c in frame.columns if str(c) in names]]
    return pd.concat([rest.rename(columns={c: names[str(c)] for c in rest.columns}), made], axis=1)
