"""Programs as candidates: versions, changes, lineage."""

from __future__ import annotations

from typing import Any

import dspy
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.events import TrialRecord
from dspex_lab.jobs import diff_candidates, diff_programs, fingerprint_program, lineage
from dspex_lab.jobs._programs import parts_of
from dspex_lab.testing import scripted_lm


class Two(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = dspy.Predict("question -> answer")
        self.second = dspy.ChainOfThought("answer -> label: int")


# ---- versions ------------------------------------------------------------------------------------------------------


def test_every_part_of_a_program_is_in_its_version() -> None:
    seen = {fingerprint_program(Two())}
    assert seen == {fingerprint_program(Two())}

    def changed(change: Any) -> None:
        program = Two()
        change(program)
        version = fingerprint_program(program)
        assert version not in seen
        seen.add(version)

    changed(lambda p: setattr(p.first, "signature", p.first.signature.with_instructions("Answer well.")))
    changed(lambda p: setattr(p.first, "demos", [dspy.Example(question="q", answer="a")]))
    changed(lambda p: p.first.config.update(temperature=0.7))  # DSPy does not save it
    changed(lambda p: setattr(p.first, "lm", scripted_lm({"answer": "x"})))
    changed(lambda p: setattr(p, "second", dspy.Predict("answer -> label: int")))
    changed(lambda p: setattr(p.first, "signature", dspy.Signature("question: list[str] -> answer")))


def test_a_stage_that_was_compiled_counts_too() -> None:
    program, other = Two(), Two()
    for each in (program, other):
        each.second._compiled = True  # DSPy leaves it out of named_predictors from here on
    other.second.predict.demos = [{"answer": "a", "label": 1}]
    assert "second" not in " ".join(name for name, _ in program.named_predictors())
    assert fingerprint_program(program) != fingerprint_program(other)
    assert [diff.path for diff in diff_programs(program, other)] == ["second.predict"]


def test_every_process_gives_the_same_version() -> None:
    program = dspy.Predict(dspy.Signature("a, b: list[int] -> c: int", "Add."), temperature=0.5)
    assert fingerprint_program(program) == "4239804fd2b64b2fdd4a51a53aff1eac"


def test_what_is_no_dspy_program_has_no_parts() -> None:
    assert parts_of(lambda x: x) == {}
    assert len(fingerprint_program(lambda x: x)) == 32


# ---- changes -------------------------------------------------------------------------------------------------------


def test_a_change_is_told_as_a_diff() -> None:
    before, after = Two(), Two()
    before.first.signature = before.first.signature.with_instructions("Answer.\nBe brief.")
    before.first.demos = [{"question": "old", "answer": "1"}, {"question": "kept", "answer": "2"}]
    after.first.signature = after.first.signature.with_instructions("Answer.\nThink first.")
    after.first.demos = [{"question": "kept", "answer": "2"}, {"question": "new", "answer": "3"}]
    after.first.config["temperature"] = 0.3
    after.first.lm = scripted_lm({"answer": "x"})
    (diff,) = diff_programs(before, after)
    assert diff.path == "first"
    assert diff.instructions.splitlines()[2:] == ["@@ -1,2 +1,2 @@", " Answer.", "-Be brief.", "+Think first."]
    assert diff.added == ('{"answer": "3", "question": "new"}',)
    assert diff.removed == ('{"answer": "1", "question": "old"}',)
    assert diff.other[0] == 'config: {} → {"temperature": 0.3}'
    assert diff.other[1].startswith("lm: the one in use → scripted/")
    text = str(diff)
    assert '- demonstration {"answer": "1"' in text
    assert "+Think first." in text
    assert diff_programs(before, before) == []


def test_a_part_that_came_or_went_is_a_change() -> None:
    program = dspy.Predict("a -> b")
    (diff,) = diff_programs({}, parts_of(program))
    assert "fields: none → in a: str, out b: str" in diff.other
    assert diff_programs(parts_of(program), {})[0].other[0] == "fields: in a: str, out b: str → none"


def test_candidates_of_trials_are_compared_the_same_way() -> None:
    before = {"a.instructions": "one", "a.demos": [{"x": 1}], "k": 3, "same": "s"}
    after = {"a.instructions": "two", "a.demos": [{"x": 1}, {"x": 2}], "k": 5, "same": "s"}
    texts, demos, other = diff_candidates(before, after)
    assert "+two" in texts.instructions
    assert (demos.added, demos.removed) == (('{"x": 2}',), ())
    assert other.other == ("3 → 5",)


# ---- lineage -------------------------------------------------------------------------------------------------------


def trial(number: int, parent: int | None = None, score: float | None = None, **more: Any) -> TrialRecord:
    return TrialRecord("j", number, parent, more.pop("status", "complete"), 0.0, 1.0, score, **more)


def test_who_was_made_from_whom() -> None:
    tree = lineage(
        [
            trial(0, None, 0.5, candidate={"i": "Say it."}),
            trial(1, 0, 0.7, candidate={"i": "Say it well."}),
            trial(2, 0, None, status="rejected", candidate={"i": "Shout."}),
            trial(3, 1, 0.9, candidate={"i": "Say it well, once."}),
            trial(4, 1, 0.95, status="pruned"),
            trial(5, None, 0.9),
        ]
    )
    assert tree.children[None] == [0, 5]
    assert tree.children[1] == [3, 4]
    assert tree.best is not None
    assert tree.best.number == 3
    assert [t.number for t in tree.ancestry(3)] == [0, 1, 3]
    assert "+Say it well, once." in tree.changes(3)[0].instructions
    assert "+Say it." in tree.changes(0)[0].instructions
    assert tree.changes(5) == []
    assert str(tree) == "0 0.5\n  1 0.7\n    3 0.9 ★\n    4 0.95 pruned\n  2 rejected\n5 0.9"
    assert lineage([]).best is None


@given(st.lists(st.tuples(st.integers(0, 15), st.none() | st.integers(0, 15)), max_size=30))
def test_every_candidate_is_in_the_tree_once_whatever_is_said(pairs: list[tuple[int, int | None]]) -> None:
    tree = lineage([trial(number, parent) for number, parent in pairs])
    listed = [number for numbers in tree.children.values() for number in numbers]
    assert sorted(listed) == sorted({number for number, _ in pairs})
    assert len(str(tree).splitlines()) == len(listed)
    for number in listed:
        assert tree.ancestry(number)[-1].number == number
