"""Runs of an exposed program, beside commits and edits: each has whole values and knows which, and no edit is lost."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
import pytest
from expose_programs import Nested, exposed

from dspex_lab.errors import LeaseError
from dspex_lab.testing import scripted_lm


class TwoCalls(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = dspy.Predict("question -> answer"), dspy.Predict("question -> answer")
        self.entered, self.go_on = None, None

    def forward(self, question: str) -> Any:
        first = self.one.signature.instructions
        if self.entered is not None:
            self.entered.set()
            assert self.go_on.wait(30)
        return dspy.Prediction(seen=(first, self.two.signature.instructions))


def test_a_run_under_way_never_sees_half_of_a_commit() -> None:
    program = TwoCalls()
    space, exposure = exposed(program)
    program.entered, program.go_on = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(program, question="q")
        assert program.entered.wait(30)
        space.commit({"p.one.instructions": "new", "p.two.instructions": "new"})
        assert program.two.signature.instructions != "new"
        with exposure.running() as other, exposure.running() as same:
            assert other.program is not program
            assert other.program is same.program
            assert other.program.one.signature.instructions == "new"
            assert other.snapshot.values["p.two.instructions"] == "new"
        program.go_on.set()
        first, second = running.result(30).seen
    assert first == second != "new"
    assert program.one.signature.instructions == program.two.signature.instructions == "new"


def test_a_run_knows_the_values_that_it_has() -> None:
    program = Nested()
    space, exposure = exposed(program)
    with exposure.running() as run:
        space["p.k"].value = 5
        assert run.program is program
        assert (program.k, run.snapshot.values["p.k"]) == (3, 3)
    assert program.k == 5
    with exposure.running() as run:
        assert run.snapshot.values["p.k"] == 5
    running = exposure.running()
    running.__enter__()
    space["p.k"].value = 6
    assert not running.__exit__(LookupError, LookupError(), None)
    assert program.k == 6


async def _ask(program: Any) -> Any:
    return await program.acall(question="q")


def test_async_calls_and_failed_ones_are_counted_too() -> None:
    import asyncio

    program = dspy.Predict("question -> answer")
    space, _ = exposed(program)
    seen: list[float] = []

    def answer(prompt: Any) -> Any:
        space["p.temperature"].value = 0.5
        seen.append(program.config.get("temperature", -1.0))
        return {"answer": "x"} if len(seen) == 1 else LookupError("no")

    with dspy.context(lm=scripted_lm(answer)):
        asyncio.run(_ask(program))
        assert program.config == {"temperature": 0.5}
        space["p.temperature"].value = 0.25
        with pytest.raises(Exception, match=r"no|fail|answer"):
            program(question="q")
    assert seen[:2] == [-1.0, 0.25]
    assert program.config == {"temperature": 0.5}


def test_many_threads_that_commit_and_run_see_whole_values() -> None:
    program = TwoCalls()
    space, _ = exposed(program)

    def commit(i: int) -> None:
        space.commit({"p.one.instructions": f"v{i}", "p.two.instructions": f"v{i}"})

    commit(0)
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(commit, i) if i % 3 else pool.submit(program, question="q") for i in range(60)]
        seen = [j.result(60).seen for i, j in enumerate(jobs) if not i % 3]
    assert all(first == second for first, second in seen)
    assert program.one.signature.instructions == space["p.one.instructions"].value


def test_runs_commits_and_edits_at_once_end_in_agreement() -> None:
    program = TwoCalls()
    program.one.config = {"temperature": 0.0}
    space, exposure = exposed(program)
    space.commit({"p.one.instructions": "v", "p.two.instructions": "v"})

    def commit(number: int) -> None:
        for i in range(25):
            space.commit({"p.one.instructions": f"v{number}.{i}", "p.two.instructions": f"v{number}.{i}"})

    def run(number: int) -> None:
        for _ in range(40):
            with exposure.running() as run:
                has = run.snapshot.values["p.one.instructions"]
                for _ in range(3):
                    found = [run.program.one.signature.instructions, run.program.two.signature.instructions]
                    assert found == [has, has] == [has, run.snapshot.values["p.two.instructions"]]

    def edit(number: int) -> None:
        for i in range(25):
            program.one.config = {"temperature": i / 25}
            exposure.sync()

    with ThreadPoolExecutor(5) as pool:
        for job in [pool.submit(work, n) for n, work in enumerate((commit, commit, run, run, edit))]:
            job.result(120)
    assert exposure.sync() is None
    assert program.one.signature.instructions == space.get("p.one.instructions") == space.get("p.two.instructions")
    assert program.one.config["temperature"] == space.get("p.one.temperature") == 24 / 25
    assert len(space.history("p.one.temperature")) == 25


def test_a_run_has_what_its_thread_has_committed_though_another_thread_tells_of_it_later() -> None:
    program = Nested()
    space, exposure = exposed(program)
    telling, go_on = threading.Event(), threading.Event()
    space.int("other", 0, 9, default=0)

    def slow(commit: Any) -> None:
        telling.set()
        assert go_on.wait(30)

    space.observe(slow, "other")
    with ThreadPoolExecutor(1) as pool:
        teller = pool.submit(space.commit, {"other": 1})
        assert telling.wait(30)
        space.commit({"p.k": 8})
        with exposure.running() as run:
            assert (run.program.k, run.snapshot.values["p.k"]) == (8, 8)
        program.k = 9
        with exposure.running() as run:
            assert (run.program.k, run.snapshot.values["p.k"]) == (9, 9)
        go_on.set()
        teller.result(30)
    assert (program.k, space["p.k"].value) == (9, 9)


def test_runs_that_begin_at_once_after_an_edit_all_have_it_and_none_is_in_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    program = Nested()
    space, exposure = exposed(program)
    both, firsts = threading.Barrier(2, timeout=30), [1, 2]
    commit = space.commit

    def together(*args: Any, **how: Any) -> Any:
        if firsts:
            firsts.pop()
            both.wait()
        return commit(*args, **how)

    def run() -> Any:
        with exposure.running() as running:
            return running.snapshot.values["p.k"]

    monkeypatch.setattr(space, "commit", together)
    program.k = 9
    with ThreadPoolExecutor(2) as pool:
        assert [job.result(60) for job in [pool.submit(run), pool.submit(run)]] == [9, 9]
    assert len(space.history("p.k")) == 2
    assert exposure.sync() is None


def test_a_program_may_be_changed_again_and_again_under_a_run() -> None:
    """Its own commits are no other side that has written, and no commit of others undoes what was changed since."""
    program = Nested()
    space, exposure = exposed(program)
    with exposure.running():
        for k in (5, 6, 7):
            program.k = k
            assert exposure.sync().changes["p.k"].value == k
        program.k = 8
        space["p.share"].value = 0.5
    assert (program.k, program.share) == (8, 0.5)
    assert exposure.sync().changes["p.k"].value == 8


def test_both_sides_may_come_to_the_same_value() -> None:
    program = Nested()
    space, exposure = exposed(program)
    with exposure.running():
        space["p.k"].value = 5
        program.k = 5
        assert exposure.sync().changes == {}
    assert exposure.sync() is None
    assert (program.k, space["p.k"].value) == (5, 5)


def test_an_edit_that_was_refused_stays_one_for_all_who_tried(caplog: pytest.LogCaptureFixture) -> None:
    program = Nested()
    space, exposure = exposed(program)
    with space.lease("p.k", owner="gepa"):
        program.k = 9
        with ThreadPoolExecutor(2) as pool:
            for job in [pool.submit(exposure.sync) for _ in range(4)]:
                with pytest.raises(LeaseError, match="gepa"):
                    job.result(60)
    assert exposure.sync().changes["p.k"].value == 9


def test_a_direct_call_that_cannot_agree_with_the_space_goes_on_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    program = Nested()
    space, exposure = exposed(program)
    program.k = 9
    with space.lease("p.k", owner="gepa"), dspy.context(lm=scripted_lm({"answer": "x"})):
        for _ in range(3):
            assert program(question="q").answer == "x"
        assert isinstance(exposure.refused, LeaseError)
        with pytest.raises(LeaseError, match="gepa"), exposure.running():
            pass  # a run that knows of the exposure does not begin
    said = [record.message for record in caplog.records if record.name == "dspex_lab"]
    assert len(said) == 1
    assert said[0].startswith("the program 'p' runs, and the space has other values: Variable 'p.k' is leased to 'gepa'")
    assert space["p.k"].value == 3
    with dspy.context(lm=scripted_lm({"answer": "x"})):
        program(question="q")
    assert exposure.refused is None
    assert space["p.k"].value == 9


def test_no_call_begins_while_the_program_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    program = TwoCalls()
    space, exposure = exposed(program)
    space.commit({"p.one.instructions": "new", "p.two.instructions": "new"})
    tried, committed = threading.Event(), []
    commit = space.commit
    with ThreadPoolExecutor(1) as pool:

        def meanwhile(*args: Any, **how: Any) -> Any:
            committed.append(pool.submit(program, question="q"))
            tried.wait(0.05)  # the call has time to begin, if it could
            return commit(*args, **how)

        monkeypatch.setattr(space, "commit", meanwhile)
        exposure.restore()
        monkeypatch.undo()
        first, second = committed[0].result(30).seen
    assert first == second != "new"
