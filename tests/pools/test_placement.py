"""The choice of a worker, without workers."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.errors import ConfigurationError
from dspex_lab.pools import Placement
from dspex_lab.pools._placement import ANYWHERE, candidates, choose, keep


@dataclass(eq=False)
class Post:
    name: str
    free: bool = True
    busy: int = 0
    calls: int = 0
    reserved: str | None = None
    leaving: bool = False


posts = st.lists(
    st.builds(
        Post,
        st.sampled_from("abcd"),
        st.booleans(),
        st.integers(0, 3),
        st.integers(0, 3),
        st.sampled_from([None, None, "r"]),
        st.booleans(),
    ),
    max_size=5,
)
places = st.one_of(
    st.builds(Placement, st.sampled_from("abx")),
    st.builds(Placement, st.sampled_from("abx"), st.sampled_from(["strict-queue", "strict-fail"])),
    st.builds(Placement, reservation=st.sampled_from("rs")),
    st.just(ANYWHERE),
)


@given(places, posts, st.booleans(), st.sampled_from([None, "a", "b"]), st.data())
def test_nobody_goes_where_he_must_not_and_the_best_is_taken(
    place: Placement, workers: list[Post], alone: bool, shunned: str | None, data: st.DataObject
) -> None:
    held = data.draw(st.lists(st.sampled_from(workers), max_size=2)) if workers else []
    chosen = choose(place, workers, alone=alone, held=held, shunned=shunned)
    fit = candidates(place, workers, alone=alone, held=held)
    assert (chosen is None) == (not fit)
    if chosen is None:
        return
    assert chosen.free
    assert chosen.reserved == place.reservation
    if place.reservation is None:
        assert not chosen.leaving
        assert chosen not in held
        assert not (alone and chosen.busy)
        assert not place.strict or chosen.name == place.worker
    if any(w.name == place.worker for w in fit):
        assert chosen.name == place.worker
    elif any(w.name != shunned for w in fit):
        assert chosen.name != shunned
    same = [
        w for w in fit if (w.name == place.worker, w.name == shunned) == (chosen.name == place.worker, chosen.name == shunned)
    ]
    assert (chosen.busy, chosen.calls) == min((w.busy, w.calls) for w in same)


@given(places, posts)
def test_what_is_kept_for_one_who_wants_to_be_alone_could_be_his(place: Placement, workers: list[Post]) -> None:
    kept = keep(place, workers, [])
    if kept is None:
        assert all(w.reserved or w.leaving or (place.strict and w.name != place.worker) for w in workers)
    else:
        assert kept.reserved is None
        assert not kept.leaving
        assert not place.strict or kept.name == place.worker
        assert keep(place, workers, [kept]) is not kept


def test_a_placement_that_makes_no_sense_says_what_would() -> None:
    with pytest.raises(ConfigurationError, match="hint, strict-queue, strict-fail"):
        Placement("w", "strict")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"pool\.status\(\)"):
        Placement(affinity="strict-queue")
    assert Placement(affinity="strict-fail", reservation="r").strict
    assert not ANYWHERE.strict
