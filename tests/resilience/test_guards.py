"""One guard per target, one bulkhead per provider, and how they stand."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from dspex_lab.errors import LMError
from dspex_lab.resilience import BreakerSettings, BulkheadSettings, Change, Counts, Guards, Hedge, Policy, Retry

DOWN = LMError("down", status=503)


def test_a_target_has_one_guard_and_targets_of_a_provider_share_its_places() -> None:
    guards = Guards()
    a, b, other = guards.of("openai/a"), guards.of("openai/b"), guards.of("local/a")
    assert guards.of("openai/a") is a
    assert a.bulkhead is b.bulkhead is not other.bulkhead
    assert a.breaker is not b.breaker
    assert (a.provider, guards.of("x/y@http://h", "x@http://h").provider) == ("openai", "x@http://h")


def test_a_target_that_moves_to_another_provider_keeps_its_breaker() -> None:
    guards = Guards()
    before = guards.of("m", "p")
    after = guards.of("m", "q")
    assert after is not before
    assert (after.provider, after.breaker) == ("q", before.breaker)


def test_many_threads_get_the_same_guard() -> None:
    guards = Guards()
    with ThreadPoolExecutor(8) as threads:
        assert len({id(each) for each in threads.map(lambda n: guards.of("a/b"), range(200))}) == 1


def test_policies_are_by_target() -> None:
    own = Policy(retry=Retry(attempts=7))
    guards = Guards(Policy(bulkhead=None), policies={"a/b": own})
    assert guards.of("a/b").policy is own
    assert guards.of("a/c").bulkhead is None
    guards.use(Policy(breaker=None), "a/c")
    assert guards.of("a/c").breaker is None
    assert guards.policy_of("a/d").bulkhead is None


def test_parts_whose_settings_stay_outlive_a_change_of_policy() -> None:
    guards = Guards(Policy(hedge=Hedge()))
    before = guards.of("a/b")
    assert before.breaker is not None
    before.breaker.open("test")
    guards.use(replace(before.policy, retry=None))
    after = guards.of("a/b")
    assert (after.breaker, after.bulkhead, after.hedger) == (before.breaker, before.bulkhead, before.hedger)
    assert after.policy.retry is None
    guards.use(Policy(breaker=BreakerSettings(cool_down=9), bulkhead=BulkheadSettings(limit=3), hedge=Hedge(after=1)))
    anew = guards.of("a/b")
    assert anew.breaker is not None
    assert anew.breaker.state == "closed"
    assert anew.bulkhead is not before.bulkhead
    assert anew.hedger is not before.hedger


def test_changes_of_all_parts_are_told() -> None:
    told: list[Change] = []
    guards = Guards(Policy(retry=None, breaker=BreakerSettings(window=1, minimum=1)), told=told.append)
    with pytest.raises(LMError):
        guards.of("a/b").call(lambda attempt: (_ for _ in ()).throw(DOWN))
    assert [(each.event, each.target) for each in told] == [("breaker.open", "a/b")]


def test_the_snapshot_says_how_all_stand() -> None:
    guards = Guards(
        Policy(retry=None, breaker=BreakerSettings(window=2, minimum=2, cool_down=30.0)),
        policies={"b/n": Policy(None, None, None)},
    )
    a = guards.of("a/m")
    guards.of("b/n")
    assert a.breaker is not None
    assert a.bulkhead is not None
    a.breaker.admit().failed(DOWN)
    with a.bulkhead.slot():
        row, bare = guards.snapshot()
    assert (row.target, row.provider, row.state, row.failures, row.calls) == ("a/m", "a", "closed", 1, 1)
    assert (row.last_error, row.retry_after, row.limit, row.in_use, row.waiting) == ("LMError: down", 0.0, 16, 1, 0)
    assert (bare.target, bare.state, bare.since, bare.limit, bare.in_use) == ("b/n", None, None, None, 0)
    a.breaker.admit().failed(DOWN)
    (row, _) = guards.snapshot()
    assert row.state == "open"
    assert row.since is not None
    assert row.retry_after is not None
    assert 0 < row.retry_after <= 30.0


def test_counts_are_sums_and_a_provider_counts_once() -> None:
    guards = Guards(Policy(bulkhead=BulkheadSettings(limit=2, queue=5)), policies={"c/z": Policy(bulkhead=None)})
    a, _, c = guards.of("a/x"), guards.of("a/y"), guards.of("c/z")
    assert guards.counts() == Counts(limit=2, queue=5, targets=3)
    assert a.bulkhead is not None
    assert a.breaker is not None
    assert c.breaker is not None
    a.bulkhead.acquire()
    a.breaker.open("test")
    # An open circuit whose cool-down is over waits for a call: it is no load.
    c.breaker.open("test", seconds=0)
    assert guards.counts() == Counts(limit=2, queue=5, in_use=1, entered=1, targets=3, refusing=1)
