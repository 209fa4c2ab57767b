"""How a signature is written, shown and compared."""

from __future__ import annotations

import datetime
import enum
from typing import Annotated, Any, Literal

import annotated_types as at
import pydantic
import pytest

from dspex_lab.signatures import Field, Signature, diff, signature


class Color(enum.Enum):
    RED = "red"


class Item(pydantic.BaseModel):
    n: int = 0


class Outer:
    class Item(pydantic.BaseModel):
        other: int = 0


def back(sig: Signature) -> Signature:
    return signature(str(sig), types=sig.types)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a,b->c", "a, b -> c"),
        ("a:int=3->b:Optional[str]", "a: int = 3 -> b: str | None"),
        # A union that nobody else writes: Python keeps `List[int | str]` and gives it for `List[str | int]`, too.
        ("a: List[Union[uuid.UUID,datetime.time]] -> b", "a: List[uuid.UUID | datetime.time] -> b"),
        ("-> a", "-> a"),
        ("a ->", "a ->"),
        ("->", "->"),
        ("a: Annotated[int, Field(ge=1, le=5)] -> b", "a: int[1..5] -> b"),
        ("a: int = Field(gt=0, default=2) -> b", "a: int = Field(gt=0, default=2) -> b"),
        ("a: list[Annotated[int, Field(gt=0)]] -> b", "a: list[Annotated[int, Field(gt=0)]] -> b"),
        ("a: (int[1..5] | None) -> b", "a: int[1..5] | None -> b"),
        ("a: Literal[Color.RED] = Color.RED -> b", "a: Literal[Color.RED] = Color.RED -> b"),
        ("a: datetime.date = '2024-01-01' -> b", "a: datetime.date = '2024-01-01' -> b"),
        ("a: str[/\\//] -> b", "a: str[/\\//] -> b"),
        ("a: dspy.Code['java'] -> b: dspy.Image", "a: dspy.Code['java'] -> b: dspy.Image"),
        ("a: list[None | str] ->", "a: list[str | None] ->"),
        ("a: tuple[()], b: Callable[[int], Any], c: Callable[..., int] ->", None),
        ("a # one\n -> b", "a  # one\n-> b"),
        ("'Do.' a # one\n -> bcd, e # two", '"""Do."""\na     # one\n-> bcd\n   e  # two'),
        ("a # one\n ->", "a  # one\n->"),
    ],
)
def test_writing(text: str, written: str | None) -> None:
    sig = signature(text)
    assert str(sig) == (written if written is not None else text)
    assert back(sig) == sig
    assert hash(back(sig)) == hash(sig)


def test_long_signatures_take_lines() -> None:
    sig = signature(", ".join(f"a_long_name_{i}: list[str]" for i in range(9)) + " -> b")
    assert len(str(sig).splitlines()) == 10
    assert back(sig) == sig


@pytest.mark.parametrize(
    "description",
    [
        "plain",
        "# with a sign",
        "  spaces ",
        "two\nlines",
        "a\u2028b",
        "tab\there",
        'quote\'s "both"',
        "back\\slash",
        "\x00",
        "é",
    ],
)
@pytest.mark.parametrize("declared", [True, False])
def test_every_description_reads_back(description: str, declared: bool) -> None:
    sig = Signature([Field("a", description=description, declared=declared), Field("b", description="x", role="output")])
    assert back(sig) == sig


@pytest.mark.parametrize(
    "instructions",
    ["x", "", 'ends with "', 'a """quoted""" part', "back\\slash \\n", "one\n  two\n  three", "a\x0cb\rc", "   "],
)
def test_all_instructions_read_back(instructions: str) -> None:
    sig = Signature([Field("a"), Field("b", role="output")], instructions="\n" + instructions)
    assert back(sig) == sig
    assert sig.to_dspy().instructions == sig.instructions


@pytest.mark.parametrize(
    "pattern", ["", "/", "a/b", "\\/", "[/]", "[]/]", "#", "'\"", "(?x) # [", "a\nb", "\\\\/", "]", "[^]]"]
)
def test_every_pattern_reads_back(pattern: str) -> None:
    sig = Signature(
        [Field("a", constraints={"pattern": pattern}), Field("b", list[Annotated[str, pydantic.Field(pattern=pattern)]])]
    )
    assert back(sig) == sig


@pytest.mark.parametrize(
    ("tp", "default"),
    [
        (float, float("inf")),
        (Item, Item(n=3)),
        (list[Item], [Item()]),
        (dict[str, Any], {"a": [1, (2, None)]}),
        (set[int], {1}),
        (set[int], set()),
        (datetime.timedelta, datetime.timedelta(days=1)),
        (Any, object),
        (bytes, b"x"),
        (Annotated[float, at.Ge(float("-inf"))], 1.5),
    ],
)
def test_every_default_reads_back(tp: Any, default: Any) -> None:
    sig = Signature([Field("a", tp, default=default)])
    assert sig.inputs["a"].default == default
    assert back(sig) == sig


def test_types_of_one_name_are_told_apart() -> None:
    sig = Signature([Field("a", Item), Field("b", list[Outer.Item]), Field("c", Item | None)])
    assert str(sig) == "a: Item, b: list[Item_2], c: Item | None ->"
    assert sig.types == {"Item": Item, "Item_2": Outer.Item}
    assert back(sig) == sig


def test_names_in_modules_keep_their_dots() -> None:
    from types import SimpleNamespace

    spaces = {"outer": SimpleNamespace(inner=SimpleNamespace(Item=Item)), "Outer": Outer}
    sig = signature("a: outer.inner.Item, b: Outer.Item, c: Outer -> d", types=spaces)
    assert str(sig) == "a: outer.inner.Item, b: Outer.Item, c: Outer -> d"
    assert sig.types["Outer"] is Outer
    assert back(sig) == sig


def test_types_keep_the_names_they_were_found_by() -> None:
    sig = signature(
        "a: Outer.Item, b: Literal[Color.RED], c: list[Alias] -> d", types={"Outer": Outer, "Color": Color, "Alias": Item}
    )
    assert str(sig) == "a: Outer.Item, b: Literal[Color.RED], c: list[Alias] -> d"
    assert back(sig) == sig
    assert signature(str(sig), types={"Outer": Outer, "Color": Color, "Alias": Item}) is sig


def test_none_is_never_written_first() -> None:
    assert str(Signature([Field("a", list[None | str])])) == "a: list[str | None] ->"  # noqa: RUF036 (the order is the point)


def test_a_class_without_a_plain_name_gets_one() -> None:
    odd = type("list", (), {})
    odder = type("not a name", (), {})
    sig = Signature([Field("a", odd), Field("b", odder)])
    assert str(sig) == "a: type_1, b: type_2 ->"
    assert back(sig) == sig


def test_equality_looks_at_all_but_the_name() -> None:
    sig = signature("a: int = 1 # d\n -> b", name="One")
    assert sig == signature("a: int = 1 # d\n -> b", name="Two")
    for other in ("a: int = 1 -> b", "a: int = 2 # d\n -> b", "a: float = 1 # d\n -> b", "'x' a: int = 1 # d\n -> b", "b -> a"):
        assert sig != signature(other)
    assert signature("a, b -> c") != signature("b, a -> c")
    assert signature("a -> b") != signature("a: str -> b")
    assert signature("a -> b") == signature("a -> b: str")
    assert signature("a = True -> b") != signature("a = 1 -> b")
    assert sig != "a"
    assert sig.inputs["a"] != "a"
    assert len({sig, signature("a: int = 1 # d\n -> b", name="Two")}) == 1
    assert hash(sig.inputs["a"]) == hash(signature("a: int = 1 # d\n -> c").inputs["a"])


def test_reprs() -> None:
    sig = signature("a: int[1..5] = 2 # how many\n -> b", name="N")
    assert repr(sig) == "<Signature N: a -> b>"
    assert repr(sig.inputs["a"]) == "<Field input a: int[1..5] = 2  # how many>"
    assert repr(signature("a -> b").inputs["a"].default) == "MISSING"


def test_html_is_a_table_with_all_text_escaped() -> None:
    sig = signature('"""Do <b>this</b>."""\na: Literal["<x>"] = "<x>" # <script>\nu -> b, c: int', name="<Name>")
    html = sig._repr_html_()
    for raw in ("<x>", "<script>", "<b>this", "<Name>"):
        assert raw not in html
    for shown in ("&lt;x&gt;", "&lt;script&gt;", "Do &lt;b&gt;this", "&lt;Name&gt;", "any, as text", ">int<", ">in<", ">out<"):
        assert shown in html
    assert "#fff" not in html
    assert "var(--jp-" in html
    assert "Given the fields" not in signature("a -> b")._repr_html_()


def test_diff_says_what_changed() -> None:
    old = signature("a: int, b, c: str -> d: float")
    new = signature('"""Do."""\nc: str[1..], a: int = 3 # n\n -> b: str, d: float, e')
    assert [str(change) for change in diff(old, new)] == [
        "changed instructions from 'Given the fields `a`, `b`, `c`, produce the fields `d`.' to 'Do.'",
        "changed c: type from 'str' to 'str[1..]'",
        "changed a: description 'n' added",
        "changed a: default 3 added",
        "changed b: role from 'input' to 'output'",
        "changed b: its type is declared now",
        "added output e",
        "changed order from ['a', 'b', 'c', 'd'] to ['c', 'a', 'b', 'd']",
    ]
    assert [str(change) for change in diff(new, signature("a: int = 3 # n\n -> d: float"))][1:3] == [
        "removed input c",
        "removed output b",
    ]
    assert diff(old, old) == []
    assert "changed a: default 3 removed" in [str(change) for change in diff(new, signature("c: str[1..], a: int -> b, e"))]
    assert "changed b: its type is not declared any more" in [str(change) for change in diff(new, old)]
    assert "changed a: description 'n' removed" in [str(change) for change in diff(new, old)]


def test_diff_sees_a_redefined_type() -> None:
    first = signature("a: T -> b", types={"T": Item})
    (change,) = diff(first, signature("a: T -> b", types={"T": Outer.Item}))
    assert (change.field, change.aspect, change.before, change.after) == ("a", "type", Item, Outer.Item)
    assert diff(signature("a: Literal['x'] -> b"), signature("a: Literal['x'] -> b")) == []
    assert Literal["x"]
