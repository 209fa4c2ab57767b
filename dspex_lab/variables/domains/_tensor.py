"""Arrays of numbers by shape: embeddings, weights, thresholds by class."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from typing import Any

from dspex_lab._lazy import require
from dspex_lab.errors import VariableError
from dspex_lab.variables.domains._base import Base, kind, refused, shown
from dspex_lab.variables.domains._numbers import as_float

#: Numbers of one tensor.
MOST = 10_000_000

_DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")


@kind("tensor")
@dataclass(frozen=True, eq=False)
class Tensor(Base):
    """A numpy array of a shape, which does not change; torch's tensors and lists are cast to one. Optuna cannot search it.

    Args:
        shape: how many numbers, in each dimension.
        dtype: of numpy: float16 to float64, int8 to int64, uint8 or bool.
        low, high: of every number; both are allowed.
        nan: NaN and the infinities are allowed.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    low: float | None = None
    high: float | None = None
    nan: bool = False

    def __post_init__(self) -> None:
        shape = (self.shape,) if isinstance(self.shape, int) else self.shape
        if isinstance(shape, str) or not hasattr(shape, "__iter__"):
            self._bad(f"its shape is a tuple of numbers, found {shown(shape)}.")
        sizes = tuple(shape)
        if any(isinstance(size, bool) or not isinstance(size, int) or size < 0 for size in sizes) or len(sizes) > 32:
            self._bad(f"its shape is a tuple of at most 32 numbers from 0 on, found {shown(shape)}.")
        if math.prod(sizes) > MOST:
            self._bad(f"{math.prod(sizes):,} numbers are more than {MOST:,}.", "Keep a file's name instead.")
        object.__setattr__(self, "shape", sizes)
        dtype = str(self.dtype).rpartition(".")[2].rstrip("'>")  # also numpy.float32 and torch.float32
        if dtype not in _DTYPES:
            self._bad(f"dtype={shown(self.dtype)} is none of {', '.join(_DTYPES)}.")
        object.__setattr__(self, "dtype", dtype)
        for end in ("low", "high"):
            if getattr(self, end) is not None:
                object.__setattr__(self, end, as_float(getattr(self, end), end))
        if self.low is not None and self.high is not None and self.low > self.high:
            self._bad(f"low={self.low} is above high={self.high}.", "Exchange them.")
        if not isinstance(self.nan, bool):
            self._bad(f"nan={self.nan!r} is neither True nor False.")

    def cast(self, value: Any, name: str) -> Any:
        """Return a numpy array of its own that cannot be written to."""
        np = require("numpy", "for tensors")
        given = value.detach().cpu() if hasattr(value, "detach") and hasattr(value, "cpu") else value
        if str(getattr(given, "dtype", "")) == "torch.bfloat16":
            given = given.float()  # numpy has none
        try:
            found = np.asarray(given)
        except (ValueError, TypeError) as error:
            raise refused(name, value, f"it is a tensor, and this is none: {error}.") from None
        if found.dtype.kind not in "fiub":
            raise refused(name, value, f"it is a tensor of {self.dtype}, and this is of {found.dtype}.")
        if found.shape != self.shape:
            raise refused(name, value, f"its shape is {self.shape}, and this one's is {found.shape}.")
        self._finite(found, name, value)
        with np.errstate(over="ignore", invalid="ignore"):
            made = found.astype(self.dtype, copy=True)
        self._kept(found, made, name, value)
        for end, breaks, side in ((self.low, np.less, "below"), (self.high, np.greater, "above")):
            if end is not None and (out := breaks(made, end)).any():
                where = _place(out)
                ends = f"{'-∞' if self.low is None else self.low} to {'∞' if self.high is None else self.high}"
                raise refused(name, value, f"{made[tuple(where)]} at {where} is {side} its range, {ends}.")
        made.setflags(write=False)
        return made

    def _finite(self, found: Any, name: str, value: Any) -> None:
        np = require("numpy", "for tensors")
        if not self.nan and found.dtype.kind == "f" and not np.isfinite(found).all():
            where = _place(~np.isfinite(found))
            raise refused(name, value, f"{found[tuple(where)]} at {where} is no finite number.", "Allow it: nan=True.")

    def _kept(self, found: Any, made: Any, name: str, value: Any) -> None:
        """Refuse numbers that the type cannot hold; floats may be rounded."""
        np = require("numpy", "for tensors")
        if made.dtype.kind == "f":
            lost = np.isinf(made) & np.isfinite(found.astype("float64"))
        else:
            lost = made.astype("float64") != found.astype("float64")
        if lost.any():
            where = _place(lost)
            raise refused(name, value, f"{found[tuple(where)]} at {where} is no {self.dtype}.")

    def to_json(self, value: Any) -> dict[str, Any]:
        """Return its bytes in base64, little-endian and row after row."""
        data = value.astype(value.dtype.newbyteorder("<")).tobytes()
        return {"shape": list(value.shape), "dtype": str(value.dtype), "data": base64.b64encode(data).decode("ascii")}

    def from_json(self, value: Any) -> Any:
        """Return the array that :meth:`to_json` wrote."""
        np = require("numpy", "for tensors")
        try:
            if value["dtype"] not in _DTYPES:
                raise ValueError(f"of {shown(value['dtype'])}")
            data = base64.b64decode(value["data"], validate=True)
            found = np.frombuffer(data, dtype=np.dtype(value["dtype"]).newbyteorder("<")).reshape(value["shape"])
        except (KeyError, TypeError, ValueError) as error:
            raise VariableError(f"A kept tensor cannot be read: {type(error).__name__}: {error}.") from error
        return self.cast(found.astype(value["dtype"]), self.kind)

    def equal(self, one: Any, other: Any) -> bool:
        """Say whether two arrays have the same numbers; NaN is NaN."""
        np = require("numpy", "for tensors")
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        return bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))

    def distribution(self) -> Any:
        """Refuse."""
        self._unsearchable("Optuna has no tensors", "Search numbers that it is derived from.")

    def first(self) -> Any:
        """Return zeros, or the end of the range that is nearest to 0."""
        np = require("numpy", "for tensors")
        nearest = max(self.low if self.low is not None else 0.0, min(self.high if self.high is not None else 0.0, 0.0))
        return self.cast(np.full(self.shape, nearest, dtype="float64"), self.kind)


def _place(wrong: Any) -> list[int]:
    """Return the indexes of the first one that is wrong."""
    np = require("numpy", "for tensors")
    return [int(index) for index in np.argwhere(wrong)[0]]
