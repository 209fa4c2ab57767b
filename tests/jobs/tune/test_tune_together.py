"""An optimizer of instructions and a tune job over one space, at once: no update is lost, and what gained what is said."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import dspy
import pytest
from job_works import WHERE, gate
from together_works import ROWS, Side, Writes, answer, space_of, squared, work_of, worth

from dspex_lab.errors import BudgetExceeded, ConfigurationError, JobError
from dspex_lab.jobs import Jobs, Models, ScoredRow, Work
from dspex_lab.jobs.tune import Attribution, Joint, Knobs, Optimizes, Together, tune
from dspex_lab.jobs.tune._attribution import attributed
from dspex_lab.jobs.tune._relay import Beside, Relay
from dspex_lab.jobs.tune._together import _Judged
from dspex_lab.testing import scripted_lm
from dspex_lab.variables import Space


@WHERE
@pytest.mark.parametrize("spread", [False, True], ids=["whole", "spread"])
def test_both_sides_are_in_the_space_at_the_end_and_what_each_gained_is_said(
    jobs: Jobs, tmp_path: Path, pool: str | None, spread: bool
) -> None:
    space = space_of()
    work = work_of(space, Side(("worse", "good words"), spread=spread), tmp_path, rounds=2)
    job = jobs.start(work, pool=pool, seed=1)
    found = job.result(120)
    assert isinstance(found, Joint)
    assert found.values == {"words": "good words", "k": 5}
    assert space.values() == found.values
    assert [r.status for r in found.rounds] == ["rejected", "committed"]
    assert found.rounds[1].after > found.rounds[1].before
    means = found.attribution.means
    assert means == pytest.approx({"neither": 0.0, "first": 0.4, "second": 0.3, "both": 0.9})
    assert found.attribution.interaction().value == pytest.approx(0.2)
    assert found.attribution.share("first") == pytest.approx(0.5)
    assert found.attribution.share("second") == pytest.approx(0.4)
    assert found.score == pytest.approx(0.9)
    assert found.attribution.gain("both").value == pytest.approx(0.9)
    assert "interaction" in repr(found.attribution)
    assert "<table" in found.attribution._repr_html_()
    assert found.summary()["rounds"] == ["rejected", "committed"]
    who = {r.name: (r.who, r.author) for r in space.history() if r.score is not None}
    assert who == {"words": ("optimizer", f"writer {job.id}"), "k": ("job", f"tune {job.id}")}
    whys = {r.name: r.why or "" for r in space.history() if r.score is not None}
    assert whys["words"].startswith(f"round 2 of job {job.number}: "), "people count from 1"
    assert re.fullmatch(r"round 2 of job \d+: 0?\.?\d{1,5} in place of 0?\.?\d{1,5}", whys["words"]), "rounded scores"
    assert f"of job {job.number}: " in whys["k"]
    assert len({r.fence for r in space.history() if r.fence}) == 2
    assert space.leases() == ()
    statuses = [t.status for t in job.trials]
    assert statuses.count("rejected") == 1
    assert any((t.note or "").startswith("writer, trial 0.") for t in job.trials)
    assert job.progress.done == job.progress.total == 10


def test_the_tune_job_measures_its_best_anew_when_the_other_side_commits(jobs: Jobs, tmp_path: Path) -> None:
    space, name = space_of(), "together half"
    opened = threading.Event()
    rows: list[int] = []

    def metric(example: Any, prediction: Any) -> float:
        rows.append(example.q)
        if len(rows) == 4 * len(ROWS) and not opened.is_set():
            opened.set()
            gate(name).set()
            while space.get("words") == "bad":  # the other side commits now
                assert job.state == "running"
        return worth(example, prediction)

    inner = tune(
        answer, ["k"], metric, ROWS, 8, space=space, sampler="grid", parallel=1, concurrency=1, inputs=["q"], folder=tmp_path
    )
    job = jobs.start(Together(inner, Side(("good words",), gate=name), 1), seed=1)
    found = job.result(120)
    assert found.values == {"words": "good words", "k": 5}
    again = [t for t in found.tuned.tried if t.origin == "rescored"]
    assert again
    assert found.tuned.best.others == {"words": space["words"].version}
    assert found.tuned.score == pytest.approx(0.9)
    read = [t.scores["score"] for t in found.tuned.tried if t.values["k"] == again[0].values["k"]]
    assert read[-1] > read[0]


def test_what_was_measured_with_numbers_that_have_moved_is_measured_again(jobs: Jobs, tmp_path: Path) -> None:
    space, moved = space_of(), threading.Event()
    seen: list[str] = []

    def watched(q: int, words: str, k: int, free: float) -> dict[str, float]:
        if words == "good words" and k != 8 and not moved.is_set():
            moved.set()
            space.commit({"free": 1.0})  # something that the program reads is written meanwhile
        seen.append(words)
        return answer(q, words, k)

    space.float("free", 0, 1, default=0.0)
    inner = tune(watched, ["k"], worth, ROWS, 1, space=space, parallel=1, inputs=["q"], folder=tmp_path)
    found = jobs.start(Together(inner, Side(("good words",)), 1), seed=1).result(120)
    (only,) = found.rounds
    assert (only.status, only.measured) == ("committed", 2)
    assert space.get("words") == "good words"
    assert space.get("free") == 1.0


def test_a_round_that_finds_nothing_fails_or_breaks_a_constraint_costs_nothing_but_itself(jobs: Jobs, tmp_path: Path) -> None:
    space = space_of()
    space.constrain("words != 'good but forbidden'", name="allowed")
    side = Side((None, "bad", "good but forbidden"))
    found = jobs.start(work_of(space, side, tmp_path, rounds=3), seed=1).result(120)
    assert [r.status for r in found.rounds] == ["nothing", "nothing", "rejected"]
    assert "'allowed'" in found.rounds[2].note
    assert found.values == {"words": "bad", "k": 5}
    failing = jobs.start(work_of(space_of(), Side(("x",), fails=JobError("no idea")), tmp_path), seed=1).result(120)
    assert [r.status for r in failing.rounds] == ["failed"]
    assert "Round 1 of the writer failed: no idea" in " ".join(failing.notes)
    foreign = jobs.start(work_of(space_of(), Side(("x",), fails=ValueError("its own")), tmp_path), seed=1).result(120)
    assert [r.note for r in foreign.rounds] == ["ValueError: its own"]
    spent = jobs.start(work_of(space_of(), Side(("x",), fails=BudgetExceeded("too dear")), tmp_path), seed=1).result(120)
    assert spent.rounds == ()
    assert "Round 1 of the writer did not end." in spent.notes


def test_what_fails_on_more_rows_or_cannot_be_written_is_rejected(jobs: Jobs, tmp_path: Path) -> None:
    def delicate(q: int, words: str, k: int) -> dict[str, float]:
        if words == "all" or (words == "good some" and q == 2):
            raise RuntimeError("broken")
        return answer(q, words, k)

    space = space_of()
    inner = tune(delicate, ["k"], worth, ROWS, 2, space=space, parallel=1, inputs=["q"], folder=tmp_path)
    found = jobs.start(Together(inner, Side(("all", "good some", "x" * 200_000)), 3), seed=1).result(120)
    assert [r.status for r in found.rounds] == ["rejected", "rejected", "failed"]
    assert found.rounds[0].note == "It fails on 6 of 6 rows on which what there is does not."
    assert found.rounds[1].note == "It fails on 1 of 6 rows on which what there is does not."
    assert "200,000 characters" in found.rounds[2].note
    assert space.get("words") == "bad"
    assert "round 1" in repr(found)
    assert found._repr_html_().count("<table") == 2

    pinned = space_of()
    inner = tune(answer, ["k"], worth, ROWS, 2, space=pinned, parallel=1, inputs=["q"], folder=tmp_path)
    pinned.pin("words")
    found = jobs.start(Together(inner, Side(("good words",)), 1), seed=1).result(120)
    assert (found.rounds[0].status, "pinned" in found.rounds[0].note) == ("rejected", True)


def test_where_what_there_is_has_no_score_any_score_is_better() -> None:
    assert _Judged(None, 0.1).better
    assert _Judged(0.1, 0.2).better
    assert not _Judged(0.2, 0.2).better
    assert not _Judged(0.2, None).better


def test_what_both_would_write_and_what_is_no_variable_is_refused(jobs: Jobs, tmp_path: Path) -> None:
    def start(side: Any, rounds: Any = 1) -> None:
        jobs.start(work_of(space_of(), side, tmp_path, rounds=rounds))

    with pytest.raises(ConfigurationError, match="Both would write k"):
        start(Side(("x",), names=("words", "k")))
    with pytest.raises(ConfigurationError, match="The other side has no variables"):
        start(Side(("x",), names=()))
    with pytest.raises(ConfigurationError, match="rounds=0"):
        start(Side(("x",)), 0)
    with pytest.raises(Exception, match="Did you mean 'words'"):
        start(Side(("x",), names=("word",)))
    job = jobs.start(work_of(space_of(), Side(("x",)), tmp_path))
    assert (job.settings["plan"]["total"], job.settings["plan"]["calls"]) == (9, 3)
    job.result(60)


def test_held_out_rows_say_what_gained_what(jobs: Jobs, tmp_path: Path) -> None:
    work = work_of(space_of(), Side(("good words",)), tmp_path, held=[{"q": 100}, {"q": 101}])
    found = jobs.start(work, seed=1).result(120)
    assert found.attribution.rows == 2
    assert len(found.attribution.scores["both"]) == 2


def test_a_combination_that_cannot_be_is_said(jobs: Jobs, tmp_path: Path) -> None:
    space = space_of()
    space.constrain("words == 'bad' or k > 1", name="no alone")
    found = jobs.start(work_of(space, Side(("good words",)), tmp_path), seed=1).result(120)
    if found.rounds[0].status == "committed":
        assert found.attribution is None
        assert "What gained what cannot be said: The constraint 'no alone'" in " ".join(found.notes)


def test_rows_without_a_score_in_one_of_the_four_count_in_none() -> None:
    def cell(*scores: float | None) -> dict[int, ScoredRow]:
        return {at: ScoredRow(at, "complete" if s is not None else "failed", score=s) for at, s in enumerate(scores)}

    cells = {"neither": cell(0, 0, None), "first": cell(1, 0, 1), "second": cell(0, 1, 1), "both": cell(1, 1, 1)}
    found = attributed(cells, ("tune", "gepa"), 3)
    assert isinstance(found, Attribution)
    assert found.means == {"neither": 0.0, "first": 0.5, "second": 0.5, "both": 1.0}
    assert found.interaction().value == 0.0
    with pytest.raises(JobError, match="No row has a score in all four"):
        attributed({**cells, "both": cell(None, None, None)}, ("a", "b"), 3)


def test_any_work_that_gives_a_program_is_a_side() -> None:
    live = dspy.Predict(dspy.Signature("text -> label", "Say something."))
    build = Knobs(live, {"triage.instructions": "instructions"})
    side = Optimizes(lambda program, number: Writes(program, str(number)), ("triage.instructions",), build)
    assert side.work(live, 3).words == "3"  # type: ignore[attr-defined]
    other = build({"triage.instructions": "Better."})
    assert side.found(other) == {"triage.instructions": "Better."}
    assert side.found(type("Result", (), {"program": other})) == {"triage.instructions": "Better."}
    assert side.found(type("Result", (), {"program": None})) == {}


def test_a_real_optimizer_and_a_tune_job_share_a_program(jobs: Jobs, tmp_path: Path) -> None:
    from dspex_lab.jobs.optimize import optimize
    from dspex_lab.variables import Exposure, knobs

    live = dspy.Predict(dspy.Signature("text -> label", "Say odd or even."))
    data = [{"text": f"t{at}", "label": "odd" if at % 2 else "even"} for at in range(6)]

    def model(prompt: Any) -> dict[str, str]:
        """Right where it is shown how."""
        number = int(str(prompt.question["text"]).removeprefix("t"))
        return {"label": ("odd" if number % 2 else "even") if prompt.demonstrations else "even"}

    def right(example: Any, prediction: Any, *more: Any) -> bool:
        return bool(example.label == prediction.label)

    space = Space()
    with Exposure(space, live, knobs(live), "triage") as exposed:
        inner = tune(exposed, "triage.temperature", right, data, 3, parallel=1, folder=tmp_path)

        def make(program: Any, number: int) -> Work:
            return optimize(program, "labeled", metric=right, trainset=data, k=2)

        side = Optimizes(make, ("triage.demos",), inner.build, "labeled")  # type: ignore[arg-type]
        lm = scripted_lm(model)
        job = jobs.start(Together(inner, side, 1), surroundings=Models(lm, fresh=True), seed=1)
        found = job.result(120)
        assert [r.status for r in found.rounds] == ["committed"]
        assert len(space.get("triage.demos")) == 2
        assert len(live.demos) == 2
        assert found.attribution.means["second"] == 1.0
        assert found.attribution.gain("second").value == pytest.approx(0.5)


# ---- the parts -----------------------------------------------------------------------------------------------------


def test_a_work_that_runs_whole_has_no_pieces() -> None:
    relay = Relay(lambda said: None, lambda: False, job_id="j")
    with pytest.raises(RuntimeError, match="no pieces"):
        relay.submit(squared, 3)
    assert relay.trial(1.0) == 0
    assert relay.trial(1.0, number=7) == 7
    assert relay.trial(1.0) == 8


def test_what_breaks_beside_is_raised_where_it_is_waited_for() -> None:
    def break_() -> None:
        raise ValueError("beside")

    with pytest.raises(ValueError, match="beside"):
        Beside(break_).join()
