"""What conditions compute: operators, items and functions over a run's values, none of which can run away.

No method of a value is called but those its own operators, length, items and text stand for; sizes are bounded before and
after each step. What cannot be done is :class:`Refused`.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import functools
import numbers
import reprlib
from collections.abc import Callable, Collection, Container, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

from dspex_lab.errors import did_you_mean

#: Limits of what is computed: bits of a whole number, and characters or items of what ``+`` joins.
MAX_BITS, MAX_JOINED = 1_024, 1_000_000
#: Limits of ``matches``: characters of the pattern and of the text.
MAX_PATTERN, MAX_TEXT = 200, 50_000

_TIMES = (datetime.date, datetime.timedelta)
_SCALARS = (str, bool, int, float, Decimal, UUID, datetime.date, datetime.time, datetime.timedelta, type(None))

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60
_short.maxdict = _short.maxlist = _short.maxtuple = _short.maxset = 4


class Refused(Exception):
    """Why something cannot be computed; it becomes a `PipelineError` that says where."""


def shown(value: Any) -> str:
    try:
        text = _short.repr(value)
    except Exception:  # a value's own repr may do anything, and this is only shown
        text = "…"
    return f"{text} ({type(value).__name__})"


def number(value: Any) -> Any:
    if not isinstance(value, numbers.Number | datetime.timedelta):
        raise Refused(f"expected a number, found {shown(value)}")
    return _small(value)


def _small(value: Any) -> Any:
    """Return ``value`` unless it is a number of very many digits."""
    if isinstance(value, Decimal):
        large = value.is_finite() and abs(value.adjusted()) > MAX_BITS
    elif isinstance(value, int | Fraction):
        large = max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS
    else:
        large = False
    if large:
        raise Refused(f"a number of more than {MAX_BITS} bits or digits")
    return value


def arithmetic(sign: str, act: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    if sign == "+":
        for kind in (str, list, tuple):
            if isinstance(left, kind) and isinstance(right, kind):
                if len(left) + len(right) > MAX_JOINED:
                    raise Refused(f"'+' would make something larger than {MAX_JOINED:,}")
                return act(left, right)
    if sign in "+-" and isinstance(left, _TIMES) and isinstance(right, _TIMES):
        return act(left, right)
    for value in (left, right):
        if not isinstance(value, numbers.Number):
            raise Refused(f"{sign!r} joins no {type(left).__name__} and {type(right).__name__}")
        _small(value)
    return _small(act(left, right))


def container(value: Any) -> Any:
    if not isinstance(value, Container):
        raise Refused(f"'in' looks into texts, lists and the like, found {shown(value)}")
    return value


def _collection(value: Any) -> Any:
    if not isinstance(value, Collection):
        raise Refused(f"expected a list or the like, found {shown(value)}")
    return value


def data_field(owner: Any, name: str) -> Any:
    """Return a data field of a dict, a Pydantic model, a dataclass, a named tuple or what reads like a dict."""
    cls = type(owner)
    if isinstance(owner, Mapping) or (hasattr(cls, "keys") and hasattr(cls, "__getitem__")):
        return item(owner, name)
    if isinstance(owner, enum.Enum):
        fields: Collection[str] = ("name", "value")
    elif dataclasses.is_dataclass(cls):
        fields = [field.name for field in dataclasses.fields(cls)]
    elif hasattr(cls, "model_fields"):
        fields = [*cls.model_fields, *(getattr(owner, "__pydantic_extra__", None) or ())]
    else:
        fields = getattr(cls, "_fields", ())
    if name not in fields:
        listed = f"; it has {', '.join(map(str, list(fields)[:20]))}" if fields else ""
        raise Refused(f"{cls.__name__} has no data field {name!r}{listed}.{did_you_mean(name, fields)}")
    return getattr(owner, name)


def item(owner: Any, key: Any) -> Any:
    if isinstance(owner, Mapping) and key not in owner:  # asked first, because a defaultdict would make it
        keys = [str(known) for known in list(owner)[:200]]
        near = did_you_mean(key[:80], keys) if isinstance(key, str) else ""
        raise Refused(f"there is no {key!r:.80} in it.{near}")
    if isinstance(owner, type) or not hasattr(type(owner), "__getitem__"):
        raise Refused(f"{shown(owner)} has no items")
    return owner[key]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Refused(f"expected a text, found {shown(value)}")
    return value


@functools.lru_cache(maxsize=256)
def searcher(pattern: Any) -> Callable[[str], bool]:
    if len(_text(pattern)) > MAX_PATTERN:
        raise Refused(f"a pattern of more than {MAX_PATTERN} characters")
    from pydantic_core import SchemaError, SchemaValidator

    try:
        found = SchemaValidator({"type": "str", "pattern": pattern, "regex_engine": "rust-regex"})
    except (SchemaError, ValueError) as error:  # ValueError: a lone surrogate
        reason = str(error).rstrip().splitlines()[-1].strip().removeprefix("error: ").removeprefix("SchemaError: ")
        raise Refused(f"the pattern cannot be taken: {reason}") from None
    return found.isinstance_python


def _matches(text: Any, pattern: Any) -> bool:
    if len(_text(text)) > MAX_TEXT:
        raise Refused(f"matches looks into texts of up to {MAX_TEXT:,} characters, found {len(text):,}")
    return searcher(_text(pattern))(text)


def _round(value: Any, digits: Any = None) -> Any:
    if digits is not None and not (isinstance(digits, int) and abs(digits) <= 300):
        raise Refused(f"expected a number of digits, found {shown(digits)}")
    return round(number(value)) if digits is None else round(number(value), digits)


def _whole(value: Any) -> int:
    if isinstance(value, str) and len(value) > 300:
        raise Refused("a number of more than 300 digits")
    return int(_small(value)) if isinstance(value, str | numbers.Number) else int(number(value))


def _float(value: Any) -> float:
    return float(value if isinstance(value, str) else number(value))


def _str(value: Any) -> str:
    if isinstance(value, enum.Enum):
        value = value.value
    if not isinstance(value, _SCALARS):
        raise Refused(f"expected a text, a number or a date, found {shown(value)}")
    return str(_small(value))


def _extreme(act: Callable[[Any], Any], *values: Any) -> Any:
    return act(_collection(values[0]) if len(values) == 1 else values)


#: Name → fewest arguments, most arguments, what it does. Nothing here calls what it is given.
FUNCTIONS: Mapping[str, tuple[int, int, Callable[..., Any]]] = {
    "len": (1, 1, len),
    "lower": (1, 1, lambda text: _text(text).lower()),
    "upper": (1, 1, lambda text: _text(text).upper()),
    "strip": (1, 2, lambda text, chars=None: _text(text).strip(chars)),
    "startswith": (2, 2, lambda text, start: _text(text).startswith(start)),
    "endswith": (2, 2, lambda text, end: _text(text).endswith(end)),
    "contains": (2, 2, lambda whole, part: part in container(whole)),
    "matches": (2, 2, _matches),
    "abs": (1, 1, lambda value: abs(number(value))),
    "min": (1, 20, functools.partial(_extreme, min)),
    "max": (1, 20, functools.partial(_extreme, max)),
    "round": (1, 2, _round),
    "sum": (1, 1, lambda values: _small(sum(number(value) for value in _collection(values)))),
    "any": (1, 1, lambda values: any(_collection(values))),
    "all": (1, 1, lambda values: all(_collection(values))),
    "int": (1, 1, _whole),
    "float": (1, 1, _float),
    "str": (1, 1, _str),
    "bool": (1, 1, bool),
    "sorted": (1, 1, lambda values: sorted(_collection(values))),
}
