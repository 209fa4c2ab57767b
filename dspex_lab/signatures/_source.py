"""The text of a signature: places in it, and its tokens.

The tokenizer is one compiled alternation over the token kinds, tried at each place, with the ends of strings and
of ``/regex/`` patterns found by hand. Comments are kept apart, because only the parser knows which field they follow.
"""

from __future__ import annotations

import ast
import bisect
import itertools
import re
from typing import Any, NamedTuple

from dspex_lab.errors import SignatureError

#: The longest text read; a signature is a page at most, and what is larger was not meant as one.
MAX_CHARACTERS = 200_000

_TOKEN = re.compile(
    r"""
      (?P<space>\s+|\\\r?\n)
    | (?P<comment>\#[^\n\r\v\f\x1c-\x1e\x85\u2028\u2029]*)
    | (?P<string>[rRbBuUfF]{0,2}(?:\"\"\"|'''|"|'))
    | (?P<number>0[xX][0-9a-fA-F_]+ | 0[oO][0-7_]+ | 0[bB][01_]+
        | (?:[0-9][0-9_]*(?:\.(?!\.)[0-9_]*)? | (?<!\.)\.[0-9][0-9_]*) (?:[eE][+-]?[0-9][0-9_]*)? [jJ]?)
    | (?P<name>[^\W\d]\w*)
    | (?P<op>->|\.\.\.|\.\.|[\[\](){}|:,=.+*/-])
    """,
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\([0-7]{1,3}|.)", re.DOTALL)
_KNOWN_ESCAPES = frozenset("\n\r\\'\"abfnrtvxuUN")
_ARROWS = ("=>", "→", "⇒", "–>", "—>", ">", "~>")  # also what word processors make of "->"


class Token(NamedTuple):
    """A token: its kind (``name number string regex op end``), its text or value, and where it stands."""

    kind: str
    value: Any
    start: int
    end: int


class Comment(NamedTuple):
    """A comment's text without its sign, and where it stands."""

    text: str
    start: int


class Source:
    """A text with its lines; makes the errors that point into it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._starts: list[int] | None = None

    def line(self, offset: int) -> int:
        """Return the 1-based line of ``offset``; lines end where ``str.splitlines`` ends them."""
        if self._starts is None:
            lines = self.text.splitlines(keepends=True)
            self._starts = [0, *itertools.accumulate(len(line) for line in lines)]
            if lines and lines[-1].splitlines() == lines[-1:]:
                self._starts.pop()  # the last line is not ended: what follows its last character is still on it
        return bisect.bisect_right(self._starts, offset)

    def column(self, offset: int) -> int:
        """Return the 1-based column of ``offset``."""
        line = self.line(offset)
        assert self._starts is not None  # noqa: S101 (line() has filled it; said for the type checker)
        return offset - self._starts[line - 1] + 1

    def error(self, at: int, message: str, *, field: str | None = None, hint: str | None = None) -> SignatureError:
        """Return the error that points at ``at``; the place is also said in the message."""
        line, column = self.line(at), self.column(at)
        where = f"Line {line}, column {column}: " if line > 1 else f"Column {column}: "
        return SignatureError(where + message, text=self.text, line=line, column=column, field=field, hint=hint)


def tokenize(source: Source) -> tuple[list[Token], list[Comment]]:
    """Return the tokens of ``source``, closed by an ``end`` token, and its comments.

    Raises:
        SignatureError: a character, a string, a number or a pattern that cannot be read.
    """
    text = source.text
    if len(text) > MAX_CHARACTERS:
        raise SignatureError(f"The signature has {len(text):,} characters; {MAX_CHARACTERS:,} are read at most.")
    tokens: list[Token] = []
    comments: list[Comment] = []
    place, match_at = 0, _TOKEN.match
    while place < len(text):
        match = match_at(text, place)
        if match is None:
            raise _stranger(source, place)
        kind, end = match.lastgroup, match.end()
        if kind == "comment":
            comments.append(Comment(text[place + 1 : end].strip(), place))
        elif kind == "string":
            end = _end_of_string(source, place, match.group())
            tokens.append(Token("string", _string(source, place, end), place, end))
        elif kind == "number":
            tokens.append(Token("number", _number(source, place, end), place, end))
        elif kind == "op" and match.group() == "/" and tokens and tokens[-1].value == "[":
            end = _end_of_regex(source, place)
            tokens.append(Token("regex", _unslash(text[place + 1 : end - 1]), place, end))
        elif kind != "space":
            tokens.append(Token(str(kind), match.group(), place, end))
        place = end
    tokens.append(Token("end", "", tokens[-1].end if tokens else 0, len(text)))
    return tokens, comments


def _stranger(source: Source, at: int) -> SignatureError:
    text = source.text
    for arrow in _ARROWS:
        if text.startswith(arrow, at):
            return source.error(
                at, f"unexpected {arrow!r}; inputs and outputs are separated by '->'.", hint="Did you mean '->'?"
            )
    if text[at] == ";":
        return source.error(at, "unexpected ';'; fields are separated by commas or line ends.", hint="Did you mean ','?")
    return source.error(at, f"unexpected character {text[at]!r}.")


def _end_of_string(source: Source, start: int, opening: str) -> int:
    text = source.text
    quote = opening.lstrip("rRbBuUfF")
    if opening[:1] in "fF" or opening[1:2] in ("f", "F"):
        raise source.error(start, "an f-string would have to be evaluated; expected a plain string.")
    place = start + len(opening)
    while place < len(text):
        if text.startswith(quote, place):
            return place + len(quote)
        if text[place] == "\\":
            place += 1
        elif len(quote) == 1 and text[place] in "\r\n":
            break
        place += 1
    raise source.error(start, f"the string opened here is never closed; expected {quote}.")


def _string(source: Source, start: int, end: int) -> str | bytes:
    literal = source.text[start:end]
    if "\\" in literal and "r" not in literal[:2].lower():
        literal = _ESCAPE.sub(_escape, literal)
    try:
        value = ast.literal_eval(literal)
        if isinstance(value, str):
            value.encode()
    except (SyntaxError, ValueError) as error:
        reason = getattr(error, "msg", None) or str(error)
        raise source.error(start, f"the string cannot be read: {reason}.") from error
    assert isinstance(value, str | bytes)  # noqa: S101 (a string token holds nothing else)
    return value


def _escape(match: re.Match[str]) -> str:
    # Python warns of unknown escapes, and warnings may be errors; so they are made known ones before it reads them.
    what = match.group(1)
    if what[0] in "01234567":
        return f"\\x{int(what, 8) & 0xFF:02x}"
    return match.group() if what in _KNOWN_ESCAPES else "\\\\" + what


def _number(source: Source, start: int, end: int) -> int | float | complex:
    literal = source.text[start:end]
    if source.text[end : end + 1].isidentifier():
        raise source.error(start, f"{literal + source.text[end]!r} is neither a number nor a name.")
    try:
        value = ast.literal_eval(literal)
    except (SyntaxError, ValueError) as error:
        raise source.error(start, f"{literal[:40]!r} is not a number.") from error
    assert isinstance(value, int | float | complex)  # noqa: S101 (a number token holds nothing else)
    return value


def _end_of_regex(source: Source, start: int) -> int:
    """Find the closing slash: escaped slashes and those in a character class do not close, as in JavaScript."""
    text, place, in_class = source.text, start + 1, False
    while place < len(text) and text[place] not in "\r\n":
        if text[place] == "\\":
            place += 1
        elif text[place] == "[":
            in_class = True
        elif text[place] == "]":
            in_class = False
        elif text[place] == "/" and not in_class:
            return place + 1
        place += 1
    raise source.error(start, "the pattern opened here is never closed; expected '/' and ']'.", hint="As in str[/^[A-Z]+$/].")


def _unslash(pattern: str) -> str:
    return re.sub(r"\\(.)", lambda m: "/" if m.group(1) == "/" else m.group(), pattern)
