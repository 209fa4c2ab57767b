"""The environment that templates run in: what they may name and what they may call.

A template's text is hostile. It sees the values it is given, the filters and tests of `_filters.py`, ``range``, and
the methods of the built-in types that only read; every other call is refused, so that a value with methods that write
is safe to pass. Everything is charged to a `Budget`, and nothing is worked out at compile time.
"""

from __future__ import annotations

import datetime
import decimal
import functools
import types
from collections.abc import Mapping
from typing import Any, NoReturn

from jinja2 import StrictUndefined, TemplateSyntaxError, nodes, pass_context
from jinja2.exceptions import UndefinedError
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.sandbox import MAX_RANGE, ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.utils import missing
from jinja2.visitor import NodeTransformer

from dspex_lab.errors import did_you_mean
from dspex_lab.native._budget import STEP, Budget, Refused, TooMuch
from dspex_lab.native._filters import INTERNAL, TESTS, Filters, check_spec, check_width, joined, percent, replaced

#: Bits of a whole number that ``*`` and ``**`` may make.
MAX_BITS = 4_096
#: Characters that one call of ``str.format`` may make.
MAX_FORMATTED = 1_000_000


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SETS = _words("difference intersection isdisjoint issubset issuperset symmetric_difference union")
_WIDTHS = _words("center ljust rjust zfill")
#: The methods of each type that a template may call: they only read.
_READING: dict[type, frozenset[str]] = {
    str: _WIDTHS
    | _words("capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit isidentifier islower")
    | _words("isnumeric isprintable isspace istitle isupper join lower lstrip partition removeprefix removesuffix replace")
    | _words("rfind rindex rpartition rsplit rstrip split splitlines startswith strip swapcase title upper"),
    dict: _words("get items keys values"),
    list: _words("count index"),
    tuple: _words("count index"),
    set: _SETS,
    frozenset: _SETS,
    int: _words("bit_count bit_length"),
    float: _words("is_integer"),
    decimal.Decimal: _words("is_finite is_nan"),
    datetime.date: _words("ctime isocalendar isoformat isoweekday strftime toordinal weekday"),
    datetime.datetime: _words("date isoformat strftime time timestamp utcoffset"),
    datetime.time: _words("isoformat strftime"),
    datetime.timedelta: _words("total_seconds"),
}
_LOOP_METHODS = frozenset({"cycle", "changed"})


class MissingValue(UndefinedError):
    """A name, an attribute or an item that is not there.

    Args:
        name: what was looked for.
        holder: what it was looked for in; `top` for the template's own values.
    """

    top: Any = missing

    def __init__(self, name: Any, holder: Any, message: str | None = None) -> None:
        super().__init__(message)
        self.name, self.holder = name, holder


class Missing(StrictUndefined):
    """What stands for a value that is not there: any use of it but a test and ``default`` raises `MissingValue`."""

    def __init__(self, hint: str | None = None, obj: Any = missing, name: Any = None, exc: Any = UndefinedError) -> None:
        if exc is UndefinedError:
            exc = functools.partial(MissingValue, name, obj)
        super().__init__(hint, obj, name, exc)


class RenderContext(Context):
    """The values of one render, and its budget."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.budget = Budget()


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2 without loaders, with its loops, calls, operators and filters charged for. One for all templates."""

    context_class = RenderContext
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        super().__init__(undefined=Missing, autoescape=False, optimized=False, keep_trailing_newline=True, finalize=_finalize)
        self.filters = Filters()  # type: ignore[assignment]
        self.tests = dict(TESTS)
        self.globals = {"range": _range}

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Call what a template may call."""
        budget: Budget = __context.budget
        budget.charge(STEP)
        if isinstance(__obj, Undefined):
            __obj()  # raises: it says what is missing
        kind = __self._check_call(__obj)
        grown = _growing(budget, __obj, args, kwargs) if kind is str else None
        if grown is not None:
            return grown
        budget.deeper()
        made = super().call(__context, __obj, *args, **kwargs)
        budget.depth -= 1
        budget.charge(budget.weigh(made))
        return made

    def _check_call(self, function: Any) -> type | None:
        """Return the built-in type that ``function`` is a reading method of, or None for what belongs to the template."""
        if isinstance(function, Macro | LoopContext | _Format) or function is _range:
            return None
        holder, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
        if isinstance(function, types.MethodType) and isinstance(holder, LoopContext) and name in _LOOP_METHODS:
            return None
        if isinstance(function, types.BuiltinMethodType) and not isinstance(holder, type | types.ModuleType):
            for kind, names in _READING.items():
                if name in names and isinstance(holder, kind):
                    return kind
        what = f"{type(holder).__name__}.{name}" if holder is not None and name else name or type(function).__name__
        raise Refused(f"it calls {what}(), and a template may only call what reads")

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Work out an operator whose result is not too large."""
        budget: Budget = context.budget
        budget.charge(STEP)
        if operator == "%" and isinstance(left, str):
            return percent(budget, left, right)
        _check_operands(budget, operator, left, right)
        made = super().call_binop(context, operator, left, right)
        budget.charge(budget.weigh(made))
        return made

    def call_filter(self, name: Any, *args: Any, **kwargs: Any) -> Any:
        """Use a filter that is named by a text, as ``map('upper')`` does."""
        if not isinstance(name, str) or name in INTERNAL or name not in self.filters:
            raise Refused(f"there is no filter {name!r}.{did_you_mean(str(name), self.filters)}")
        return super().call_filter(name, *args, **kwargs)

    def call_test(self, name: Any, *args: Any, **kwargs: Any) -> Any:
        """Use a test that is named by a text, as ``select('odd')`` does."""
        if not isinstance(name, str) or name not in self.tests:
            raise Refused(f"there is no test {name!r}.{did_you_mean(str(name), self.tests)}")
        return super().call_test(name, *args, **kwargs)

    def unsafe_undefined(self, obj: Any, attribute: str) -> Any:
        """Stand for an attribute that a template may not read."""
        return self.undefined(_unreadable(attribute, type(obj).__name__), name=attribute, obj=obj, exc=Refused)

    def wrap_str_format(self, value: Any) -> Any:
        """Return a stand-in for ``str.format`` that looks up what templates may look up."""
        if isinstance(value, types.BuiltinMethodType) and isinstance(value.__self__, str):
            if value.__name__ == "format":
                return _Format(self, value.__self__)
            if value.__name__ == "format_map":
                raise Refused("it calls str.format_map(); use format() with names")
        return None


class _Format:
    """``str.format`` of one text."""

    def __init__(self, environment: Sandbox, text: str) -> None:
        self._environment, self._text = environment, text

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        return _Formatter(self._environment).vformat(self._text, args, kwargs)


class _Formatter(SandboxedFormatter):
    def __init__(self, environment: Sandbox) -> None:
        super().__init__(environment)
        self._left = MAX_FORMATTED

    def format_field(self, value: Any, format_spec: str) -> Any:
        check_spec(format_spec)
        made = super().format_field(value, format_spec)
        self._left -= len(made)
        if self._left < 0:
            raise TooMuch(f"format() makes over {MAX_FORMATTED:,} characters")
        return made


_FUNCTIONS = (types.BuiltinMethodType, types.MethodType, types.FunctionType, _Format)


@pass_context
def _finalize(context: Any, value: Any) -> str:
    """Write out the value of ``{{ … }}``."""
    if isinstance(value, _FUNCTIONS):
        name = getattr(value, "__name__", "format")
        raise Refused(f"it writes out the method or macro {name!r}; call it, as in {name}(), or take an item by ['{name}']")
    context.budget.charge(STEP)
    made: str = context.budget.text(value)
    return made


def _range(*numbers: int) -> range:
    made = range(*numbers)
    # len() of a range fails beyond what a machine word holds; the difference of its ends does not.
    if abs(made.stop - made.start) // abs(made.step) > MAX_RANGE:
        raise TooMuch(f"a range has over {MAX_RANGE:,} items")
    return made


def _growing(budget: Budget, method: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Work out a method of a text that may make more than it is given, or return None where it is not one."""
    text, name = method.__self__, method.__name__
    if name in _WIDTHS and args:
        check_width(args[0])
    elif name == "join" and len(args) == 1 and not kwargs:
        return joined(budget, text, args[0])
    elif name == "replace" and len(args) in (2, 3) and all(isinstance(a, str) for a in args[:2]):
        return replaced(budget, text, *args, **kwargs)
    return None


def _check_operands(budget: Budget, operator: str, left: Any, right: Any) -> None:
    sized = isinstance(left, str | bytes | list | tuple), isinstance(right, str | bytes | list | tuple)
    if operator == "*" and any(sized):
        text, times = (left, right) if sized[0] else (right, left)
        if not isinstance(text, str):
            raise Refused(f"it repeats a {type(text).__name__} with '*', and only text may be repeated")
        if isinstance(times, int):
            budget.charge(len(text) * max(times, 0))
    elif operator == "+" and all(sized):
        budget.charge(len(left) + len(right))
    elif operator == "%" and sized[0]:
        raise Refused(f"it formats {type(left).__name__} with '%'")
    elif operator == "*" and isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
    elif operator == "**":
        if isinstance(left, int) and isinstance(right, int):
            _check_bits(left.bit_length() * abs(right))
        elif not isinstance(left, int | float) or not isinstance(right, int | float):
            raise Refused(f"it raises {type(left).__name__} to the power of {type(right).__name__}")


def _check_bits(bits: int) -> None:
    if bits > MAX_BITS:
        raise TooMuch(f"a whole number grows beyond {MAX_BITS:,} bits")


def _unreadable(attribute: str, holder: str) -> str:
    return f"it reads {attribute!r} of a {holder}, and names that begin with an underscore or change things are private"


class NotAllowed(TemplateSyntaxError):
    """Something in a template's text that is refused before it runs; ``word`` is what to point at."""

    def __init__(self, message: str, line: int, word: str) -> None:
        super().__init__(message, line)
        self.word = word


class Metering(NodeTransformer):
    """Refuses what templates may not say, and puts in what counts the rest while it runs."""

    def __init__(self, environment: Sandbox) -> None:
        self._environment = environment

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        """Charge for each turn, also for those that the loop's own test leaves out."""
        self.generic_visit(node)
        tick = self._tick(node)
        node.test = tick if node.test is None else nodes.And(tick, node.test, lineno=node.lineno)
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802
        """Charge for each run."""
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(self._tick(node), lineno=node.lineno))
        return node

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802
        """Charge for each run."""
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(self._tick(node), lineno=node.lineno))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        """Make ``~`` a call that can be charged for."""
        self.generic_visit(node)
        return self._internal("#concat", nodes.List(node.nodes, lineno=node.lineno))

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        """Weigh what is built."""
        return self._built(node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        """Weigh what is built."""
        return self._built(node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        """Weigh what is built."""
        return self._built(node) if node.ctx == "load" else node

    def visit_Name(self, node: nodes.Name) -> nodes.Node:  # noqa: N802
        """Refuse Jinja2's own handles on the template."""
        if node.name in ("self", "super"):
            self._refuse(node, f"the name {node.name!r} is Jinja2's own; call the value something else", node.name)
        return node

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Node:  # noqa: N802
        """Refuse Python's inner names, wherever they are written down."""
        if node.attr.startswith("__"):
            self._refuse(node, _unreadable(node.attr, "value"), node.attr)
        return self._visited(node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        """Charge for slices, which copy."""
        self.generic_visit(node)
        return self._internal("#made", node) if isinstance(node.arg, nodes.Slice) else node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:  # noqa: N802
        """Refuse a filter that is not there."""
        return self._known(node, "filter", self._environment.filters)

    def visit_Test(self, node: nodes.Test) -> nodes.Node:  # noqa: N802
        """Refuse a test that is not there."""
        return self._known(node, "test", self._environment.tests)

    def visit_NSRef(self, node: nodes.NSRef) -> nodes.Node:  # noqa: N802
        """Refuse to write into a value."""
        self._refuse(node, f"it writes to '{node.name}.{node.attr}', and values cannot be changed", node.name)

    def visit_Block(self, node: nodes.Block) -> nodes.Node:  # noqa: N802
        """Refuse what needs other templates."""
        return self._other(node, "block")

    def visit_Extends(self, node: nodes.Extends) -> nodes.Node:  # noqa: N802
        """Refuse what needs other templates."""
        return self._other(node, "extends")

    def visit_Include(self, node: nodes.Include) -> nodes.Node:  # noqa: N802
        """Refuse what needs other templates."""
        return self._other(node, "include")

    def visit_Import(self, node: nodes.Import) -> nodes.Node:  # noqa: N802
        """Refuse what needs other templates."""
        return self._other(node, "import")

    def visit_FromImport(self, node: nodes.FromImport) -> nodes.Node:  # noqa: N802
        """Refuse what needs other templates."""
        return self._other(node, "from")

    def visit_ScopedEvalContextModifier(self, node: nodes.ScopedEvalContextModifier) -> nodes.Node:  # noqa: N802
        """Refuse ``autoescape``: prompts are not HTML."""
        self._refuse(node, "'{% autoescape %}' is for HTML, and templates here make prompts", "autoescape")

    def _other(self, node: nodes.Node, tag: str) -> NoReturn:
        self._refuse(node, f"'{{% {tag} %}}' needs other templates, and a template here stands alone", tag)

    def _refuse(self, node: nodes.Node, message: str, word: str) -> NoReturn:
        raise NotAllowed(message, node.lineno, word)

    def _known(self, node: Any, what: str, table: Mapping[str, Any]) -> nodes.Node:
        if node.name not in table:
            self._refuse(node, f"there is no {what} {node.name!r}.{did_you_mean(node.name, table)}", node.name)
        return self._visited(node)

    def _built(self, node: nodes.Expr) -> nodes.Node:
        parts = [*node.iter_child_nodes()]
        if all(isinstance(part, nodes.Const) for part in parts):
            return node
        return self._internal("#made", self._visited(node))

    def _visited(self, node: Any) -> Any:
        return self.generic_visit(node)

    def _tick(self, node: nodes.Node) -> nodes.Filter:
        text = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        return self._internal("#tick", nodes.Const(STEP + text, lineno=node.lineno))

    def _internal(self, name: str, value: nodes.Node) -> nodes.Filter:
        return nodes.Filter(value, name, [], [], None, None, lineno=value.lineno, environment=self._environment)
