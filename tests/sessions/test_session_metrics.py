"""The figures of a session and what its runs taught, from real records; and the statistics behind them."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_lab.events import Decision, Event, LMCall, RunRecord, Span, new_id
from dspex_lab.sessions import Sessions, change_point, trend

#: What the embedding models of the test extra bring along.
stats = pytest.importorskip("scipy.stats")

EVIL = "<img src=x>"


def record(place: Any, session: str | None = "s", seconds: float = 1.0, **more: Any) -> str:
    """Record a run of two steps and a model call."""
    place.now += 10
    run_id, span = more.pop("run_id", new_id()), new_id()
    run = RunRecord(run_id, None, "run", "support", "complete", place.now, seconds, session=session)
    run = run._replace(prompt_tokens=100, completion_tokens=20, cost=0.5)._replace(**more)
    step = Span(span, run_id, run_id, "step", "reply", place.now, seconds * 0.9, "complete")
    other = Span(new_id(), run_id, run_id, "step", "clean", place.now, seconds * 0.1, "complete")
    call = LMCall(new_id(), span, run_id, "reply", "m/1", place.now, seconds, 100, 20, 0.5, False, False)
    place.store.write_many([run, step, other, call])
    return run_id


def test_the_history_is_what_ran_under_its_names(sessions: Sessions, place: Any) -> None:
    early = record(place, "s")
    place.now += 1
    made = sessions.open("s")
    first = record(place, "s")
    record(place, None)
    record(place, "other")
    place.now += 1
    made.rename("t")
    second = record(place, "t")
    record(place, "s")  # of whoever has the name now
    place.now += 1
    third = sessions.open("s")
    last = record(place, "s")
    assert list(made.history["run_id"]) == [second, first, early], "runs of the name before the first session of it too"
    assert list(third.history["run_id"]) == [last]
    place.now += 1
    made.close()
    record(place, "t")
    assert len(made.history) == 3
    assert made.metrics().runs == 3, "a session that is closed keeps its figures"
    place.now += 1
    assert place.sessions().open("t").history.empty


def test_the_figures_of_its_runs(sessions: Sessions, place: Any) -> None:
    made = sessions.open("s")
    runs = [record(place, seconds=s) for s in (1, 2, 3)]
    record(place, seconds=9, status="failed", error="ValueError: bad", error_step="reply")
    record(place, seconds=9, status="cancelled")
    record(place, seconds=4, status="partial", simulated=True, cost=None)
    record(place, seconds=50, kind="map")
    row = record(place, None, kind="nested", parent_id=runs[0])
    record(place, None, kind="nested", parent_id=row)
    place.store.write(LMCall(new_id(), None, runs[0], None, "m/1", place.now, 1.0, 5, 5, 0.0, True, False))
    for status, seconds in (("complete", 0.5), ("complete", 1.5), ("failed", 9.0)):
        data = {"session_id": made.id, "status": status, "seconds": seconds}
        place.store.write(Event("pool.checkin", place.now, data=data))
    found = made.metrics()
    assert (found.runs, found.complete, found.partial, found.failed, found.cancelled) == (7, 4, 1, 1, 1)
    assert (found.p50, found.p95, found.mean) == (2.5, pytest.approx(3.85), 2.5)
    assert found.error_rate == 1 / 6
    assert (found.prompt_tokens, found.completion_tokens, found.tokens, found.cost) == (700, 140, 840, 3.0)
    assert (found.lm_calls, found.cache_hits, found.simulated) == (10, 1, True), "those of runs within its runs too"
    assert (found.calls, found.calls_failed, found.call_p50) == (3, 1, 1.0)
    assert found.to_dict()["runs"] == 7
    assert "unknown: 4 comparable runs, 8 are needed" in repr(found)
    assert "error rate 17%" in repr(found)
    assert "$3.00" in found._repr_html_()


def test_without_runs_there_are_no_figures(sessions: Sessions) -> None:
    found = sessions.open("s").metrics()
    assert (found.runs, found.p50, found.error_rate, found.cost, found.trend.direction) == (0, None, None, None, "unknown")
    assert "error rate –" in repr(found)
    assert "Nothing yet" in repr(sessions.open("s").insights())


def test_a_trend_is_said_with_its_significance(sessions: Sessions, place: Any) -> None:
    slow, even, new = sessions.open("slow"), sessions.open("even"), sessions.open("new")
    chance = random.Random(1)
    for n in range(20):
        record(place, "slow", 1 + n / 10 + chance.random() / 10)
        record(place, "even", 1 + chance.random())
        # A slow pipeline that came later is no trend.
        record(place, "new", (1 if n < 10 else 5) + chance.random() / 10, name="quick" if n < 10 else "thorough")
    found = slow.metrics().trend
    assert (found.direction, found.significant, found.runs) == ("slower", True, 20)
    assert found.slope == pytest.approx(0.1, rel=0.1)
    assert found.p < 1e-6
    assert "slower (+" in str(found)
    assert "Mann-Kendall" in str(found)
    assert even.metrics().trend.direction == "steady"
    assert new.metrics().trend.direction == "steady"
    [said] = [i for i in slow.insights() if i.kind == "speed"]
    assert "support runs slower since" in said.text
    assert "Pettitt" in said.text
    assert [i for i in even.insights() if i.kind == "speed"] == []


def test_what_was_learned_is_said_with_its_evidence(sessions: Sessions, place: Any) -> None:
    made = sessions.open("s")
    for n in range(6):
        run = record(place, status="failed" if n < 2 else "complete", error=f"ValueError: {EVIL}\nmore" if n < 2 else None)
        span = new_id()
        place.store.write(Span(span, run, run, "step", "reply", place.now, 0.25, "complete"))
        chosen = "native" if n else "dspy"
        place.store.write(Decision(new_id(), run, span, place.now, "predict", chosen, ("native", "dspy"), "fixed", "first"))
        place.store.write(LMCall(new_id(), None, run, "clean", "m/1", place.now, 1.0, 1, 1, 0.01, True, False))
    made.optimization.record("a", 0.5)
    made.optimization.record("b", 0.8)
    found = {insight.kind: insight for insight in made.insights()}
    assert set(found) == {"error", "cost", "time", "choice", "cache", "score"}
    assert "2 of 6 runs failed; the most frequent error is ValueError: " in str(found["error"])
    assert found["error"].evidence["times"] == 2
    assert "Step reply is the most costly: 98% of the cost ($3.00 of $3.06)" in found["cost"].text
    assert "The cache answered 6 of 12 model calls (50%)" in found["cache"].text
    assert "Step reply takes the most time" in found["time"].text
    assert "For predict the preferred implementation is native: 5 of 6 choices, 250 ms at the median." in found["choice"].text
    assert "The best score of its optimisation is 0.8, up from 0.5, after 2 iterations." in found["score"].text
    assert EVIL not in made.insights()._repr_html_()
    assert EVIL in repr(made.insights()), "text is no HTML"


def test_where_no_price_is_known_tokens_say_what_is_costly(sessions: Sessions, place: Any) -> None:
    made = sessions.open("s")
    run = record(place, cost=None, error="E", error_step="reply", status="failed")
    place.store.flush()
    calls = [
        LMCall(new_id(), None, run, step, "m/1", place.now, 1.0, n, 0, None, False, False) for step, n in (("a", 5), ("b", 9))
    ]
    place.store.write_many(calls)
    place.store._core.with_cursor(lambda cursor: cursor.execute("UPDATE lm_calls SET cost = NULL"))
    found = {insight.kind: insight.text for insight in made.insights()}
    assert "Step reply is the most costly: 90% of the tokens, 120 tokens." in found["cost"]
    assert "in step reply is E (1 time" in found["error"]


def test_a_slow_drift_without_a_jump_is_said_too() -> None:
    from dspex_lab.sessions._insights import _speed

    values = [1.0, 1.01, 0.99, 1.02, 1.03, 1.0, 1.04, 1.06]
    import pandas as pd

    frame = pd.DataFrame({"name": "n", "seconds": values, "started": pd.date_range("2024-01-01", periods=len(values))})
    [said] = _speed(frame)
    assert said.text.startswith("n becomes slower: slower (+")
    assert list(_speed(frame.assign(seconds=1.0))) == []


# ---- the statistics --------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 100), min_size=8, max_size=40))
@settings(max_examples=60, deadline=None)
def test_the_trend_is_that_of_other_implementations(values: list[float]) -> None:
    found = trend({"n": values})
    assert found.slope == pytest.approx(stats.theilslopes(values).slope, abs=1e-9)
    tau = stats.kendalltau(range(len(values)), values).statistic
    if found.direction == "slower":
        assert tau > 0
    elif found.direction == "faster":
        assert tau < 0
    assert 0 <= found.p <= 1


def test_the_trend_of_a_textbook() -> None:
    # Gilbert (1987), p. 209 f.: S of a short series without ties, and p of the normal approximation.
    values = [10, 15, 14, 20, 18, 25, 24, 30, 33, 31]
    found = trend({"n": values})
    s = sum((b > a) - (b < a) for i, a in enumerate(values) for b in values[i + 1 :])
    assert s == 37
    z = (s - 1) / (10 * 9 * 25 / 18) ** 0.5
    assert found.p == pytest.approx(2 * stats.norm.sf(z))
    assert trend({"n": [1.0] * 10}).direction == "steady"
    assert trend({}).runs == 0


def test_chance_is_seldom_called_a_trend() -> None:
    chance = random.Random(7)
    found = [trend({"n": [chance.random() for _ in range(20)]}).significant for _ in range(300)]
    assert sum(found) <= 30, "5 % of 300 are 15"


def test_a_change_is_found_where_it_was() -> None:
    chance = random.Random(3)
    values = [1 + chance.random() / 5 for _ in range(15)] + [2 + chance.random() / 5 for _ in range(12)]
    found = change_point(values)
    assert found is not None
    assert (found.index, found.significant) == (15, True)
    assert found.after - found.before == pytest.approx(1, abs=0.2)
    assert change_point([1.0] * 7) is None
    even = change_point([1.0] * 10)
    assert even is not None
    assert not even.significant
