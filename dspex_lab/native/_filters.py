"""The filters and tests of templates: those of Jinja2 that make sense for prompts, each charged for what it makes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jinja2.filters as stock
import jinja2.tests
from jinja2 import pass_context
from jinja2.filters import make_attrgetter
from jinja2.runtime import Undefined
from jinja2.utils import _PassArg

from dspex_lab.native._budget import STEP, Budget, Refused
from dspex_lab.native._registry import Registry

#: Characters that a width, a precision, an indent or a number of columns may ask for.
MAX_WIDTH = 1_000

#: Filters that users add; a name of Jinja2's may be taken and then wins.
template_filters: Registry[Callable[..., Any]] = Registry("template filter")

_SPEC = re.compile(r"%(?:\((?P<key>[^)]*)\))?[-#0 +]*(?P<width>\*|[0-9]+)?(?:\.(?P<precision>\*|[0-9]+))?")

#: Taken as they are: what they make is no larger than what they are given.
_PLAIN = "abs count d default dictsort first float groupby int items last length list map max min reject rejectattr"
_PLAIN += " reverse select selectattr sort unique"
#: These work on text: whatever else they are given is written out first.
_TEXTUAL = "capitalize lower title trim truncate upper wordcount"
#: Tests of Jinja2 that are left out: a template has no business with functions.
_NO_TESTS = frozenset({"callable", "escaped"})


def check_width(number: Any, what: str = "a width") -> None:
    """Refuse a number of characters beyond `MAX_WIDTH`."""
    if isinstance(number, int) and abs(number) > MAX_WIDTH:
        raise Refused(f"{what} of {number:,} is too large (at most {MAX_WIDTH:,})")


def check_spec(spec: str) -> None:
    """Refuse a format specification that asks for too wide a field."""
    for digits in re.findall(r"[0-9]+", spec):
        check_width(int(digits[:9]), "a width or precision")


def percent(budget: Budget, text: str, given: Any) -> str:
    """Return ``text % given`` where its widths are small and what it makes is affordable."""
    specs = 0
    for spec in _SPEC.finditer(text):
        specs += 1
        for size in (spec["width"], spec["precision"]):
            if size == "*":
                raise Refused("a width of '*' in a format is not allowed")
            if size is not None:
                check_spec(size)
    ready: Any
    if isinstance(given, dict):
        ready = {name: _writable(budget, value) for name, value in given.items()}
    elif isinstance(given, tuple):
        ready = tuple(_writable(budget, value) for value in given)
    else:
        ready = _writable(budget, given)
    budget.charge(len(text) + specs * (STEP + budget.weigh(ready)))
    return text % ready


def _writable(budget: Budget, value: Any) -> Any:
    return value if isinstance(value, str | int | float) else budget.text(value)


def replaced(budget: Budget, text: str, old: str, new: str, count: int | None = None) -> str:
    """Return ``text.replace(old, new, count)`` where that is affordable."""
    times = -1 if count is None else count
    found = text.count(old) if times < 0 else min(text.count(old), times)
    budget.charge(len(text) + found * len(new))
    return text.replace(old, new, times)


def joined(budget: Budget, between: str, items: Any) -> str:
    """Return ``between.join(items)``, each item written out, where that is affordable."""
    texts = [budget.text(item) for item in items]
    budget.charge(STEP + len(between) * len(texts))
    return between.join(texts)


@pass_context
def _join(context: Any, value: Any, d: str = "", attribute: str | int | None = None) -> str:
    if attribute is not None:
        value = map(make_attrgetter(context.environment, attribute), value)
    return joined(context.budget, context.budget.text(d), value)


@pass_context
def _replace(context: Any, value: Any, old: Any, new: Any, count: int | None = None) -> str:
    text = context.budget.text
    return replaced(context.budget, text(value), text(old), text(new), count)


@pass_context
def _indent(context: Any, value: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    check_width(width if isinstance(width, int) else len(width), "an indent")
    text = context.budget.text(value)
    per_line = width if isinstance(width, int) else len(width)
    context.budget.charge(len(text) + (text.count("\n") + 1) * max(per_line, 0))
    return stock.do_indent(text, width, first, blank)


@pass_context
def _format(context: Any, value: Any, *args: Any, **kwargs: Any) -> str:
    if args and kwargs:
        raise Refused("the filter 'format' takes values by position or by name, not both")
    return percent(context.budget, context.budget.text(value), kwargs or args)


@pass_context
def _string(context: Any, value: Any) -> str:
    made: str = context.budget.text(value)
    return made


@pass_context
def _center(context: Any, value: Any, width: int = 80) -> str:
    check_width(width)
    return stock.do_center(context.budget.text(value), width)


@pass_context
def _sum(context: Any, value: Any, attribute: str | int | None = None, start: Any = 0) -> Any:
    if isinstance(start, str | bytes | list | tuple):
        raise Refused("the filter 'sum' adds numbers; use 'join' for text")
    if attribute is not None:
        value = map(make_attrgetter(context.environment, attribute), value)
    return sum(value, start)


@pass_context
def _tojson(context: Any, value: Any, indent: int | None = None) -> str:
    """JSON as a model reads it: characters as they are, Pydantic models, dataclasses, dates and enums as Pydantic has them."""
    check_width(indent, "an indent")
    pieces = []
    for piece in json.JSONEncoder(ensure_ascii=False, indent=indent, default=_jsonable).iterencode(value):
        context.budget.charge(1 + len(piece))
        pieces.append(piece)
    return "".join(pieces)


def _jsonable(value: Any) -> Any:
    from pydantic_core import to_jsonable_python

    if isinstance(value, Undefined):
        return str(value)  # raises: it says what is missing
    return to_jsonable_python(value)


def _batch(value: Any, linecount: int, fill_with: Any = None) -> Any:
    check_width(linecount, "a number of columns")
    return stock.do_batch(value, linecount, fill_with)


def _slice(value: Any, slices: int, fill_with: Any = None) -> Any:
    check_width(slices, "a number of columns")
    return stock.sync_do_slice(value, slices, fill_with)


def _round(value: Any, precision: int = 0, method: Any = "common") -> Any:
    check_width(precision, "a precision")
    return stock.do_round(value, precision, method)


@pass_context
def _tick(context: Any, cost: int) -> bool:
    """One turn of a loop or one run of a macro; what it costs is worked out when the template is compiled."""
    context.budget.charge(cost)
    return True


@pass_context
def _concat(context: Any, values: Any) -> str:
    """The operator ``~``."""
    return "".join([context.budget.text(value) for value in values])


@pass_context
def _made(context: Any, value: Any) -> Any:
    """A list, tuple or dict that the template writes."""
    context.budget.charge(context.budget.weigh(value))
    return value


#: What the compiled template calls; no template can name these.
INTERNAL: Mapping[str, Callable[..., Any]] = {"#tick": _tick, "#concat": _concat, "#made": _made}


def _charged(function: Callable[..., Any], textual: bool = False) -> Callable[..., Any]:
    """Return ``function`` with its result charged for; whatever it asks to be passed, it gets.

    All filters take the context, so that none of them is worked out at compile time.
    """
    wants = _PassArg.from_obj(function)

    @pass_context
    def filtered(context: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        budget: Budget = context.budget
        budget.charge(STEP)
        if textual and not isinstance(value, str):
            value = budget.text(value)
        if wants is _PassArg.context:
            made = function(context, value, *args, **kwargs)
        elif wants is _PassArg.eval_context:
            made = function(context.eval_ctx, value, *args, **kwargs)
        elif wants is _PassArg.environment:
            made = function(context.environment, value, *args, **kwargs)
        else:
            made = function(value, *args, **kwargs)
        budget.charge(budget.weigh(made))
        return made

    return filtered


_BUILT_IN: dict[str, Callable[..., Any]] = {
    **{name: _charged(stock.FILTERS[name]) for name in _PLAIN.split()},
    **{name: _charged(stock.FILTERS[name], textual=True) for name in _TEXTUAL.split()},
    "batch": _charged(_batch),
    "center": _charged(_center),
    "format": _charged(_format),
    "indent": _charged(_indent),
    "join": _charged(_join),
    "replace": _charged(_replace),
    "round": _charged(_round),
    "slice": _charged(_slice),
    "string": _charged(_string),
    "sum": _charged(_sum),
    "tojson": _charged(_tojson),
    **INTERNAL,
}

TESTS = {name: test for name, test in jinja2.tests.TESTS.items() if name not in _NO_TESTS}


class Filters(Mapping[str, Callable[..., Any]]):
    """The built-in filters and those of the user, as the compiler and the compiled template look them up."""

    def __getitem__(self, name: str) -> Callable[..., Any]:
        if name in template_filters:
            return _charged(template_filters.get(name))
        return _BUILT_IN[name]

    def __iter__(self) -> Iterator[str]:
        yield from (name for name in _BUILT_IN if name not in INTERNAL)
        yield from (name for name in template_filters if name not in _BUILT_IN)

    def __len__(self) -> int:
        return sum(1 for _ in self)
