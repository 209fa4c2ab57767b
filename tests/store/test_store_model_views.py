"""What the page on models and health asks of the store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from store_records import START, at, call

from dspex_lab.events import Event
from dspex_lab.store import Store, views


@pytest.fixture
def store() -> Iterator[Store]:
    with Store(":memory:", lab_id="mine") as made:
        yield made


def change(name: str, seconds: float, before: str, after: str, target: str = "m", **more: object) -> Event:
    return Event(name, START + seconds, data={"target": target, "before": before, "after": after, "reason": "why", **more})


def test_a_blank_store_has_no_rows_and_no_error(store: Store) -> None:
    assert views.model_health(store).empty
    assert views.models_over_time(store).empty
    assert views.state_changes(store).empty
    assert views.state_spans(store, now=at(0)).empty
    assert views.opened(store) is not None


def test_a_model_is_summed_up(store: Store) -> None:
    store.write_many(
        [
            call("1", seconds=1.0, attempts=3, first_token=0.25),
            call("2", seconds=2.0, again=True),
            call("3", seconds=9.0, error="ServerError", cost=None),
            call("4", seconds=0.0, error="CircuitOpen", attempts=0, cost=None),
            call("5", seconds=0.0, cache_hit=True, cost=0.0, prompt_tokens=0, completion_tokens=0, attempts=0),
            call("6", model="n", instead_of="m", cost=None),
            call("7", model="n", instead_of="m", error="too"),
        ]
    )
    store.flush()
    found = views.model_health(store).set_index("model")
    row = found.loc["m"]
    assert (row["calls"], row["cache_hits"], row["failed"], row["refused"]) == (4, 1, 2, 1)
    assert row["failure_rate"] == 0.5
    assert (row["p50"], row["first_token"]) == (1.5, 0.25)
    assert 1.5 < row["p95"] <= 2.0, "of what was answered alone"
    assert (row["retries"], row["second_calls"], row["fallbacks"]) == (2, 1, 0)
    assert row["tokens"] == 60
    assert row["cost"] == pytest.approx(0.002)
    assert found.loc["n"]["fallbacks"] == 1, "those that answered"
    assert found.index[0] == "m", "asked most"


def test_a_cache_alone_has_no_failure_rate(store: Store) -> None:
    store.write(call("1", cache_hit=True))
    store.flush()
    row = views.model_health(store).iloc[0]
    assert row["calls"] == 0
    assert row.isna()["failure_rate"]


def test_a_request_that_was_given_up_is_paid_for_and_no_failure(store: Store) -> None:
    store.write_many([call("1", attempts=2), call("2", error="CancelledError: nobody waited for it")])
    store.flush()
    row = views.model_health(store).iloc[0]
    assert (row["calls"], row["failed"], row["retries"]) == (1, 0, 1)
    assert row["cost"] == pytest.approx(0.002)


def test_spaces_of_time_hold_every_call_once(store: Store) -> None:
    store.write_many([call(str(n), started=START + n, model="mn"[n % 2]) for n in range(100)])
    store.flush()
    frame = views.models_over_time(store, buckets=10)
    assert frame["calls"].sum() == 100
    assert set(frame["width"]) == {10}
    assert list(frame["at"]) == sorted(frame["at"])
    assert len(frame) == 20


def test_only_models_that_were_asked_most_are_followed(store: Store) -> None:
    store.write_many([call(f"{n}-{k}", model=f"m{n}") for n in range(5) for k in range(n + 1)])
    store.flush()
    assert set(views.models_over_time(store, models=2)["model"]) == {"m3", "m4"}
    assert len(views.model_health(store, limit=3)) == 3


def test_since_leaves_out_what_was_before(store: Store) -> None:
    store.write_many([call("1", model="old"), call("2", model="new", started=START + 10)])
    store.write_many([change("breaker.open", 0, "closed", "open"), change("breaker.close", 10, "open", "closed")])
    store.flush()
    assert list(views.model_health(store, since=at(5))["model"]) == ["new"]
    assert list(views.models_over_time(store, since=at(5))["model"]) == ["new"]
    assert list(views.state_changes(store, since=at(5))["after"]) == ["closed"]


def test_changes_are_newest_first_also_at_one_moment(store: Store) -> None:
    store.write_many(
        [
            change("breaker.open", 1, "closed", "open", last_error="no"),
            change("breaker.half_open", 2, "open", "half_open"),
            change("breaker.close", 2, "half_open", "closed"),
            change("degradation.change", 3, "normal", "no_hedging", "degradation"),
            change("health.change", 4, "healthy", "degraded", "models"),
            change("health.change", 5, "unknown", "healthy", "store"),
            change("health.change", 6, "unknown", "unhealthy", "pools"),
            change("lm.retry", 7, "attempt 1", "attempt 2"),
        ]
    )
    store.flush()
    found = views.state_changes(store)
    assert list(found["after"]) == ["unhealthy", "degraded", "no_hedging", "closed", "half_open", "open"]
    assert found["last_error"].iloc[-1] == "no"
    assert len(views.state_changes(store, limit=2)) == 2
    assert views.state_changes(store, lab_id="another").empty
    assert len(views.state_changes(store, lab_id="mine")) == 6


def test_a_state_lasts_until_the_next_one_or_now(store: Store) -> None:
    store.write_many(
        [
            change("breaker.open", 0, "closed", "open"),
            change("breaker.open", 5, "closed", "open", "other"),
            change("breaker.close", 30, "open", "closed"),
            change("degradation.change", 40, "normal", "no_hedging", "degradation"),
        ]
    )
    store.flush()
    found = views.state_spans(store, now=at(60))
    said = {(row.target, row.kind, row.state): (row.begin, row.finish) for row in found.itertuples()}
    assert said == {
        ("m", "circuit", "open"): (at(0), at(30)),
        ("m", "circuit", "closed"): (at(30), at(60)),
        ("other", "circuit", "open"): (at(5), at(60)),
        ("degradation", "level", "no_hedging"): (at(40), at(60)),
    }
    assert len(views.state_spans(store, now=at(60), limit=1)) == 1
    assert len(views.state_spans(store, now=at(60), since=at(31))) == 3, "what reaches into the window is in it"


def test_the_states_of_a_lab_end_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lab.duckdb"
    before = datetime.now(UTC).replace(tzinfo=None)
    with Store(path) as first:
        first.write(change("breaker.open", 0, "closed", "open"))
    with Store(path) as second:
        row = views.state_spans(second, now=before + timedelta(days=1)).iloc[0]
    assert before <= row["finish"].to_pydatetime() < before + timedelta(hours=1)


def test_the_states_of_a_lab_that_was_killed_end_with_its_last_event(store: Store) -> None:
    store.write(change("breaker.open", 0, "closed", "open"))
    store.write(change("lm.retry", 9, "attempt 1", "attempt 2"))
    store.flush()
    row = _as_another(store).iloc[0]
    assert row["finish"].to_pydatetime() == at(9)


def _as_another(store: Store):  # type: ignore[no-untyped-def] # a DataFrame
    """Ask as a Lab would that opened the file later."""
    store.lab_id, mine = "later", store.lab_id
    try:
        return views.state_spans(store, now=at(1000))
    finally:
        store.lab_id = mine
