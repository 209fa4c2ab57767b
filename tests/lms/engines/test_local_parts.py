"""The parts of LocalEngine that need no model: text from tokens, sampling, and the queue."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("dspy")

from dspex_lab.lms.engines._local_batch import Batcher, Job
from dspex_lab.lms.engines._local_request import Answer, Ask, Piece, Score
from dspex_lab.lms.engines._local_text import Decoder, Writing

ASK = Ask((("user", "a"),))


def decode(ids: Sequence[int]) -> str:
    """One token a byte, as the byte-level tokenizers have them at worst."""
    return bytes(ids).decode("utf-8", errors="replace")


@given(st.text(max_size=40))
def test_text_comes_in_whole_characters_and_is_complete(text: str) -> None:
    decoder = Decoder(decode)
    pieces = [decoder.push(byte) for byte in text.encode()]
    assert "".join(pieces) == text
    assert decoder.rest() == ""
    assert all("\ufffd" not in piece or "\ufffd" in text for piece in pieces)


@given(st.binary(max_size=30))
def test_bytes_that_are_no_text_are_not_lost(data: bytes) -> None:
    decoder = Decoder(decode)
    got = "".join(map(decoder.push, data)) + decoder.rest()
    assert len(got) > 0 or not data
    assert "".join(c for c in got if c != "\ufffd") == "".join(c for c in decode(data) if c != "\ufffd")


@given(st.text(alphabet="ab☃", max_size=30), st.lists(st.text(alphabet="ab☃", min_size=1, max_size=4), max_size=3))
def test_what_is_told_is_the_text_before_the_first_stop(text: str, stops: list[str]) -> None:
    told: list[Piece] = []
    writing = Writing(Decoder(decode), tuple(stops), told.append)
    for byte in text.encode():
        writing.push(byte, None)
        if writing.stopped:
            break
        # Nothing is told that could still turn out to be a stop sequence.
        sent = "".join(p.text for p in told)
        assert not any(writing.text[len(sent) :] == "" and sent.endswith(s[:n]) for s in stops for n in range(1, len(s)))
    writing.end()
    # The stop sequence that is complete first ends the answer; of those complete at once, the one that began first.
    ends = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    first = min((end for end, _ in ends), default=None)
    expected = text if first is None else text[: min(at for end, at in ends if end == first)]
    assert writing.text == expected
    assert "".join(p.text for p in told) == expected
    assert writing.stopped == bool(ends)


def test_scores_of_what_was_cut_away_are_dropped_and_it_is_said() -> None:
    words = {1: "one ", 2: "two S", 3: "TOP x"}
    told: list[Piece] = []
    writing = Writing(Decoder(lambda ids: "".join(words[i] for i in ids)), ("STOP",), told.append)
    for token in (1, 2, 3):
        writing.push(token, Score(words[token], token, -0.5))
    writing.end()
    assert writing.text == "one two "
    assert [s.score.token_id for s in writing.scores] == [1]
    assert not writing.scored
    assert [s.token_id for p in told for s in p.scores] == [1]
    assert not told[-1].scored


def test_scores_stay_whole_where_the_stop_sequence_is_a_token_of_its_own() -> None:
    words = {1: "one ", 2: "STOP"}
    writing = Writing(Decoder(lambda ids: "".join(words[i] for i in ids)), ("STOP",), None)
    for token in (1, 2):
        writing.push(token, Score(words[token], token, -0.5))
    assert [s.score.token_id for s in writing.scores] == [1]
    assert writing.scored


def test_a_token_that_is_cut_in_two_by_a_stop_has_no_score() -> None:
    writing = Writing(Decoder(lambda ids: "".join({1: "ab;c"}[i] for i in ids)), (";",), None)
    writing.push(1, Score("ab;c", 1, -0.5))
    assert writing.text == "ab"
    assert writing.scores == []
    assert not writing.scored


def test_sampling_follows_the_shares() -> None:
    torch = pytest.importorskip("torch", reason="local models need torch (extra neural)")
    from dspex_lab.lms.engines._local_rows import Sampling, _sample

    scores = torch.log(torch.tensor([0.5, 0.0, 0.3, 0.2]))
    draws = [n / 1000 for n in range(1000)]

    def taken(top_p: float, top_k: int) -> dict[int, float]:
        return dict(Counter(_sample(scores, Sampling(1.0, top_p, top_k, 1.0), draw) for draw in draws))

    assert taken(1.0, 0) == pytest.approx({0: 500, 2: 300, 3: 200}, abs=2)
    assert taken(0.7, 0) == pytest.approx({0: 625, 2: 375}, abs=2)
    assert taken(0.9, 2) == pytest.approx({0: 625, 2: 375}, abs=2)
    assert {_sample(scores, Sampling(0.01, 1.0, 0, 1.0), d) for d in draws} == {0}
    assert _sample(scores, Sampling(1.0, 1.0, 0, 1.0), 1.0) == 3


def job(heard: list[object], **how: object) -> Job:
    return Job(ASK, heard.append, **how)  # type: ignore[arg-type]


def test_a_queue_hands_over_as_many_as_wait_and_its_thread_ends() -> None:
    batches: list[int] = []
    heard: list[object] = []

    def run(jobs: list[Job]) -> list[Job]:
        batches.append(len(jobs))
        for done in jobs:
            done.end(Answer("x", "stop", 1, 1))
        return []

    queue = Batcher(run, "test-local")
    assert queue.idle(0)
    for _ in range(5):
        queue.submit(job(heard, window=30.0, most=5))
    assert queue.idle(30)
    assert batches == [5]
    assert len(heard) == 5
    queue.submit(job(heard))
    assert queue.idle(30)
    assert batches == [5, 1]


def test_one_who_waits_alone_waits_no_longer_than_the_window() -> None:
    heard: list[object] = []

    def run(jobs: list[Job]) -> list[Job]:
        for done in jobs:
            done.end(Answer("x", "stop", 1, 1))
        return []

    queue = Batcher(run, "test-local")
    queue.submit(job(heard, window=0.01, most=8))
    assert queue.idle(30)
    assert len(heard) == 1


def test_what_was_left_for_later_keeps_its_place() -> None:
    order: list[int] = []
    gate = threading.Event()
    jobs = [job([], window=0.0, most=3) for _ in range(4)]

    def run(batch: list[Job]) -> list[Job]:
        gate.wait(30)
        order.append(jobs.index(batch[0]))
        return batch[1:]

    queue = Batcher(run, "test-local")
    for one in jobs:
        queue.submit(one)
    gate.set()
    assert queue.idle(30)
    assert order == [0, 1, 2, 3]


def test_a_job_tells_its_outcome_once_and_nothing_after_it_was_cancelled() -> None:
    heard: list[object] = []
    one = job(heard, streams=True)
    answer = Answer("x", "stop", 1, 1)
    one.piece(Piece("x"))
    one.end(answer)
    one.end(ValueError("late"))
    assert heard == [Piece("x"), answer]
    two = job(heard := [], streams=True)
    two.cancel()
    two.piece(Piece("x"))
    two.end(answer)
    assert heard == []
