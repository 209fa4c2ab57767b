"""What may be done with a job in which state."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.errors import JobError
from dspex_lab.jobs._state import ENDED, LIVE, MOVES, Action, move

ACTIONS = sorted(MOVES)


@given(st.lists(st.sampled_from(ACTIONS), max_size=30))
def test_no_way_leads_out_of_the_states_or_past_their_meaning(actions: list[Action]) -> None:
    state, stopped_by, begun = "waiting", None, False
    for action in actions:
        before = state
        if before not in MOVES[action]:
            with pytest.raises(JobError, match=before) as refused:
                move(state, action)
            assert refused.value.state == before
            continue
        state = move(state, action)
        begun = begun or action == "start"
        assert state in (*LIVE, *ENDED)
        assert before != "complete", "a complete job has its result, and nothing more comes of it"
        if state in ("running", "stopping"):
            assert begun
        if before in ENDED:
            assert (action, state) == ("resume", "waiting"), "only a resume wakes a job that rests"
        if state == "stopping":
            stopped_by = action
        if before == "stopping":
            assert stopped_by == "stop"
            assert state != "running", "a job that is stopping does not go on"


@pytest.mark.parametrize(
    ("state", "action", "says"),
    [
        ("complete", "resume", "job.result()"),
        ("complete", "stop", "job.result()"),
        ("running", "resume", "job.progress"),
        ("interrupted", "stop", "job.resume()"),
        ("waiting", "resume", "starts by itself"),
    ],
)
def test_a_refusal_says_what_to_do_instead(state: str, action: Action, says: str) -> None:
    with pytest.raises(JobError) as refused:
        move(state, action, "job 3 (tune 'x')")
    assert refused.value.job == "job 3 (tune 'x')"
    assert refused.value.state == state
    assert f"Job 3 (tune 'x') is {state}" in str(refused.value)
    assert says in str(refused.value)


def test_every_state_but_complete_can_be_left() -> None:
    left = {state for moves in MOVES.values() for state in moves}
    assert left == {*LIVE, *ENDED} - {"complete"}


def test_the_words_of_a_refusal_are_english() -> None:
    for action in ACTIONS:
        for state in {*LIVE, *ENDED} - set(MOVES[action]):
            with pytest.raises(JobError, match=r"cannot be (started|stopped|completed|failed|interrupted|resumed)\."):
                move(state, action)
