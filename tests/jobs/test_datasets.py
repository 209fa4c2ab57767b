"""Data sets: what they are read from, how they are divided, and what is found wrong with them."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dspy
import numpy as np
import pandas as pd
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_lab.errors import ConfigurationError, StoreError
from dspex_lab.jobs import Dataset
from dspex_lab.jobs._reading import rows_of
from dspex_lab.jobs._splits import check_shares, fingerprint, leaks, split_of
from dspex_lab.store import DatasetTable, Store

ROWS = [{"text": f"message {at}", "label": "ab"[at % 2]} for at in range(200)]
SPLIT = {"train": 0.6, "val": 0.2, "test": 0.2}


# ---- reading -------------------------------------------------------------------------------------------------------


def test_rows_come_from_wherever_they_are(tmp_path: Path) -> None:
    frame = pd.DataFrame(ROWS)
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    frame.to_json(tmp_path / "a.json", orient="records")
    examples = [dspy.Example(**row).with_inputs("text") for row in ROWS]
    sources: list[Any] = [frame, ROWS, iter(ROWS), examples, Dataset.of(ROWS)]
    sources += [tmp_path / f"a.{kind}" for kind in ("csv", "tsv", "parquet", "jsonl", "json")]
    for source in sources:
        assert rows_of(source) == ROWS, source
    assert rows_of(str(tmp_path / "a.csv")) == ROWS
    assert Dataset.of(examples).inputs == ("text",)


def test_cells_that_are_empty_are_not_there_and_numbers_are_pythons() -> None:
    frame = pd.DataFrame(
        {
            "n": [1, 2],
            "f": [0.5, np.nan],
            "t": [pd.Timestamp("2026-01-02"), pd.NaT],
            "i": pd.array([1, None], dtype="Int64"),
            "a": [np.arange(2), np.arange(3)],
        }
    )
    first, second = rows_of(frame)
    assert set(second) == {"n", "a"}
    assert type(first["n"]) is int
    assert first["f"] == 0.5
    assert second["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (3, "A int is no data set"),
        ({"text": "x"}, "A dict is no data set"),
        ([{"a": 1}, 5], "Row 1 is a int"),
        ("nowhere.csv", "There is no file 'nowhere.csv'"),
        ("rows.xml", "rows.xml is no file of rows"),
        ("bad.jsonl", "bad.jsonl, line 3 is no JSON"),
        ("list.jsonl", "list.jsonl, line 1 is no JSON object"),
    ],
)
def test_what_is_no_data_is_refused(data: Any, says: str) -> None:
    Path("rows.xml").write_text("<a/>")
    Path("bad.jsonl").write_text('{"a": 1}\n\n{"a": ')
    Path("list.jsonl").write_text("[1]\n")
    with pytest.raises(ConfigurationError, match=says):
        rows_of(data)


# ---- dividing ------------------------------------------------------------------------------------------------------


def test_the_parts_have_about_their_shares() -> None:
    data = Dataset.of(ROWS * 5 + [{"text": f"more {at}"} for at in range(4000)], split=SPLIT)
    assert len(data) == 5000
    assert len(data["train"]) == pytest.approx(3000, abs=200)
    assert len(data["val"]) == pytest.approx(1000, abs=150)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(max_size=8), min_size=1, max_size=60), st.lists(st.text(max_size=8), max_size=60), st.integers(0, 99))
def test_rows_that_come_later_move_no_others(first: list[str], later: list[str], seed: int) -> None:
    before = Dataset.of([{"text": t} for t in first], split=SPLIT, seed=seed)
    after = Dataset.of([{"text": t} for t in [*later, *first]], split=SPLIT, seed=seed)
    for part in SPLIT:
        assert not Counter(r["text"] for r in before[part]) - Counter(r["text"] for r in after[part])
    assert after.check() is after, "equal rows are never in two parts"


def test_another_seed_is_another_division_and_the_same_one_the_same() -> None:
    one, again, other = (Dataset.of(ROWS, split=SPLIT, seed=seed) for seed in (1, 1, 2))
    assert one.parts == again.parts
    assert one["train"] != other["train"]
    assert one.fingerprint == again.fingerprint != other.fingerprint


def test_what_belongs_together_stays_together() -> None:
    rows = [{"customer": at % 10, "text": f"m{at}"} for at in range(300)]
    data = Dataset.of(rows, split=SPLIT, by=["customer"])
    where: dict[int, set[str]] = {}
    for part in SPLIT:
        for row in data[part]:
            where.setdefault(row["customer"], set()).add(part)
    assert {len(parts) for parts in where.values()} == {1}
    # The same question with another answer is the same question.
    asked = Dataset.of([*ROWS, *({**row, "label": "c"} for row in ROWS)], split=SPLIT, inputs=["text"])
    assert asked.check() is asked


def test_a_field_may_say_the_part() -> None:
    rows = [{"text": "a", "part": "train"}, {"text": "b", "part": "test"}, {"text": "c", "part": "train"}]
    data = Dataset.of(rows, split="part")
    assert data["train"] == [{"text": "a"}, {"text": "c"}]
    with pytest.raises(ConfigurationError, match="Row 1 of 'data' has no field 'part'"):
        Dataset.of([rows[0], {"text": "b"}], split="part")


def test_rows_in_two_parts_are_a_leak_that_is_named() -> None:
    data = Dataset.of(
        [{"q": "one", "a": 1, "p": "train"}, {"q": "two", "a": 2, "p": "train"}, {"q": "two", "a": 3, "p": "test"}],
        "exam",
        split="p",
        inputs=["q"],
    )
    with pytest.raises(ConfigurationError, match=r"'exam' leaks: 1 row stands in two parts.*train\[1\] is test\[0\]"):
        data.check()
    assert data.check(["q", "a"]) is data
    many = Dataset("m", {"train": ROWS[:9], "test": ROWS[:9]})
    with pytest.raises(ConfigurationError, match=r"9 rows stand in two parts.* and 6 more"):
        many.check()
    assert leaks({"all": [ROWS[0], ROWS[0]]}, ()) == []


@pytest.mark.parametrize("shares", [{}, {"a": 0}, {"a": -1.0}, {"a": float("nan")}, {"a": "half"}, {"a": True}])
def test_shares_that_make_no_sense_are_refused(shares: Any) -> None:
    with pytest.raises(ConfigurationError):
        Dataset.of(ROWS, split=shares)


def test_shares_are_weights() -> None:
    assert check_shares({"a": 3, "b": 1}) == {"a": 0.75, "b": 0.25}
    assert split_of("x", {"a": 0.0000001}) == "a"  # also at the very end of the interval


# ---- what tells rows apart -----------------------------------------------------------------------------------------


class Colour(pydantic.BaseModel):
    name: str


class Plain:
    def __init__(self) -> None:
        self.x = 1


def test_content_tells_rows_apart_and_order_does_not() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": "1"})
    assert (
        fingerprint({"a": 1, "b": [None, 0.5, "ä"]}) == "02a73909bda9237d2d170b098b65abb4"
    )  # the same in every process and release
    values: list[Any] = [
        dt.date(2026, 1, 2),
        np.arange(3),
        Colour(name="red"),
        {1, 2},
        b"x",
        Plain(),
        dspy.Example(a=1),
        "\ud800",
    ]
    for value in values:
        assert fingerprint({"v": value}) == fingerprint({"v": value})
    assert len({fingerprint({"v": value}) for value in values}) == len(values)
    with pytest.raises(ConfigurationError, match="holds a object, whose content cannot be compared"):
        fingerprint({"v": object()})


# ---- having and keeping --------------------------------------------------------------------------------------------


def test_a_data_set_says_what_it_is() -> None:
    data = Dataset.of(ROWS, "tickets", split=SPLIT, inputs=["text"])
    assert data.fields == ("text", "label")
    assert repr(data).startswith("<Dataset 'tickets': 200 rows (train ")
    example = data.examples("test")[0]
    assert (set(example.inputs().keys()), example.label in "ab") == ({"text"}, True)
    assert len(data.examples()) == 200
    assert Dataset.of([{"a": 1}]).examples()[0].a == 1
    with pytest.raises(ConfigurationError, match=r"no part 'tset'. Did you mean 'test'"):
        data["tset"]
    with pytest.raises(ConfigurationError, match="has no rows"):
        Dataset.of([])
    with pytest.raises(ConfigurationError, match=r"Row 0 of 'data' has no field 'texd'. Did you mean 'text'"):
        Dataset.of(ROWS, inputs=["texd"])


def test_versions_are_kept_and_found_again() -> None:
    with Store(":memory:") as store:
        book = DatasetTable(store)
        first = Dataset.of(ROWS, "tickets", split=SPLIT, inputs=["text"], source={"from": "a test"}).save(book, 1e9)
        assert first.version == 1
        assert first.save(book, 2e9).version == 1  # the same content
        second = Dataset.of([*ROWS, {"text": "new", "label": "a"}], "tickets", split=SPLIT, inputs=["text"]).save(book, 3e9)
        assert second.version == 2
        found = Dataset.load(book, "tickets", 1)
        assert (found.fingerprint, found.inputs, found.version) == (first.fingerprint, ("text",), 1)
        assert found.source["from"] == "a test"
        assert len(Dataset.load(book, "tickets")) == 201
        assert "version 2" in repr(Dataset.load(book, "tickets"))
        with pytest.raises(StoreError, match="There is no data set 'ticket'"):
            Dataset.load(book, "ticket")


def test_one_without_inputs_is_kept_too() -> None:
    rows = {"all": SimpleNamespace(rows=({"a": 1},), source=None, version=3)}
    book: Any = SimpleNamespace(get=lambda name, version: rows)
    found = Dataset.load(book, "plain")
    assert (found.inputs, found.version, list(found)) == (None, 3, [{"a": 1}])


def test_a_cell_shows_a_data_set_as_a_table() -> None:
    rows = [{"text": "<b>one</b>", "label": "a"}, {"text": "two", "label": "b"}, {"text": "three", "label": "b"}]
    html = Dataset.of(rows, "tickets", split="label")._repr_html_()
    assert "Data set tickets: 3 rows, fields text" in html
    assert html.count("<tr>") == 3, "the titles, and two parts"
    assert "&lt;b&gt;one" in html
    assert "<b>one" not in html
