"""``%dspex evaluate | optimize | tune | jobs | stop | resume | feedback``."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import dspex_lab as dx
from dspex_lab.errors import ConfigurationError, DspexError, JobError, StoreError
from dspex_lab.jobs import Reporter, Work
from dspex_lab.magics import COMMANDS, _complete, dispatch
from dspex_lab.testing import scripted_lm

ROWS = [{"message": f"message {n}", "label": "right"} for n in range(8)]
GATES: dict[str, threading.Event] = {}


@dataclass(frozen=True)
class Waits(Work):
    """Waits at a gate, or until it is to stop."""

    gate: str = ""
    kind: str = "waits"
    continues: bool = True

    def run(self, reporter: Reporter) -> Any:
        while not GATES[self.gate].wait(0.01):
            if reporter.stopping:
                return "best until then"
        return "all"


def exact(example: Any, prediction: Any, trace: Any = None) -> float:
    return float(example.label == prediction.label)


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def lab(shell: Any) -> Iterator[Any]:
    made = dx.lab()
    made.use(scripted_lm(lambda prompt: {"label": "right" if prompt.demonstrations else "wrong"}))
    made.pipelines["support"] = dx.pipeline("support", triage=dx.predict("message -> label"))
    shell.user_ns.update(rows=ROWS, frame=pd.DataFrame(ROWS), exact=exact, three=3)
    yield made
    for gate in GATES.values():
        gate.set()


def at(shell: Any, line: str, kind: type[DspexError] = ConfigurationError) -> tuple[str, int]:
    """Return what a line is refused with, and the column that it points at."""
    with pytest.raises(kind) as refused:
        dispatch(shell, line)
    error = refused.value
    assert error.text == f"%dspex {line}", error
    return str(error), (error.column or 0) - len("%dspex ")


# ---- evaluate --------------------------------------------------------------------------------------------------------


def test_an_evaluation_is_started_shown_and_bound(shell: Any, lab: Any, capsys: Any) -> None:
    assert dispatch(shell, "evaluate support rows --metric exact --into job --name first --concurrency 2") is None
    job = shell.user_ns["job"]
    assert job.result(60).score == 0.0
    assert (job.name, job.settings["settings"]["data"]) == ("first", "8 rows")
    assert "Job 1: evaluate first" in capsys.readouterr().out


def test_with_wait_it_returns_what_was_found(shell: Any, lab: Any) -> None:
    found = dispatch(shell, "evaluate support frame --metric exact_match --wait --fresh --budget '100 calls' --pool none")
    assert found.score == 0.0
    assert found.total == 8
    lab.dataset("tickets", ROWS, split={"train": 0.5, "test": 0.5})
    assert dispatch(shell, "evaluate support tickets.test --metric exact --wait").total == len(lab.dataset("tickets")["test"])
    Path("rows.csv").write_text("message,label\na,b\n")
    assert dispatch(shell, "evaluate support 'rows.csv' --metric exact --wait").total == 1


@pytest.mark.parametrize(
    ("line", "message", "points"),
    [
        ("evaluate suport rows --metric exact", "no pipeline 'suport'.*support", "rows"),
        ("evaluate support rwos --metric exact", "nothing called 'rwos'.*rows", "rwos"),
        ("evaluate support rows --metric exat", "no metric 'exat'.*exact", "--metric"),
        ("evaluate support rows --metric exact --budget '0 calls'", "budget of calls is 0", "--budget"),
        ("evaluate support rows --metric exact --concurrency many", "takes a whole number", "--concurrency"),
        ("evaluate support three --metric exact", "int is no data set", "three"),
        ("evaluate support rows --metric exact --into 3x", "no name of a variable", "3x"),
        ("evaluate support rows --metrc exact", "flag --metrc is unknown.*--metric", "--metrc"),
    ],
)
def test_an_error_says_where_in_the_line(shell: Any, lab: Any, line: str, message: str, points: str) -> None:
    import re

    said, column = at(shell, line)
    assert re.search(message, said.replace("\n", " ")), said
    assert column == line.index(points) + 1
    assert len(lab.jobs) == 0


def test_what_is_missing_is_asked_for(shell: Any, lab: Any) -> None:
    for line, message in (
        ("evaluate", "Of which program"),
        ("evaluate support --metric exact", "Which rows are the data"),
        ("evaluate support rows", "By which metric"),
        ("optimize support --metric exact", "Which rows are the train"),
        ("tune support --metric exact", "Which rows are the data"),
        ("stop", "Which job is to stop"),
        ("resume", "Which job is to go on"),
        ("jobs --adopt", "--adopt of which job"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            dispatch(shell, line)


# ---- optimize, tune --------------------------------------------------------------------------------------------------


def test_an_optimizer_is_started_and_its_result_adopted_and_taken_back(shell: Any, lab: Any) -> None:
    line = "optimize support --with labeled --metric exact --train rows --heldout frame --pool none --seed 1 k=2 --wait"
    found = dispatch(shell, line)
    assert (found.before, found.after) == (0.0, 1.0)
    number = lab.jobs.get("support").number
    adoption = dispatch(shell, f"jobs {number} --adopt --guard auto")
    assert "version 2 of 'support' is in use" in repr(adoption)
    assert lab.run("support", message="a")["label"] == "right"
    assert lab.guard("support").mode == "auto"
    back = dispatch(shell, f"jobs {number} --rollback")
    assert "version 1 of 'support' is in use again" in repr(back)
    assert lab.run("support", message="a")["label"] == "wrong"


def test_what_is_not_better_is_refused_in_the_line_and_forced(shell: Any, lab: Any) -> None:
    dispatch(shell, "optimize support --with labeled --metric exact --train rows --val rows --pool none k=0 --wait")
    shell.user_ns["heldout"] = ROWS
    lab._hold_out(lab.jobs[1], ROWS, exact)
    said, column = at(shell, "jobs 1 --adopt", JobError)
    assert "is not adopted" in said
    assert column == len("jobs ") + 1
    dispatch(shell, "jobs 1 --adopt --force")
    assert lab.programs.in_use("support").version == 2


def test_an_optimizer_of_the_notebook_can_be_given(shell: Any, lab: Any) -> None:
    import dspy

    shell.user_ns["mine"] = dspy.LabeledFewShot(k=1)
    found = dispatch(shell, "optimize support --with mine --metric exact --train rows --pool none --wait")
    assert found.after == 1.0


def test_a_setting_that_cannot_be_read_is_marked(shell: Any, lab: Any) -> None:
    said, column = at(shell, "optimize support --with labeled --metric exact --train rows k=nothing")
    assert "The value of 'k' cannot be read" in said
    assert column == len("optimize support --with labeled --metric exact --train rows k=") + 1


def test_variables_are_named_by_their_last_parts_or_patterns(shell: Any, lab: Any) -> None:
    line = "tune support rows --vars {} --trials 2 --metric exact --pool none --wait"
    assert set(dispatch(shell, line.format("temperature")).values) == {"support.triage.temperature"}
    found = dispatch(shell, line.format("support.triage.temperature,support.triage.top_*"))
    assert set(found.values) == {"support.triage.temperature", "support.triage.top_p"}
    said, column = at(shell, "tune support rows --vars temprature --metric exact")
    assert "No variable is called 'temprature'" in said
    assert column == len("tune support rows --vars ") + 1


# ---- jobs, stop, resume ----------------------------------------------------------------------------------------------


def test_jobs_are_listed_and_shown_by_number_id_and_name(shell: Any, lab: Any, capsys: Any) -> None:
    assert "No jobs" in repr(dispatch(shell, "jobs"))
    job = lab.evaluate("support", data=ROWS, metric=exact, name="first").wait(60)
    assert "first" in repr(dispatch(shell, "jobs"))
    for word in ("1", job.id, "first", "'first'"):
        assert dispatch(shell, f"jobs {word}") is job
    assert dispatch(shell, "jobs 1 --result").score == 0.0
    capsys.readouterr()
    assert dispatch(shell, "jobs 1 --live") is None
    assert "Job 1: evaluate first" in capsys.readouterr().out
    said, column = at(shell, "jobs 7", JobError)
    assert "no job '7'" in said
    assert column == 6


def test_a_job_is_stopped_and_resumed(shell: Any, lab: Any, capsys: Any) -> None:
    GATES["stop"] = threading.Event()
    job = lab.jobs.start(Waits("stop"), name="waiting")
    dispatch(shell, "stop 1 --wait")
    assert job.state == "stopped"
    assert "job 1 (waits waiting): stopped" in capsys.readouterr().out
    said, _ = at(shell, "stop 1", JobError)
    assert "stopped" in said
    GATES["stop"].set()
    assert dispatch(shell, "resume 1 --budget '5 calls' --wait") == "all"
    said, _ = at(shell, "resume 1", JobError)
    assert "complete" in said


# ---- feedback --------------------------------------------------------------------------------------------------------


def test_a_thumb_and_a_correction(shell: Any, lab: Any, capsys: Any) -> None:
    result = lab.run("support", message="a")
    dispatch(shell, 'feedback down label="right" --note "not so" --who ada')
    assert "bad, corrected: label" in capsys.readouterr().out
    lab.run("support", message="b")
    dispatch(shell, f"feedback up --run {result.run_id}")
    dispatch(shell, 'feedback --note "hm"')
    kept = lab.sql("SELECT run_id, verdict, note, who FROM feedback ORDER BY time")
    assert list(kept["verdict"].fillna("")) == ["bad", "good", ""]
    assert list(kept["run_id"][:2]) == [result.run_id] * 2
    assert [example.label for example in lab.examples("support")] == ["right", "wrong"]


def test_what_was_said_is_shown(shell: Any, lab: Any) -> None:
    assert repr(dispatch(shell, "feedback --list")) == "Nothing was said yet."
    for text in ("<b>a</b>", "b"):
        lab.run("support", message=text)
        dispatch(shell, 'feedback down label="right" --note "not so" --who ada')
    lab.feedback(lab.run("support", message="c"), "up", who="web")
    listed = dispatch(shell, "feedback --list")
    assert [row[1:] for row in listed.rows] == [
        ("support", "c", "wrong", "good", "", "", "web"),
        ("support", "b", "wrong", "bad", "right", "not so", "ada"),
        ("support", "<b>a</b>", "wrong", "bad", "right", "not so", "ada"),
    ]
    assert "<b>a</b>" not in listed._repr_html_()
    assert len(dispatch(shell, "feedback --list support").rows) == 3
    assert repr(dispatch(shell, "feedback --list other")) == "Nothing was said of other yet."


def test_feedback_that_makes_no_sense_is_refused(shell: Any, lab: Any) -> None:
    lab.run("support", message="a")
    assert at(shell, "feedback sideways")[1] == len("feedback ") + 1
    said, column = at(shell, 'feedback up lable="x"')
    assert "no field 'lable'" in said
    assert column == len("feedback up ") + 1
    assert "no run 'nowhere'" in at(shell, "feedback up --run nowhere", StoreError)[0]


def test_thumbs_are_shown(shell: Any, lab: Any, capsys: Any) -> None:
    lab.run("support", message="a")
    dispatch(shell, "feedback")
    assert "nothing was said of it" in capsys.readouterr().out
    dispatch(shell, "feedback --on")
    shell.display_formatter.ipython_display_formatter(lab.last_result)
    assert "nothing was said of it" in capsys.readouterr().out
    dispatch(shell, "feedback --off")
    assert "off" in capsys.readouterr().out


# ---- completion ------------------------------------------------------------------------------------------------------


def test_programs_jobs_and_flags_are_completed(shell: Any, lab: Any) -> None:
    GATES["complete"] = threading.Event()
    lab.evaluate("support", data=ROWS[:1], metric=exact).wait(60)
    lab.jobs.start(Waits("complete"))

    def completed(line: str) -> list[str]:
        found = _complete.candidates(line, COMMANDS, shell.user_ns)
        assert found is not None
        return found[1]

    for command in ("evaluate", "optimize", "tune"):
        assert "support" in completed(f"%dspex {command} su")
        assert "--metric" in completed(f"%dspex {command} support --me")
    assert completed("%dspex jobs ") == ["2", "1"]
    assert completed("%dspex stop ") == ["2"]
    assert completed("%dspex resume ") == []
    assert completed("%dspex feedback u") == ["up"]
    assert "--adopt" in completed("%dspex jobs 1 --a")


def test_each_command_is_explained(shell: Any, lab: Any) -> None:
    said = repr(dispatch(shell, "help")) if dispatch(shell, "help") is not None else ""
    for command in ("evaluate", "optimize", "tune", "jobs", "stop", "resume", "feedback"):
        assert COMMANDS[command].usage.startswith(f"%dspex {command}")
        assert COMMANDS[command].run.__doc__
    assert said is not None
