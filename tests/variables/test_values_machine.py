"""Random commits, compare-and-set, rollbacks, pins, leases, restarts and threads, beside a model that a page can hold.

Versions are linear, no update is lost, what is derived always fits what it is derived from, and each commit is told of once.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dspex_lab.errors import ConstraintError, LeaseError, VariableError, VersionConflict
from dspex_lab.variables import MemoryJournal, Space

NAMES = ("a", "b", "c")
LIMIT = 60
some = st.dictionaries(st.sampled_from(NAMES), st.integers(-3, 33), min_size=1)
name = st.sampled_from(NAMES)


class Machine(RuleBasedStateMachine):
    """The model is the list of all versions: which values each has, and at which version each variable got its own."""

    @initialize()
    def begin(self) -> None:
        self.journal = MemoryJournal()
        self.pinned: set[str] = set()
        self.leases: dict[str, Any] = {}
        self.told: list[int] = []
        self.space = Space(journal=self.journal)
        for each in NAMES:
            self.space.int(each, 0, 30, default=1)
        self.space.derive("sum", "a + b + c")
        self.space.derive("big", lambda sum: sum > 40)  # noqa: A006
        self.space.constrain(f"sum <= {LIMIT}", name="limit")
        self.space.observe(lambda commit: self.told.append(commit.version))
        self.first = self.space.version
        # Of version ``first + n``: values, and where each came from.
        self.states = [(dict.fromkeys(NAMES, 1), {each: at for at, each in enumerate(NAMES, 1)})]

    def now(self) -> tuple[dict[str, int], dict[str, int]]:
        return self.states[-1]

    def version(self) -> int:
        return self.first + len(self.states) - 1

    def happen(self, values: dict[str, int]) -> None:
        old, since = self.now()
        changed = {each: value for each, value in values.items() if old[each] != value}
        if changed:
            version = self.version() + 1
            self.states.append(({**old, **changed}, {**since, **dict.fromkeys(changed, version)}))

    def expected_error(self, values: dict[str, int], lease: Any = None) -> type[Exception] | None:
        old = self.now()[0]
        changed = {each for each, value in values.items() if old[each] != value}
        if lease is not None and not set(values) <= set(lease.names):
            return LeaseError
        if not all(0 <= value <= 30 for value in values.values()) or changed & self.pinned:
            return VariableError
        if sum({**old, **values}.values()) > LIMIT and changed:
            return ConstraintError
        held = {each for lease in self.leases.values() for each in lease.names}
        return LeaseError if lease is None and changed & held else None

    def attempt(self, values: dict[str, int], act: Any, lease: Any = None) -> None:
        error = self.expected_error(values, lease)
        if error is None:
            act()
            self.happen(values)
        else:
            with pytest.raises(error):
                act()

    @rule(values=some)
    def commit(self, values: dict[str, int]) -> None:
        self.attempt(values, lambda: self.space.commit(values))

    @rule(values=some, back=st.integers(0, 3))
    def compare_and_set(self, values: dict[str, int], back: int) -> None:
        expect = max(self.version() - back, self.first)
        if expect == self.version():
            self.attempt(values, lambda: self.space.commit(values, expect=expect))
        else:
            with pytest.raises(VersionConflict):
                self.space.commit(values, expect=expect)

    @rule(each=name, read=name, value=st.integers(0, 20), stale=st.booleans())
    def compare_and_set_one(self, each: str, read: str, value: int, stale: bool) -> None:
        since = self.now()[1][read]
        if stale:
            with pytest.raises(VersionConflict):
                self.space.commit({each: value}, expect={read: since - 1})
        else:
            self.attempt({each: value}, lambda: self.space.commit({each: value}, expect={read: since}))

    @rule(data=st.data(), names=st.sets(name, min_size=1) | st.none())
    def rollback(self, data: Any, names: set[str] | None) -> None:
        index = data.draw(st.integers(0, len(self.states) - 1))
        back = {each: value for each, value in self.states[index][0].items() if names is None or each in names}
        self.attempt(back, lambda: self.space.rollback(self.first + index, names))

    @rule(each=name)
    def pin(self, each: str) -> None:
        self.pinned.symmetric_difference_update({each})
        (self.space.pin if each in self.pinned else self.space.unpin)(each)

    @rule(names=st.sets(name, min_size=1), values=some)
    def lease(self, names: set[str], values: dict[str, int]) -> None:
        if any(names & set(lease.names) for lease in self.leases.values()):
            with pytest.raises(LeaseError):
                self.space.lease(*names, owner="late", patience=0)
            return
        owner = f"owner {len(self.states)} {sorted(names)}"
        lease = self.leases[owner] = self.space.lease(*sorted(names), owner=owner, ttl=1e6)
        self.attempt(values, lambda: lease.commit(values), lease)

    @rule()
    def release(self) -> None:
        for lease in self.leases.values():
            lease.release()
            with pytest.raises(LeaseError):
                lease.commit({lease.names[0]: 0})
        self.leases.clear()

    @rule(values=st.lists(st.tuples(name, st.integers(1, 10)), min_size=2, max_size=6))
    def threads(self, values: list[tuple[str, int]]) -> None:
        if self.pinned or self.leases or sum(self.now()[0].values()) + sum(number for _, number in values) > LIMIT:
            return
        if any(self.now()[0][each] + sum(n for other, n in values if other == each) > 30 for each in NAMES):
            return

        def add(each: str, number: int) -> None:
            while True:
                seen = self.space.snapshot()
                try:
                    self.space.commit({each: seen.values[each] + number}, expect={each: seen.versions[each]})
                except VersionConflict:
                    continue
                return

        threads = [threading.Thread(target=add, args=pair) for pair in values]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wanted = dict(self.now()[0])
        for each, number in values:
            wanted[each] += number
        # In which order they came the history says; that none was lost the sum does.
        for version in range(self.version() + 1, self.space.version + 1):
            then = self.space.at(version)
            self.happen({each: then.values[each] for each in NAMES})
        assert self.now()[0] == wanted
        assert self.version() == self.space.version

    @rule()
    def restart(self) -> None:
        self.release()
        self.space = Space(journal=self.journal)
        self.space.derive("big", lambda sum: sum > 40)  # noqa: A006
        self.space.observe(lambda commit: self.told.append(commit.version))

    @invariant()
    def it_is_as_the_model_says(self) -> None:
        values, since = self.now()
        assert self.space.version == self.version()
        assert {each: self.space.get(each) for each in NAMES} == values
        assert {each: self.space[each].version for each in NAMES} == since
        assert self.space.values() == {**values, "sum": sum(values.values()), "big": sum(values.values()) > 40}
        assert self.told == list(range(self.first + 1, self.version() + 1))
        assert {each for each in NAMES if self.space[each].pinned} == self.pinned

    def teardown(self) -> None:
        if not hasattr(self, "states"):
            return
        for index, (values, since) in enumerate(self.states):
            then = self.space.at(self.first + index)
            assert {each: then.values[each] for each in NAMES} == values
            assert {each: then.versions[each] for each in NAMES} == since
        for each in NAMES:
            history = self.space.history(each)
            assert [record.parent for record in history] == [*(record.version for record in history[1:]), 0]


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=120, stateful_step_count=25)
