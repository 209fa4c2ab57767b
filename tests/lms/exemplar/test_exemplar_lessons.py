"""What the engine reads in the prompts of optimizers: records, verdicts and lessons."""

from __future__ import annotations

from collections import Counter

import dspy
import pytest
from library_desks import CODES, TRAIN, examples

from dspex_lab.lms.exemplar._lessons import learned, lines_in, lines_of, telling, without_lines
from dspex_lab.lms.exemplar._records import (
    Record,
    reflective_records,
    row_records,
    rule_records,
    told_records,
    trial_records,
    without_told,
)
from dspex_lab.lms.exemplar._reflection import improved, reflect
from dspex_lab.lms.exemplar._verdict import demands, right_value


@pytest.mark.parametrize(
    ("feedback", "right"),
    [
        ("The correct label is 'K4'.", "K4"),
        ("Wrong: expected K4, got Z9.", "K4"),
        ("expected: K4", "K4"),
        ("Incorrect. The answer should have been **K4**", "K4"),
        ("The right desk for this is K4, not Z9", "K4"),
        ("Answer 'K4' instead of 'Z9'", "K4"),
        ("It belongs to K4.", "K4"),
        ("The label should be card arrival but was Z9", "card arrival"),
        ("Correct.", "Z9"),
        ("Well done!", "Z9"),
        ("This trajectory got a score of 1.0.", "Z9"),
        ("This trajectory got a score of 0.0.", None),
        ("That is wrong.", None),
        ("", None),
    ],
)
def test_feedback_tells_the_right_value(feedback: str, right: str | None) -> None:
    assert right_value(feedback, "desk", "Z9", ("desk",), ("Z9",)) == right


def test_feedback_on_several_fields_is_kept_apart() -> None:
    text = "The mood should be 'calm'. The desk should be 'K4'."
    assert right_value(text, "desk", "Z9", ("desk", "mood"), ()) == "K4"
    assert right_value("expected Z9 and more", "desk", "x", ("desk",), ("Z9",)) == "Z9"


def test_demands_are_told_from_values() -> None:
    text = "The desk should be K4. Never guess; it must have at most 5 words. Z9 must not be said. Fine."
    assert demands(text, ["K4", "Z9"]) == ["Never guess", "it must have at most 5 words."]


def test_what_feedback_demands_of_one_answer_becomes_a_rule() -> None:
    records = [Record({"q": "x"}, {}, {"a": "so many words"}, "It has 12 words, and may have at most 10.")]
    assert "Answer with at most 10 words." in improved("Answer.", records)


def test_examples_are_read_from_every_form() -> None:
    rows = repr(
        [dspy.Example(text="it's", label="A", n=1).with_inputs("text"), dspy.Example(text="b", label="C").with_inputs("text")]
    )
    first, second = row_records(rows)
    assert (first.inputs, first.right, second.right) == ({"text": "it's"}, {"label": "A", "n": "1"}, {"label": "C"})
    assert row_records("Example({oops}) (input_keys={'a'})") == []
    assert row_records(f"Example({{{'1' * 60_000}}}) (input_keys=None)") == []
    assert row_records("Example({'a': 'x', 'b': 'y'}) (input_keys=None)")[0].inputs == {"a": "x"}
    first_rule = "Input Fields:\ntext: two\nlines\n\n=========\nOutput Fields:\nlabel: A\n\n"
    rules = f"{first_rule}Input Fields:\ntext: b\n\n=========\nOutput Fields:\nlabel: B\n\n"
    assert [r.right["label"] for r in rule_records(rules)] == ["A", "B"]
    assert rule_records(rules)[0].inputs["text"] == "two\nlines"
    told = told_records('Text: a\nLabel: A\n\nText: b\nLabel: B\n- "c d e" -> C')
    assert sorted(r.right[next(iter(r.right))] for r in told) == ["A", "B", "C"]
    assert told_records("Text: a\nKind: x\nLabel: A", ["kind", "label"])[0].right == {"Kind": "x", "Label": "A"}
    assert without_told('Sort.\nText: a\nLabel: A\nText: b\nLabel: B\n"c d e" -> C') == "Sort."
    assert trial_records({"program_inputs": "oops"}) == []
    better = {
        "program_inputs": '{"a": "x"}',
        "better_program_outputs": '{"b": "y"}',
        "better_reward_value": "1.0",
        "worse_reward_value": "N/A",
    }
    assert trial_records(better)[0].right == {"b": "y"}
    assert reflective_records("no examples") == []
    assert reflective_records('[{"Inputs": {"a": 1}, "Generated Outputs": "unreadable", "Feedback": null}]')[0].given == {}
    assert Record({"a": "x"}, {"b": "y"}, {"b": "z"}).failed
    assert not Record({"a": "x"}, {"b": "y"}, {}).failed


def test_labels_are_told_from_other_answers() -> None:
    long = Record({"m": "where"}, {"d": "a text that is far too long to be the name of anything"}, {})
    inside = Record({"m": "Anna came"}, {"d": "Anna"}, {})
    again = [Record({"m": "a card"}, {"d": "card"}, {}), Record({"m": "my card"}, {"d": "card"}, {})]
    assert learned([long, inside]) == {}
    assert list(learned(again)) == ["card"]


def test_lines_are_written_read_and_taken_out() -> None:
    words = {"a b": Counter({"x": 2, "y": 1, "z": 1}), "c": Counter({"x": 1, "w": 1}), "d": Counter({"v": 1})}
    text = f"Sort.\n{lines_of(telling(words, 2))}\nAfter."
    assert list(lines_in(text)["a b"]) == ["x", "y"]
    assert without_lines(text) == "Sort.\nAfter."
    assert lines_of({"a": []}) == ""
    assert lines_of({}) == ""


def test_a_summary_of_rows_carries_their_words() -> None:
    rows = repr(examples(TRAIN))
    observed = reflect("observations", {"examples": rows}, ["observations"], 0)["observations"]
    summed = reflect("summary", {"observations": observed + observed}, ["summary"], 0)["summary"]
    assert set(lines_in(summed)) == set(CODES.values())
    assert reflect("observations", {"examples": "[]"}, ["observations"], 0)["observations"] == "COMPLETE"
    assert reflect("summary", {"observations": "just words"}, ["summary"], 0)["summary"] == "just words"
    texts = repr([dspy.Example(q=f"where is {n}", a=f"in {n} lane four").with_inputs("q") for n in ("oak", "elm", "fir")])
    assert "at most 4 words" in reflect("observations", {"examples": texts}, ["observations"], 0)["observations"]
