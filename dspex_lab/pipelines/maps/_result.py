"""What a map that writes a file gives back: how its rows ended, and where they are."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines.maps._frames import read_rows
from dspex_lab.pipelines.maps._journal import kept_rows

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, repr=False)
class MapResult:
    """How a map ended.

    Attributes:
        name: the pipeline's name.
        status: ``complete`` or ``failed`` where all rows are, else ``partial``; ``cancelled`` where it was interrupted.
        counts: how many rows ended ``complete``, ``partial`` and ``failed``, those of earlier calls with them.
        path: the file with a line for each row, None where the rows are in the store.
        run_id: the map's run, None where nothing was left to run.
        seconds: wall time of this call; in it ``ran`` rows were run.
        total: how many rows the data has, None where that is not known.
        hint: how to go on where it did not end.
    """

    name: str
    status: str
    counts: Mapping[str, int]
    path: Path | None = None
    run_id: str | None = None
    seconds: float = 0.0
    ran: int = 0
    total: int | None = None
    hint: str = ""
    text: tuple[str, ...] = field(default=())

    @property
    def rows(self) -> int:
        """Return how many rows have an outcome."""
        return sum(self.counts.values())

    @property
    def failed(self) -> int:
        """Return how many rows failed."""
        return self.counts.get("failed", 0)

    @property
    def continued(self) -> int:
        """Return how many rows had their outcome before this call."""
        return self.rows - self.ran if self.rows > self.ran else 0

    @property
    def rate(self) -> float | None:
        """Return rows per second in this call, None where none was run."""
        return self.ran / self.seconds if self.ran and self.seconds else None

    def frame(self) -> pd.DataFrame:
        """Return the file as a DataFrame; of a map that has not written it yet, the rows that have their outcome.

        Raises:
            PipelineError: there is no file, or it cannot be read.
        """
        if self.path is None:
            raise PipelineError(
                f"The rows of the map {self.run_id} are in the store.",
                hint=f"They are the runs whose parent_id is {self.run_id!r}, in the order of row_index: lab.sql shows them.",
            )
        if not self.path.exists():
            return read_rows(kept_rows(self.path))
        return read_rows(self.path, text=self.text)

    def summary(self) -> str:
        """Return one line: status, rows by status, time and rate, and where they are."""
        counted = ", ".join(f"{n:,} {status}" for status, n in self.counts.items() if n) or "none"
        of = f" of {self.total:,}" if self.total is not None and self.total != self.rows else ""
        parts = [f"{self.name}: {self.status}", f"{self.rows:,}{of} rows ({counted})"]
        if self.continued:
            parts.append(f"{self.continued:,} of them done before")
        parts.append(f"{self.seconds:.3g} s")
        if self.rate is not None:
            parts.append(f"{self.rate:,.3g} rows/s" if self.rate < 100 else f"{self.rate:,.0f} rows/s")
        if self.path is not None:
            parts.append(str(self.path))
        return " · ".join(parts)

    def __repr__(self) -> str:
        return f"<{self.summary()}>"

    def _repr_html_(self) -> str:
        e = html.escape
        rows = "".join(f"<tr><td style='text-align:left'>{e(s)}</td><td>{n:,}</td></tr>" for s, n in self.counts.items())
        hint = f"<div>{e(self.hint)}</div>" if self.hint else ""
        return f"<div><div>{e(self.summary())}</div><table>{rows}</table>{hint}</div>"
