"""What is computed from variables: an expression of the language of conditions, or a function, and which variables it reads.

A variable's name may be a path (``triage.predict.temperature``, ``stages[0].k``). In an expression the longest part of a path
that is a variable is one; what follows looks into its value.
"""

from __future__ import annotations

import ast
import inspect
import json
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from dspex_lab.errors import PipelineError, VariableError, did_you_mean
from dspex_lab.native import Condition

Source = str | Callable[..., Any]

#: How the text of a function begins where a space is kept.
_FUNCTION = "function "

Run = Callable[[Mapping[str, Any]], Any]


class Formula:
    """What is computed from the values of variables.

    Attributes:
        text: the expression; for a function what it is called and which variables it reads.
        reads: the names of the variables.
        source: the function; None for an expression, and for a function that was given to an earlier process.
    """

    __slots__ = ("_run", "lost", "reads", "source", "text")

    def __init__(self, text: str, reads: tuple[str, ...], run: Run, source: Callable[..., Any] | None = None) -> None:
        self.text, self.reads, self._run, self.source = text, reads, run, source
        self.lost = False

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """Return what it comes to; it is given the variables that it reads."""
        return self._run({name: values[name] for name in self.reads})

    def __repr__(self) -> str:
        return f"Formula({self.text!r})"

    def same(self, other: Formula | None) -> bool:
        """Say whether the other one computes the same; a function does where it is the same object."""
        return other is not None and (self.text, self.source, self.lost) == (other.text, other.source, other.lost)


def formula(source: Source, known: Collection[str], what: str, reads: Sequence[str] | None = None) -> Formula:
    """Return what ``source`` computes.

    Args:
        source: an expression, or a function. A function is called with variables by the names of its parameters; with
            ``reads``, or where it has one parameter that is no variable, with a dict of them.
        known: names of variables.
        what: it is, for errors: ``"The constraint 'a < b'"``.
        reads: what a function reads.

    Raises:
        VariableError: it cannot be read, or reads what is no variable.
    """
    if isinstance(source, str):
        return _expression(source, known, what)
    if not callable(source):
        raise VariableError(f"{what} is an expression or a function, found {type(source).__name__}.")
    return _function(source, known, what, reads)


def kept_formula(text: str, known: Collection[str], what: str) -> Formula:
    """Return what a kept text computes; of a function only what it was called and read is known.

    Raises:
        VariableError: it cannot be read, or reads what is no variable.
    """
    if not text.startswith(_FUNCTION):
        return _expression(text, known, what)
    name, _, listed = text.removeprefix(_FUNCTION).partition(" ")
    try:
        reads = tuple(str(each) for each in json.loads(listed or "[]"))
    except (ValueError, TypeError) as error:
        raise VariableError(f"{what} cannot be read: {error}.") from error
    _all_known(reads, known, what)

    def run(values: Mapping[str, Any]) -> Any:
        raise VariableError(
            f"{what} is the function {name!r} of an earlier process.", hint="Run the cell that defines it again."
        )

    found = Formula(text, reads, run)
    found.lost = True
    return found


# ---- functions -------------------------------------------------------------------------------------------------------


def _function(source: Callable[..., Any], known: Collection[str], what: str, reads: Sequence[str] | None) -> Formula:
    name = str(getattr(source, "__name__", type(source).__name__)).replace(" ", "_")
    named: tuple[str, ...]
    if reads is not None:
        named, run = tuple(dict.fromkeys([reads] if isinstance(reads, str) else reads)), source
        _all_known(named, known, what)
    else:
        named = _parameters(source, what)
        if len(named) == 1 and named[0] not in known and named[0] in ("values", "v"):
            raise VariableError(
                f"{what} is a function of all values, so that nobody knows which ones it reads.",
                hint="Say it: reads=['a', 'b']; or give it parameters that are called like variables.",
            )
        _all_known(named, known, what)

        def run(values: Mapping[str, Any]) -> Any:
            return source(**values)

    return Formula(f"{_FUNCTION}{name} {json.dumps(list(named))}", named, run, source)


def _parameters(source: Callable[..., Any], what: str) -> tuple[str, ...]:
    try:
        parameters = inspect.signature(source).parameters.values()
    except (TypeError, ValueError) as error:
        raise VariableError(
            f"{what}: nobody can tell its parameters ({error}).", hint="Say what it reads: reads=[…]."
        ) from error
    return tuple(
        parameter.name
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and parameter.default is parameter.empty
    )


def _all_known(names: Sequence[str], known: Collection[str], what: str) -> None:
    for name in names:
        if name not in known:
            raise unknown(name, known, f"{what} reads {name!r}, and there is no such variable.")


def unknown(name: str, known: Collection[str], message: str) -> VariableError:
    """Return the error for a name that no variable has, with the one that may be meant."""
    near = did_you_mean(str(name)[:200], known)
    listed = ", ".join(list(known)[:20])
    return VariableError(f"{message}{near}", name=name, hint=f"There are {listed}." if listed else "There are no variables.")


# ---- expressions -----------------------------------------------------------------------------------------------------


def _expression(text: str, known: Collection[str], what: str) -> Formula:
    try:
        condition = Condition(text)
    except PipelineError as error:
        raise VariableError(f"{what} cannot be read: {error}") from error
    if all(name in known for name in condition.names) and "." not in text and "[" not in text:
        return Formula(condition.text, condition.names, _guarded(condition, {}, what))
    paths = list(_paths(condition.text, known, what))
    aliases: dict[str, str] = {}
    for path in paths:
        if not path.name.isidentifier() and path.name not in aliases:
            aliases[path.name] = (
                f"v{len(aliases)}_" + "".join(c if c.isalnum() and c.isascii() else "_" for c in path.name)[:40]
            )
    reads = tuple(dict.fromkeys(path.name for path in paths))
    rewritten = condition if not aliases else Condition(_rewrite(condition.text, paths, aliases))
    return Formula(condition.text, reads, _guarded(rewritten, aliases, what))


def _guarded(condition: Condition, aliases: Mapping[str, str], what: str) -> Run:
    def run(values: Mapping[str, Any]) -> Any:
        named = {aliases.get(name, name): value for name, value in values.items()} if aliases else values
        try:
            return condition(named)
        except PipelineError as error:
            message = str(error)
            for name, alias in aliases.items():
                message = message.replace(alias, name)
            raise VariableError(f"{what} cannot be computed: {message}") from error

    return run


class _Path:
    """A variable in the text of an expression, and where it stands: bytes from the beginning of its first line."""

    def __init__(self, name: str, node: ast.expr) -> None:
        self.name, self.node = name, node


def _paths(text: str, known: Collection[str], what: str) -> Iterator[_Path]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in patterns
        waiting: list[ast.AST] = [ast.parse(text, mode="eval").body]
    while waiting:
        node = waiting.pop()
        if _is_path(node):
            yield _longest(node, known, what, waiting)
        elif isinstance(node, ast.Call):
            waiting.extend(reversed(node.args))
        else:
            waiting.extend(reversed(list(ast.iter_child_nodes(node))))


def _is_path(node: ast.AST) -> bool:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return isinstance(node, ast.Name)


def _longest(node: Any, known: Collection[str], what: str, waiting: list[ast.AST]) -> _Path:
    """Return the longest variable that a path begins with; what its indexes read is left to ``waiting``."""
    whole = node
    while True:
        name = ast.unparse(node)
        if name in known:
            return _Path(name, node)
        if isinstance(node, ast.Name):
            raise unknown(ast.unparse(whole), known, f"{what} reads {ast.unparse(whole)!r}, and there is no such variable.")
        if isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Constant):
            waiting.append(node.slice)
        node = node.value


def _rewrite(text: str, paths: Sequence[_Path], aliases: Mapping[str, str]) -> str:
    """Return the text with each path that is no name of Python replaced by its alias."""
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line.encode()) + 1)
    data = text.encode()
    for path in sorted(paths, key=lambda path: (path.node.lineno, path.node.col_offset), reverse=True):
        if path.name in aliases:
            node = path.node
            begin, end = (
                starts[node.lineno - 1] + node.col_offset,
                starts[(node.end_lineno or 1) - 1] + (node.end_col_offset or 0),
            )
            data = data[:begin] + aliases[path.name].encode() + data[end:]
    return data.decode()
