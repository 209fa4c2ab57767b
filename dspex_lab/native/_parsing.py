"""Reading a value of a given type out of what a model wrote."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import json
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, RootModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from typing_extensions import is_typeddict

from dspex_lab.errors import PipelineError, did_you_mean
from dspex_lab.native import _plain
from dspex_lab.native._found import Found, fenced_whole, json_in, json_whole, mended
from dspex_lab.native._typed_dict import readable

T = TypeVar("T")

#: Characters of an answer that is read.
MAX_ANSWER = 1_000_000
#: Characters of an answer, a value or a type that an error shows.
_SHOWN = 160

_TIMES = (datetime.date, datetime.time, datetime.timedelta)
_PLAIN_TYPES = (bool, int, float, complex, decimal.Decimal, enum.Enum, type(None), *_TIMES)


@dataclasses.dataclass(frozen=True)
class Parsed(Generic[T]):
    """A value read from an answer.

    Attributes:
        value: the value, of the type that was asked for.
        repaired: the answer had to be changed to be read, and not only found within what is around it.
        how: what was done: ``"as is"``, ``"json in a fence"``, ``"repaired json"``, …
    """

    value: T
    repaired: bool
    how: str


@dataclasses.dataclass(frozen=True)
class _Plan:
    """How a type is read: plain readers, then JSON beginning with ``openings``, then text.

    ``whole`` says that JSON must be the whole answer, because the answer may be a text with brackets in it.
    """

    validate: Callable[[Any], Any]
    before: tuple[_plain.Reader, ...]
    openings: str
    after: tuple[_plain.Reader, ...]
    whole: bool
    choices: tuple[str, ...]
    shown: str


def parse_as(text: str, kind: Any, *, repair: bool = True) -> Parsed[Any]:
    """Return the value of type ``kind`` that ``text``, the answer of a model, says.

    Nothing is guessed: the whole answer must say the value, or hold it as JSON.

    - **Text** is taken as it is; an answer that is one whole fence is what stands in the fence.
    - **Numbers** may have bold, quotes, a period at the end and commas between thousands (``1,200``).
      ``about 1,200``, ``12 %`` and ``$5`` are no numbers.
    - **bool** is true, false, yes or no. **Literal** and **enum** are one of their values or names; case, spaces,
      ``_`` and ``-``, quotes and a period at the end do not matter where only one choice can be meant.
    - **None** is ``null`` or ``none``, where the type allows it.
    - **Lists, dicts, TypedDicts, dataclasses, Pydantic models** are JSON: the whole answer, in a fence, or within prose.
      Where several fit, the last counts, as models think first and answer last. Then JSON that is broken or cut off is
      mended, and for lists, lines that all begin with a dash or number are items. Where the type allows text, too,
      JSON must be the whole answer.

    The value is validated by Pydantic with its usual conversions (``"3"`` in JSON is an int where one is wanted).

    Args:
        text: at most 1,000,000 characters.
        kind: any type that Pydantic validates.
        repair: false takes only what needs no change.

    Raises:
        PipelineError: the answer says no such value; it tells what was expected, what was found and where it fails.
    """
    if not isinstance(text, str):
        raise PipelineError(f"An answer is a text, not {type(text).__name__}.")
    plan = _plan(kind)
    if len(text) > MAX_ANSWER:
        raise PipelineError(f"The answer has {len(text):,} characters, and may have {MAX_ANSWER:,}.")
    first: Exception | None = None
    for found in _candidates(text, plan):
        if found.repaired and not repair:
            continue
        try:
            return Parsed(plan.validate(found.value), found.repaired, found.how)
        except Exception as error:  # a model's own validators may raise anything
            first = first or error
    for found in (found for reader in plan.after for found in reader(text)):
        try:
            return Parsed(plan.validate(found.value), found.repaired, found.how)
        except Exception as error:
            first = first or (error if plan.whole or not plan.openings else None)
    raise _failure(text, plan, first)


def _candidates(text: str, plan: _Plan) -> Iterator[Found]:
    inside = fenced_whole(text)
    said = text if inside is None else inside
    for reader in plan.before:
        yield from reader(said)
    if not plan.openings:
        return
    if plan.whole:
        yield from json_whole(said)
        return
    yield from json_in(text, plan.openings)
    yield from mended(text, plan.openings)
    if "[" in plan.openings:
        yield from _plain.reads_lines(text)


def _plan(kind: Any) -> _Plan:
    try:
        return _cached_plan(kind)
    except TypeError:  # a type that cannot be hashed, such as Annotated[int, {...}]
        return _make_plan(kind)


def _make_plan(kind: Any) -> _Plan:
    shown = _shown(kind)
    try:
        if isinstance(kind, str):
            raise TypeError(f"{kind!r} is the name of a type and not a type")
        validate = TypeAdapter(readable(kind)).validate_python
    except (PydanticUserError, NameError, TypeError, AttributeError, RecursionError) as error:
        raise PipelineError(
            f"An answer cannot be read as {shown}: {str(error).partition(chr(10))[0]}",
            hint="Take a type that Pydantic validates.",
        ) from error
    leaves = list(_leaves(kind))
    choices = tuple(pair for leaf in leaves for pair in _choices(leaf))
    texts = any(map(_is_text, leaves))
    before = list(_plain_readers(leaves, choices))
    openings = "".join(dict.fromkeys("".join(map(_openings, leaves))))
    after: list[_plain.Reader] = []
    words = [leaf for leaf in leaves if isinstance(leaf, type) and _openings(leaf) == "" and not _is_text(leaf)]
    if any(not issubclass(leaf, _PLAIN_TYPES) for leaf in words):
        before.append(_plain.reads_word)
    if texts or any(isinstance(leaf, type) and issubclass(leaf, BaseModel) for leaf in leaves):
        after.append(_plain.reads_text)  # a model may have a validator that takes text
    said = tuple(dict.fromkeys(said for said, _ in choices))
    return _Plan(validate, tuple(before), openings, tuple(after), texts, said, shown)


_cached_plan = functools.lru_cache(maxsize=256)(_make_plan)


def _plain_readers(leaves: list[Any], choices: tuple[tuple[str, Any], ...]) -> Iterator[_plain.Reader]:
    types_ = [leaf for leaf in leaves if isinstance(leaf, type)]
    if type(None) in types_ or None in leaves:
        yield _plain.reads_nothing
    if choices:
        yield _plain.choice_reader(choices)
    if bool in types_:
        yield _plain.reads_flag
    if any(issubclass(leaf, decimal.Decimal) for leaf in types_):
        yield _plain.reads_decimal
    elif any(issubclass(leaf, int | float) and not issubclass(leaf, bool | enum.Enum) for leaf in types_):
        yield _plain.reads_number
    if any(issubclass(leaf, _TIMES) for leaf in types_):
        yield _plain.reads_time


def _leaves(kind: Any, depth: int = 0) -> Iterator[Any]:
    """Yield the types that ``kind`` is one of."""
    origin = get_origin(kind)
    inner: Iterable[Any] = ()
    if origin in (Union, types.UnionType):
        inner = get_args(kind)
    elif origin is Annotated:
        inner = get_args(kind)[:1]
    elif isinstance(kind, typing.NewType):
        inner = [kind.__supertype__]
    elif isinstance(kind, TypeVar):
        inner = [kind.__bound__ or Any]
    elif type(kind).__name__ == "TypeAliasType":
        inner = [kind.__value__]
    if inner and depth < 20:
        for each in inner:
            yield from _leaves(each, depth + 1)
    else:
        yield kind


def _choices(leaf: Any) -> Iterator[tuple[str, Any]]:
    """Yield the values that ``leaf`` lists, each with a text that says it."""
    values: Iterable[Any] = ()
    if get_origin(leaf) is Literal:
        values = get_args(leaf)
    elif isinstance(leaf, type) and issubclass(leaf, enum.Enum):
        values = leaf
    for value in values:
        if isinstance(value, enum.Enum):
            yield str(value.value), value
            yield value.name, value
        else:
            yield str(value), value


def _is_text(leaf: Any) -> bool:
    if leaf is Any or leaf is object:
        return True
    return isinstance(leaf, type) and issubclass(leaf, str | bytes) and not issubclass(leaf, enum.Enum)


def _openings(leaf: Any) -> str:
    """Return the brackets that JSON for ``leaf`` may begin with."""
    if leaf in (Any, object):
        return "{["
    origin = get_origin(leaf) or leaf
    if not isinstance(origin, type) or issubclass(origin, (str, bytes, *_PLAIN_TYPES)):
        return ""
    if issubclass(origin, RootModel) or hasattr(origin, "_fields"):
        return "{["
    if issubclass(origin, BaseModel | Mapping) or dataclasses.is_dataclass(origin) or is_typeddict(origin):
        return "{"
    return "[" if issubclass(origin, Collection) or origin is Iterable else ""


# --- what an error says -----------------------------------------------------------------------------------------------


def _failure(text: str, plan: _Plan, first: Exception | None) -> PipelineError:
    reason, hint = _reason(text, plan, first)
    error = PipelineError(f"The answer does not give {plan.shown}: {reason}. Found: {_clipped(repr(text))}", hint=hint)
    error.__cause__ = first
    if first is None and plan.openings and text.lstrip()[:1] in tuple(plan.openings):
        try:
            json.loads(text)
        except json.JSONDecodeError as broken:
            error.at(text, broken.lineno, broken.colno)
        except (ValueError, RecursionError) as broken:  # well-formed, with a number or a nesting beyond what is read
            error.__cause__ = broken
    return error


def _reason(text: str, plan: _Plan, first: Exception | None) -> tuple[str, str | None]:
    if isinstance(first, ValidationError):
        faults = first.errors(include_url=False, include_context=False)
        pointer = "".join(f"/{part}" for part in faults[0]["loc"])
        more = f" ({len(faults) - 1} more)" if len(faults) > 1 else ""
        found = _clipped(repr(faults[0]["input"]))
        return f"at {pointer or 'its top'}, {faults[0]['msg'][:1].lower()}{faults[0]['msg'][1:]}, not {found}{more}", None
    if first is not None:
        return f"its validation raised {type(first).__name__}: {_clipped(str(first))}", None
    if plan.choices:
        listed = ", ".join(plan.choices[:20]) + (", …" if len(plan.choices) > 20 else "")
        near = did_you_mean(text.strip()[:_SHOWN], plan.choices).replace("Did you mean", "The nearest is").rstrip("?")
        return "it is none of the choices", f"Ask for one of {listed} and nothing else.{near + '.' if near else ''}"
    if plan.openings:
        wanted = {"{": "JSON object", "[": "JSON array"}.get(plan.openings, "JSON")
        return f"there is no {wanted} in it that can be read", None
    return "the whole answer must say it", "Ask for the value and nothing else."


def _clipped(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}… ({len(text):,} characters)"


def _shown(kind: Any) -> str:
    name = kind.__name__ if isinstance(kind, type) and get_origin(kind) is None else str(kind).replace("typing.", "")
    return _clipped(name)
