"""The magics, in a real shell."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from IPython.core.completer import provisionalcompleter

import dspex_lab as dx
from dspex_lab.testing import scripted_lm

PIPELINE = """
def tidy(text: str) -> str:
    return text.strip()

text = step(tidy, replaces=True)
size = step(lambda text: len(text))
"""


def run_cell(shell: Any, cell: str) -> Any:
    done = shell.run_cell(cell)
    done.raise_error()
    return done.result


def error_of(shell: Any, cell: str) -> list[str]:
    done = shell.run_cell(cell)
    error = done.error_in_exec
    assert isinstance(error, dx.DspexError), error
    return error._render_traceback_()


@pytest.fixture
def made(shell: Any) -> Any:
    run_cell(shell, f"%%dspex pipeline measure{PIPELINE}")
    return shell


def test_a_signature_cell_binds_a_class_dspy_takes(shell: Any) -> None:
    shown = run_cell(
        shell, '%%dspex signature Triage\n"""Route it."""\nmessage: str  # what was written\n-> urgency: float[0..1]'
    )
    assert shown.instructions == "Route it."
    run_cell(shell, "import dspy\nmodule = dspy.Predict(Triage)")
    assert list(shell.user_ns["module"].signature.input_fields) == ["message"]
    assert dx.lab().signatures["Triage"] is shown
    assert dx.Signature.from_dspy(shell.user_ns["Triage"]) == shown


def test_run_gives_the_result_and_keeps_it(made: Any) -> None:
    result = run_cell(
        made, 'padded = "  abc "\nr = get_ipython().run_line_magic("dspex", "run measure text=padded --tags a,b")\nr'
    )
    assert result.outputs == {"text": "abc", "size": 3}
    assert dx.lab().last_result is result
    assert list(dx.lab().sql("SELECT tags FROM runs")["tags"][0]) == ["a", "b"]


def test_nothing_is_expanded_in_values(made: Any) -> None:
    assert run_cell(made, 'x = 1\n%dspex run measure text="{x} $x"').outputs["text"] == "{x} $x"


def test_map_reads_frames_and_files_and_binds_the_rows(made: Any) -> None:
    made.user_ns["rows"] = pd.DataFrame({"text": ["a", "bb "]})
    made.user_ns["rows"].to_csv("rows.csv", index=False)
    assert list(run_cell(made, "%dspex map measure rows --concurrency 2 --into out")["size"]) == [1, 2]
    assert list(made.user_ns["out"]["size"]) == [1, 2]
    assert len(run_cell(made, "%dspex map measure rows.csv")) == 2


def test_sql_reads_the_store_and_binds_a_name(made: Any) -> None:
    run_cell(made, '%dspex run measure text="a"')
    assert run_cell(made, "%dspex sql SELECT count(*) AS n FROM runs")["n"][0] == 1
    run_cell(made, "%%dspex sql found\nSELECT name,\n status FROM runs")
    assert made.user_ns["found"]["status"][0] == "complete"


def test_lm_says_which_model_answers(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run_cell(shell, "%dspex lm")
    assert "offline engine" in capsys.readouterr().out
    shell.user_ns["mine"] = scripted_lm([{"answer": "1"}])
    run_cell(shell, "%dspex lm mine")
    assert dx.lab().lm is shell.user_ns["mine"]
    run_cell(shell, "%dspex lm offline")
    assert "offline" in capsys.readouterr().out


def test_help_lists_every_command_and_explains_one(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from dspex_lab.magics import COMMANDS

    run_cell(shell, "%dspex help")
    told = capsys.readouterr().out
    assert all(c.usage in told for c in COMMANDS.values())
    run_cell(shell, "%dspex help run")
    assert "--deadline" in capsys.readouterr().out
    run_cell(shell, "%dspex")
    assert "signature" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("cell", "message", "caret_under"),
    [
        ("%%dspex signature T\nmessage: strng -> a", "strng", "strng"),
        ("%%dspex signature T\na: str,\na: int -> b", "'a'", "a"),
        ("%%dspex pipeline p\na = step(len)\nb = nothing", "nothing", "nothing"),
        ("%%dspex pipeline p\nx = step(lambda z: z)\nz = step(lambda x: x)", "wait for each other", None),
        ("%dspex run mesure text='a'", "Did you mean 'measure'", None),
        ("%dspex run measure txt='a'", "Did you mean 'text'", None),
        ("%dspex run measure text=3", "expected", None),
        ("%dspex run measure text=nope", "nope", "nope"),
        ("%dspex map measure missing.csv", "There is no file missing.csv", None),
        ("%dspex rn x", "Did you mean 'run'", "rn"),
        ("%dspex sql SELEC 1", "SELEC", None),
        ("%dspex sql DROP TABLE runs", "read", None),
        ("%dspex lm opnai/gpt-5", "openai", None),
        ("%dspex signature T", "needs a cell", None),
        ("%%dspex run measure\ntext", "takes no cell", None),
        ("%%dspex signature\na -> b", "needs a name", None),
        ("%%dspex pipeline 3\na = b", "needs a name", None),
        ("%dspex run", "What is to be run", None),
        ("%dspex map measure", "over which rows", None),
        ("%dspex sql", "no query", None),
        ("%dspex lm temperature=1", "need a model", None),
        ("%dspex help runn", "Did you mean 'run'", None),
    ],
)
def test_a_bad_cell_is_told_shortly_with_its_place(made: Any, cell: str, message: str, caret_under: str | None) -> None:
    lines = error_of(made, cell)
    assert message in "\n".join(lines)
    assert not any("Traceback" in line for line in lines)
    if caret_under is not None:
        caret = next(i for i, line in enumerate(lines) if line.strip() == "^")
        place = lines[caret - 1]
        assert place[lines[caret].index("^") :].startswith(caret_under)
        number = int(place.split("|")[0].split()[1])
        assert cell.splitlines()[number - 1].strip() in place
    assert "measure" in dx.lab().pipelines, "what was defined before stays"


def test_a_failed_run_fails_the_cell_and_keeps_the_result(shell: Any) -> None:
    run_cell(shell, "def boom(x: int):\n    raise ValueError('no')")
    run_cell(shell, "%%dspex pipeline p\nboom_ = boom")
    lines = error_of(shell, "%dspex run p x=1")
    assert "step 'boom_' failed: ValueError: no" in lines[0]
    assert any("in boom" in line for line in lines), "the user's own frame is shown"
    assert dx.lab().last_result.status == "failed"


def test_completion_of_commands_names_fields_and_flags(made: Any) -> None:
    made.user_ns["frame"] = pd.DataFrame({"text": ["a"]})

    def complete(text: str) -> set[str]:
        with provisionalcompleter():
            return {c.text for c in made.Completer.completions(text, len(text))}

    assert {"signature", "sql"} <= complete("%%dspex s")
    assert "run" in complete("%dspex r")
    assert "measure" in complete("%dspex run me")
    assert "text=" in complete("%dspex run measure t")
    assert "--deadline" in complete("%dspex run measure --d")
    assert "frame" in complete("%dspex map measure fr")
    assert "offline" in complete("%dspex lm off")
    assert "run" in complete("%dspex help ru")
    assert not complete("%dspex nothing mea") & {"measure"}


def test_a_pipeline_shows_its_graph(made: Any) -> None:
    shown, _ = made.display_formatter.format(made.user_ns["measure"])
    assert "size" in shown["text/html"]


def test_the_dashboard_is_shown_here_or_served(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cell(made, "%dspex dashboard") is not None
    run_cell(made, "%dspex dashboard serve")
    assert "http://127.0.0.1:" in capsys.readouterr().out


def test_unloading_takes_the_magics_out(shell: Any) -> None:
    shell.run_line_magic("unload_ext", "dspex_lab")
    assert "dspex" not in shell.magics_manager.magics["line"]
    shell.run_line_magic("load_ext", "dspex_lab")


@pytest.mark.parametrize(
    ("cell", "message", "under"),
    [
        ("%dspex run measure text=5", "expected str, found 5", "text=5"),
        ('%dspex run measure txt="a"', "Did you mean 'text'", "txt"),
        ("%dspex run measure", "input 'text' (str) is missing", "measure"),
        ("%dspex map measure row", "There is no variable 'row'. Did you mean 'rows'", "measure"),
        ("%dspex map measure rows", "needs the column 'text'", "measure"),
        ("%dspex map measure rows --into 3x", "'3x' is no name", "3x"),
        ("%dspex run measure text='a' --deadline abc", "--deadline takes a number", "--deadline"),
        ("%dspex dashboard serv", "Did you mean 'serve'", "serv"),
        ("%dspex lm nosuch/model", "nosuch", "nosuch"),
    ],
)
def test_a_refused_call_points_at_its_place_and_shows_no_widget(
    made: Any, capsys: pytest.CaptureFixture[str], cell: str, message: str, under: str
) -> None:
    made.user_ns["rows"] = pd.DataFrame({"other": ["a"]})
    lines = error_of(made, cell)
    assert message in "\n".join(lines)
    caret = next(i for i, line in enumerate(lines) if line.strip() == "^")
    assert lines[caret - 1][lines[caret].index("^") :].startswith(under)
    assert "waiting" not in capsys.readouterr().out


def test_a_map_stopped_by_hand_says_what_became_of_the_rows(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # One signal: another one would come when the map has been stopped already.
    run_cell(
        made,
        "import asyncio, os, signal\n"
        "async def stop(n: int) -> int:\n"
        "    if n:\n"
        "        await asyncio.Event().wait()\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return n",
    )
    made.user_ns["numbers"] = pd.DataFrame({"n": range(50)})
    run_cell(made, "%%dspex pipeline halt\nstopped = stop\nother = step(lambda n: n)")
    assert "The map was stopped by you" in "\n".join(error_of(made, "%dspex map halt numbers --concurrency 1"))
    assert list(dx.lab().sql("SELECT status FROM runs WHERE kind = 'map'")["status"]) == ["cancelled"]


def test_any_simulated_model_is_named_as_what_it_is(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shell.user_ns["mine"] = scripted_lm([{"answer": "1"}])
    run_cell(shell, "%dspex lm mine")
    told = capsys.readouterr().out
    assert "simulated: no real model is called" in told
    assert "offline engine" not in told


def test_a_model_nobody_knows_is_said_to_be_unchecked(
    shell: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    run_cell(shell, "%dspex lm openai/gpt-99-xxl")
    assert "table of models does not have it" in capsys.readouterr().out
    run_cell(shell, "%dspex lm openai/gpt-4o-mini")
    told = capsys.readouterr().out
    assert "openai/gpt-4o-mini" in told
    assert "table" not in told
