"""Data sets: named, versioned, fingerprinted rows in parts that no row changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.jobs._card import Sheet
from dspex_lab.jobs._reading import declared_inputs, rows_of
from dspex_lab.jobs._splits import USUAL, Row, check_shares, divided, fingerprint, leaks, together
from dspex_lab.security import one_line


class DatasetBook(Protocol):
    """Keeps data sets; :class:`dspex_lab.store.DatasetTable` is one."""

    def add(
        self,
        name: str,
        splits: Mapping[str, Sequence[Mapping[str, Any]]],
        fingerprint: str,
        time: float,
        source: Mapping[str, Any] | None = None,
    ) -> int:
        """Keep a version and return its number; where the last one has this fingerprint, that is it."""
        ...

    def get(self, name: str, version: int | None = None) -> Mapping[str, Any]:
        """Return the parts of a version, each with ``rows``, ``version``, ``source`` and ``fingerprint``."""
        ...


@dataclass(frozen=True)
class Dataset:
    """Rows by part. Immutable; two of the same content have the same fingerprint.

    ::

        data = Dataset.of(frame, "tickets", split={"train": 0.6, "val": 0.2, "test": 0.2}, seed=1, inputs=("message",))
        data["train"]            # a list of rows
        data.examples("test")    # dspy.Examples

    Args:
        name: what it is called.
        parts: rows by part, in the order of the parts.
        inputs: the fields that programs are given; the others are what is hoped for. None: not said.
        version: counts from 1 within its name; 0 where it is not kept.
        source: where its rows are from, plain data.
    """

    name: str
    parts: Mapping[str, Sequence[Row]]
    inputs: tuple[str, ...] | None = None
    version: int = 0
    source: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        data: Any,
        name: str = "data",
        *,
        split: Mapping[str, float] | str | None = None,
        seed: int = 0,
        by: Sequence[str] | None = None,
        inputs: Sequence[str] | None = None,
        source: Mapping[str, Any] | None = None,
    ) -> Dataset:
        """Return data as a data set.

        Args:
            data: a DataFrame, a list of dicts, ``dspy.Examples``, or the path of a Parquet, CSV or JSONL file.
            split: the share of each part; the name of a field that says the part; None is one part, ``"all"``.
            seed: another one, another division.
            by: the fields by which rows are divided: rows that are equal in them come to the same part, as all messages of
                one customer should. By default the inputs where they are said, else all fields.
            inputs: the fields that programs are given.

        Raises:
            ConfigurationError: data that cannot be read, no rows, a share that makes no sense, or a row without a field
                that is asked for.
        """
        rows = rows_of(data)
        inputs = tuple(inputs) if inputs is not None else declared_inputs(data)
        if not rows:
            raise ConfigurationError(f"The data set {name!r} has no rows.", key="data", expected="one row or more", actual=0)
        check_fields(rows, (*(inputs or ()), *(by or ())), name)
        if isinstance(split, str):
            parts = _by_field(rows, split, name)
        elif split is None:
            parts = {"all": list(rows)}
        else:
            parts = divided(rows, check_shares(split), seed, tuple(by if by is not None else inputs or ()))
        told = {"rows": len(rows), "seed": seed, "split": dict(split) if isinstance(split, Mapping) else split}
        return cls(name, parts, inputs, source={**told, **(source or {})})

    @property
    def fingerprint(self) -> str:
        """What tells its content: rows and parts; not their order, not its name."""
        return together(f"{part}:{fingerprint(row)}" for part, rows in self.parts.items() for row in rows)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that its rows have, in the order in which they come."""
        return tuple(dict.fromkeys(name for rows in self.parts.values() for row in rows for name in row))

    def __getitem__(self, part: str) -> Sequence[Row]:
        if part not in self.parts:
            near = did_you_mean(part, self.parts)
            raise ConfigurationError(
                f"Data set {self.name!r} has no part {part!r}.{near}", key="split", expected=list(self.parts), actual=part
            )
        return self.parts[part]

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))

    def __iter__(self) -> Iterator[Row]:
        return (row for rows in self.parts.values() for row in rows)

    def examples(self, part: str | None = None) -> list[Any]:
        """Return the rows of a part, or all, as ``dspy.Examples`` with their inputs said."""
        import dspy

        made = [dspy.Example(**row) for row in (self if part is None else self[part])]
        return made if self.inputs is None else [example.with_inputs(*self.inputs) for example in made]

    def check(self, fields: Sequence[str] | None = None) -> Dataset:
        """Return it, if no row stands in two parts.

        Args:
            fields: those by which rows are the same one; by default the inputs, where they are said: the same question with
                another answer is a leak as well.

        Raises:
            ConfigurationError: some do; it names them.
        """
        found = leaks(self.parts, tuple(fields if fields is not None else self.inputs or ()))
        if not found:
            return self
        shown = "; ".join(f"{a}[{i}] is {b}[{j}]" for a, i, b, j in found[:3])
        more = f" and {len(found) - 3:,} more" if len(found) > 3 else ""
        raise ConfigurationError(
            f"Data set {self.name!r} leaks: {len(found):,} row{'s stand' if len(found) != 1 else ' stands'} in two parts, so "
            f"what is measured on one is known from the other: {shown}{more}.",
            key="split",
            expected="parts without a row in common",
            actual=len(found),
            hint="Split it by share (split={'train': 0.8, 'test': 0.2}): equal rows then stay together.",
        )

    def save(self, book: DatasetBook, time: float) -> Dataset:
        """Keep it and return it with its version; one of the same content as the last is that one."""
        source = {**self.source, "inputs": None if self.inputs is None else list(self.inputs)}
        version = book.add(self.name, self.parts, self.fingerprint, time, source)
        return Dataset(self.name, self.parts, self.inputs, version, self.source)

    @classmethod
    def load(cls, book: DatasetBook, name: str, version: int | None = None) -> Dataset:
        """Return a data set that was kept, by default its newest version.

        Raises:
            DspexError: there is none.
        """
        parts = book.get(name, version)
        first = next(iter(parts.values()))
        source = dict(first.source or {})
        inputs = source.pop("inputs", None)
        rows = {part: list(kept.rows) for part, kept in parts.items()}
        return cls(name, rows, None if inputs is None else tuple(inputs), int(first.version), source)

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} {len(rows):,}" for name, rows in self.parts.items())
        version = f" version {self.version}" if self.version else ""
        return f"<Dataset {self.name!r}{version}: {len(self):,} rows ({parts}); {self.fingerprint[:8]}>"

    def _repr_html_(self) -> str:
        version = f" version {self.version}" if self.version else ""
        title = f"Data set {one_line(self.name)}{version}: {len(self):,} rows, fields {one_line(', '.join(self.fields))}"
        rows = [(one_line(part), f"{len(rows):,}", one_line(rows[0], 300) if rows else "") for part, rows in self.parts.items()]
        return Sheet(title, ("part", "rows", "the first"), rows)._repr_html_()


def check_fields(rows: Sequence[Row], fields: Sequence[str], name: str = "data") -> None:
    """Refuse rows of which one lacks a field.

    Raises:
        ConfigurationError: it names the row, counted from 0, and the field.
    """
    for at, row in enumerate(rows):
        for wanted in fields:
            if wanted in row:
                continue
            lacking = sum(wanted not in other for other in rows)
            near = did_you_mean(wanted, row)
            raise ConfigurationError(
                f"Row {at} of {name!r} has no field {wanted!r}.{near}",
                key=f"data[{at}].{wanted}",
                expected=list(fields),
                actual=list(row),
                hint=f"{lacking:,} of {len(rows):,} rows lack it. Nothing was run.",
            )


def _by_field(rows: Sequence[Row], split: str, name: str) -> dict[str, list[Row]]:
    check_fields(rows, (split,), name)
    parts: dict[str, list[Row]] = {}
    for row in rows:
        parts.setdefault(str(row[split]), []).append({k: v for k, v in row.items() if k != split})
    return parts


#: The shares of a split where nobody says others.
SHARES = USUAL
