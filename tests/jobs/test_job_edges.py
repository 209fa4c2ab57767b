"""What a job says and does at its edges: reporters, surroundings, cards, and words that are anybody's."""

from __future__ import annotations

import math
import random
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dspy
import pytest
from job_works import Count

from dspex_lab.errors import BudgetExceeded, ConfigurationError, JobError
from dspex_lab.events import Event, LMCall
from dspex_lab.jobs import (
    Bare,
    Jobs,
    MemoryBook,
    Models,
    Plan,
    Progress,
    Reporter,
    Shelf,
    Spent,
    Surroundings,
    Work,
    _in_kernel,
    evaluate,
)
from dspex_lab.jobs._card import done, duration, left, number, spent
from dspex_lab.jobs._checks import over_budget
from dspex_lab.jobs._progress import Left
from dspex_lab.jobs._remote import seed_all
from dspex_lab.jobs._reporter import MOST, Reporting
from dspex_lab.jobs._surroundings import Away
from dspex_lab.jobs._told import Abandoned, Batch, Kept, Order, Went
from dspex_lab.lms import Budget, Gateway, Ledger, set_price
from dspex_lab.lms.budget import Estimate
from dspex_lab.lms.choice import _prices
from dspex_lab.security import one_line
from dspex_lab.testing import scripted_lm


def reporting(sent: list[Batch], **more: Any) -> Reporting:
    return Reporting(Order("j1", trials=3), sent.append, lambda: False, **more)


# ---- the reporter --------------------------------------------------------------------------------------------------


def test_words_that_can_wait_go_together_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspex_lab.jobs._reporter.EVERY", 3600.0)
    sent: list[Batch] = []
    one = reporting(sent)
    for at in range(50):
        one.progress(at, 100)
    one.record(Event("lm.retry", 0.0))
    one.progress(50, 100)
    assert sent == []
    assert one.trial(0.5) == 3
    assert [type(m).__name__ for m in sent[0].messages] == ["Went", "Called", "Went", "Tried"]
    assert sent[0].messages[0] == Went(49, 100, "", None)
    for _ in range(MOST):
        one.record(Event("lm.retry", 0.0))
    assert len(sent) == 2
    one.progress(100, 100)
    assert len(sent) == 3, "the last word is told at once"
    one.flush()
    assert len(sent) == 3


def test_a_word_that_is_followed_by_nothing_is_told_all_the_same() -> None:
    told = threading.Event()
    one = Reporting(Order("j1"), lambda batch: told.set(), lambda: False)
    one.progress(1, 100)
    assert told.wait(60)


def test_who_was_given_up_is_not_heard_in_the_background_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspex_lab.jobs._reporter.EVERY", 0.01)
    met = threading.Event()

    def gone(batch: Batch) -> None:
        met.set()
        raise Abandoned

    one = Reporting(Order("j1"), gone, lambda: False)
    one._sent = math.inf  # nothing is due yet, however slow the machine is
    one.progress(1, 100)
    assert met.wait(60)
    with pytest.raises(Abandoned):
        one.trial(1.0)


def test_a_trial_has_a_score_where_it_has_scores() -> None:
    sent: list[Batch] = []
    one = reporting(sent, clock=lambda: 100.0)
    assert [one.trial(scores={"f1": 0.5, "cost": 2.0}, seconds=4.0), one.trial(None, number=9), one.trial(1.0)] == [3, 9, 10]
    first: Any = sent[0].messages[0]
    assert (first.trial.score, first.trial.started, first.trial.seconds) == (0.5, 96.0, 4.0)
    with pytest.raises(ConfigurationError, match="'job_id'"):
        one.trial(1.0, job_id="other")


def test_in_a_worker_a_function_that_gives_the_state_is_called_at_once() -> None:
    sent: list[Batch] = []
    reporting(sent).keep(lambda: 7)
    assert sent[0].messages == (Kept(7),)
    reporting(sent).again(3)  # a whole work has nothing to count


def test_a_budget_that_refused_ends_the_work() -> None:
    ledger = Ledger("1 call")
    one = reporting([], ledger=ledger)
    assert not one.stopping
    what = Estimate("m", 1, 1, 0.0, simulated=True)
    ledger.reserve(what).settle()
    with pytest.raises(BudgetExceeded):
        ledger.reserve(what)
    assert one.stopping
    assert one.cut


def test_seeds_reach_the_generators_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    seeded: list[int] = []
    monkeypatch.setitem(sys.modules, "torch", type("torch", (), {"manual_seed": seeded.append}))
    before = random.getstate(), np.random.get_state()
    drawn = []
    for _ in range(2):
        seed_all(7)
        drawn.append((random.random(), np.random.rand()))
    random.setstate(before[0])
    np.random.set_state(before[1])
    assert drawn[0] == drawn[1]
    assert seeded == [7, 7]


@dataclass(frozen=True)
class Drawing(Work):
    kind: str = "drawing"

    def run(self, reporter: Reporter) -> Any:
        return reporter.seed, random.random()


def test_the_same_seed_is_the_same_draw_on_a_worker(jobs: Jobs) -> None:
    before = random.getstate()  # a fake pool's workers are this process
    one, again, other = (jobs.start(Drawing(), pool="optimizer", seed=seed).result(60) for seed in (3, 3, 4))
    random.setstate(before)
    assert one == again != other
    random.seed(0)
    here = random.random()
    random.seed(0)
    assert jobs.start(Drawing(), seed=3).result(60) == (3, here), "in the kernel the notebook's own generator is left alone"
    random.setstate(before)


# ---- budgets and prices --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asking(Work):
    """Asks a model ``n`` times, and does not look whether it should stop."""

    n: int = 5
    kind: str = "asking"

    def check(self, budget: Budget) -> Plan:
        return Plan(total=self.n, calls=self.n, prompt_tokens=1_000_000, answer_tokens=1_000_000)

    def run(self, reporter: Reporter) -> Any:
        predict = dspy.Predict("text -> label")
        for at in range(self.n):
            reporter.best(predict(text=str(at)).label + str(at), at)
        return "all"


@pytest.mark.parametrize("pool", [None, "optimizer"])
def test_a_budget_that_ends_a_work_leaves_what_it_had_told(jobs: Jobs, pool: str | None) -> None:
    lm = scripted_lm({"label": "x"})
    job = jobs.start(Asking(5), pool=pool, surroundings=Models(lm), budget="3 calls")
    assert job.result(60) == "x2"
    assert (job.state, job.progress.spent.calls) == ("stopped", 3)
    assert job.settings["notes"] == ["It may take about 5 calls, of 3 that it may spend: it stops there, with its best so far."]
    assert job.progress.note.startswith("Stopped by its budget (3 calls): the best until then is its result.")


def test_the_lab_pays_for_its_jobs(place: Any) -> None:
    lab = Ledger("4 calls", "this Lab")
    jobs = place.jobs(ledger=lab, surroundings=lambda: Models(scripted_lm({"label": "x"})))
    assert jobs.start(Asking(3)).result(60) == "all"
    assert lab.spent.calls == 3
    job = jobs.start(Asking(3))
    assert job.result(60) == "x0"
    assert job.state == "stopped"
    assert "The budget of this Lab does not allow this call" in job.progress.note
    row = {"text": "a", "label": "x"}
    again = jobs.start(evaluate(dspy.Predict("text -> label"), [row], lambda example, prediction: 1.0))
    assert again.wait(60).state == "stopped"
    assert "this Lab" in again.progress.note


def test_a_plan_is_priced_by_the_model_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_prices, "_own", {})
    set_price("openai/a-model-of-this-test", input=2.0, output=3.0)
    lm = dspy.LM("openai/a-model-of-this-test")
    assert Models(lm).price(1_000_000, 2_000_000) == 8.0
    assert Models(scripted_lm({"a": 1})).price(10, 10) == 0.0
    assert Models(dspy.LM("openai/nobody-knows-it")).price(10, 10) is None
    assert Bare().price(1, 1) is None
    plan = Plan(calls=5, prompt_tokens=10, answer_tokens=10, cost=8.0)
    told = list(over_budget(plan, Budget(cost=2.0, tokens=30, calls=3)))
    assert told == [
        "It may take about $8, of $2 that it may spend: it stops there, with its best so far.",
        "It may take about 5 calls, of 3 that it may spend: it stops there, with its best so far.",
    ]


# ---- surroundings --------------------------------------------------------------------------------------------------


def test_the_model_travels_without_its_key_and_with_its_terms() -> None:
    gateway = Gateway(lambda record: None)
    lm, spare = scripted_lm({"label": "x"}), scripted_lm({"label": "y"})
    gateway.use_fallbacks(lm, [spare])
    away: Surroundings = Models(lm, gateway=gateway, owner="a lab", settings={"my_key": 5}).away()
    assert isinstance(away, Away)
    assert away.models.lm is None
    assert away.away() is away
    assert away.price(1, 1) is None
    told: list[Any] = []
    with away.entered("j1", told.append, None):
        assert dspy.Predict("text -> label")(text="a").label == "x"
        assert dspy.settings.my_key == 5
        assert dspy.settings.lm.model == lm.model
    (call,) = [record for record in told if isinstance(record, LMCall)]
    assert call.run_id == "j1"


def test_without_a_model_there_is_nothing_around() -> None:
    with Bare().entered("j1", print, None):
        assert Bare().away().price(1, 1) is None


# ---- what is shown -------------------------------------------------------------------------------------------------


def test_numbers_are_written_for_people() -> None:
    assert [duration(s) for s in (None, 5, 600, 9000)] == ["–", "5 s", "10 min", "2.5 h"]
    assert [number(n) for n in (None, 1234.0, 0.12345)] == ["–", "1,234", "0.1235"]
    assert spent(Spent(1.5, 3)) == "$1.5, 3 calls"
    assert spent(Spent(0.0, 1, unpriced=1)) == "1 call (1 without a known price)"
    assert done(Progress(3, 12)) == "3 of 12 (25%)"
    assert left(Progress(eta=30.0, left=Left(1.0, 0.5, 3, 100))) == "about 30 s, $0.5, 3 calls, 100 tokens"
    assert one_line("a\x1b[31m\n b" * 100, 10) == "a [31m ba…"


def test_hostile_names_and_errors_do_no_harm_in_a_cell(jobs: Jobs) -> None:
    job = jobs.start(Count(3, fails_at=1), name="<img src=x onerror=alert(1)>\x1b[2J")
    job.wait(60)
    for shown in (job._repr_html_(), jobs._repr_html_()):
        assert "<img" not in shown
        assert "&lt;img" in shown
        assert "mathjax_ignore" in shown
    for shown in (repr(job), repr(jobs)):
        assert "\x1b" not in shown
    assert "lab.evaluate" in Jobs()._repr_html_()


def test_a_lab_without_a_store_has_jobs_too() -> None:
    told: list[Any] = []
    for jobs in (Jobs(), Jobs(emit=told.append)):
        job = jobs.start(Count(2))
        assert job.result(60) == 2
        assert len(jobs.around.book.trials(job.id)) == 2
        jobs.close()
    assert [type(r).__name__ for r in told].count("TrialRecord") == 2


def test_what_came_of_a_job_is_said_where_it_is_not_kept_any_more(place: Any) -> None:
    @dataclass(frozen=True)
    class Locked(Work):
        kind: str = "locked"

        def run(self, reporter: Reporter) -> Any:
            return threading.Lock()

    job = place.jobs().start(Locked())
    assert job.result(60) is not None
    assert "cannot be pickled" in job.settings["unkept"]["result"]
    with pytest.raises(JobError, match=r"The result of job .* is not kept"):
        place.jobs().get(job.id).result()


def test_a_job_of_another_process_that_is_under_way_is_not_touched(place: Any) -> None:
    first = place.jobs()
    row = first.around.book.add(replace(first.start(Count(1)).wait(60)._account.row, job_id="theirs", state="running"))
    assert row.number == 2
    assert place.jobs().get("theirs").state == "running"


def test_a_folder_for_files_that_a_work_goes_on_from(tmp_path: Path) -> None:
    shelf = Shelf(MemoryBook(), tmp_path)
    assert shelf.home("j1").is_dir()


def test_what_ends_when_its_loop_closes_disturbs_nobody() -> None:
    class Closes:
        """A loop that closes between the look and the call."""

        def is_closed(self) -> bool:
            return False

        def call_soon_threadsafe(self, *_: object) -> None:
            raise RuntimeError("Event loop is closed")

    done: list[int] = []
    _in_kernel._settle(Closes(), None, lambda: done.append(1))  # type: ignore[arg-type]
    assert done == [1]
