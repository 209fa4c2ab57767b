"""The grammar of signatures: tokens in, a tree of nodes out; no type is looked up here.

::

    signature  = [string] [fields] "->" [fields] ;            the string is the instructions
    fields     = field { separator field } [","] ;
    separator  = "," | line end ;                             comments: the text after a field describes it
    field      = name [":" type] ["=" value] ;
    type       = suffixed { "|" suffixed } ;
    suffixed   = atom { "[" ( range | "/" regex "/" | [args] ) "]" } ;
    range      = [number] ".." [number] ;                     not both missing
    args       = type { "," type } [","] ;
    atom       = dotted | dotted "(" keywords ")" | string | number | "None" | "True" | "False" | "..."
               | "(" [args] ")" | "[" [args] "]" ;
    value      = literal (Python's, without calls) | dotted | "Field" "(" keywords ")" ;

Every string that ``dspy.Signature`` accepts is one of these, but for the few it silently misreads (see the room's docstring).
"""

from __future__ import annotations

import bisect
import keyword
import unicodedata
from collections.abc import Callable

from dspex_lab.errors import SignatureError

from ._nodes import (
    Apply,
    Call,
    Const,
    FieldNode,
    Items,
    Matching,
    Name,
    Node,
    OneOf,
    Ranged,
    SignatureNode,
    better_name,
    check_name,
)
from ._source import Comment, Source, Token, tokenize

#: Brackets inside brackets, and suffixes in a row, that are followed.
MAX_DEPTH = 60
MAX_SUFFIXES = 8


def parse(source: Source) -> SignatureNode:
    """Parse a text.

    Raises:
        SignatureError: with line and column of the offending token.
    """
    try:
        source.text.encode()
    except UnicodeEncodeError as error:
        raise source.error(error.start, "a lone surrogate, which is no character.") from error
    tokens, comments = tokenize(source)
    parser = _Parser(source, tokens)
    tree = parser.signature()
    _describe(source, [*tree.inputs, *tree.outputs], comments)
    return tree


class _Parser:
    def __init__(self, source: Source, tokens: list[Token]) -> None:
        self.source, self.tokens = source, tokens
        self.index, self.depth = 0, 0
        self.token = tokens[0]

    # -- moving ---------------------------------------------------------------------------------------------------
    def take(self) -> Token:
        token = self.token
        if token.kind != "end":
            self.index += 1
            self.token = self.tokens[self.index]
        return token

    def at_op(self, *ops: str) -> bool:
        return self.token.kind == "op" and self.token.value in ops

    def on_new_line(self) -> bool:
        line = self.source.line
        return self.index > 0 and line(self.tokens[self.index - 1].end) < line(self.token.start)

    def after_comma(self) -> bool:
        """Whether the bracket just closed had a comma before its end."""
        return self.tokens[self.index - 2].value == ","

    def found(self) -> str:
        if self.token.kind == "end":
            return "the end"
        return repr(self.source.text[self.token.start : self.token.end][:40])

    def expected(self, what: str, *, hint: str | None = None) -> SignatureError:
        return self.source.error(self.token.start, f"expected {what}, found {self.found()}.", hint=hint)

    def nested(self, parse_part: Callable[[], Node]) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.source.error(self.token.start, f"brackets nested deeper than {MAX_DEPTH}.")
        part = parse_part()
        self.depth -= 1
        return part

    # -- the whole ------------------------------------------------------------------------------------------------
    def signature(self) -> SignatureNode:
        instructions = None
        if self.token.kind == "string" and isinstance(self.token.value, str):
            instructions = self.take().value
        inputs = self.side({})
        if not self.at_op("->"):
            raise self.expected("'->' between inputs and outputs", hint="As in: question -> answer")
        self.take()
        outputs = self.side({node.name: node for node in inputs})
        if self.at_op("->"):
            raise self.source.error(self.token.start, "a second '->'; a signature has exactly one.")
        return SignatureNode(instructions, inputs, outputs)

    def side(self, others: dict[str, FieldNode]) -> list[FieldNode]:
        fields: dict[str, FieldNode] = {}
        while self.token.kind != "end" and not self.at_op("->"):
            node = self.field()
            self.check_unused(node, fields, others)
            fields[node.name] = node
            if self.at_op(","):
                self.take()
            elif self.token.kind != "end" and not self.at_op("->") and not (self.token.kind == "name" and self.on_new_line()):
                missing = "a comma, '->' or a new line" if not others else "a comma or a new line"
                raise self.expected(f"{missing} after the field {node.name!r}")
        return list(fields.values())

    def check_unused(self, node: FieldNode, same: dict[str, FieldNode], others: dict[str, FieldNode]) -> None:
        first = same.get(node.name) or others.get(node.name)
        if first is None:
            return
        where = "is both an input and an output" if node.name in others else "is given twice"
        hint = f"It stands first in line {self.source.line(first.at)}, column {self.source.column(first.at)}."
        raise self.source.error(node.at, f"the field {node.name!r} {where}.", field=node.name, hint=hint)

    def field(self) -> FieldNode:
        token = self.token
        if token.kind != "name":
            hint = "Every field is named." if self.at_op("*", "/") else None
            raise self.expected("the name of a field", hint=hint)
        name = unicodedata.normalize("NFKC", token.value)
        wrong = check_name(name)
        if wrong:
            raise self.source.error(token.start, wrong + ".", field=name, hint=better_name(name))
        self.take()
        type_node = default = None
        if self.at_op(":"):
            self.take()
            if self.token.kind == "end" or self.at_op(",", "->", "="):
                raise self.expected(f"a type after '{name}:'")
            type_node = self.read_type()
        if self.at_op("="):
            self.take()
            default = self.value()
        return FieldNode(name, type_node, default, None, token.start, self.tokens[self.index - 1].end)

    # -- types ----------------------------------------------------------------------------------------------------
    def read_type(self) -> Node:
        start = self.token.start
        members = [self.suffixed()]
        while self.at_op("|"):
            self.take()
            members.append(self.suffixed())
        return members[0] if len(members) == 1 else OneOf(members, start)

    def suffixed(self) -> Node:
        node, suffixes = self.atom(), 0
        while self.at_op("["):
            opening = self.take()
            suffixes += 1
            if suffixes > MAX_SUFFIXES:
                raise self.source.error(opening.start, f"more than {MAX_SUFFIXES} brackets in a row.")
            if self.token.kind == "regex":
                token = self.take()
                node = Matching(node, token.value, token.start)
                self.close(opening, "]", hint="Flags stand inside the pattern, as in str[/(?i)yes/].")
            elif self.range_begins():
                node = self.range(node)
                self.close(opening, "]")
            else:
                node = Apply(node, self.sequence(opening, "]", self.read_type), node.at)
        return node

    def range_begins(self) -> bool:
        ahead = self.index + (1 if self.at_op("-", "+") else 0)
        if self.tokens[ahead].kind == "number":
            ahead += 1
        token = self.tokens[ahead]
        return token.kind == "op" and token.value == ".."

    def range(self, base: Node) -> Node:
        start = self.token.start
        low = None if self.at_op("..") else self.number()
        dots = self.take()
        high = self.number() if self.at_op("-", "+") or self.token.kind == "number" else None
        if low is None and high is None:
            raise self.source.error(dots.start, "a range without bounds; expected a number before or after '..'.")
        if low is not None and high is not None and low > high:
            raise self.source.error(
                start,
                f"the range {low}..{high} is empty: its low end is above its high end.",
                hint=f"Did you mean {high}..{low}?",
            )
        return Ranged(base, low, high, start)

    def number(self) -> int | float:
        sign = -1 if self.at_op("-") else 1
        if self.at_op("-", "+"):
            self.take()
        token = self.token
        if token.kind != "number" or isinstance(token.value, complex):
            raise self.expected("a number")
        self.take()
        return sign * token.value if token.value or isinstance(token.value, float) else 0

    def atom(self) -> Node:
        if self.at_op("..."):
            return Const(..., self.take().start)
        node = self.common(self.read_type)
        if node is None:
            raise self.expected("a type")
        return node

    # -- what types and values have in common ---------------------------------------------------------------------
    def common(self, part: Callable[[], Node]) -> Node | None:
        token = self.token
        if token.kind == "name":
            return self.named()
        if token.kind == "string":
            return self.string()
        if token.kind == "number" or self.at_op("-", "+"):
            return self.signed()
        if self.at_op("("):
            return self.nested(lambda: self.parenthesis(part))
        if self.at_op("["):
            return self.nested(lambda: Items("list", self.sequence(self.take(), "]", part), token.start))
        return None

    def parenthesis(self, part: Callable[[], Node]) -> Node:
        opening = self.take()
        items = self.sequence(opening, ")", part)
        if len(items) == 1 and not self.after_comma():
            return items[0]
        return Items("tuple", items, opening.start)

    def named(self) -> Node:
        token = self.take()
        path = unicodedata.normalize("NFKC", token.value)
        if path in ("None", "True", "False"):
            return Const({"None": None, "True": True, "False": False}[path], token.start)
        while self.at_op("."):
            self.take()
            if self.token.kind != "name":
                raise self.expected(f"a name after '{path}.'")
            path += "." + unicodedata.normalize("NFKC", self.take().value)
        if self.at_op("("):
            return self.nested(lambda: self.call(path, token.start))
        for part in path.split("."):
            if not part.isidentifier() or keyword.iskeyword(part):
                raise self.source.error(token.start, f"{part!r} is not a name.")
        return Name(path, token.start)

    def call(self, name: str, start: int) -> Node:
        opening = self.take()
        keywords: list[tuple[str, Node, int]] = []
        while not self.at_op(")"):
            key = self.token
            ahead = self.tokens[min(self.index + 1, len(self.tokens) - 1)]
            if key.kind != "name" or ahead.value != "=" or ahead.kind != "op":
                raise self.expected(f"'name=value' in {name}(…)")
            self.take()
            self.take()
            keywords.append((key.value, self.value(), key.start))
            if not self.at_op(","):
                break
            self.take()
        self.close(opening, ")")
        return Call(name, keywords, start)

    def string(self) -> Node:
        start = self.token.start
        value = self.take().value
        while self.token.kind == "string":  # adjacent strings are one, as in Python
            if type(self.token.value) is not type(value):
                raise self.expected("a string of the same kind")
            value += self.take().value
        return Const(value, start)

    def signed(self) -> Node:
        start = self.token.start
        sign = self.take().value if self.at_op("-", "+") else "+"
        if self.token.kind != "number":
            raise self.expected("a number")
        value = self.take().value
        return Const(-value if sign == "-" else value, start)

    # -- values ---------------------------------------------------------------------------------------------------
    def value(self) -> Node:
        if self.at_op("{"):
            return self.nested(self.braces)
        node = self.common(self.value)
        if node is None:
            raise self.expected("a plain value (a string, a number, a list, …)")
        return node

    def braces(self) -> Node:
        opening = self.take()
        items: list[Node] = []
        is_dict = self.at_op("}")
        while not self.at_op("}"):
            items.append(self.value())
            if len(items) == 1:
                is_dict = self.at_op(":")
            if is_dict:
                if not self.at_op(":"):
                    raise self.expected("':' after a key")
                self.take()
                items.append(self.value())
            if not self.at_op(","):
                break
            self.take()
        self.close(opening, "}")
        return Items("dict" if is_dict else "set", items, opening.start)

    # -- brackets -------------------------------------------------------------------------------------------------
    def sequence(self, opening: Token, closing: str, part: Callable[[], Node]) -> list[Node]:
        items: list[Node] = []
        while not self.at_op(closing):
            if self.token.kind == "end" or self.at_op("->"):
                break
            items.append(self.nested(part))
            if not self.at_op(","):
                break
            self.take()
        self.close(opening, closing)
        return items

    def close(self, opening: Token, closing: str, *, hint: str | None = None) -> None:
        if self.at_op(closing):
            self.take()
            return
        token = self.token
        ran_out = token.kind == "end" or self.at_op("->", "=", ":") or (token.kind == "name" and self.on_new_line())
        if ran_out:
            raise self.source.error(opening.start, f"{opening.value!r} is never closed; expected {closing!r}.")
        raise self.expected(f"',' or {closing!r}", hint=hint)


def _describe(source: Source, fields: list[FieldNode], comments: list[Comment]) -> None:
    """Give each field the comment that follows it on its line, and the lines that continue that comment.

    A comment on a line of its own continues the one above when it stands in the same column of the next line;
    otherwise it is a remark and describes nothing.
    """
    last: tuple[FieldNode, int, int] | None = None
    ends = [node.end for node in fields]
    for comment in comments:
        before = bisect.bisect_right(ends, comment.start) - 1
        line, column = source.line(comment.start), source.column(comment.start)
        if before >= 0 and not source.text[ends[before] : comment.start].strip(", \t"):
            node = fields[before]
        elif (
            last
            and (line, column) == (last[1] + 1, last[2])
            and not source.text[comment.start - column + 1 : comment.start].strip()
        ):
            node = last[0]
        else:
            continue
        if comment.text:
            node.description = f"{node.description} {comment.text}" if node.description else comment.text
        last = (node, line, column)
