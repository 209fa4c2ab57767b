"""The choice among models: pure, with its reasons."""

from __future__ import annotations

import dataclasses
import random
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab import ConfigurationError
from dspex_lab.lms import Price
from dspex_lab.lms.choice._capabilities import ABILITIES, ModelFacts
from dspex_lab.lms.choice._requirements import Requirements, requirements
from dspex_lab.lms.choice._select import Candidate, select
from dspex_lab.lms.choice._statistics import Measured


def model(name: str, *, quality: float | None = 0.5, price: tuple[float, float] | None = (1, 4), **facts: Any) -> Candidate:
    able = {"structured": True, "streaming": True, "tools": True, "vision": True, "reasoning": True, "local": False}
    known = {"context": 100_000, **able, **facts}
    cost = Price(*price, "here") if price else None
    return Candidate(name, ModelFacts(model=name, price=cost, **known), quality=quality)


def with_(candidate: Candidate, **changes: Any) -> Candidate:
    return dataclasses.replace(candidate, **changes)


def ordered(*candidates: Candidate, **needs: Any) -> tuple[str, ...]:
    return select(Requirements(**needs), candidates).order


# --- what is required --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("needs", "lacking", "why"),
    [
        ({"structured": True}, model("x/y", structured=False), "cannot keep to a JSON schema"),
        ({"streaming": True}, model("x/y", streaming=False), "cannot stream"),
        ({"tools": True}, model("x/y", tools=None), r"nobody says whether it can call tools \(set_model\('x/y', tools=True\)"),
        ({"vision": True}, model("x/y", vision=False), "cannot take images"),
        ({"reasoning": True}, model("x/y", reasoning=None), "nobody says"),
        ({"local": True}, model("x/y"), "does not run on this machine"),
        ({"local": True}, model("x/y", local=None), "nobody says whether it runs here"),
        ({"context": 200_000}, model("x/y"), "takes 100,000 tokens, 200,000 are wanted"),
        ({"context": "200k"}, model("x/y", context=None), "nobody says how long a prompt"),
        ({"price": 2}, model("x/y"), "costs 1 in, 4 out"),
        ({"price": (0.5, 10)}, model("x/y"), "at most 0.5 in and 10 out"),
        ({"price": 2}, model("x/y", price=None), "nobody says what it costs"),
        ({"cost": 0.001}, model("x/y"), "costs about 0.002 US dollars a call"),
        ({"cost": 0.001}, model("x/y", price=None), "nobody says what it costs"),
        ({"quality": 0.6}, model("x/y"), "its quality is 0.50, 0.60 is wanted"),
        ({"quality": 0.6}, model("x/y", quality=None), "nobody says how good it is"),
        ({"latency": 1.0}, with_(model("x/y"), measured=Measured(calls=3, total=3, seconds=2.0)), "more than 2 s"),
        ({"exclude": "x/y"}, model("x/y"), "is excluded"),
        ({"exclude": ("x",)}, model("x/y"), "is excluded"),
        ({"providers": "openai"}, model("x/y"), "is of x, not of openai"),
        ({}, with_(model("x/y"), unavailable="X_KEY is not set"), "X_KEY is not set"),
    ],
)
def test_what_is_lacking_keeps_a_model_out_and_is_said(needs: dict[str, Any], lacking: Candidate, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        select(Requirements(**needs), [lacking])
    everything = model("openai/good", quality=1.0, price=(0, 0), context=10**6, local=True)
    found = select(Requirements(**needs), [lacking, everything])
    assert found.order == ("openai/good",)
    assert found.rejected == ("x/y",)
    assert found.reasons["x/y"].startswith("out: ")


def test_all_that_is_lacking_is_said_of_each() -> None:
    with pytest.raises(ConfigurationError) as caught:
        select(Requirements(tools=True, context=10**6, price=0.1), [model("a/a", tools=False), model("b/b", context=None)])
    told = str(caught.value)
    assert "a/a: cannot call tools; takes 100,000 tokens" in told
    assert "b/b: nobody says how long" in told
    assert "tools, context=1000000, price=(0.1, 0.1)" in told
    assert "lab.lms.add" in told
    assert set(caught.value.actual) == {"a/a", "b/b"}  # type: ignore[call-overload]


def test_no_candidates_and_twins_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="no candidates"):
        select(Requirements(), [])
    with pytest.raises(ConfigurationError, match="Two candidates are named 'a/a'"):
        select(Requirements(), [model("a/a"), model("a/a")])


# --- the order ---------------------------------------------------------------------------------------------------


def test_what_is_preferred_decides_among_the_able() -> None:
    good, cheap = model("a/good", quality=0.95, price=(10, 40)), model("b/cheap", quality=0.4, price=(0.1, 0.2))
    quick = with_(
        model("c/quick", quality=0.4, price=(10, 40)), measured=Measured(calls=200, total=200, seconds=0.1, failures=0)
    )
    every = (good, cheap, quick)
    assert ordered(*every, prefer="quality")[0] == "a/good"
    assert ordered(*every, prefer="cost")[0] == "b/cheap"
    assert ordered(*every, prefer="latency")[0] == "c/quick"
    assert ordered(*every, prefer={"cost": 1})[0] == "b/cheap"
    assert len(ordered(*every)) == 3


def test_health_goes_before_any_score_and_the_last_resort_is_last() -> None:
    fine = model("a/fine", quality=0.1)
    trying = with_(model("b/trying", quality=0.9), health="half_open")
    failing = with_(model("c/failing", quality=1.0), health="open")
    last = with_(model("d/last", quality=1.0, price=(0, 0)), last_resort=True)
    assert ordered(last, failing, trying, fine) == ("a/fine", "b/trying", "c/failing", "d/last")
    reasons = select(Requirements(), [last, failing, trying, fine]).reasons
    assert reasons["a/fine"].startswith("chosen")
    assert "being tried again" in reasons["b/trying"]
    assert "fails now" in reasons["c/failing"]
    assert reasons["d/last"].startswith("the last resort")


def test_a_model_that_was_never_timed_stands_behind_those_that_are_quick_enough() -> None:
    timed = with_(model("b/timed", quality=0.1), measured=Measured(calls=5, total=5, seconds=1.0, failures=0.0))
    unknown = model("a/unknown", quality=1.0)
    assert ordered(unknown, timed, latency=2.0) == ("b/timed", "a/unknown")
    assert ordered(unknown, timed)[0] == "a/unknown"


def test_a_few_calls_are_believed_less_than_many() -> None:
    def failing(calls: int) -> Candidate:
        return with_(model("a/some"), measured=Measured(calls=calls, total=calls, failures=0.5, seconds=2.0))

    usual = with_(model("b/usual"), measured=Measured(calls=100, total=100, failures=0.12, seconds=2.0))
    assert ordered(failing(2), usual)[0] == "a/some"
    assert ordered(failing(200), usual)[0] == "b/usual"


def test_scores_move_what_was_told_of_the_quality() -> None:
    scored = Measured(scores={"f1": (0.2, 45.0)})
    assert model("a/a", quality=0.9).known_quality == 0.9
    assert with_(model("a/a", quality=0.9), measured=scored).known_quality == pytest.approx((5 * 0.9 + 45 * 0.2) / 50)
    assert with_(model("a/a", quality=None), measured=scored).known_quality == pytest.approx(0.2)
    assert model("a/a", quality=None).known_quality is None
    assert "(scored)" in select(Requirements(), [with_(model("a/a"), measured=scored)]).reasons["a/a"]
    unscored, badly = model("a/a", quality=None), with_(model("b/b", quality=None), measured=scored)
    assert ordered(badly, unscored, prefer="quality") == ("a/a", "b/b")


def test_what_calls_did_cost_moves_the_estimate() -> None:
    paid = Measured(calls=15.0, total=15, cost=0.01)
    assert model("a/a").cost((1000, 250)) == pytest.approx(0.002)
    assert with_(model("a/a"), measured=paid).cost((1000, 250)) == pytest.approx((5 * 0.002 + 15 * 0.01) / 20)
    assert with_(model("a/a", price=None), measured=paid).cost((1000, 250)) == 0.01
    free = select(Requirements(), [model("a/a", price=(0, 0), quality=None)]).reasons["a/a"]
    assert "free" in free
    assert "quality unknown" in free
    assert "cost unknown" in select(Requirements(), [model("a/a", price=None)]).reasons["a/a"]


# --- how it is shown ---------------------------------------------------------------------------------------------


def test_a_selection_is_shown_as_text_and_as_an_escaped_table() -> None:
    found = select(Requirements(tools=True), [model("a/<b>", quality=0.9), model("c/d", tools=False)])
    assert "1 a/<b>: chosen" in str(found)
    assert "- c/d: out: cannot call tools" in repr(found)
    html = found._repr_html_()
    assert "a/&lt;b&gt;" in html
    assert "<b>" in html
    assert "a/<b>" not in html
    assert "wanted: tools; best balanced" in html


def test_the_model_is_made_when_it_is_asked_for_and_not_before() -> None:
    made: list[str] = []

    def make(name: str) -> str:
        made.append(name)
        return name.upper()

    found = select(Requirements(), [model("a/a", quality=1.0), model("b/b")], make)
    assert made == []
    assert found.lm == "A/A"
    assert found.lms == ["A/A", "B/B"]
    with pytest.raises(ConfigurationError, match="names alone"):
        select(Requirements(), [model("a/a")]).lm  # noqa: B018


# --- what may be asked for ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        ({"tols": True}, "Did you mean 'tools'"),
        ({"tools": "yes"}, "True or False"),
        ({"local": 1}, "True or False"),
        ({"context": "32q"}, "no number of tokens"),
        ({"context": 0}, "no number of tokens"),
        ({"price": -1}, "price=-1"),
        ({"price": "cheap"}, "price='cheap'"),
        ({"price": (1, 2, 3)}, "one for prompt and one for answer"),
        ({"cost": float("nan")}, "cost=nan"),
        ({"latency": True}, "latency=True"),
        ({"quality": 80}, "a number from 0 to 1"),
        ({"prefer": "costs"}, "Did you mean 'cost'"),
        ({"prefer": {"speed": 1}}, "no preference"),
        ({"prefer": {"cost": 0}}, "no preference"),
        ({"prefer": {"cost": -1, "quality": 2}}, "no preference"),
        ({"prefer": 3}, "no preference"),
        ({"exclude": [3]}, "cannot be required"),
        ({"tokens": (1,)}, "two numbers"),
        ({"tokens": 5}, "two numbers"),
    ],
)
def test_what_cannot_be_required_is_refused(needs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        requirements(needs)


def test_weights_sum_up_to_one() -> None:
    for prefer in ("quality", "cost", "latency", "balanced", {"quality": 3, "cost": 1}):
        assert sum(Requirements(prefer=prefer).weights.values()) == pytest.approx(1)
    assert Requirements(prefer={"quality": 3, "cost": 1}).weights == {"quality": 0.75, "cost": 0.25, "latency": 0.0}
    assert str(Requirements()) == "nothing in particular; best balanced"
    assert requirements({"tokens": [10, 5], "exclude": ["a"]}).tokens == (10, 5)


# --- promises ----------------------------------------------------------------------------------------------------

UNSURE = st.sampled_from([True, False, None])
SHARE = st.one_of(st.none(), st.floats(0, 1))
MONEY = st.floats(0, 100)
measurements = st.builds(
    lambda calls, failures, seconds, cost, scored: Measured(
        calls=calls,
        total=int(calls) + 1,
        failures=failures,
        seconds=seconds,
        cost=cost,
        scores=MappingProxyType({"f1": (scored, 3.0)} if scored is not None else {}),
    ),
    st.floats(0, 200),
    st.floats(0, 1),
    st.one_of(st.none(), st.floats(0.001, 100)),
    st.one_of(st.none(), st.floats(0, 1)),
    SHARE,
)


@st.composite
def candidate_lists(draw: Any) -> list[Candidate]:
    names = draw(st.lists(st.sampled_from(["a/x", "a/y", "b/x", "b/z", "c/w"]), min_size=1, max_size=5, unique=True))
    return [
        Candidate(
            name=name,
            facts=ModelFacts(
                model=name,
                context=draw(st.one_of(st.none(), st.integers(1, 200_000))),
                price=draw(st.one_of(st.none(), st.builds(Price, MONEY, MONEY, st.just("here")))),
                local=draw(UNSURE),
                **{ability: draw(UNSURE) for ability in ABILITIES},
            ),
            measured=draw(st.one_of(st.just(Measured()), measurements)),
            health=draw(st.sampled_from(["closed", "half_open", "open"])),
            quality=draw(SHARE),
            unavailable=draw(st.sampled_from([None, None, None, "no key"])),
            last_resort=draw(st.sampled_from([False, False, True])),
        )
        for name in names
    ]


wants = st.builds(
    Requirements,
    **{name: st.sampled_from([False, False, True]) for name in (*ABILITIES, "local")},
    context=st.one_of(st.none(), st.integers(1, 100_000)),
    price=st.one_of(st.none(), MONEY, st.tuples(MONEY, MONEY)),
    cost=st.one_of(st.none(), st.floats(0, 1)),
    latency=st.one_of(st.none(), st.floats(0.01, 50)),
    quality=SHARE,
    prefer=st.sampled_from(["quality", "cost", "latency", "balanced"]),
    exclude=st.sampled_from([(), (), ("a",), ("b/x",)]),
    providers=st.sampled_from([(), (), ("a", "b")]),
)


def chosen(wanted: Requirements, candidates: list[Candidate]) -> tuple[str, ...]:
    try:
        return select(wanted, candidates).order
    except ConfigurationError:
        return ()


@given(wants, candidate_lists())
def test_nothing_that_violates_a_requirement_is_ever_taken(wanted: Requirements, candidates: list[Candidate]) -> None:
    by_name = {c.name: c for c in candidates}
    for name in chosen(wanted, candidates):
        c, facts = by_name[name], by_name[name].facts
        assert c.unavailable is None
        assert all(getattr(facts, a) is True for a in (*ABILITIES, "local") if getattr(wanted, a))
        assert wanted.context is None or (facts.context or 0) >= wanted.context
        if wanted.price is not None:
            assert facts.price is not None
            assert facts.price[:2] <= wanted.price or (facts.price[0] <= wanted.price[0] and facts.price[1] <= wanted.price[1])  # type: ignore[index, operator]
        assert wanted.latency is None or c.measured.seconds is None or c.measured.seconds <= wanted.latency
        assert wanted.quality is None or (c.known_quality is not None and c.known_quality >= wanted.quality)
        assert wanted.cost is None or (c.cost(wanted.tokens) or 0.0) <= wanted.cost
        assert name not in wanted.exclude
        assert c.provider not in wanted.exclude
        assert not wanted.providers or c.provider in wanted.providers


@given(wants, candidate_lists(), st.randoms(use_true_random=False))
def test_the_choice_does_not_hang_on_the_order_of_the_candidates(
    wanted: Requirements, candidates: list[Candidate], chance: random.Random
) -> None:
    shuffled = list(candidates)
    chance.shuffle(shuffled)
    if not chosen(wanted, candidates):
        told = []
        for each in (candidates, shuffled):
            with pytest.raises(ConfigurationError) as caught:
                select(wanted, each)
            told.append(str(caught.value))
        assert told[0] == told[1]
        return
    found = select(wanted, candidates)
    again = select(wanted, shuffled)
    assert again == found
    assert str(again) == str(found)
    assert set(found.reasons) == {c.name for c in candidates}


def better(candidate: Candidate, what: str, amount: float) -> Candidate:
    """Return the candidate with more of one good thing, or as it is where nothing is known of it."""
    facts, measured = candidate.facts, candidate.measured
    if what in (*ABILITIES, "local"):
        return with_(candidate, facts=dataclasses.replace(facts, **{what: True}))
    if what == "context" and facts.context is not None:
        return with_(candidate, facts=dataclasses.replace(facts, context=facts.context + int(amount * 100_000)))
    if what == "price" and facts.price is not None:
        price = Price(facts.price.input * amount, facts.price.output * amount, "here")
        return with_(candidate, facts=dataclasses.replace(facts, price=price))
    if what == "quality" and candidate.quality is not None:
        return with_(candidate, quality=candidate.quality + (1 - candidate.quality) * amount)
    if what == "seconds" and measured.seconds is not None:
        return with_(candidate, measured=dataclasses.replace(measured, seconds=measured.seconds * amount))
    if what == "failures" and measured.failures is not None:
        return with_(candidate, measured=dataclasses.replace(measured, failures=measured.failures * amount))
    if what == "paid" and measured.cost is not None:
        return with_(candidate, measured=dataclasses.replace(measured, cost=measured.cost * amount))
    if what == "scores" and measured.scores:
        value, count = measured.scores["f1"]
        higher = MappingProxyType({"f1": (value + (1 - value) * amount, count)})
        return with_(candidate, measured=dataclasses.replace(measured, scores=higher))
    if what == "health":
        return with_(candidate, health="closed")
    if what == "key":
        return with_(candidate, unavailable=None)
    return candidate


@given(
    wants,
    candidate_lists(),
    st.integers(0, 4),
    st.sampled_from(
        [*ABILITIES, "local", "context", "price", "quality", "seconds", "failures", "paid", "scores", "health", "key"]
    ),
    st.floats(0, 1),
)
def test_more_of_anything_good_never_makes_a_candidate_worse(
    wanted: Requirements, candidates: list[Candidate], which: int, what: str, amount: float
) -> None:
    one = candidates[which % len(candidates)]
    improved = better(one, what, amount)
    before = chosen(wanted, candidates)
    after = chosen(wanted, [improved if c is one else c for c in candidates])
    if one.name in before:
        assert one.name in after
        assert after.index(one.name) <= before.index(one.name)
    assert [n for n in after if n != one.name] == [n for n in before if n != one.name], "the others stay in their order"
