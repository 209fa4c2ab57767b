"""Choosing a label: names, definitions, demonstrations, and what must not count."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from library_desks import CODES, TEST, TRAIN

from dspex_lab.lms.exemplar._definitions import definitions_of
from dspex_lab.lms.exemplar._labels import Choice, choose
from dspex_lab.lms.exemplar._similarity import features, index

NAMES = ("loans", "rooms", "machines")
DEFINED = """Send each question to its desk.

K4: borrow, books, renew, return, overdue
Z9 - room, reserve, seminar, meeting, booking
Use `W1` when it is about the printer, the scanner, a copy, the wifi or a computer.
"""


def ask(text: str, labels: Sequence[str], shown: Sequence[tuple[str, str]] = (), instructions: str = "") -> Choice:
    question = features(text)
    texts = [t for t, _ in shown]
    given = [list(labels).index(label) for _, label in shown]
    return choose(tuple(labels), instructions, question, index(tuple(texts)).likeness(question), given, texts)


def accuracy(
    labels: Sequence[str], shown: Sequence[tuple[str, str]] = (), instructions: str = "", coded: bool = False
) -> float:
    right = sum(labels[ask(t, labels, shown, instructions).label] == (CODES[y] if coded else y) for t, y in TEST)
    return right / len(TEST)


CODED = [(text, CODES[label]) for text, label in TRAIN]
OPAQUE = tuple(CODES.values())


def test_a_name_that_the_text_contains_is_chosen() -> None:
    chosen = ask("is there a quiet room?", NAMES)
    assert NAMES[chosen.label] == "rooms"
    assert chosen.named > 0.2
    assert chosen.nearest is None


def test_opaque_names_are_learned_from_demonstrations() -> None:
    assert accuracy(OPAQUE, CODED, coded=True) >= 0.8
    assert accuracy(OPAQUE, coded=True) <= 0.6


def test_opaque_names_are_learned_from_definitions() -> None:
    assert accuracy(OPAQUE, instructions=DEFINED, coded=True) >= 0.8


def test_definitions_and_demonstrations_add_up() -> None:
    assert accuracy(OPAQUE, CODED, DEFINED, coded=True) >= accuracy(OPAQUE, CODED, coded=True)


def test_shuffled_labels_give_no_gain() -> None:
    plain = accuracy(NAMES)
    assert accuracy(NAMES, TRAIN) - plain > 0.2
    gains = []
    for seed in range(12):
        labels = [label for _, label in TRAIN]
        random.Random(seed).shuffle(labels)
        gains.append(accuracy(NAMES, [(t, y) for (t, _), y in zip(TRAIN, labels, strict=True)]) - plain)
    assert sum(gains) / len(gains) < 0.05


def test_shuffled_labels_of_opaque_names_stay_at_chance() -> None:
    found = []
    for seed in range(12):
        labels = [label for _, label in CODED]
        random.Random(seed).shuffle(labels)
        found.append(accuracy(OPAQUE, [(t, y) for (t, _), y in zip(TRAIN, labels, strict=True)], coded=True))
    assert sum(found) / len(found) < 0.5


def test_a_distant_demonstration_does_not_outvote_a_name() -> None:
    shown = [("the soup was cold", "loans"), ("we saw a red balloon", "loans")]
    assert NAMES[ask("the meeting rooms are locked", NAMES, shown).label] == "rooms"


def test_a_near_demonstration_outvotes_a_name() -> None:
    shown = [("the machines in the seminar room are loud", "machines")]
    chosen = ask("the machines in the seminar rooms are so loud", ("seminar", "machines"), [])
    assert chosen.nearest is None
    chosen = ask("the room by the stairs smells", NAMES, [("the room by the stairs smells bad", "machines"), *shown])
    assert NAMES[chosen.label] == "machines"
    assert chosen.nearest is not None
    assert chosen.nearest[0] == 0


def test_without_any_evidence_the_commonest_label_is_chosen() -> None:
    shown = [("xxx", "Z9"), ("xxy", "Z9"), ("yyx", "K4")]
    assert OPAQUE[ask("qqq", OPAQUE, shown).label] == "Z9"


def test_without_any_evidence_guesses_differ_but_each_text_has_one() -> None:
    guesses = {text: ask(text, OPAQUE).label for text, _ in TRAIN}
    assert len(set(guesses.values())) == 3
    assert all(ask(text, OPAQUE).label == guess for text, guess in guesses.items())


def test_the_share_of_the_evidence_is_a_probability() -> None:
    for text, _ in TEST:
        assert 0.0 < ask(text, NAMES, TRAIN).share <= 1.0


def test_ngrams_that_most_names_share_tell_nothing() -> None:
    desks = ("desk for loans", "desk for rooms", "desk for machines", "desk for payments")
    assert ask("which desk for payments?", desks).label == 3


@pytest.mark.parametrize(
    "line",
    [
        "K4: parcels, stamps",
        "- K4: parcels, stamps",
        "1. `K4` - parcels and stamps",
        "K4 means parcels and stamps.",
        "**K4** (parcels, stamps)",
        "K4 = parcels stamps",
        "If it is about parcels or stamps, answer K4.",
        "Route it. K4 covers parcels and stamps.",
        "K4:\n  parcels\n  stamps",
    ],
)
def test_ways_to_define_a_label(line: str) -> None:
    found = definitions_of(("K4", "Z9"), f"Sort it.\n{line}\nZ9: trains")
    assert {"parcels", "stamps"} <= {t for t, owner in zip(found.terms, found.owners, strict=True) if owner == 0}
    assert found.found(features("two parcels"), 0) == ["parcels"]


def test_a_common_word_in_a_sentence_defines_no_label_of_that_name() -> None:
    found = definitions_of(("loans", "rooms"), "Sort the questions about loans and money by desk.")
    assert not found


def test_a_sentence_that_names_two_labels_defines_neither() -> None:
    assert not definitions_of(("K4", "Z9"), "Choose between K4 and Z9 by topic.")


def test_words_that_define_two_labels_weigh_less() -> None:
    found = definitions_of(("K4", "Z9", "W1"), "K4: paper, books\nZ9: paper, rooms\nW1: printer")
    weights = dict(zip(found.terms, found.weights, strict=True))
    assert weights["books"] > weights["paper"] > 0.0
    assert found.scores(features("books"))[0] > found.scores(features("paper"))[0]
