"""Who may write what: granting in order, ending in time, and no circle of those who wait."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_lab.errors import LeaseError
from dspex_lab.variables._lease_table import Held, LeaseTable, Ticket

T = 1_000_000.0


def take(table: LeaseTable, owner: str, names: str, now: float = T, ttl: float = 10.0) -> Held:
    held = table.granted(table.request(owner, names, ttl, now))
    assert held is not None
    return held


def test_a_free_set_is_had_at_once_with_all_its_names() -> None:
    table = LeaseTable()
    held = take(table, "gepa", "ba")
    assert (held.owner, held.names, held.since, held.expires, held.waited) == ("gepa", ("a", "b"), T, T + 10, 0.0)
    assert table.lease(held.fence, T + 9.99) == held
    assert table.lease(held.fence, T + 10) is None


def test_overlapping_requests_come_in_order_and_disjoint_ones_do_not_wait() -> None:
    table = LeaseTable()
    first = take(table, "one", "ab")
    second = table.request("two", "bc", 10, T)
    third = table.request("three", "c", 10, T)  # c is free, but the second was earlier
    fourth = take(table, "four", "d")
    assert table.granted(second) is None
    assert table.granted(third) is None
    assert table.behind(third) == ("two",)
    assert table.behind(second) == ("one",)
    table.release(first.fence, T + 1)
    held = table.granted(second)
    assert held is not None
    assert held.waited == 1.0
    assert table.granted(third) is None
    table.release(held.fence, T + 2)
    assert table.granted(third) is not None
    assert table.lease(fourth.fence, T + 2) == fourth


def test_a_lease_ends_unless_it_is_renewed_and_who_waits_has_it_then() -> None:
    table = LeaseTable()
    held = take(table, "one", "a")
    assert table.renew(held.fence, T + 9).expires == T + 19
    waits = table.request("two", "a", 10, T + 9)
    assert table.next_expiry(T + 9) == T + 19
    assert table.expire(T + 18) == []
    [ended] = table.expire(T + 21)
    assert (ended.lease.owner, ended.how, ended.when) == ("one", "expired", T + 19)
    granted = table.granted(waits)
    assert granted is not None
    assert (granted.since, granted.expires) == (T + 21, T + 31)
    assert table.expire(T + 21) == []
    with pytest.raises(LeaseError, match="expired at"):
        table.renew(held.fence, T + 21)


def test_a_renewal_by_a_clock_that_went_back_shortens_nothing() -> None:
    table = LeaseTable()
    held = take(table, "one", "a")
    assert table.renew(held.fence, T - 100).expires == T + 10


def test_a_commit_after_the_end_is_refused_and_says_whose_lease_ended_when_and_who_has_it() -> None:
    table = LeaseTable()
    held = take(table, "gepa", "a", now=0.0)
    table.check("a", held.fence, 9.9)
    take(table, "optuna", "a", now=20.0)
    with pytest.raises(LeaseError) as caught:
        table.check("a", held.fence, 21.0)
    message = str(caught.value)
    assert f"The lease {held.fence} of 'gepa' on 'a' expired at 00:00:10 UTC: it was not renewed for 10 s." in message
    assert "'optuna' has it now" in message
    assert caught.value.holder == "optuna"


def test_a_dead_lease_writes_nothing_also_where_nobody_else_has_the_variable() -> None:
    table = LeaseTable()
    held = take(table, "gepa", "a")
    table.release(held.fence, T + 1)
    with pytest.raises(LeaseError, match="was released at") as caught:
        table.check("a", held.fence, T + 2)
    assert caught.value.holder is None
    with pytest.raises(LeaseError, match="no lease with the number 7"):
        table.check("a", 7, T)


def test_a_late_write_is_refused_before_anybody_has_noticed_that_the_lease_is_over() -> None:
    table = LeaseTable()
    held = take(table, "gepa", "a")
    with pytest.raises(LeaseError, match="expired"):
        table.check("a", held.fence, T + 10)
    take(table, "gepa", "b")
    table.check("b", None, T + 10)


def test_a_leased_variable_is_written_by_its_lease_only() -> None:
    table = LeaseTable()
    mine, other = take(table, "gepa", "ab"), take(table, "optuna", "c")
    table.check("ab", mine.fence, T)
    table.check("d", None, T)
    with pytest.raises(LeaseError, match="'b' is leased to 'gepa' until") as caught:
        table.check("db", None, T)
    assert (caught.value.name, caught.value.holder) == ("b", "gepa")
    with pytest.raises(LeaseError, match="'c' is not in the lease of 'gepa', which is for 'a', 'b'") as caught:
        table.check("ac", mine.fence, T)
    assert caught.value.holder == "optuna"
    with pytest.raises(LeaseError, match="'d' is not in the lease") as caught:
        table.check("d", mine.fence, T)
    assert caught.value.holder is None
    table.check("c", other.fence, T)


def test_numbers_only_grow_also_over_a_restart_and_a_clock_that_went_back() -> None:
    table = LeaseTable()
    first, second = take(table, "one", "a"), take(table, "two", "b")
    assert T * 1000 < first.fence < second.fence
    third = take(table, "three", "c", now=5.0)
    assert third.fence > second.fence
    assert take(LeaseTable(above=third.fence), "four", "a", now=5.0).fence > third.fence
    assert take(LeaseTable(above=3), "five", "a").fence > T * 1000


def test_a_request_that_is_taken_back_lets_the_next_ones_through() -> None:
    table = LeaseTable()
    first = take(table, "one", "a")
    second = table.request("two", "ab", 10, T)
    third = table.request("three", "b", 10, T)
    table.cancel(second, T + 1)
    table.cancel(second, T + 1)
    assert table.granted(third) is not None
    assert not table.waits(second)
    table.cancel(third, T + 2)
    assert table.granted(third) is None
    assert [status.owner for status in table.status(T + 2)] == ["one"]
    assert [ended.lease.owner for ended in table.expire(T + 2)] == ["three"]
    table.cancel(third, T + 2)
    assert table.lease(first.fence, T + 2) is not None


def test_a_person_breaks_a_lease_and_the_reason_is_told_to_who_had_it() -> None:
    table = LeaseTable()
    held = take(table, "stuck", "ab")
    waits = table.request("two", "b", 10, T)
    ended = table.break_off("a", "it hangs", T + 1)
    assert ended is not None
    assert (ended.lease, ended.how, ended.why) == (held, "broken", "it hangs")
    assert table.granted(waits) is not None
    with pytest.raises(LeaseError, match=r"was broken at .* \(it hangs\)\. Nothing can be written under it"):
        table.check("a", held.fence, T + 1)
    assert table.break_off("a", None, T + 1) is None
    assert table.release(held.fence, T + 1) is None


def test_who_holds_or_waits_and_behind_whom_can_be_seen() -> None:
    table = LeaseTable()
    held = take(table, "one", "ba")
    table.request("two", "bc", 10, T + 1)
    table.request("three", "cd", 10, T + 2)
    first, second, third = table.status(T + 3)
    assert (first.owner, first.names, first.state, first.since, first.fence) == ("one", ("a", "b"), "held", T, held.fence)
    assert (first.expires, first.behind) == (T + 10, ())
    assert (second.owner, second.state, second.since, second.fence, second.behind) == ("two", "waiting", T + 1, None, ("one",))
    assert third.behind == ("two",)


def test_who_holds_gets_a_second_lease_at_once_or_not_at_all() -> None:
    table = LeaseTable()
    take(table, "one", "a")
    take(table, "two", "b")
    take(table, "one", "c")
    with pytest.raises(LeaseError, match=r"'one' would have to wait for 'b' \('two' first\) while it holds 'a'") as caught:
        table.request("one", "b", 10, T)
    assert caught.value.holder == "two"
    assert len(table.status(T)) == 3


def test_who_waits_gets_nothing_else_meanwhile() -> None:
    table = LeaseTable()
    take(table, "one", "a")
    table.request("two", "a", 10, T)
    with pytest.raises(LeaseError, match="'two' waits for 'a' and cannot ask for 'b' meanwhile"):
        table.request("two", "b", 10, T)


def test_what_is_held_under_another_name_counts_as_held() -> None:
    table = LeaseTable()
    mine = take(table, "inner", "a")
    take(table, "two", "b")
    with pytest.raises(LeaseError, match=r"'outer' would have to wait .* while 'inner' holds 'a'"):
        table.request("outer", "b", 10, T, holding=[mine])
    assert table.granted(table.request("outer", "c", 10, T, holding=[mine])) is not None


@pytest.mark.parametrize(("names", "ttl"), [("", 10.0), ("a", 0.0), ("a", -1.0), ("a", float("inf")), ("a", float("nan"))])
def test_requests_that_make_no_sense_are_refused(names: str, ttl: float) -> None:
    table = LeaseTable()
    with pytest.raises(LeaseError):
        table.request("one", names, ttl, T)
    assert table.status(T) == ()


def test_many_names_are_shortened_and_old_leases_forgotten() -> None:
    table = LeaseTable()
    names = [f"v{n}" for n in range(9)]
    held = table.granted(table.request("one", names, 10, T))
    assert held is not None
    with pytest.raises(LeaseError, match="'v0', 'v1', 'v2', 'v3', 'v4' and 4 more"):
        table.check("z", held.fence, T)
    table.release(held.fence, T)
    for _ in range(1000):
        table.release(take(table, "two", "a").fence, T)
    with pytest.raises(LeaseError, match="ended long ago"):
        table.renew(held.fence, T)


NAMES = st.frozensets(st.sampled_from("abcd"), min_size=1, max_size=3)


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from(["o1", "o2", "o3", "o4", "o5", "o6"]), NAMES), min_size=1, max_size=25), st.data())
def test_whatever_is_asked_some_lease_can_end_and_everybody_gets_their_turn(
    asked: list[tuple[str, frozenset[str]]], data: st.DataObject
) -> None:
    """No deadlock: of those who wait none holds anything, and ending leases one by one serves all, in their order."""
    table = LeaseTable()
    tickets: list[Ticket] = []
    for owner, names in asked:
        try:
            tickets.append(table.request(owner, names, 10, T))
        except LeaseError:
            continue  # refused by name: it would have had to wait while it holds or waits
    served: list[Ticket] = [ticket for ticket in tickets if table.granted(ticket) is not None]
    while waiting := [ticket for ticket in tickets if table.waits(ticket)]:
        held = [status for status in table.status(T) if status.state == "held"]
        assert not {ticket.owner for ticket in waiting} & {status.owner for status in held}
        assert set(table.behind(waiting[0])) <= {status.owner for status in held}
        ends = data.draw(st.sampled_from(held))
        assert ends.fence is not None
        table.release(ends.fence, T)
        served += [ticket for ticket in waiting if table.granted(ticket) is not None]
    assert len(served) == len(tickets)
    for index, one in enumerate(tickets):
        for other in tickets[index + 1 :]:
            if one.names & other.names:
                assert served.index(one) < served.index(other)
