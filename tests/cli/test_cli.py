"""The command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest

import dspex_lab as dx
from dspex_lab.cli import main, parser
from dspex_lab.cli._notebook import NotebookFailed, execute, tagged_text, with_parameters, write_html


def notebook(*sources: str, tags: tuple[str, ...] = ()) -> nbformat.NotebookNode:
    made = nbformat.v4.new_notebook()
    for source in sources:
        made.cells.append(nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)}))
    return made


def test_the_installed_command_tells_its_version() -> None:
    done = subprocess.run([Path(sys.executable).parent / "dspex-lab", "--version"], capture_output=True, text=True)
    assert done.stdout.strip() == f"dspex-lab {dx.__version__}"
    module = subprocess.run([sys.executable, "-m", "dspex_lab", "--version"], capture_output=True, text=True)
    assert module.stdout == done.stdout


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--help"])
    told = capsys.readouterr().out
    assert all(name in told for name in ("tour", "lab", "doctor"))


def test_doctor_says_what_is_there_and_what_to_do(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    for what in ("dspex-lab", "dspy 3.4", "duckdb", "no model key", "pool general", "store: .dspex/lab.duckdb"):
        assert what in told
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-0123456789")
    monkeypatch.setenv("DSPEX_POOL_GENERAL_WORKERS", "many")
    assert main(["doctor"]) == 1
    told = capsys.readouterr().out
    assert "OPENAI_API_KEY" in told
    assert "sk-very-secret" not in told
    assert "missing" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", "a"], "--text needs --data"),
        (["--optimizer", "knn"], "--optimizer needs --data"),
        (["--data", "rows.csv", "--text", "words"], "--data needs --label"),
        (["--data", "nothing.csv", "--text", "words", "--label", "team"], "There is no file nothing.csv"),
        (
            ["--data", "rows.csv", "--text", "word", "--label", "team"],
            "has no column 'word'; it has 'words', 'team'. Did you mean",
        ),
        (["--data", "rows.csv", "--text", "team", "--label", "team"], "are the same column"),
        (["--lm", "nosuch/model"], "nosuch"),
        (["--data", "few.csv", "--text", "words", "--label", "team"], "At least ten rows and two labels"),
        (["--data", "rows.txt", "--text", "words", "--label", "team"], "is not a file of rows"),
    ],
)
def test_what_is_wrong_with_a_tour_is_told_before_it_starts(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.DataFrame({"words": ["a b"] * 12, "team": ["x", "y"] * 6}).to_csv("rows.csv", index=False)
    pd.DataFrame({"words": ["a b"] * 3, "team": ["x"] * 3}).to_csv("few.csv", index=False)
    assert main(["tour", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not Path("tour-report.html").exists()


@pytest.mark.parametrize("optimizer", ["auto", "bootstrap"])
def test_a_tour_on_ones_own_rows_writes_report_store_and_scores(optimizer: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = pd.read_csv(dx.shipped("data/support_messages.csv"))[["message", "desk"]][:80]
    rows.to_json("mine.jsonl", orient="records", lines=True)
    code = main(
        ["tour", "--data", "mine.jsonl", "--text", "message", "--label", "desk", "--optimizer", optimizer, "--lm", "offline"]
    )
    told = capsys.readouterr()
    assert code == 0, told.err
    assert "before" in told.out
    assert "after" in told.out
    assert "32 held-out rows, 8 labels" in told.out
    page = Path("tour-report.html").read_text(encoding="utf-8")
    assert "classify" in page
    assert not any(mark in page for mark in ('src="http', "src='http", 'href="https://cdn', "require.min.js"))
    with dx.Lab(".dspex/tour.duckdb") as lab:
        assert lab.store.recovery is None, "the kernel closed its store"
        kinds = lab.sql("SELECT parent_id, count(*) AS n FROM runs WHERE kind = 'row' GROUP BY parent_id ORDER BY n")
    assert list(kinds["n"])[-2:] == [32, 80]


def test_a_failing_cell_fails_the_tour_and_the_report_shows_how_far_it_came(tmp_path: Path) -> None:
    nbformat.write(notebook("print('before')", "1 / 0", "print('never')"), tmp_path / "n.ipynb")
    with pytest.raises(NotebookFailed, match=r"A cell of n.ipynb failed: ZeroDivisionError") as caught:
        execute(tmp_path / "n.ipynb", {})
    write_html(caught.value.notebook, tmp_path / "r.html", "r")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "before" in page
    assert "ZeroDivisionError" in page


def test_the_kernel_is_of_this_environment_and_gets_the_settings(tmp_path: Path) -> None:
    nbformat.write(
        notebook("import sys, os\nprint(sys.executable, os.environ['SAID'])", tags=("scores",)), tmp_path / "n.ipynb"
    )
    made = execute(tmp_path / "n.ipynb", {"SAID": "so"})
    assert tagged_text(made, "scores") == f"{sys.executable} so"


def test_parameters_replace_the_cell_of_that_tag() -> None:
    made = with_parameters(notebook("data = None", tags=("parameters",)), {"data": "it's", "n": 3})
    scope: dict[str, object] = {}
    exec(made.cells[0].source, scope)  # noqa: S102
    assert (scope["data"], scope["n"]) == ("it's", 3)


def test_the_lab_opens_a_copy_of_the_tour_on_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(subprocess, "call", lambda command: called.append(command) or 0)
    assert main(["lab", "--no-browser", "--port", "9001"]) == 0
    assert Path("00_tour.ipynb").exists()
    assert called[0][1:] == ["-m", "jupyterlab", "00_tour.ipynb", "--ip=127.0.0.1", "--port=9001", "--no-browser"]
    Path("00_tour.ipynb").write_text("mine")
    main(["lab", "00_tour.ipynb"])
    assert Path("00_tour.ipynb").read_text() == "mine", "a notebook that is there is left alone"


def test_an_interrupt_is_told_shortly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(command: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "call", interrupted)
    assert main(["lab", "--no-browser"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_files_that_do_not_ship_are_refused() -> None:
    with pytest.raises(dx.ConfigurationError, match=r"'data/none.csv' does not come with this installation"):
        dx.shipped("data/none.csv")
