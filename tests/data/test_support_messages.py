"""The tour's data set keeps what `data/README.md` says of it."""

from __future__ import annotations

import csv
import re
from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / "data"
COLUMNS = ["id", "message", "intent", "urgency", "desk"]
STEPS = {f"{tenth / 10:.1f}" for tenth in range(11)}


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with (DATA / "support_messages.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, strict=True)
        assert reader.fieldnames == COLUMNS
        return list(reader)


def words(message: str) -> int:
    return len(message.split())


def grams(message: str) -> frozenset[str]:
    """The 4-grams of characters, blind to case and to runs of spaces."""
    text = " ".join(message.lower().split())
    return frozenset(text[start : start + 4] for start in range(len(text) - 3))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other)


def test_the_file_is_utf8_with_plain_line_ends_and_no_mark() -> None:
    raw = (DATA / "support_messages.csv").read_bytes()
    assert not raw.startswith(b"\xef\xbb\xbf")
    assert b"\r" not in raw
    assert raw.endswith(b"\n")
    raw.decode("utf-8")


def test_every_row_has_every_column_and_no_more(rows: list[dict[str, str]]) -> None:
    assert len(rows) >= 300
    for row in rows:
        assert list(row) == COLUMNS
        assert all(isinstance(value, str) and value == value.strip() != "" for value in row.values()), row


def test_ids_count_from_one(rows: list[dict[str, str]]) -> None:
    assert [row["id"] for row in rows] == [str(number) for number in range(1, len(rows) + 1)]


def test_eight_intents_are_balanced(rows: list[dict[str, str]]) -> None:
    counts = Counter(row["intent"] for row in rows)
    assert len(counts) == 8
    assert all(40 <= count <= 50 for count in counts.values()), counts


def test_any_80_rows_in_a_row_hold_all_intents(rows: list[dict[str, str]]) -> None:
    for start in range(len(rows) - 79):
        assert len({row["intent"] for row in rows[start : start + 80]}) == 8
    runs = sum(one["intent"] == other["intent"] for one, other in pairwise(rows))
    assert runs < len(rows) / 4


def test_no_two_messages_are_alike(rows: list[dict[str, str]]) -> None:
    messages = [(row["id"], grams(row["message"])) for row in rows]
    alike = [(a, b) for (a, one), (b, other) in combinations(messages, 2) if jaccard(one, other) >= 0.6]
    assert alike == []


def test_the_near_duplicate_measure_sees_a_changed_word() -> None:
    message = "Sent 400 to my brother on Monday. It's Thursday. He has nothing."
    assert jaccard(grams(message), grams(message.replace("brother", "cousin"))) >= 0.6


def test_urgency_goes_from_0_to_1_in_tenths(rows: list[dict[str, str]]) -> None:
    assert {row["urgency"] for row in rows} == STEPS
    for intent in {row["intent"] for row in rows}:
        values = [float(row["urgency"]) for row in rows if row["intent"] == intent]
        assert min(values) == 0.0
        assert max(values) >= 0.8


def test_the_desk_follows_the_intent(rows: list[dict[str, str]]) -> None:
    pairs = {(row["intent"], row["desk"]) for row in rows}
    assert len(pairs) == 8
    assert {desk for _, desk in pairs} == {"D-11", "D-17", "D-23", "D-29", "D-31", "D-37", "D-41", "D-43"}
    in_order_of_names = [desk for _, desk in sorted(pairs)]
    assert in_order_of_names not in (sorted(in_order_of_names), sorted(in_order_of_names, reverse=True))


def test_messages_are_short_and_long(rows: list[dict[str, str]]) -> None:
    lengths = [words(row["message"]) for row in rows]
    assert min(lengths) >= 3
    assert max(lengths) <= 60
    assert sum(length <= 6 for length in lengths) >= 10
    assert sum(length >= 40 for length in lengths) >= 10


def test_no_message_gives_away_a_label_or_a_desk(rows: list[dict[str, str]]) -> None:
    labels = {row["intent"] for row in rows if "_" in row["intent"]} | {row["desk"] for row in rows}
    for row in rows:
        assert not any(label.lower() in row["message"].lower() for label in labels), row


def test_no_message_holds_a_number_that_could_be_a_card_or_an_account(rows: list[dict[str, str]]) -> None:
    for row in rows:
        assert not re.search(r"\d(?:[ -]?\d){6,}", row["message"]), row
        assert "@" not in row["message"], row


def test_the_readme_counts_what_the_file_holds(rows: list[dict[str, str]]) -> None:
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `(\w+)` \| [^|]+ \| `(D-\d\d)` \| (\d+) \|$", readme, flags=re.MULTILINE)
    counted = Counter((row["intent"], row["desk"]) for row in rows)
    assert {(intent, desk): int(count) for intent, desk, count in table} == counted
    assert len(table) == 8
    assert f"| all | | | {len(rows)} |" in readme
    assert f"holds {len(rows)} messages" in readme
    assert f"1 to {len(rows)}," in readme
