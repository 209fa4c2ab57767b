"""No text makes the parser raise anything but SignatureError, and what it makes reads back."""

from __future__ import annotations

import datetime
import enum
import string
from typing import Annotated, Any, Literal

import annotated_types as at
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from steady import STEADY

from dspex_lab.errors import SignatureError
from dspex_lab.signatures import MISSING, Field, Signature, signature
from dspex_lab.signatures._nodes import check_name

MANY = settings(STEADY, max_examples=300)


class Color(enum.Enum):
    RED = "red"
    BLUE = 2


TYPES = {"Color": Color, "Value": 3}
PIECES = [
    *(
        "a",
        "b",
        "question",
        "class",
        "_x",
        "->",
        "->",
        ",",
        ":",
        "=",
        "|",
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        ".",
        "..",
        "...",
        "-",
        "/",
    ),
    *(
        "int",
        "str",
        "list",
        "dict",
        "Literal",
        "Annotated",
        "Field",
        "Optional",
        "Union",
        "Callable",
        "tuple",
        "Color",
        "Color.RED",
    ),
    *(
        "Value",
        "None",
        "True",
        "datetime",
        "datetime.date",
        "typing",
        "zzz",
        "0",
        "1",
        "1.5",
        "'x'",
        "b'x'",
        '"""',
        "'",
        "f'x'",
    ),
    *(
        "# text",
        "\n",
        " ",
        "\t",
        "\\\n",
        "/x/",
        "[1..5]",
        "[/x/]",
        "ge=1",
        "(ge=1)",
        "\x00",
        "\u2028",
        "é",
        "²",
        "→",
        ";",
        "1e400",
    ),
]


def read(text: str) -> Signature | None:
    try:
        return signature(text, types=TYPES)
    except SignatureError as error:
        refusal = error
    assert refusal.text == text
    assert refusal.line is not None
    assert refusal.column is not None
    assert refusal.line >= 1
    assert 1 <= refusal.column <= len(text) + 1
    refusal.excerpt()
    return None


@MANY
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    read(text)


@MANY
@given(st.lists(st.sampled_from(PIECES), max_size=40), st.sampled_from(["", " "]))
def test_any_soup_of_tokens_is_read_or_refused(pieces: list[str], between: str) -> None:
    sig = read(between.join(pieces))
    if sig is not None:
        assert signature(str(sig), types={**TYPES, **sig.types}) == sig


@MANY
@given(st.data())
def test_a_damaged_signature_is_read_or_refused(data: st.DataObject) -> None:
    whole = '"""Do."""\nq: list[Literal["a", Color.RED]][1..5] = ["a"] # it\n-> s: str[/^x/] | None, t: dict[str, int[0..]]'
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 10)))
    sig = read(whole[:start] + data.draw(st.sampled_from(["", *PIECES])) + whole[end:])
    if sig is not None:
        assert signature(str(sig), types={**TYPES, **sig.types}) == sig


names = st.text(string.ascii_letters + string.digits + "_é", min_size=1, max_size=8).filter(
    lambda name: check_name(name) is None
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
bounds = st.tuples(st.integers(-9, 9), st.integers(0, 9)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def _ranged(tp: Any, low: Any, high: Any) -> Any:
    return Annotated[(tp, at.Ge(low), at.Le(high))]


leaves: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([str, int, float, bool, bytes, Color, datetime.date, Any, type(None), complex, list, dict]),
    bounds.map(lambda b: _ranged(int, *b)),
    bounds.map(lambda b: _ranged(float, b[0] / 4, b[1] / 4)),
    st.lists(
        st.one_of(texts, st.integers(), st.booleans(), st.sampled_from([None, b"x", Color.RED])), min_size=1, max_size=3
    ).map(lambda values: Literal[tuple(values)]),
    st.integers(0, 5).map(lambda n: Annotated[list[int], at.MinLen(n)]),
)
types = st.recursive(
    leaves,
    lambda inner: st.one_of(
        inner.map(lambda tp: list[tp]),
        inner.map(lambda tp: dict[str, tp]),
        st.tuples(inner, inner).map(lambda pair: tuple[pair]),
        inner.map(lambda tp: tuple[tp, ...]),
        st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1] if pair[0] is not pair[1] else pair[0]),
    ),
    max_leaves=5,
)
optional_texts = st.one_of(st.none(), texts)


@st.composite
def signatures(draw: st.DrawFn) -> Signature:
    chosen = draw(st.lists(names, unique=True, max_size=5))
    fields = []
    for name in chosen:
        declared = draw(st.booleans())
        role: Any = draw(st.sampled_from(["input", "output"]))
        default = draw(st.sampled_from([MISSING, MISSING, None])) if declared else MISSING
        tp = draw(types) if declared else str
        fields.append(Field(name, tp, role=role, description=draw(optional_texts), default=default, declared=declared))
    instructions = draw(optional_texts)
    return Signature(fields, instructions=None if instructions is None else "\n" + instructions)


@MANY
@given(signatures())
def test_every_signature_reads_back(sig: Signature) -> None:
    again = signature(str(sig), types=sig.types)
    assert again == sig
    assert str(again) == str(sig)
    assert again.types == sig.types


#: What may stand many times in a row; where it may not, the text is refused.
REPEATED = [
    *PIECES,
    *(
        "int | ",
        "list[",
        "(x, ",
        "a: str[/",
        "a, ",
        "x: {",
        "Field(",
        "'a' ",
        "Literal['b', ",
        "a # b\n",
        "->\n",
        "a=[",
        "1_",
        " \\\n",
    ),
]


@pytest.mark.parametrize("lead", ["", "a: ", "x = ", "a -> b: "])
@pytest.mark.parametrize("piece", REPEATED)
def test_what_is_repeated_thousands_of_times_is_read_or_refused(lead: str, piece: str) -> None:
    read(lead + piece * 3_000)


@pytest.mark.parametrize(
    "text",
    [
        ", ".join(f"f{i}: list[int] = [1]" for i in range(2_000)) + " -> a",
        "x: " + " | ".join(f"Literal[{i}]" for i in range(5_000)) + " -> a",
        "x: Literal[" + ", ".join(f"'v{i}'" for i in range(5_000)) + "] -> a",
        "x: tuple[" + ", ".join(["int"] * 5_000) + "] -> a",
        "x: list[int] = [" + "1, " * 5_000 + "] -> a",
        "x: Annotated[int, " + ", ".join(["Field(ge=1)"] * 2_000) + "] -> a",
        "\n".join(f"f{i} # c" for i in range(5_000)) + "\n-> a",
    ],
    ids=lambda text: text[:20],
)
def test_a_very_long_signature_is_read(text: str) -> None:
    sig = read(text)
    assert sig is not None
    assert signature(str(sig), types={**TYPES, **sig.types}) == sig
