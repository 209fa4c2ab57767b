"""Which pipeline a free text is for; pure, so no server is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dspy
import numpy as np
import pytest
from web_helpers import offer, same

import dspex_lab as dx
from dspex_lab.lms import embed_text
from dspex_lab.web._ask import READ, Ask
from dspex_lab.web._chat_details import routed
from dspex_lab.web._offers import Offer, described
from dspex_lab.web._routing import AGAINST, Experience, Kept, NoRoute, rank, route

BILLS = offer("bills", "Answer questions about invoices and payments.")
CARDS = offer("cards", "Help with lost and stolen cards.")
POEMS = offer("poems", "Write a poem about the sea.")
OFFERS = [BILLS, CARDS, POEMS]


def axes(texts: Sequence[str]) -> Any:
    """Vectors whose cosines a test can say: words ``a`` and ``b`` are the axes."""
    rows = np.array([[text.split().count("a"), text.split().count("b")] for text in texts], float)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


class Words:
    """An offer as ranking sees it."""

    def __init__(self, name: str, words: str) -> None:
        self.name, self.words = name, words


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("My card was stolen yesterday", "cards"),
        ("I do not understand this invoice, and my payment", "bills"),
        ("a poem, please, about waves of the sea", "poems"),
    ],
)
def test_a_request_goes_to_the_pipeline_whose_description_is_most_like_it(text: str, name: str) -> None:
    found = route(text, OFFERS, embed_text)
    assert (found.name, found.why) == (name, "similarity")
    assert found.ranking[0].name == name
    assert sorted(each.name for each in found.ranking) == ["bills", "cards", "poems"]
    scores = [each.score for each in found.ranking]
    assert scores == sorted(scores, reverse=True)


def test_one_liked_request_brings_the_next_one_like_it_to_the_same_pipeline() -> None:
    text = "My card was stolen yesterday"
    assert route(text, OFFERS, embed_text).name == "cards"
    liked = [Experience("The card that I have was stolen yesterday", "bills", good=True)]
    assert route(text, OFFERS, embed_text, liked).name == "bills"
    assert route("a poem about the sea", OFFERS, embed_text, liked).name == "poems"


def test_a_disliked_answer_moves_requests_like_it_away() -> None:
    offers: list[Any] = [Words("first", "a a b"), Words("second", "a b b")]
    assert route("a a b", offers, axes).name == "first"
    disliked = [Experience("a a b", "first", good=False)]
    moved = route("a a b", offers, axes, disliked)
    assert moved.name == "second"
    assert dict(moved.ranking)["first"] == pytest.approx(1 - AGAINST)
    assert route("b", offers, axes, [Experience("a", "first", good=False)]).name == "second"


def test_what_was_said_of_pipelines_that_are_gone_counts_nothing() -> None:
    plain = rank("invoice", OFFERS, embed_text)
    assert rank("invoice", OFFERS, embed_text, [Experience("invoice", "gone", good=True)]) == plain


def test_of_equal_ones_that_which_was_offered_first_answers() -> None:
    twins: list[Any] = [Words("one", "a"), Words("two", "a")]
    assert route("a", twins, axes).name == "one"
    assert route("a", twins[::-1], axes).name == "two"


def test_the_only_pipeline_answers_all_without_a_comparison() -> None:
    def refuse(texts: Sequence[str]) -> Any:
        raise AssertionError("nothing is to be compared")

    found = route("whatever", [POEMS], refuse)
    assert (found.name, found.why, found.ranking) == ("poems", "only one", ())


def test_a_request_that_is_like_none_has_no_route_and_says_how_near_it_was() -> None:
    offers: list[Any] = [Words("one", "a"), Words("two", "a a")]
    with pytest.raises(NoRoute) as caught:
        route("b", offers, axes)
    assert [each.score for each in caught.value.ranking] == [0.0, 0.0]
    with pytest.raises(NoRoute):
        route("anything", [], axes)


def test_texts_that_were_compared_before_are_not_embedded_again() -> None:
    asked: list[list[str]] = []

    def embed(texts: Sequence[str]) -> Any:
        asked.append(list(texts))
        return axes(texts)

    kept = Kept(embed, most=3)
    first = kept(["a", "b", "a b"])
    again = kept(["a b", "a", "a a b"])
    assert asked == [["a", "b", "a b"], ["a a b"]]
    assert again[0].tolist() == first[2].tolist()
    kept(["b"])  # was asked for longest ago, and is forgotten
    kept(["a", "a"])
    assert asked[2:] == [["b"]]


def test_an_offer_is_described_by_its_signature_its_functions_or_its_fields() -> None:
    def count(text: str) -> int:
        """Count the words of a text.

        Empty ones have none.
        """
        return len(text.split())

    signature = dspy.Signature("message -> intent: Literal['card', 'bill']", "Route a customer's message.")
    assert described(dx.pipeline("p", n=dx.step(count))) == "Count the words of a text."
    assert described(dx.pipeline("p", t=dspy.Predict(signature))) == "Route a customer's message."
    assert described(dx.pipeline("p", t=dspy.Predict("message -> intent"))) == "message -> intent"
    words = Offer("p", dx.pipeline("p", t=dspy.Predict(signature)), "Mine.").words
    assert "Mine." in words
    assert "bill" in words


def test_a_request_is_routed_by_its_beginning() -> None:
    assert Ask("1", text="x" * 5_000_000).words() == "x" * READ
    assert len(Ask("1", inputs={"a": "x" * 5_000_000, "b": 1}).words()) == READ


def test_who_was_the_only_one_that_could_start_is_not_said_to_be_the_only_pipeline() -> None:
    def more(number: int) -> int:
        return number + 1

    sums = offer("sums", "Add one.", total=dx.step(more))
    able = [each for each in (POEMS, sums) if Ask("1", text="x").fits(each)]
    assert routed(route("x", able, embed_text)) == "no other can take this message"


def test_a_request_of_fields_is_only_for_pipelines_that_take_them() -> None:
    def add(first: int, second: int) -> int:
        return first + second

    sums = offer("sums", "Add two numbers.", total=dx.step(add))
    assert Ask("1", inputs={"first": 1, "second": 2}).fits(sums)
    assert not Ask("1", inputs={"first": 1}).fits(sums)
    assert not Ask("1", text="1 and 2").fits(sums)
    assert Ask("1", text="1 and 2").fits(offer("echo", out=dx.step(same)))
