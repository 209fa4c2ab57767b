"""Pieces of a completion, told field by field while it arrives, are what DSPy's adapters read from the whole."""

from __future__ import annotations

import json
from typing import Any

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_lab.lms.calls._attribution import ChatReader, JsonReader, PlainReader, Reader, XmlReader, reader_of
from dspex_lab.lms.exemplar._style import write

SIGNATURE = dspy.Signature("question -> answer, note, score: int")
NAMES = ["answer", "note", "score"]


def system(adapter: Any, signature: Any = SIGNATURE) -> str:
    return adapter.format(signature, [], {"question": "?"})[0]["content"]


def read(reader: Reader, pieces: list[str]) -> dict[str | None, str]:
    found: dict[str | None, str] = {}
    for piece in pieces:
        for field, text in reader.feed(piece):
            assert text, "an empty piece says nothing"
            found[field] = found.get(field, "") + text
    for field, text in reader.end():
        found[field] = found.get(field, "") + text
    return found


@st.composite
def cut(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> tuple[str, list[str]]:
    """A text, and the same in pieces."""
    text = draw(texts)
    places = sorted(draw(st.sets(st.integers(0, len(text)), max_size=12)))
    return text, [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


LETTERS = st.text(alphabet='ab [#]"\\{}:,<>&/;\n\r\t\x0b\x85\u2028é😀u0', max_size=40)
NEARLY_HEADERS = st.lists(
    st.sampled_from(
        [
            "[[ ## answer ## ]]",
            "[[ ## note ## ]]",
            "[[ ## completed ## ]]",
            "[[ ## other ## ]]",
            "[[ ##",
            "[[",
            "\n",
            " x ",
            "\r\n",
            "\r",
        ]
    ),
    max_size=14,
).map("".join)


@settings(max_examples=400, deadline=None)
@given(cut(st.one_of(LETTERS, NEARLY_HEADERS)))
def test_chat_sections_are_those_the_adapter_reads(case: tuple[str, list[str]]) -> None:
    text, pieces = case
    expected: dict[str, str] = {}
    for name in ("answer", "note"):
        # The adapter cuts a header line at the place the header would have without the blanks before it.
        if any(line != line.lstrip() and "[[ ##" in line for line in text.splitlines()):
            return
        try:
            parsed = dspy.ChatAdapter().parse(dspy.Signature(f"question -> {name}"), text)
        except dspy.utils.exceptions.AdapterParseError:
            continue
        expected[name] = parsed[name]
    found = read(ChatReader(["answer", "note"]), pieces)
    assert {n: found.get(n, "") for n in expected} == expected
    assert set(found) <= {"answer", "note", None}


@settings(max_examples=300, deadline=None)
@given(st.data(), LETTERS, LETTERS, st.integers(), st.sampled_from([None, 2]))
def test_json_values_are_those_the_adapter_reads(data: Any, answer: str, note: str, score: int, indent: int | None) -> None:
    ascii_only = data.draw(st.booleans())
    text = json.dumps({"answer": answer, "note": note, "score": score}, indent=indent, ensure_ascii=ascii_only)
    text = data.draw(st.sampled_from(["", "```json\n", "  \n"])) + text + data.draw(st.sampled_from(["", "\n```", " "]))
    _, pieces = data.draw(cut(st.just(text)))
    found = read(JsonReader(NAMES), pieces)
    assert found.get("answer", "") == answer
    assert found.get("note", "") == note
    assert found["score"] == str(score)
    assert set(found) <= set(NAMES)


@settings(max_examples=200, deadline=None)
@given(
    st.data(),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), LETTERS),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LETTERS, inner, max_size=3),
        max_leaves=8,
    ),
)
def test_a_nested_json_value_is_given_as_it_is_written(data: Any, value: Any) -> None:
    text = json.dumps({"other": [value], "answer": value, "note": "after"})
    _, pieces = data.draw(cut(st.just(text)))
    found = read(JsonReader(NAMES), pieces)
    written = found.get("answer", "")
    assert written == value if isinstance(value, str) else json.loads(written) == value
    assert found["note"] == "after"
    assert found.get(None, "") == json.dumps([value])


@settings(max_examples=300, deadline=None)
@given(st.data(), LETTERS, LETTERS)
def test_xml_elements_are_those_the_adapter_reads(data: Any, answer: str, note: str) -> None:
    text = write({"answer": answer, "note": note, "score": 3}, "xml")
    _, pieces = data.draw(cut(st.just(text)))
    found = read(XmlReader(NAMES), pieces)
    assert {n: found.get(n, "") for n in NAMES} == {"answer": answer.strip(), "note": note.strip(), "score": "3"}


@settings(max_examples=300, deadline=None)
@given(st.one_of(LETTERS, NEARLY_HEADERS, st.text(max_size=30)), st.sampled_from([ChatReader, JsonReader, XmlReader]))
def test_whatever_a_model_writes_is_read_without_an_error(text: str, kind: Any) -> None:
    read(kind(NAMES), list(text))


@pytest.mark.parametrize(
    ("reader", "pieces", "expected"),
    [
        (ChatReader(NAMES), ["[[ ## answer ## ]]\nfir", "st w"], [[("answer", "fir")], [("answer", "st w")]]),
        (ChatReader(NAMES), ["[[ ## answer ## ]]\n", "a [", "[ b"], [[], [("answer", "a [")], [("answer", "[ b")]]),
        (ChatReader(NAMES), ["Well, ", "[[ ## answer"], [[(None, "Well,")], [(None, " [[ ## answer")]]),
        (
            JsonReader(NAMES),
            ['{"ans', 'wer": "f', "ir", "st\\", 'n"'],
            [[], [("answer", "f")], [("answer", "ir")], [("answer", "st")], [("answer", "\n")]],
        ),
        (JsonReader(NAMES), ['{"answer": "\\ud83d', '\\ude00"}'], [[], [("answer", "😀")]]),
        (JsonReader(NAMES), ['{"score": 4', "2", "}"], [[("score", "4")], [("score", "2")], []]),
        (XmlReader(NAMES), ["<answer>fir", "st </ans", "wer>"], [[("answer", "fir")], [("answer", "st")], []]),
        (XmlReader(NAMES), ["<answer>a &l", "t; b<"], [[("answer", "a")], [("answer", " < b")]]),
    ],
)
def test_only_what_may_be_a_marker_is_held_back(reader: Reader, pieces: list[str], expected: list[Any]) -> None:
    assert [list(reader.feed(piece)) for piece in pieces] == expected


def test_what_is_no_json_is_passed_on_without_a_field() -> None:
    assert read(JsonReader(NAMES), ["I cannot ", "say that."]) == {None: "I cannot say that."}
    assert read(JsonReader(NAMES), ["Sure: {", '"answer": "yes"} done']) == {None: "Sure: ", "answer": "yes"}
    assert read(JsonReader(NAMES), ["{answer", ": 1}"]) == {None: "answer: 1}"}
    assert read(JsonReader(NAMES), ['{"answer" = 1}']) == {None: "= 1}"}
    assert read(JsonReader(NAMES), ["```json"]) == {None: "```json"}


def test_broken_escapes_are_read_as_well_as_may_be() -> None:
    assert (
        read(JsonReader(NAMES), [*'{"answer": "\\uZZ \\q \\ud83d! \\ud83d\\u0041 \\udc00"}'])["answer"]
        == "uZZ q \ufffd! \ufffdA \ufffd"
    )
    assert read(JsonReader(NAMES), ['{"answer": "cut \\u00'])["answer"] == "cut \\u00"


def test_a_field_is_taken_once_as_the_adapters_take_it() -> None:
    text = "[[ ## answer ## ]]\none\n[[ ## answer ## ]]\ntwo\n[[ ## completed ## ]]\nrest"
    assert read(ChatReader(NAMES), [text]) == {"answer": "one", None: "two"}


def test_the_reader_is_that_of_the_prompt() -> None:
    kinds = {dspy.ChatAdapter: ChatReader, dspy.JSONAdapter: JsonReader, dspy.XMLAdapter: XmlReader}
    for adapter, kind in kinds.items():
        assert type(reader_of(system(adapter()))) is kind
    assert type(reader_of("Answer in French.")) is PlainReader
    assert read(reader_of(""), ['{"a": ', "", "1}"]) == {None: '{"a": 1}'}
