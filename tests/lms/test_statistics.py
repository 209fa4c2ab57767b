"""How each model did until now."""

from __future__ import annotations

import threading
from typing import Any

import pandas as pd
import pytest
from clocks import Clock
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab import ConfigurationError
from dspex_lab.events import Bus, Event, LMCall
from dspex_lab.lms.choice import _statistics
from dspex_lab.lms.choice._statistics import HALF_CALLS, HALF_SECONDS, Measured, Statistics

NOW = 1_000_000.0


def call(model: str = "a/b", at: float = NOW, **fields: Any) -> LMCall:
    plain: dict[str, Any] = {"seconds": 1.0, "prompt_tokens": 10, "completion_tokens": 5, "cost": 0.01, "error": None}
    given_ = {**plain, **fields}
    return LMCall("id", None, None, None, model, at, cache_hit=given_.pop("cache_hit", False), simulated=False, **given_)


@pytest.fixture
def statistics() -> Statistics:
    return Statistics(Clock(NOW))


def test_nothing_is_known_of_a_model_that_was_never_called(statistics: Statistics) -> None:
    assert statistics.of("a/b") == Measured()
    assert str(statistics.of("a/b")) == "never called here"
    assert statistics.models() == []


def test_calls_come_from_the_bus(statistics: Statistics) -> None:
    bus = Bus()
    bus.subscribe(statistics.observe, live=False)
    for seconds in (1.0, 1.0, 1.0, 9.0):
        bus.emit(call(seconds=seconds))
    bus.emit(call(error="LMServerError: down", seconds=0.001, cost=None))
    bus.emit(Event("run.start", NOW))
    found = statistics.of("a/b")
    assert found.total == 5
    assert found.seconds == pytest.approx(1.0, rel=0.06), "a failure's speed is no latency"
    assert found.seconds_p95 == pytest.approx(9.0, rel=0.06)
    assert found.failures == pytest.approx(0.2, rel=0.05)
    assert found.cost == pytest.approx(0.01)
    assert (found.prompt_tokens, found.completion_tokens) == (pytest.approx(10), pytest.approx(5))
    assert "5 calls" in str(found)
    assert "failed" in str(found)


@pytest.mark.parametrize("error", sorted(_statistics.NOT_THE_MODELS))
def test_what_was_not_the_models_doing_counts_nowhere(statistics: Statistics, error: str) -> None:
    statistics.observe(call(error=f"{error}: no"))
    assert statistics.of("a/b").total == 0


def test_an_answer_from_the_cache_counts_nowhere(statistics: Statistics) -> None:
    statistics.observe(call(cache_hit=True))
    assert statistics.of("a/b") == Measured()


def test_the_names_of_the_errors_that_are_left_out_are_those_of_the_house() -> None:
    import dspex_lab.errors as errors

    ours = {"BudgetExceeded", "BulkheadFull", "CircuitOpen", "ConfigurationError"}
    assert ours <= _statistics.NOT_THE_MODELS
    assert all(isinstance(getattr(errors, name), type) for name in ours)


def test_the_first_token_and_scores_are_told(statistics: Statistics) -> None:
    statistics.first_token("a/b", 0.25)
    statistics.first_token("a/b", float("nan"))
    statistics.score("a/b", 1.0, "f1")
    statistics.score("a/b", 0.5, "f1")
    statistics.score("a/b", 0, "taste")
    found = statistics.of("a/b")
    assert found.first == pytest.approx(0.25, rel=0.06)
    assert found.first_p95 == found.first
    assert found.scores["f1"][0] == pytest.approx(0.75, rel=0.01)
    assert found.scores["taste"][0] == 0
    assert "f1" in str(found)
    assert "first token" in str(found)


@pytest.mark.parametrize("value", [1.1, -0.1, float("nan"), "good", None, True])
def test_what_is_no_score_is_refused(statistics: Statistics, value: Any) -> None:
    with pytest.raises(ConfigurationError, match="no number from 0 to 1"):
        statistics.score("a/b", value)
    assert statistics.models() == []


def test_what_is_long_ago_counts_less() -> None:
    clock = Clock(NOW)
    statistics = Statistics(clock)
    statistics.observe(call(seconds=1.0, error="X: down"))
    assert statistics.of("a/b").calls == pytest.approx(1.0)
    clock.now += HALF_SECONDS
    assert statistics.of("a/b").calls == pytest.approx(0.5)
    statistics.observe(call(at=clock.now))
    assert statistics.of("a/b").failures == pytest.approx(1 / 3, rel=0.01)
    clock.now += 10_000 * HALF_SECONDS
    statistics.observe(call(at=clock.now, seconds=5.0))
    found = statistics.of("a/b")
    assert found.failures == 0, "what nobody remembers is gone"
    assert found.calls == 1
    assert found.seconds == pytest.approx(5, rel=0.06)
    assert found.total == 3


def test_new_calls_outweigh_old_ones() -> None:
    statistics = Statistics(Clock(NOW))
    for _ in range(int(HALF_CALLS)):
        statistics.observe(call(seconds=1.0))
    for _ in range(int(HALF_CALLS) + 10):
        statistics.observe(call(seconds=10.0))
    assert statistics.of("a/b").seconds == pytest.approx(10, rel=0.06)


def test_weights_stay_in_bounds_over_many_calls() -> None:
    average = _statistics._Average()
    quantiles = _statistics._Quantiles()
    for step in range(400):
        at = NOW + step * HALF_SECONDS
        average.add(2.0, at)
        quantiles.add(2.0, at)
    assert average.mean == pytest.approx(2.0)
    assert quantiles.at(0.5) == pytest.approx(2.0, rel=0.06)
    assert average._scale < 1e101
    assert average.weight(at) == pytest.approx(2.0, rel=0.05)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60), st.sampled_from([0.5, 0.95]))
def test_a_quantile_is_that_of_the_values_to_a_few_per_cent(values: list[float], share: float) -> None:
    quantiles = _statistics._Quantiles()
    for value in values:
        quantiles.add(value, NOW)
    found = quantiles.at(share)
    assert found is not None
    inside = [min(max(v, quantiles._LEAST), 10_500.0) for v in values]
    assert min(inside) * 0.9 <= found <= max(inside) * 1.1
    if len(set(values)) == 1:
        assert found == pytest.approx(inside[0], rel=0.06)


def test_an_empty_series_has_no_quantile() -> None:
    assert _statistics._Quantiles().at(0.5) is None


def test_rows_of_the_store_give_what_the_records_gave() -> None:
    records = [call(at=NOW + i, seconds=i + 1.0, error="X: no" if i == 2 else None, cost=0.02) for i in range(5)]
    live, seeded = Statistics(Clock(NOW)), Statistics(Clock(NOW))
    for record in records:
        live.observe(record)
    rows = [{**r._asdict(), "started": pd.Timestamp(r.started, unit="s")} for r in reversed(records)]
    frame = pd.DataFrame(rows).to_dict("records")
    assert seeded.seed(frame) == 5  # type: ignore[arg-type]
    assert seeded.of("a/b") == live.of("a/b")


def test_rows_that_say_too_little_are_left_out(statistics: Statistics) -> None:
    row = {"model": "a/b", "started": NOW, "seconds": 1.0}
    assert statistics.seed([{}, {"model": None, "started": NOW}, {"model": "a/b"}, {**row, "started": pd.NaT}]) == 0
    assert statistics.seed([{**row, "cache_hit": True}, {**row, "error": "BudgetExceeded: no"}]) == 0
    odd = {**row, "error": float("nan"), "cost": float("nan"), "prompt_tokens": None, "completion_tokens": "many"}
    assert statistics.seed([odd, {**row, "seconds": None}, {**row, "cost": True}]) == 3
    found = statistics.of("a/b")
    assert (found.total, found.failures, found.cost, found.prompt_tokens) == (3, 0, None, None)


def test_memory_is_bounded(statistics: Statistics) -> None:
    for number in range(300):
        statistics.observe(call(f"a/{number}"))
        statistics.score("a/299", 1.0, f"metric {number}")
    assert len(statistics.models()) == 256
    assert "a/299" in statistics.models()
    assert "a/0" not in statistics.models()
    assert len(statistics.of("a/299").scores) == 16
    assert "metric 299" in statistics.of("a/299").scores


def test_what_was_measured_can_be_forgotten(statistics: Statistics) -> None:
    statistics.observe(call("a/b"))
    statistics.observe(call("a/c"))
    statistics.forget("a/b")
    assert statistics.models() == ["a/c"]
    statistics.forget()
    assert statistics.models() == []


def test_threads_lose_no_call(statistics: Statistics) -> None:
    def work() -> None:
        for _ in range(200):
            statistics.observe(call())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statistics.of("a/b").total == 800
