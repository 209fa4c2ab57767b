# ruff: noqa: E501
"""`%dspex save`, `%dspex load`, and what a cell that is run again says, in a real shell."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dspex_lab as dx
from dspex_lab.pipelines import names_in, same


def run_cell(shell: Any, cell: str) -> Any:
    done = shell.run_cell(cell, store_history=True)
    done.raise_error()
    return done.result


def error_of(shell: Any, cell: str) -> str:
    error = shell.run_cell(cell).error_in_exec
    assert isinstance(error, dx.DspexError), error
    return "\n".join(error._render_traceback_())


DEFINED = '''
from typing import TypedDict

SIZES = {"few": 3}

class Counted(TypedDict):
    """What was counted."""
    size: int

def count(text: str) -> Counted:
    return {"size": len(text.split())}
'''
PIPELINE = """%%dspex pipeline measure
text = step(lambda text: text.strip(), replaces=True)   # first
counted = count
label = dspy.Predict(Labelled)
few = step(lambda size: size < SIZES["few"], timeout=5)
"""
SIGNATURE = '%%dspex signature Labelled\n"""Say which."""\ntext: str  # the text\n-> label: Literal["long", "short"]'


@pytest.fixture
def made(shell: Any) -> Any:
    run_cell(shell, DEFINED)
    run_cell(shell, SIGNATURE)
    run_cell(shell, PIPELINE)
    return shell


def test_a_saved_pipeline_runs_without_a_notebook(made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_cell(made, "%dspex save measure measure.py")
    assert capsys.readouterr().out == "measure → measure.py\n"
    done = subprocess.run(
        [sys.executable, "measure.py", "text= my card never came "], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == dx.lab().run("measure", text=" my card never came ").outputs
    text = Path("measure.py").read_text()
    assert "IPython" not in text
    assert "class Counted(TypedDict):" in text
    assert 'name="Labelled"' in text
    checked = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "measure.py"], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout


def test_a_file_is_not_lost(made: Any) -> None:
    Path("measure.py").write_text("mine = 1\n")
    assert "was not saved by dspex_lab" in error_of(made, "%dspex save measure measure.py")
    assert Path("measure.py").read_text() == "mine = 1\n"
    run_cell(made, "%dspex save measure measure.py --overwrite")
    run_cell(made, "%dspex save measure measure.py")
    assert "def measure()" in Path("measure.py").read_text()


def test_a_pipeline_saved_as_yaml_and_loaded_is_the_same(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run_cell(made, "sized = lambda size: size")
    run_cell(made, "%%dspex pipeline p\nlabel = dspy.ChainOfThought(Labelled)\nall = count")
    run_cell(made, "%dspex save p p.yaml")
    before = made.user_ns["p"]
    capsys.readouterr()
    shown = run_cell(made, "%dspex load p.yaml")
    assert capsys.readouterr().out.endswith("p: nothing changed\n")
    assert shown is made.user_ns["p"] is dx.lab().pipelines["p"]
    assert same(before, shown) == []
    assert run_cell(made, "%dspex load p.yaml as q") is dx.lab().pipelines["q"]


def test_classes_of_cells_that_no_history_keeps_are_saved_too(shell: Any) -> None:
    def run_unkept(cell: str) -> None:
        shell.run_cell(cell, store_history=False).raise_error()  # as nbval runs them

    run_unkept("from enum import Enum\nclass Intent(Enum):\n    REFUND = 'old'")
    run_unkept("from enum import Enum\nclass Intent(Enum):\n    REFUND = 'refund'")
    run_unkept("%%dspex pipeline p\nintent = step(lambda text: Intent.REFUND)")
    run_unkept("%dspex save p p.py")
    text = Path("p.py").read_text()
    assert "class Intent(Enum):\n    REFUND = 'refund'" in text
    assert "'old'" not in text
    done = subprocess.run([sys.executable, "p.py", "text=x"], capture_output=True, text=True, timeout=240)
    assert json.loads(done.stdout) == {"intent": "refund"}, done.stderr


def test_a_file_calls_objects_as_the_notebook_does(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run_cell(made, "import dspex_lab as dx\npages = dx.index(['how to pay', 'how to leave'])\ntwin = dx.index(['a'])")
    run_cell(made, "%%dspex pipeline inner\nadvice = retrieve(pages, query='question', k=1)")
    run_cell(made, "%%dspex pipeline s\nall = inner\nmore = retrieve(pages, query='question', k=2)")
    run_cell(made, "other = dx.pipeline('other', found=dx.retrieve(twin, query='q', k=1), guess=dx.step(lambda x: x))")
    run_cell(made, "dx.lab().pipelines['other'] = other")
    for name, told in (("s", "pages"), ("other", "guess, twin")):
        run_cell(made, f"%dspex save {name} {name}.yaml")
        assert f"# It needs what is called {told}: dx" in Path(f"{name}.yaml").read_text()
    run_cell(made, "%dspex load s.yaml")
    assert capsys.readouterr().out.endswith("s: nothing changed\n")


def test_a_loaded_file_reaches_what_the_notebook_made_and_no_more(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run_cell(made, "from os import system\nfrom io import open\nimport dspy\nasker = dspy.Predict('q -> a')")
    Path("helpers_here.py").write_text("def shout(text: str) -> str:\n    return text.upper()\n")
    monkeypatch.syspath_prepend(".")
    for name in ("system", "open", "get_ipython", "os:system", "helpers_here:shout"):
        Path("p.yaml").write_text(f"name: p\nsteps:\n  a: {{function: '{name}'}}\n")
        assert "handed in" in (told := error_of(made, "%dspex load p.yaml")) or "was not allowed" in told
    run_cell(made, "%dspex load p.yaml --modules helpers_here")
    Path("p.yaml").write_text("name: p\nsteps:\n  a: {type: dspy, module: asker}\n")
    assert list(run_cell(made, "%dspex load p.yaml").outputs) == ["a"]


def test_a_wrong_save_or_load_is_told(made: Any) -> None:
    assert "What is to be saved, and where?" in error_of(made, "%dspex save measure")
    assert "Did you mean 'measure'?" in (told := error_of(made, "%dspex save mesure x.py"))
    assert told.splitlines()[2].index("^") == told.splitlines()[1].index("mesure")
    assert "ends neither in .py nor in .yaml" in error_of(made, "%dspex save measure x.txt")
    assert "unknown" in error_of(made, "%dspex save measure x.py --overwrit yes")
    assert "Which file?" in error_of(made, "%dspex load")
    assert "Which file?" in error_of(made, "%dspex load a.yaml to b")
    assert "is no .yaml file" in error_of(made, "%dspex load a.py")
    assert "There is no file a.yaml" in error_of(made, "%dspex load a.yaml")
    Path("bad.yaml").write_text("name: p\nsteps:\n  a: conut\n")
    told = error_of(made, "%dspex load bad.yaml")
    assert "Did you mean 'count'?" in told
    assert "line 3 |   a: conut" in told
    Path("odd.yaml").write_text("name: a b\nsteps:\n  a: count\n")
    assert "cannot name a pipeline here" in error_of(made, "%dspex load odd.yaml")


def test_what_uses_a_value_that_cannot_be_carried_is_told(made: Any) -> None:
    run_cell(made, "import pandas as pd\nframe = pd.DataFrame({'a': [1]})")
    run_cell(made, "%%dspex pipeline big\na = step(lambda x: len(frame))")
    told = error_of(made, "%dspex save big big.py")
    assert "'frame', a value of type DataFrame" in told
    assert "give the step a parameter 'frame'" in told


def test_a_cell_run_again_says_what_changed(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    first = dx.lab().pipelines["measure"]
    run_cell(made, PIPELINE)
    assert capsys.readouterr().out.endswith("measure: nothing changed\n")
    assert dx.lab().pipelines["measure"] is not first
    run_cell(made, PIPELINE.replace("timeout=5", "timeout=6"))
    assert capsys.readouterr().out.endswith("measure: step 'few': timeout was 5, is 6\n")
    run_cell(made, PIPELINE.replace("timeout=5", "timeout=6").replace("counted = count\n", "counted = count\nmore = count_more\n")
             .replace("%%dspex pipeline measure", "%%dspex pipeline measure").replace("count_more", "step(lambda size: size + 1)"))  # fmt: skip
    out = capsys.readouterr().out
    assert "step 'more' added" in out
    assert "outputs added: more" in out
    run_cell(made, DEFINED.replace("text.split()", "text"))
    run_cell(made, PIPELINE)
    assert "step 'counted': the code of count changed" in capsys.readouterr().out


def test_what_changed_stands_below_the_graph(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    run_cell(made, PIPELINE)
    out = capsys.readouterr().out
    assert out.index("Pipeline('measure'") < out.index("measure: nothing changed")
    run_cell(made, "1")
    assert "changed" not in capsys.readouterr().out, "it is said once"


def test_a_signature_cell_run_again_says_what_changed(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    run_cell(made, SIGNATURE)
    assert capsys.readouterr().out.endswith("Labelled: nothing changed\n")
    run_cell(made, SIGNATURE.replace('"long", "short"', '"long", "short", "none"'))
    assert "changed label: type" in capsys.readouterr().out


def test_every_public_maker_may_be_used_in_a_cell_without_an_import(shell: Any) -> None:
    from dspex_lab.magics._pipeline import helpers

    public = [n for n in dx.__all__ if not n.startswith("_") and "ipython_extension" not in n]
    found = helpers("\n".join(public))
    assert all(found[n] is getattr(dx, n) for n in public)
    assert set(helpers("step(f)")) == {"dx", "dspy", "step"}
    assert names_in("not python at all (") == set()
    assert "Did you mean 'step'?" in error_of(shell, "%%dspex pipeline p\na = stp(len)\nb = step(len)")


def test_a_shell_without_events_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    from dspex_lab.magics._pipeline import below, changes

    below(object(), lambda: print("now"))
    assert capsys.readouterr().out == "now\n"
    assert changes("p", ["x" * 60, "y" * 60]).splitlines() == ["p:", "  " + "x" * 60, "  " + "y" * 60]


def test_completion_knows_the_commands_and_their_flags(made: Any) -> None:
    from dspex_lab.magics import COMMANDS
    from dspex_lab.magics._complete import candidates

    assert candidates("%dspex save mea", COMMANDS, {}) == ("mea", ["measure"])
    assert candidates("%dspex save measure x.py --", COMMANDS, {}) == ("--", ["--overwrite"])
    assert "load" in candidates("%dspex lo", COMMANDS, {})[1]  # type: ignore[index]
