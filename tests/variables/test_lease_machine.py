"""Random commits, crashes, expiries, late writes, restarts: versions stay linear, no update is lost, no dead lease writes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from dspex_lab.errors import ConstraintError, LeaseError, VersionConflict
from dspex_lab.resilience import ThreadWaiter
from dspex_lab.variables import Author, Commit, Lease, MemoryJournal, Snapshot, Space

NAMES = ("a", "b", "c", "d")
SETS = st.frozensets(st.sampled_from(NAMES), min_size=1, max_size=3)
VALUES = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 120), min_size=1, max_size=3)
OWNERS = st.sampled_from([f"optimizer{number}" for number in range(5)])


@dataclass(eq=False)
class Asked:
    """A request as the model sees it; ``ends`` is when its lease is over, ``over`` that it is, ``gone`` with its kernel."""

    owner: str
    names: frozenset[str]
    ttl: float
    ticket: Any
    lease: Lease | None = None
    ends: float = 0.0
    over: bool = False
    gone: bool = False


@dataclass
class Model:
    """What must be true, kept without looking at the space."""

    values: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 0))
    written: list[tuple[int, str, int]] = field(default_factory=list)
    version: int = 0
    fence: int = 0


class Machine(RuleBasedStateMachine):
    """One space, its clock, and who asks for leases; nobody blocks: a request is looked at as its thread would."""

    requests = Bundle("requests")
    snapshots = Bundle("snapshots")

    @initialize()
    def begin(self) -> None:
        self.now = 1_000_000.0
        self.journal = MemoryJournal()
        self.model = Model()
        self.heard: list[Commit] = []
        self.asked: list[Asked] = []
        self.open()
        for name in NAMES:
            self.space.int(name, 0, 120, default=0)
        self.space.derive("sum", "a + b")
        self.space.constrain("a + b <= 200", name="small")
        self.model.version = self.space.version

    def open(self) -> None:
        self.space = Space(journal=self.journal, clock=lambda: self.now)
        self.desk = self.space._leases
        self.heard.clear()
        self.first = self.space.version
        self.space.observe(self.heard.append)

    # ---- leases ----------------------------------------------------------------------------------------------------

    @rule(target=requests, wanted=st.lists(st.tuples(OWNERS, SETS, st.sampled_from([5.0, 20.0])), min_size=1, max_size=4))
    def ask(self, wanted: list[tuple[str, frozenset[str], float]]) -> Any:
        return multiple(*[request for each in wanted if (request := self.ask_for(*each)) is not None])

    def ask_for(self, owner: str, names: frozenset[str], ttl: float) -> Asked | None:
        holds = any(each.owner == owner and self.alive(each) for each in self.asked)
        waits = any(each.owner == owner and self.desk.table.waits(each.ticket) for each in self.asked)
        before = [each for each in self.asked if self.alive(each) or self.desk.table.waits(each.ticket)]
        would_wait = any(each.names & names for each in before)
        try:
            ticket, _ = self.desk._ask(names, owner, ttl, None, ThreadWaiter)
        except LeaseError:
            assert waits or (holds and would_wait)
            return None
        assert not waits
        assert not (holds and would_wait)
        request = Asked(owner, names, ttl, ticket)
        self.asked.append(request)
        self.look()
        # Who overlaps with nobody does not wait; who overlaps does.
        assert (request.lease is None) == would_wait
        return request

    def look(self) -> None:
        """Let every request look whether it has its lease, as its thread would when it is woken."""
        self.space.leases()
        before = self.model.fence
        for each in self.asked:
            if each.lease is None and not each.over:
                with contextlib.suppress(LeaseError):
                    each.lease = self.desk._look(each.ticket)
                if each.lease is not None:
                    each.ends = each.lease.expires
                    assert each.lease.fence > before
                    self.model.fence = max(self.model.fence, each.lease.fence)

    def alive(self, request: Asked) -> bool:
        return request.lease is not None and not request.over and self.now < request.ends

    @rule(seconds=st.sampled_from([1.0, 4.0, 6.0, 25.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.look()

    @rule(request=requests)
    def renew(self, request: Asked) -> None:
        if request.lease is None or request.gone:
            return
        try:
            request.lease.renew()
        except LeaseError:
            assert not self.alive(request)
        else:
            assert self.alive(request)
            request.ends = self.now + request.ttl

    @rule(request=requests)
    def release(self, request: Asked) -> None:
        if request.lease is not None and not request.gone:
            request.lease.release()
            request.over = True
            self.look()

    @rule(request=requests)
    def lose_patience(self, request: Asked) -> None:
        if request.lease is None and not request.over:
            self.desk._leave(request.ticket)
            request.over = True
            self.look()

    @rule(name=st.sampled_from(NAMES))
    def break_lease(self, name: str) -> None:
        held = [each for each in self.asked if self.alive(each) and name in each.names]
        try:
            ended = self.space.break_lease(name, "a person wants it")
        except LeaseError:
            assert not held
            return
        [request] = held
        assert ended.lease.fence == request.lease.fence  # type: ignore[union-attr]
        request.over = True
        self.look()

    # ---- writing ---------------------------------------------------------------------------------------------------

    def write(self, values: dict[str, int], commit: Any, *, may: bool, expected: Any = None, fence: int | None = None) -> None:
        """Write, and compare what happened with what must happen."""
        new = {**self.model.values, **values}
        changed = {name: value for name, value in new.items() if self.model.values[name] != value}
        before = self.space.snapshot()
        try:
            made = commit()
        except LeaseError:
            assert not may
        except VersionConflict:
            assert expected is not None
            assert expected()
        except ConstraintError:
            assert new["a"] + new["b"] > 200
        else:
            assert may or (not changed and fence is None)
            assert expected is None or not expected()
            assert new["a"] + new["b"] <= 200 or not changed.keys() & {"a", "b"}
            if changed:
                self.model.version += 1
                self.model.written += [(self.model.version, name, value) for name, value in changed.items()]
            self.model.values = new
            assert made.version == self.model.version
            return
        finally:
            self.look()
        assert self.space.snapshot() == before

    @rule(values=VALUES, later=st.sampled_from([0.0, 0.0, 6.0, 25.0]))
    def write_without_a_lease(self, values: dict[str, int], later: float) -> None:
        if not any(self.desk.table.waits(each.ticket) for each in self.asked):
            self.now += later  # nobody has noticed what is over by now; one that waits would have it next
        changed = {name for name, value in values.items() if self.model.values[name] != value}
        leased = any(self.alive(each) and each.names & changed for each in self.asked)
        self.write(values, lambda: self.space.commit(values), may=not leased)

    @rule(request=requests, values=VALUES, later=st.sampled_from([0.0, 0.0, 6.0, 25.0]))
    def write_under_a_lease(self, request: Asked, values: dict[str, int], later: float) -> None:
        """Also under leases that are over: those of the dead and the late. That time has passed nobody has noticed yet."""
        if (lease := request.lease) is not None:
            self.now += later
            may = self.alive(request) and request.names >= set(values)
            author = Author("optimizer", request.owner)
            self.write(values, lambda: self.space.commit(values, lease=lease, author=author), may=may, fence=lease.fence)

    @rule(target=snapshots)
    def read(self) -> Snapshot:
        return self.space.snapshot()

    @rule(snapshot=consumes(snapshots), values=VALUES, whole=st.booleans())
    def compare_and_set(self, snapshot: Snapshot, values: dict[str, int], whole: bool) -> None:
        expect = snapshot.version if whole else {name: snapshot.versions[name] for name in values}
        now = self.space.snapshot()

        def conflicts() -> bool:
            return snapshot.version != now.version if whole else any(now.versions[n] != snapshot.versions[n] for n in values)

        stale = conflicts()
        changed = {name for name, value in values.items() if self.model.values[name] != value}
        leased = any(self.alive(each) and each.names & changed for each in self.asked)
        self.write(values, lambda: self.space.commit(values, expect=expect), may=not leased, expected=lambda: stale)

    @rule(back=st.integers(0, 6))
    def rollback(self, back: int) -> None:
        version = max(self.model.version - back, len(NAMES) + 1)
        then = dict.fromkeys(NAMES, 0)
        for written, name, value in self.model.written:
            if written <= version:
                then[name] = value
        changed = {name for name, value in then.items() if self.model.values[name] != value}
        leased = any(self.alive(each) and each.names & changed for each in self.asked)
        author = Author("person", why="it was better")
        self.write(then, lambda: self.space.rollback(version, NAMES, author=author), may=not leased)

    @rule()
    def restart(self) -> None:
        """The kernel dies: leases and requests are gone, values and versions are not, and numbers go on growing."""
        for each in self.asked:
            each.over = each.gone = True
        late = [each.lease for each in self.asked if each.lease is not None]
        self.asked.clear()
        self.now += 1
        self.open()
        for lease in late[-2:]:
            try:
                self.space.commit({"a": 1}, lease=lease)
            except LeaseError:
                continue
            raise AssertionError("a lease of before the restart has written")

    # ---- what always holds -----------------------------------------------------------------------------------------

    @invariant()
    def versions_are_linear_and_nothing_is_lost(self) -> None:
        assert self.space.version == self.model.version
        assert {name: self.space.get(name) for name in NAMES} == self.model.values
        assert self.space.get("sum") == self.model.values["a"] + self.model.values["b"]
        kept = [(r.version, r.name, r.value) for r in self.space.history() if r.who != "derived" and r.version > len(NAMES) + 1]
        assert sorted(kept) == sorted(self.model.written)
        assert [commit.version for commit in self.heard] == list(range(self.first + 1, self.model.version + 1))[
            -len(self.heard) :
        ]

    @invariant()
    def leases_do_not_overlap_and_are_given_in_order(self) -> None:
        live = [each for each in self.asked if self.alive(each)]
        waiting = [each for each in self.asked if self.desk.table.waits(each.ticket)]
        for number, one in enumerate(live):
            assert all(one.names.isdisjoint(other.names) for other in live[number + 1 :])
        for number, one in enumerate(waiting):
            ahead = [*live, *waiting[:number]]
            assert any(one.names & other.names for other in ahead), "it waits for nobody"
            assert not any(other.owner == one.owner for other in [*live, *waiting] if other is not one)
        granted = [each for each in self.asked if each.lease is not None]
        for number, one in enumerate(self.asked):
            for other in self.asked[number + 1 :]:
                if one in granted and other in granted and one.names & other.names:
                    assert one.lease.fence < other.lease.fence  # type: ignore[union-attr]
                assert not (one in waiting and other in live and one.names & other.names), "it was overtaken"

    def teardown(self) -> None:
        """Whoever waits has a turn once those before are over: no deadlock."""
        if hasattr(self, "space"):
            for _ in range(len(self.asked) + 1):
                self.now += 25
                self.look()
            assert not [each for each in self.space.leases() if each.state == "waiting"]


Machine.TestCase.settings = settings(max_examples=30, stateful_step_count=40)
TestMachine = Machine.TestCase


def test_two_optimizers_on_one_variable_the_second_waits_runs_and_history_shows_both() -> None:
    import threading

    space = Space()
    space.int("k", 0, 16, default=4)
    first_has_it, second_asked = threading.Event(), threading.Event()

    def gepa() -> None:
        with space.lease("k", owner="gepa") as lease:
            first_has_it.set()
            assert second_asked.wait(30)
            lease.commit({"k": 5}, why="reflected", score=0.5)

    def optuna() -> None:
        assert first_has_it.wait(30)
        waits = threading.Timer(0, watch)
        waits.start()
        with space.lease("k", owner="optuna") as lease:
            assert space.get("k") == 5
            lease.commit({"k": 8}, why="trial 0", score=0.75)
        waits.join()

    def watch() -> None:
        while not any(status.state == "waiting" for status in space.leases()):
            threading.Event().wait(0.002)
        second_asked.set()

    threads = [threading.Thread(target=work) for work in (gepa, optuna)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    later, earlier = space.history("k", 2)
    assert (earlier.author, earlier.value, earlier.why, earlier.score) == ("gepa", 5, "reflected", 0.5)
    assert (later.author, later.value, later.why, later.score) == ("optuna", 8, "trial 0", 0.75)
    assert later.parent == earlier.version
    assert later.fence is not None
    assert earlier.fence is not None
    assert later.fence > earlier.fence


def test_a_late_write_after_the_lease_expired_is_refused_and_named() -> None:
    now = [0.0]
    space = Space(clock=lambda: now[0])
    space.int("k", 0, 16, default=4)
    late = space.lease("k", owner="gepa", ttl=10)
    now[0] = 11.0
    space.lease("k", owner="optuna").commit({"k": 8})
    with pytest.raises(LeaseError, match=r"of 'gepa' on 'k' expired at 00:00:10 UTC") as caught:
        late.commit({"k": 5})
    assert caught.value.holder == "optuna"
    assert space.get("k") == 8
    assert [record.author for record in space.history("k", 1)] == ["optuna"]
