# ruff: noqa: E501
"""A pipeline as plain Python: the file is run by an interpreter of its own and gives what the pipeline gives here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dspy
import pytest

import dspex_lab as dx
from dspex_lab.errors import PipelineError
from dspex_lab.pipelines import load_pipeline, pipeline, pipeline_from_source, read_fields, save, step, to_python, when
from dspex_lab.pipelines.files._source import block, indented, literal, renamed, uses

NOTEBOOK = '''
import re
import string as text_tools
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Literal, TypedDict

import dspy
import dspex_lab as dx

LIMIT = 3
WORDS = ["a long list of words that does not fit on a single line", "another of these", "and a third one", "it's"]
PATTERN = re.compile(r"[a-z]+")
PRICE = Decimal("1.50")
HOME = Path("some") / "where"
unused = object()


class Colour(Enum):
    RED = "red"


@dataclass
class Sized:
    """What is measured."""

    size: int
    first: str


def logged(function):
    import functools

    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)

    return inner


def helper(text):
    return PATTERN.findall(text)[:LIMIT]


@logged
def tidy(message: str) -> str:
    """Strip it.

    With a second line.
    """
    return message.strip(text_tools.whitespace)


def measure(message: str) -> Sized:
    found = helper(message)
    return Sized(len(found), found[0] if found else f"none of {len(WORDS)}")


short = lambda message, n=LIMIT: message[:n]
clean = tidy
Ask = dx.signature(\'\'\'"""Say it."""
message: str  # what was written
-> answer: str\'\'\').to_dspy()
asker = dspy.Predict(Ask)
asker.demos = [dspy.Example(message="my card", answer="it's \\"here\\"")]
asker.config = {"temperature": 0.5}
'''

CELL = '''
# The message first.
import math

tidy = step(tidy, replaces=True, outputs=["message"])   # under its own name
sizes = measure
_banner = """
    not indented
"""

def banner(size: int) -> str:
    return _banner.strip() + "!" * size + str(math.floor(PRICE)) + HOME.name

out = banner
brief = short
choice = when("size > 1", lambda message: "many", lambda message: "few")
'''


def namespace(source: str, tmp_path: Path) -> dict[str, Any]:
    """What a notebook's cell leaves behind: names of ``__main__`` whose source is known."""
    import linecache

    name = str(tmp_path / "<cell>")
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    scope: dict[str, Any] = {"__name__": "__main__", "step": dx.step, "dx": dx, "dspy": dspy, "when": when}
    exec(compile(source, name, "exec"), scope)  # noqa: S102 - the test's own text
    return scope


def run(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | {
        "DSPY_CACHEDIR": str(path.parent / "cache")
    }
    command = [sys.executable, "-W", "error::SyntaxWarning", path.name, *arguments]
    return subprocess.run(command, cwd=path.parent, env=environment, capture_output=True, text=True, timeout=240)


def run_alike(path: Path, made: dx.Pipeline, message: str) -> Any:
    """Run the file, which is to give what the pipeline gives here; returns that."""
    done = run(path, f"message={message}")
    assert done.returncode == 0, done.stderr
    with dx.Lab(":memory:") as lab:
        here = lab.run(made, message=message).outputs
    assert json.loads(done.stdout) == here
    return here


def clean(path: Path) -> None:
    for command in (["check", "--isolated"], ["format", "--isolated", "--diff"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command, str(path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_cell_runs_without_a_notebook_and_gives_the_same(tmp_path: Path) -> None:
    made = pipeline_from_source("support", CELL, namespace(NOTEBOOK, tmp_path))
    path = save(made, tmp_path / "support.py", cells=[NOTEBOOK])
    text = path.read_text()
    assert "unused" not in text
    assert "Colour" not in text
    assert "# The message first." in text
    assert text.index("LIMIT = 3") < text.index("def helper") < text.index("def measure")
    assert "def short(message, n=LIMIT):" in text
    assert 'Run it:  python support.py message="…"' in text
    here = run_alike(path, made, "  my card never came ")
    assert here["out"] == "not indented!!!1where"


def test_what_is_written_is_as_a_linter_and_a_formatter_want_it(tmp_path: Path) -> None:
    source = NOTEBOOK.replace(
        "short = lambda message, n=LIMIT: message[:n]", "def short(message, n=LIMIT):\n    return message[:n]"
    )
    cell = CELL.replace("    # under", "  # under").replace("def banner", "\ndef banner").replace("\n\nout", "\n\n\nout")
    cell = "import math\n" + cell.replace("\nimport math\n", "\n").replace('["message"])   #', '["message"])  #')
    made = pipeline_from_source("support", cell + "asked = asker\n", namespace(source, tmp_path))
    clean(save(made, tmp_path / "support.py", cells=[source]))
    named = namespace(source, tmp_path)
    clean(
        save(
            pipeline("plain", a=named["measure"], b=step(when("size > 1", named["asker"]))),
            tmp_path / "plain.py",
            cells=[source],
        )
    )


def test_signatures_and_modules_of_dspy_are_written_with_what_they_learned(tmp_path: Path) -> None:
    made = pipeline_from_source("support", "asked = asker\nagain = predict(Ask) if False else dspy.Predict(Ask)\n"
                                .replace("again = predict(Ask) if False else dspy.Predict(Ask)\n", ""), namespace(NOTEBOOK, tmp_path))  # fmt: skip
    path = save(made, tmp_path / "support.py")
    run_alike(path, made, "where is my card")
    assert "asker.demos = [" in path.read_text()


def test_a_pipeline_without_a_cell_is_written_with_its_yaml(tmp_path: Path) -> None:
    names = namespace(NOTEBOOK, tmp_path)
    made = pipeline("support", sizes=names["measure"], choice=when("size > 1", names["clean"], names["asker"]))
    path = save(made, tmp_path / "support.py", cells=[NOTEBOOK])
    assert 'functions={"measure": measure' in path.read_text()
    run_alike(path, made, "my card")


def test_a_function_of_a_module_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "steps_of_mine.py").write_text("def tidy(x: int) -> int:\n    return x + 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import steps_of_mine  # type: ignore[import-not-found]

    path = save(pipeline("p", a=steps_of_mine.tidy), tmp_path / "p.py")
    assert 'modules=["steps_of_mine"]' in path.read_text()
    done = run(path, "x=3")
    assert json.loads(done.stdout) == {"a": 4}, done.stderr
    scope = {"step": dx.step, "mine": steps_of_mine.tidy}
    text = to_python(pipeline_from_source("p", "a = mine\n", scope))
    assert "from steps_of_mine import tidy as mine" in text


def test_a_pipeline_in_a_pipeline_is_written_too(tmp_path: Path) -> None:
    names = namespace(NOTEBOOK, tmp_path)
    names["inner"] = pipeline_from_source("inner", "sizes = measure\n", names)
    names["other"] = pipeline("other", brief=names["clean"])
    made = pipeline_from_source("outer", "first = inner\nsecond = step(other, timeout=9)\n", names)
    path = save(made, tmp_path / "outer.py", cells=[NOTEBOOK])
    assert "inner = make_inner()" in path.read_text()
    run_alike(path, made, "my card")


def test_what_belongs_to_the_notebook_is_not_carried(tmp_path: Path) -> None:
    scope = namespace("from IPython.display import display\ndef f(x):\n    display(x)", tmp_path)
    with pytest.raises(PipelineError, match="'display' belongs to the notebook"):
        to_python(pipeline_from_source("p", "a = f\n", scope))


def test_a_failure_and_a_wrong_argument_are_told_by_the_file(tmp_path: Path) -> None:
    scope = namespace("def fail(x: int) -> int:\n    return 1 // x\n", tmp_path)
    path = save(pipeline_from_source("p", "a = fail\n", scope), tmp_path / "p.py")
    done = run(path, "x=0")
    assert (done.returncode, done.stdout.strip()) == (1, "{}")
    assert "step 'a' failed: ZeroDivisionError: " in done.stderr
    assert "division" in done.stderr
    done = run(path, "y=0")
    assert done.returncode == 2
    assert done.stderr.startswith("'y' is no input.")
    assert run(path).stderr.startswith("The pipeline 'p' cannot start: input 'x' (int) is missing")


@pytest.mark.parametrize(
    ("source", "cell", "why"),
    [
        ("import pandas as pd\ndf = pd.DataFrame({'a': [1]})\ndef f(x):\n    return len(df)", "a = f", "function f uses 'df', a value of type DataFrame"),
        ("thing = object()", "a = step(lambda x: thing)", "the pipeline p uses 'thing', a value of type object"),
        ("def make(n):\n    def f(x):\n        return x + n\n    return f\nf = make(1)", "a = f", "was made inside another one"),
        ("f = [lambda x: x, lambda x: 1][0]", "a = f", "lambda inside a larger line|source of the function"),
        ("exec('def f(x): return x')", "a = f", "The source of the function 'f' is not known"),
        ("k = 1\ndef f(x):\n    return k", "k = step(f)\nb = step(lambda k: k)", None),
        ("_s = __import__('dspex_lab').step(print, outputs=['a'])", "a = _s", "a value of type Step"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_named(tmp_path: Path, source: str, cell: str, why: str | None) -> None:
    made = pipeline_from_source("p", cell, namespace(source, tmp_path)) if "print" not in source else None
    if made is None:
        made = pipeline_from_source("p", cell, {"_s": step(lambda x: x)})
    if why is None:
        assert "k_step" not in to_python(made)
        return
    with pytest.raises(PipelineError, match=why):
        to_python(made)


def test_one_name_for_two_things_is_refused(tmp_path: Path) -> None:
    one = namespace("k = 1\ndef f(x):\n    return k", tmp_path)
    two = {**one, "k": 2}
    made = pipeline_from_source("p", "a = step(f)\nb = step(lambda a: k)", two)
    with pytest.raises(PipelineError, match="'k' means one thing in"):
        to_python(made)
    with pytest.raises(PipelineError, match="has a lambda as 'a'"):
        to_python(pipeline("p", a=lambda x: x))


def test_a_pipeline_may_be_called_like_one_of_its_functions(tmp_path: Path) -> None:
    scope = namespace("def p(x: int) -> int:\n    return x", tmp_path)
    text = to_python(pipeline_from_source("p", "a = p\n", scope))
    assert "def make_p() -> dx.Pipeline:" in text
    assert "pipeline = make_p()" in text


# --- keeping what is there ----------------------------------------------------------------------------------------------


def test_a_file_of_somebody_else_or_changed_since_is_kept(tmp_path: Path) -> None:
    made = pipeline("p", a=load_pipeline)
    path = save(made, tmp_path / "p.yaml")
    assert "modules" not in path.read_text()
    save(made, path)
    path.write_text(path.read_text() + "# mine\n")
    with pytest.raises(PipelineError, match="was changed since it was saved"):
        save(made, path)
    save(made, path, overwrite=True)
    assert "# mine" not in path.read_text()
    path.write_text("name: mine\n")
    with pytest.raises(PipelineError, match="was not saved by dspex_lab"):
        save(made, path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(PipelineError, match="was not saved by dspex_lab"):
        save(made, path)
    with pytest.raises(PipelineError, match=r"ends neither in .py nor in .yaml"):
        save(made, tmp_path / "p.txt")


def test_a_saved_yaml_says_what_it_needs_and_reads_back(tmp_path: Path) -> None:
    def mine(x: int) -> int:
        return x

    path = save(pipeline("p", a=mine), tmp_path / "p.yaml")
    assert "# It needs what is called mine:" in path.read_text()
    assert load_pipeline(path, functions={"mine": mine}).steps["a"].target is mine


# --- arguments -------------------------------------------------------------------------------------------------------------


def test_arguments_are_texts_where_texts_are_wanted_and_python_elsewhere() -> None:
    def takes(a: str, b: int, c: list[int], d, e: str | None, f: float = 1.0) -> int:  # type: ignore[no-untyped-def]
        return 1

    made = pipeline("p", s=takes)
    found = read_fields(made, ["a=3", "b=3", "c=[1, 2]", "d=x = y", "e=None", "f=2"])
    assert found == {"a": "3", "b": 3, "c": [1, 2], "d": "x = y", "e": "None", "f": 2}
    for wrong, why in [("g=1", "'g' is no input"), ("a", "'a' is not FIELD=VALUE")]:
        with pytest.raises(dx.ConfigurationError, match=why):
            read_fields(made, [wrong])
    with pytest.raises(dx.ConfigurationError, match="given twice"):
        read_fields(made, ["a=1", "a=2"])


def test_a_literal_type_takes_texts_and_a_number_type_what_fits() -> None:
    made = load_pipeline('name: p\nsteps: {a: {type: predict, signature: \'k: Literal["1", "2"], n: str | int -> y\'}}\n')
    assert read_fields(made, ["k=1", "n=2"]) == {"k": "1", "n": 2}


# --- source ----------------------------------------------------------------------------------------------------------------


def test_source_is_taken_apart_as_python_does() -> None:
    assert uses("a = step(f)\nb = [x for x in a]\ndef g(y): return y + z\nclass C(Base):\n    k: T = w") == {
        *("step", "f", "z", "Base", "T", "w")
    }
    assert uses("f = step(f)") == {"step", "f"}
    assert (
        renamed("f = step(f)\ng = wrap(f)  # é f\nh = (f, 'f')", {"f": "f2"})
        == "f2 = step(f)\ng = wrap(f2)  # é f\nh = (f2, 'f')"
    )
    assert indented("a = '''\nx\n'''\n\nb = f'''\n{a}\n'''") == "    a = '''\nx\n'''\n\n    b = f'''\n{a}\n'''"
    assert block("one\ntwo") == '"""one\ntwo"""'
    assert block('say """x"""\nb') == "'''say \"\"\"x\"\"\"\nb'''"
    assert block("a\\b\nc") == '"a\\\\b\\nc"'
    assert literal({"a": (1,), "b": {2}, "c": ["it's", 'a "b"']}) == '{"a": (1,), "b": {2}, "c": ["it\'s", \'a "b"\']}'


def test_constants_and_signatures_that_are_no_classes_are_written(tmp_path: Path) -> None:
    source = (
        "import datetime, re\nfrom pathlib import Path\nimport dspex_lab as dx\n"
        "DAY = datetime.date(2024, 1, 31)\nSET = frozenset({1})\nRAW = re.compile('a\"b')\nNESTED = {'a': [1, (2,)], 'b': {'c': None}}\n"
        "SHORT = dx.signature('x -> y')\nNAMED = dx.signature('x -> z', name='Named')\n"
        "def f(x):\n    return [DAY.year, list(SET), RAW.pattern, NESTED['a'], x]\n"
    )
    scope = namespace(source, tmp_path) | {"predict": dx.predict}
    text = to_python(pipeline_from_source("p", "a = f\nb = predict(SHORT)\nc = predict(NAMED)\n", scope))
    assert 'SHORT = dx.signature("x -> y: str")' in text or 'SHORT = dx.signature("x -> y")' in text
    assert 'name="Named")' in text
    made: dict[str, Any] = {"__name__": "saved"}
    exec(compile(text, "saved.py", "exec"), made)  # noqa: S102 - what was written
    with dx.Lab(":memory:") as lab:
        assert lab.run(made["p"](), x="1").outputs["a"] == [2024, [1], 'a"b', [1, (2,)], "1"]
