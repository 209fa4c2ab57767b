"""What a store keeps of variables is what a journal in memory does, whatever is done in whatever order, and after restarts."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dspex_lab.events import VariableRecord
from dspex_lab.store import Store, VariableTable
from dspex_lab.variables import Definition, MemoryJournal

NAMES = st.sampled_from(["a", "b.c", "constraint\nx", "ü"])
VALUES = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | st.text(max_size=5) | st.lists(st.text(max_size=3))


class Journals(RuleBasedStateMachine):
    """Does the same to both."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(":memory:")
        self.table: Any = VariableTable(self.store)
        self.model = MemoryJournal()
        self.version = 0

    @rule(name=NAMES, default=VALUES, pinned=st.booleans(), derived=st.none() | st.text(max_size=5))
    def define(self, name: str, default: Any, pinned: bool, derived: str | None) -> None:
        made = Definition(name, {"kind": "plain", "low": None}, default, derived, None, pinned)
        self.table.define("s", made)
        self.model.define("s", made)

    @rule(name=NAMES)
    def drop(self, name: str) -> None:
        self.table.drop("s", name)
        self.model.drop("s", name)

    @rule(values=st.dictionaries(NAMES, VALUES, min_size=1), score=st.none() | st.floats(0, 1))
    def write(self, values: dict[str, Any], score: float | None) -> None:
        self.version += 1
        made = [
            VariableRecord("s", name, self.version, self.version - 1, 1.7e9 + self.version, value, "person", score=score)
            for name, value in sorted(values.items())
        ]
        self.table.write(made)
        self.model.write(list(reversed(made)))

    @rule()
    def begin_anew(self) -> None:
        self.table = None
        self.table = VariableTable(self.store)

    @rule()
    def another_space(self) -> None:
        self.table.define("other", Definition("a", {"kind": "plain"}, 1))

    @invariant()
    def the_same_is_there(self) -> None:
        kept = [{f: getattr(d, f) for f in Definition.__dataclass_fields__} for d in self.table.definitions("s")]
        assert kept == [{f: getattr(d, f) for f in Definition.__dataclass_fields__} for d in self.model.definitions("s")]
        assert self.table.latest("s") == dict(self.model.latest("s"))
        assert self.table.history("s") == list(self.model.history("s"))
        assert self.table.history("s", "a", limit=2) == list(self.model.history("s", "a", limit=2))

    def teardown(self) -> None:
        self.store.close()


TestJournals = Journals.TestCase
TestJournals.settings = settings(max_examples=8, stateful_step_count=12, deadline=None)
