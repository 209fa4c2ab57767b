"""Templates: text with values in it, in Jinja2's language, compiled once and rendered in a sandbox."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jinja2
from jinja2 import meta

from dspex_lab.errors import PipelineError, did_you_mean
from dspex_lab.native._budget import Refused, TooMuch
from dspex_lab.native._sandbox import Metering, MissingValue, NotAllowed, RenderContext, Sandbox

#: Characters of a template's text, and of what one render may make.
MAX_TEXT = 100_000
MAX_RENDERED = 4_000_000
#: Names, signs, numbers and pieces of text in one template; compiling takes up to 0.1 ms for each.
MAX_TOKENS = 30_000

#: The file name of compiled templates; errors leave the frames of such files out.
_FILENAME = "<pipeline template>"
_CACHED = 256


class _Compiled(NamedTuple):
    inputs: tuple[str, ...]
    template: jinja2.Template
    render: Callable[[RenderContext], Iterator[str]]


class Template:
    """A text with values in it. Immutable, hashable (by text), picklable, safe to use from several threads.

    The language is Jinja2's, whole but for what needs other templates, ``namespace`` and HTML. Names that were not
    given are errors, nothing is escaped, and a newline at the end stays. What is given is data: ``{{`` in a value is
    two characters.

    A template's text is not trusted. It reaches no private attribute, calls nothing but methods of built-in types that
    only read, and is stopped when it makes over 4,000,000 characters, loops too often or takes too long.

    Args:
        text: at most 100,000 characters.
        name: what errors call it, such as the step's name.

    Raises:
        PipelineError: the text is no template, or says what is not allowed; points at the line and column.
    """

    __slots__ = ("_compiled", "name", "text")

    name: str | None
    text: str
    _compiled: _Compiled

    def __init__(self, text: str, *, name: str | None = None) -> None:
        if not isinstance(text, str):
            raise PipelineError(f"A template is a text, not {type(text).__name__}.", step=name)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "_compiled", self._compile())

    def __setattr__(self, key: str, value: object) -> None:
        raise AttributeError(f"a Template cannot be changed (to set {key!r}, make another)")

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names that the text uses and does not set itself, in order of first appearance."""
        return self._compiled.inputs

    def render(self, values: Mapping[str, Any]) -> str:
        """Return the text with ``values`` in it. Values that the text does not use are left alone.

        Raises:
            PipelineError: a name, attribute or item is missing, the template does what it may not or too much, or
                an expression in it fails; points at the line.
        """
        if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
            raise PipelineError(f"{self._who} takes its values by name, as a mapping from text.", step=self.name)
        context: Any = self._compiled.template.new_context(dict(values))
        made: list[str] = []
        length = 0
        try:
            for chunk in self._compiled.render(context):
                length += len(chunk)
                if length > MAX_RENDERED:
                    raise TooMuch(f"it makes over {MAX_RENDERED:,} characters")
                made.append(chunk)
        except Exception as error:
            raise self._failure(error, values) from error
        return "".join(made)

    def __eq__(self, other: object) -> bool:
        return self.text == other.text if isinstance(other, Template) else NotImplemented

    def __hash__(self) -> int:
        return hash((Template, self.text))

    def __repr__(self) -> str:
        shown = self.text if len(self.text) <= 60 else self.text[:59] + "…"
        return f"Template({shown!r}{f', name={self.name!r}' if self.name else ''})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_remade, (self.text, self.name))

    @property
    def _who(self) -> str:
        return f"The template {self.name!r}" if self.name else "The template"

    def _compile(self) -> _Compiled:
        if len(self.text) > MAX_TEXT:
            raise PipelineError(
                f"{self._who} has {len(self.text):,} characters, and may have {MAX_TEXT:,}.",
                step=self.name,
                hint="Give long texts as values.",
            )
        try:
            return _compiled(self.text)
        except TooMuch as error:
            raise self._pointing(f"{self._who} cannot be read: {error.message}", 1) from error
        except NotAllowed as error:
            raise self._pointing(f"{self._who} is not allowed: {error.message}", error.lineno, error.word) from error
        except jinja2.TemplateSyntaxError as error:
            raise self._pointing(f"{self._who} cannot be read: {error.message}", error.lineno) from error
        except RecursionError as error:
            raise self._pointing(f"{self._who} cannot be read: it is nested too deeply.", 1) from error
        except (SyntaxError, ValueError, OverflowError, MemoryError) as error:
            # Jinja2 writes Python, which has limits of its own on nesting and on numbers.
            reason = getattr(error, "msg", None) or str(error) or "it is too large"
            raise self._pointing(f"{self._who} cannot be read: {reason}", 1) from error

    def _failure(self, error: Exception, values: Mapping[str, Any]) -> PipelineError:
        line = self._line(error)
        if isinstance(error, MissingValue):
            message, word, hint = _missing(error, values)
            return self._pointing(f"{self._who} {message}", line, word, hint)
        if isinstance(error, TooMuch):
            return self._pointing(f"{self._who} was stopped: {error.message}", line)
        if isinstance(error, Refused):
            return self._pointing(f"{self._who} is not allowed: {error.message}", line)
        if isinstance(error, RecursionError):
            return self._pointing(f"{self._who} was stopped: it calls itself, or a value is nested, too deeply.", line)
        return self._pointing(f"{self._who} failed: {type(error).__name__}: {error}", line)

    def _line(self, error: BaseException) -> int:
        """Return the line of the innermost frame that is this template's."""
        line = 1
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == _FILENAME:
                line = self._compiled.template.get_corresponding_lineno(trace.tb_lineno)
            trace = trace.tb_next
        return line

    def _pointing(self, message: str, line: int, word: str | None = None, hint: str | None = None) -> PipelineError:
        error = PipelineError(message if message.endswith((".", "?", "!")) else message + ".", step=self.name, hint=hint)
        lines = self.text.splitlines()
        column = 1
        if 1 <= line <= len(lines):
            source = lines[line - 1]
            found = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", source) if word else None
            column = 1 + (found.start() if found else len(source) - len(source.lstrip()))
        error.at(self.text, line, column)
        return error


def _remade(text: str, name: str | None) -> Template:
    return Template(text, name=name)


@functools.cache
def _environment() -> Sandbox:
    return Sandbox()


@functools.lru_cache(maxsize=_CACHED)
def _compiled(text: str) -> _Compiled:
    environment = _environment()
    read = ((kind, value) for _, kind, value in environment.lex(text) if kind != "whitespace")
    tokens = list(itertools.islice(read, MAX_TOKENS + 1))
    if len(tokens) > MAX_TOKENS:
        raise TooMuch(f"it has over {MAX_TOKENS:,} names, signs and pieces of text")
    tree = environment.parse(text)
    tree = Metering(environment).visit(tree)
    free = meta.find_undeclared_variables(tree) - environment.globals.keys()
    code = environment.compile(tree, filename=_FILENAME)
    template = jinja2.Template.from_code(environment, code, environment.make_globals(None))
    return _Compiled(_in_order(tokens, free), template, template.root_render_func)


def _in_order(tokens: list[tuple[str, str]], names: set[str]) -> tuple[str, ...]:
    """Sort ``names`` by their first appearance, which the parser does not tell."""
    order: dict[str, None] = {}
    before = ""
    for kind, value in tokens:
        if kind == "name" and value in names and before not in (".", "|"):
            order.setdefault(value)
        before = value
    return (*order, *sorted(names - order.keys()))


def _missing(error: MissingValue, values: Mapping[str, Any]) -> tuple[str, str, str | None]:
    """Return what is missing as a clause, the word to point at, and what to do."""
    name = error.name if isinstance(error.name, str) else repr(error.name)
    if error.holder is MissingValue.top:
        given = ", ".join(list(values)[:20]) or "nothing"
        return f"needs {name!r}, which was not given.{did_you_mean(name, values)}", name, f"Given: {given}."
    holder = error.holder
    if isinstance(holder, Mapping):
        known = [str(key) for key in holder]
        message = f"needs the key {name!r} of a {type(holder).__name__} that has no such key."
    elif isinstance(holder, list | tuple | str):
        known = []
        message = f"needs item {name} of a {type(holder).__name__} of length {len(holder)}."
    else:
        known = [*vars(holder), *dir(type(holder))] if hasattr(holder, "__dict__") else dir(type(holder))
        message = f"needs the attribute {name!r} of a {type(holder).__name__}, which has none."
    known = [key for key in dict.fromkeys(known) if not key.startswith("_")]
    fix = did_you_mean(name, known)
    return message + fix, name, f"Known: {', '.join(known[:20])}." if known and not fix else None
