"""Files of rows: found, counted and read in pieces, with the line where one breaks."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dspex_lab.errors import PipelineError, did_you_mean
from dspex_lab.pipelines.maps._json import decode

SUFFIXES = (".csv", ".parquet", ".jsonl", ".ndjson")

#: The most rows that are read at once.
CHUNK = 1_000

Row = dict[str, Any]


def rows_file(data: str | Path) -> Path:
    """Return the path of a file of rows.

    Raises:
        PipelineError: it is not there, or of another kind.
    """
    path = Path(data).expanduser()
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise PipelineError(
            f"{path} is not a file of rows.",
            hint=f"Give one that ends in {', '.join(SUFFIXES)}, or a query that begins with SELECT, WITH or FROM.",
        )
    if not path.is_file():
        beside = [p.name for p in path.parent.glob("*") if p.suffix.lower() in SUFFIXES] if path.parent.is_dir() else []
        near = did_you_mean(path.name, beside)
        raise PipelineError(f"There is no file {path} (looked in {path.parent.resolve()}).{near}", hint="Check the path.")
    return path


def broken(path: Path, where: str, why: str, rows: int) -> PipelineError:
    """Say where a file breaks, after how many sound rows."""
    return PipelineError(
        f"{path} cannot be read as {path.suffix.lower()[1:]}: {where}: {why} ({rows:,} rows before it are sound).",
        hint="Mend or remove that line." if where.startswith("line") else "Is the file whole?",
    )


# --- JSON lines ---------------------------------------------------------------------------------------------------------


def json_rows(path: Path) -> Iterator[list[Row]]:
    """Give the objects of a file of JSON lines, some at a time; empty lines are passed over.

    Raises:
        PipelineError: a line is no JSON object; what was before it was given.
    """
    rows: list[Row] = []
    given = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            try:
                row = decode(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
                why = None if isinstance(row, dict) else f"it holds {type(row).__name__}, not an object"
            except ValueError as error:
                why = str(error)
            if why is not None:
                if rows:
                    yield rows
                raise broken(path, f"line {number:,}", why, given + len(rows))
            rows.append(row)
            if len(rows) == CHUNK:
                yield rows
                given, rows = given + len(rows), []
    if rows:
        yield rows


def count_lines(path: Path) -> int:
    """Return how many lines that are not empty a file has."""
    with path.open("rb") as file:
        return sum(1 for line in file if not line.isspace())


# --- comma-separated ----------------------------------------------------------------------------------------------------

_BOOLEANS = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
_LARGEST = 2**63
_LONGEST_FIELD = 2**27


def csv_header(path: Path) -> list[str]:
    """Return the names in the first line.

    Raises:
        PipelineError: a name is there twice, or the line cannot be read.
    """
    names = next(_csv_lines(path), (0, []))[1]
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise PipelineError(f"The data has two columns {twice!r}.", hint=f"Rename one in the first line of {path}.")
    return names


class CsvTable:
    """A CSV file whose columns' types were found by reading it once; only an empty field is missing.

    Args:
        path: the file, in UTF-8.
        text: columns that hold text, also where it looks like numbers.

    Attributes:
        columns: the names in the first line.
        total: how many rows are sound.
    """

    def __init__(self, path: Path, text: Sequence[str] = ()) -> None:
        self.path = path
        self.columns = csv_header(path)
        self.total = 0
        kinds: list[list[Callable[[str], Any]]] = [
            [str] if name in text else [_whole, _number, _boolean, str] for name in self.columns
        ]
        seen = [False] * len(kinds)
        lines = itertools.islice(_csv_lines(path), 1, None)
        try:
            for number, cells in lines:
                self._fits(number, cells)
                for column, cell in enumerate(cells):
                    if cell:
                        seen[column] = True
                        _narrow(kinds[column], cell)
                self.total += 1
        except PipelineError:
            pass  # told by rows(), when those before it have run
        self._kinds = [k[0] if s else str for k, s in zip(kinds, seen, strict=True)]

    def rows(self) -> Iterator[list[Row]]:
        """Give the rows, some at a time.

        Raises:
            PipelineError: a line cannot be read; what was before it was given.
        """
        rows: list[Row] = []
        given = 0
        try:
            for number, cells in itertools.islice(_csv_lines(self.path), 1, None):
                self._fits(number, cells, given + len(rows))
                values = [kind(c) if c else None for kind, c in zip(self._kinds, cells, strict=False)]
                values.extend([None] * (len(self.columns) - len(values)))
                rows.append(dict(zip(self.columns, values, strict=True)))
                if len(rows) == CHUNK:
                    yield rows
                    given, rows = given + len(rows), []
        except PipelineError:
            if rows:
                yield rows
            raise
        if rows:
            yield rows

    def _fits(self, number: int, cells: list[str], before: int = 0) -> None:
        if len(cells) > len(self.columns):
            why = f"it has {len(cells)} fields, the first line {len(self.columns)}"
            raise broken(self.path, f"line {number:,}", why, before)


def _csv_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Give each record's last line number and its fields; empty lines are passed over."""
    # It holds for the process; the default is for tables of numbers, not of documents.
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_FIELD))
    number = 0
    with path.open("rb") as file:
        # Decoded line by line, so that an error is told of its own line and not of a block.
        reader = csv.reader((line.decode("utf-8-sig" if n == 0 else "utf-8") for n, line in enumerate(file)), strict=True)
        try:
            for cells in reader:
                number = reader.line_num
                if cells:
                    yield number, cells
        except (csv.Error, UnicodeDecodeError) as error:
            raise broken(path, f"line {number + 1:,}", f"{type(error).__name__}: {error}", max(number - 1, 0)) from error


def _narrow(kinds: list[Callable[[str], Any]], cell: str) -> None:
    while len(kinds) > 1:
        try:
            kinds[0](cell)
            return
        except ValueError:
            del kinds[0]


def _whole(text: str) -> int:
    value = int(_plain(text))
    if not -_LARGEST <= value < _LARGEST:
        raise ValueError(text)
    return value


def _number(text: str) -> float | None:
    value = float(_plain(text))
    return None if math.isnan(value) else value


def _boolean(text: str) -> bool:
    try:
        return _BOOLEANS[text]
    except KeyError:
        raise ValueError(text) from None


def _plain(text: str) -> str:
    if "_" in text or not text.isascii():
        raise ValueError(text)  # Python takes more for numbers than a table means
    return text
