"""Conditions: ``urgency > 0.8 and intent in ["card", "billing"]``, the small language of steps, checks and pipeline files.

A condition is written like a Python expression and is never run as one: Python's own parser reads it, a list of what is
allowed is compared with each node, and what passes becomes nested functions of ours. So there is no way from a text to an
attribute, a method or a name of Python, and no operation whose result could be far larger than what it was made from.

What there is::

    message, order.total, rows[0]["price"], text[:80]     a field; an item or a data field of it, none with a leading underscore
    "card"  0.8  True  None  [1, 2]  ("a",)  {"a"}  {}    values
    == != < <= > >=  in  not in  is None  is not None     comparisons, also chained: 0 < urgency <= 1
    and  or  not   a if c else b   + - * / // %           numbers; + also joins texts and lists, - also tells dates apart
    len lower upper strip startswith endswith contains matches abs min max round sum any all int float str bool sorted

``matches(text, pattern)`` is true where the pattern is found anywhere in the text (``^…$`` for the whole of it). Its engine
takes a time that grows with the text and no faster; look-around and back-references, which it does not know, are refused.
"""

from __future__ import annotations

import ast
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from dspex_lab.errors import PipelineError, did_you_mean

from ._condition_values import FUNCTIONS, MAX_BITS, Refused, arithmetic, container, data_field, item, number, searcher, shown

#: Limits of a condition's text: characters, parts, and how deep parts lie inside each other.
MAX_CHARACTERS, MAX_PARTS, MAX_DEPTH = 2_000, 500, 50

Values = Mapping[str, Any]
_Part = Callable[[Values], Any]


class Condition:
    """A condition over named values; equal to another of the same text, and safe to read from a file.

    Args:
        text: the condition; see the module's docstring for the language.

    Attributes:
        text: the text without the spaces around it.
        names: the fields it reads, in the order they appear.

    Raises:
        PipelineError: with line and column: what cannot be read, is not allowed, or is too large.
    """

    __slots__ = ("_run", "names", "text")

    text: str
    names: tuple[str, ...]
    _run: _Part

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise PipelineError(f"A condition is a text, found {type(text).__name__}.")
        reader = _Reader(text.strip())
        put = object.__setattr__
        put(self, "text", reader.text)
        put(self, "_run", reader.read())
        put(self, "names", tuple(reader.names))

    def __call__(self, values: Values) -> Any:
        """Return what the condition comes to.

        Args:
            values: the fields by name; those the condition does not read are not looked at.

        Raises:
            PipelineError: a field that is not there, or a part that cannot be computed; with the place in the text and the
                values the part reads.
        """
        return self._run(values)

    def test(self, values: Values) -> bool:
        """Return whether the condition holds; raises as a call does."""
        found = self._run(values)
        try:
            return bool(found)
        except Exception as error:  # a value's own __bool__ may do anything
            raise PipelineError(f"The condition {self.text!r} is neither true nor false: {error}") from error

    def describe(self, values: Values) -> str:
        """Return the fields the condition reads with their values, shortened: ``urgency = 0.3 (float)``."""
        return ", ".join(f"{name} = {shown(values[name])}" if name in values else f"no {name}" for name in self.names)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Condition({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return self.text == other.text if isinstance(other, Condition) else NotImplemented

    def __hash__(self) -> int:
        return hash((Condition, self.text))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("A Condition is immutable; make another one.")

    def __reduce__(self) -> tuple[Any, ...]:
        return (Condition, (self.text,))


# -- reading ----------------------------------------------------------------------------------------------------------
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in container(b),
    ast.NotIn: lambda a, b: a not in container(b),
}
_UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: lambda a: operator.neg(number(a)),
    ast.UAdd: lambda a: operator.pos(number(a)),
}
_ARITHMETIC: Mapping[type[ast.operator], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
    ast.FloorDiv: ("//", operator.floordiv),
    ast.Mod: ("%", operator.mod),
}
_WORDS = {
    ast.BitAnd: ("'&'", "Write 'and'."),
    ast.BitOr: ("'|'", "Write 'or'."),
    ast.Invert: ("'~'", "Write 'not'."),
    ast.Pow: ("'**'", "Write a product."),
    ast.NamedExpr: ("an assignment", "Compare with '=='."),
    ast.JoinedStr: ("an f-string", "Join texts with '+'."),
    ast.Lambda: ("a lambda", None),
    ast.ListComp: ("a comprehension", None),
    ast.SetComp: ("a comprehension", None),
    ast.DictComp: ("a comprehension", None),
    ast.GeneratorExp: ("a comprehension", None),
    ast.Starred: ("a '*'", None),
    ast.Await: ("'await'", None),
    ast.Yield: ("'yield'", None),
    ast.YieldFrom: ("'yield'", None),
}


_HINTS = (
    (re.compile(r"&&|\|\||!(?!=)"), "Write 'and', 'or', 'not'."),
    (re.compile(r"(?<![=!<>:])=(?!=)"), "Compare with '=='."),
)


class _Reader:
    """Turns one text into nested functions."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.names: dict[str, tuple[int, int]] = {}
        self._parts = self._depth = 0
        self._lines = text.split("\n")

    def read(self) -> _Part:
        if not self.text:
            raise PipelineError("The condition is empty.", hint='As in: when("urgency > 0.8", …).')
        if len(self.text) > MAX_CHARACTERS:
            raise PipelineError(f"The condition has {len(self.text):,} characters; {MAX_CHARACTERS:,} are read at most.")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of escapes in patterns
                tree = ast.parse(self.text, mode="eval")
        except SyntaxError as error:
            raise self._syntax(error) from None
        except (ValueError, RecursionError, MemoryError, OverflowError) as error:
            raise PipelineError(f"The condition cannot be read: {error or 'it is nested too deep'}.").at(self.text, 1) from None
        part = self._part(tree.body)
        self.names = dict(sorted(self.names.items(), key=lambda item: item[1]))
        return part

    def _syntax(self, error: SyntaxError) -> PipelineError:
        line = min(max(error.lineno or 1, 1), len(self._lines))
        reason = (error.msg or "invalid syntax").partition(". ")[0].removesuffix(".")
        hint = next((said for sign, said in _HINTS if sign.search(self._lines[line - 1])), None)
        if hint is None and len(self._lines) > 1:
            hint = "Put the whole in parentheses to go over several lines."
        made = PipelineError(f"The condition {self._clipped()} cannot be read: {reason}.", hint=hint)
        return made.at(self.text, line, max(error.offset or 1, 1))  # type: ignore[return-value]

    def _clipped(self) -> str:
        return repr(self.text if len(self.text) <= 80 else self.text[:79] + "…")

    def place(self, node: ast.expr | ast.keyword) -> tuple[int, int]:
        """Return line and column, both from 1 on, of a node."""
        before = self._lines[node.lineno - 1].encode()[: node.col_offset]
        return node.lineno, len(before.decode(errors="ignore")) + 1

    def source(self, node: ast.expr) -> str:
        found = ast.get_source_segment(self.text, node) or self.text
        return found if len(found) <= 80 else found[:79] + "…"

    def refuse(self, node: ast.expr | ast.keyword, message: str, hint: str | None = None) -> NoReturn:
        line, column = self.place(node)
        where = f"Line {line}, column {column}" if line > 1 else f"Column {column}"
        raise PipelineError(f"{where} of the condition {self._clipped()}: {message}", hint=hint).at(self.text, line, column)

    # -- nodes ----------------------------------------------------------------------------------------------------
    def _part(self, node: ast.expr) -> _Part:
        self._parts += 1
        self._depth += 1
        if self._parts > MAX_PARTS or self._depth > MAX_DEPTH:
            self.refuse(node, f"more than {MAX_PARTS} parts, or more than {MAX_DEPTH} inside each other.")
        read = getattr(self, f"_{type(node).__name__.lower()}", None)
        if not isinstance(node, _ALLOWED) or read is None:
            self._forbid(node)
        part: _Part = read(node)
        self._depth -= 1
        return part

    def _forbid(self, node: ast.expr, of: Any = None) -> NoReturn:
        kind = type(node if of is None else of)
        named, hint = _WORDS.get(kind, (f"{kind.__name__.lower()!r}", None))
        self.refuse(node, f"{named} is not part of the language of conditions.", hint)

    def _guarded(self, node: ast.expr, compute: _Part) -> _Part:
        """Return ``compute`` with its errors told in the words of the condition."""

        def run(values: Values) -> Any:
            try:
                return compute(values)
            except PipelineError:
                raise
            except Exception as error:  # a value may do anything when it is compared or looked into
                raise self._failure(node, values, error) from error

        return run

    def _failure(self, node: ast.expr, values: Values, error: Exception) -> PipelineError:
        reason = str(error) if isinstance(error, Refused) else f"{type(error).__name__}: {error}"
        reads = dict.fromkeys(n.id for n in ast.walk(node) if isinstance(n, ast.Name) and n.id in self.names)
        read = "; ".join(f"{name} = {shown(values[name])}" for name in reads if name in values)
        whole = self.source(node)
        where = f"The condition {self._clipped()} failed" + (f" at {whole!r}" if whole != self.text else "")
        reason = reason[:300] if reason[-1:] in ".?" else reason[:300] + "."
        made = PipelineError(f"{where}: {reason}{f' It read {read}.' if read else ''}")
        return made.at(self.text, *self.place(node))  # type: ignore[return-value]

    def _constant(self, node: ast.Constant) -> _Part:
        value = node.value
        if not (value is None or isinstance(value, str | bool | int | float)):
            self.refuse(node, f"the value {self.source(node)} is not part of the language of conditions.")
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            self.refuse(node, f"a whole number of more than {MAX_BITS} bits.")
        return lambda values: value

    def _name(self, node: ast.Name) -> _Part:
        name = node.id
        if name.startswith("_"):
            self.refuse(node, f"the field {name!r} begins with an underscore.")
        self.names[name] = min(self.place(node), self.names.get(name, self.place(node)))

        def read(values: Values) -> Any:
            if name in values:
                return values[name]
            near = did_you_mean(name, [str(key) for key in values])
            hint = f"There are {', '.join(map(str, list(values)[:20]))}." if len(values) else "There are no fields."
            raise PipelineError(
                f"The condition {self._clipped()} reads {name!r}, and there is no such field.{near}", hint=hint
            ).at(self.text, *self.place(node))

        return read

    def _boolop(self, node: ast.BoolOp) -> _Part:
        parts = [self._part(value) for value in node.values]
        stop = isinstance(node.op, ast.Or)

        def run(values: Values) -> Any:
            found = None
            for part in parts:
                found = part(values)
                if bool(found) is stop:
                    break
            return found

        return self._guarded(node, run)

    def _unaryop(self, node: ast.UnaryOp) -> _Part:
        if type(node.op) not in _UNARY:
            self._forbid(node, node.op)
        operand, act = self._part(node.operand), _UNARY[type(node.op)]
        return self._guarded(node, lambda values: act(operand(values)))

    def _binop(self, node: ast.BinOp) -> _Part:
        if type(node.op) not in _ARITHMETIC:
            self._forbid(node, node.op)
        left, right = self._part(node.left), self._part(node.right)
        sign, act = _ARITHMETIC[type(node.op)]
        return self._guarded(node, lambda values: arithmetic(sign, act, left(values), right(values)))

    def _compare(self, node: ast.Compare) -> _Part:
        first = self._part(node.left)
        rest = []
        for op, other in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, ast.Is | ast.IsNot) and not (isinstance(other, ast.Constant) and other.value is None):
                self.refuse(other, "'is' compares with None alone.", "Compare with '=='.")
            rest.append((_COMPARISONS[type(op)], self._part(other)))

        def run(values: Values) -> Any:
            left, found = first(values), None
            for compare, part in rest:
                right = part(values)
                found = compare(left, right)
                if len(rest) > 1 and not found:
                    break
                left = right
            return found

        return self._guarded(node, run)

    def _ifexp(self, node: ast.IfExp) -> _Part:
        test, yes, no = self._part(node.test), self._part(node.body), self._part(node.orelse)
        return self._guarded(node, lambda values: yes(values) if test(values) else no(values))

    def _list(self, node: ast.List | ast.Tuple | ast.Set) -> _Part:
        parts = [self._part(item) for item in node.elts]
        make = {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)]
        return self._guarded(node, lambda values: make(part(values) for part in parts))

    _tuple = _set = _list

    def _dict(self, node: ast.Dict) -> _Part:
        if None in node.keys:
            self.refuse(node, "'**' is not part of the language of conditions.")
        pairs = [(self._part(key), self._part(value)) for key, value in zip(node.keys, node.values, strict=True) if key]
        return self._guarded(node, lambda values: {key(values): value(values) for key, value in pairs})

    def _attribute(self, node: ast.Attribute) -> _Part:
        if node.attr.startswith("_"):
            self.refuse(node, f"{node.attr!r} begins with an underscore; only data fields are read.")
        owner, name = self._part(node.value), node.attr
        return self._guarded(node, lambda values: data_field(owner(values), name))

    def _subscript(self, node: ast.Subscript) -> _Part:
        owner = self._part(node.value)
        if isinstance(node.slice, ast.Slice):
            bounds = [self._part(part) if part else (lambda values: None) for part in (node.slice.lower, node.slice.upper)]
            if node.slice.step is not None:
                self.refuse(node, "a step in a slice is not part of the language of conditions.")
            return self._guarded(node, lambda values: item(owner(values), slice(*(bound(values) for bound in bounds))))
        key = self._part(node.slice)
        return self._guarded(node, lambda values: item(owner(values), key(values)))

    def _call(self, node: ast.Call) -> _Part:
        if not isinstance(node.func, ast.Name):
            named = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            hint = f"Write {named}({self.source(node.func.value)}, …)." if named in FUNCTIONS else None  # type: ignore[attr-defined]
            self.refuse(node, "methods are not called.", hint or f"There are the functions {', '.join(FUNCTIONS)}.")
        name = node.func.id
        if name not in FUNCTIONS:
            near = did_you_mean(name, FUNCTIONS).strip()
            self.refuse(node, f"there is no function {name!r}.", near or f"There are {', '.join(FUNCTIONS)}.")
        if node.keywords:
            self.refuse(node.keywords[0], f"{name} takes its arguments by place.")
        least, most, act = FUNCTIONS[name]
        if not least <= len(node.args) <= most:
            count = str(least) if least == most else f"{least} to {most}"
            self.refuse(node, f"{name} takes {count} argument{'' if count == '1' else 's'}, found {len(node.args)}.")
        parts = [self._part(arg) for arg in node.args]
        if name == "matches" and isinstance(node.args[1], ast.Constant):
            if isinstance(node.args[1].value, str) and "\b" in node.args[1].value:
                self.refuse(node.args[1], "'\\b' is a backspace in this text.", "Write the pattern as r'…'.")
            try:
                searcher(node.args[1].value)
            except Refused as error:
                self.refuse(node.args[1], str(error))
        return self._guarded(node, lambda values: act(*(part(values) for part in parts)))


_ALLOWED = (
    *(ast.Constant, ast.Name, ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.Compare, ast.IfExp, ast.List, ast.Tuple, ast.Set),
    *(ast.Dict, ast.Attribute, ast.Subscript, ast.Call),
)
