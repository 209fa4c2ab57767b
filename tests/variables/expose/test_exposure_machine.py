"""Whatever is done to a program and its space, in whatever order: they agree, copies are right, and it comes back exactly."""

from __future__ import annotations

from typing import Any

import dspy
import hypothesis.strategies as st
from expose_programs import Nested, examples, state
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dspex_lab.variables import Exposure, Space, knobs
from dspex_lab.variables.expose import UNSET, present

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "draft.temperature": st.sampled_from([0.0, 0.5, 1.75]),
    "draft.instructions": st.sampled_from(["One.", "Two."]),
    "draft.demos": st.sampled_from([[], [{"question": "aa", "answer": "AA"}], [{"question": "new", "answer": "x"}]]),
    "draft.module": st.sampled_from(["Predict", "ChainOfThought"]),
    "stages[0].module": st.sampled_from(["Predict", "ChainOfThought"]),
    "stages[0].predict.reasoning.desc": st.sampled_from(["", "think"]),
    "routes['2'].answer.desc": st.sampled_from(["", "a word"]),
    "adapter": st.sampled_from(["in use", "json"]),
    "knn.k": st.integers(1, 4),
    "k": st.integers(0, 30),
}
ONE = st.sampled_from(sorted(VALUES)).flatmap(lambda path: st.tuples(st.just(path), VALUES[path]))
SOME = st.lists(ONE, min_size=1, max_size=4).map(dict)


def words(program: Any) -> Any:
    return program.draft if isinstance(program.draft, dspy.Predict) else program.draft.predict


class Bound(RuleBasedStateMachine):
    """The model is a dict of the values that were given last, by either side."""

    @initialize()
    def begin(self) -> None:
        self.program, self.space = Nested(), Space()
        self.program.draft.demos = examples()[:1]
        self.before = state(self.program)
        self.exposure = Exposure(self.space, self.program, knobs(self.program), "p")
        self.first = self.exposure.values
        self.model = dict(self.first)
        self.version = self.space.version

    def given(self, values: dict[str, Any]) -> dict[str, Any]:
        return {f"p.{n}": self.space[f"p.{n}"].domain.cast(v, n) for n, v in values.items()}

    @rule(values=SOME)
    def commit(self, values: dict[str, Any]) -> None:
        self.exposure.sync()
        self.space.commit(self.given(values))
        self.model.update(self.given(values))

    @rule(values=SOME)
    def commit_under_a_run(self, values: dict[str, Any]) -> None:
        with self.exposure.running() as run:
            had = dict(self.model)
            self.space.commit(self.given(values))
            self.model.update(self.given(values))
            self.agrees(run.program, had)

    @rule(value=VALUES["draft.temperature"], text=VALUES["draft.instructions"])
    def edit_a_predictor(self, value: float, text: str) -> None:
        found = words(self.program)
        found.config = {**found.config, "temperature": value}
        found.signature = found.signature.with_instructions(text)
        self.model.update({"p.draft.temperature": value, "p.draft.instructions": text})

    @rule(count=st.integers(0, 2), k=st.integers(0, 30))
    def edit_the_program(self, count: int, k: int) -> None:
        words(self.program).demos = examples()[:count]
        self.program.k = k
        self.model.update(self.given({"draft.demos": examples()[:count], "k": k}))

    @rule()
    def sync(self) -> None:
        self.exposure.sync()
        assert self.exposure.sync() is None

    @rule()
    def roll_back(self) -> None:
        self.exposure.sync()
        back = self.space.at(self.version).values
        self.space.rollback(self.version)
        self.model.update({n: back[n] for n in self.model})

    @rule(values=SOME)
    def build(self, values: dict[str, Any]) -> None:
        before = state(self.program)
        made = self.exposure.build(values)
        self.agrees(made, {**self.model, **self.given(values)})
        assert state(self.program) == before

    @rule()
    def restore(self) -> None:
        self.exposure.sync()
        self.exposure.restore()
        assert state(self.program) == self.before
        self.model = dict(self.first)

    def agrees(self, program: Any, values: dict[str, Any]) -> None:
        for name, knob in zip(self.exposure.names, self.exposure.knobs, strict=True):
            if name.endswith(("reasoning.desc", "reasoning.prefix")) and type(program.stages[0]) is dspy.Predict:
                assert present(knob, program) is UNSET  # a field that is not there now
                continue
            assert knob.domain.equal(present(knob, program), values[name]), (name, present(knob, program), values[name])

    @invariant()
    def the_program_has_what_was_given_last(self) -> None:
        if hasattr(self, "model"):
            self.agrees(self.program, self.model)


Bound.TestCase.settings = settings(max_examples=25, stateful_step_count=12)
TestBound = Bound.TestCase
