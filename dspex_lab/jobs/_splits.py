"""Which part of a data set a row belongs to, by the row alone: rows that come later move no others. Pure."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dspex_lab.errors import ConfigurationError

Row = Mapping[str, Any]

#: What ``split=`` is where nobody says.
USUAL = {"train": 0.6, "val": 0.2, "test": 0.2}


def fingerprint(row: Row) -> str:
    """Return what tells rows apart by their content: the same in every process, whatever the order of the fields."""
    return hashlib.blake2b(_text(row).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def together(prints: Iterable[str]) -> str:
    """Return the fingerprint of many rows, whatever their order."""
    return hashlib.blake2b("".join(sorted(prints)).encode(), digest_size=16).hexdigest()


def check_shares(shares: Mapping[str, float]) -> dict[str, float]:
    """Return the shares of a split, such that they sum to 1.

    Raises:
        ConfigurationError: there is none, or one is no number above 0.
    """
    for name, share in shares.items():
        number = isinstance(share, int | float) and not isinstance(share, bool)
        if not number or not math.isfinite(share) or share <= 0:
            raise ConfigurationError(
                f"The share of split {name!r} is {share!r}.", key=f"split.{name}", expected="a number above 0", actual=share
            )
    if not shares:
        raise ConfigurationError("A split has no parts.", key="split", expected=USUAL, actual=dict(shares))
    whole = sum(shares.values())
    return {str(name): share / whole for name, share in shares.items()}


def split_of(key: str, shares: Mapping[str, float], seed: int = 0) -> str:
    """Return the part for a row.

    The row's hash, with the seed, is a number in [0, 1) that looks drawn at random; the parts divide that interval. So the
    same row is always in the same part, and so are all rows of equal content: no copy of a training row is in the test.

    Args:
        key: the row's fingerprint, or that of what is to stay together.
        shares: of the parts, in their order; they sum to 1.
    """
    drawn = int.from_bytes(hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest(), "big") / 2**64
    edge = 0.0
    for name, share in shares.items():
        edge += share
        if drawn < edge:
            return name
    return name  # the shares of many parts may sum to a little less than 1


def divided(rows: Sequence[Row], shares: Mapping[str, float], seed: int, by: Sequence[str]) -> dict[str, list[Row]]:
    """Return rows by part.

    Args:
        by: the fields that decide: rows that are equal in them stay together. None named: all fields.
    """
    parts: dict[str, list[Row]] = {name: [] for name in shares}
    for row in rows:
        key = fingerprint({name: row.get(name) for name in by} if by else row)
        parts[split_of(key, shares, seed)].append(row)
    return parts


def leaks(parts: Mapping[str, Sequence[Row]], fields: Sequence[str]) -> list[tuple[str, int, str, int]]:
    """Return the rows that stand in two parts: ``(part, row, other part, row)``, rows counted from 0 within their parts.

    Args:
        fields: those by which rows are the same one; none named: all.
    """
    seen: dict[str, tuple[str, int]] = {}
    found = []
    for part, rows in parts.items():
        for at, row in enumerate(rows):
            key = fingerprint({name: row.get(name) for name in fields} if fields else row)
            first = seen.setdefault(key, (part, at))
            if first[0] != part:
                found.append((*first, part, at))
    return found


def _text(row: Row) -> str:
    return json.dumps({str(k): row[k] for k in row}, sort_keys=True, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """Return what stands for a value that JSON has no word for, the same in every process."""
    for name in ("model_dump", "toDict", "tolist", "isoformat"):
        method = getattr(value, name, None)
        if callable(method) and not isinstance(value, type):
            return method()
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if isinstance(value, bytes):
        return hashlib.blake2b(value, digest_size=16).hexdigest()
    kept = getattr(value, "__dict__", None)
    if kept is not None:
        return {"": type(value).__qualname__, **kept}
    raise ConfigurationError(
        f"A row holds a {type(value).__name__}, whose content cannot be compared from one process to the next.",
        key="data",
        expected="texts, numbers, lists, dicts, dates, arrays, Pydantic models",
        actual=type(value).__name__,
    )
