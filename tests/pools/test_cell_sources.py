"""What was defined in cells keeps its source in workers."""

from __future__ import annotations

import asyncio
import inspect
import linecache
import pickle
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from dspex_lab.pools import Pool, _sources
from dspex_lab.pools._carry import decode, encode_error, pack
from dspex_lab.pools._sources import cell, file_of_class, install, sources_of

FIRST = """\
import enum

class Plain:
    x: int = 3

class Shop(Plain):
    @classmethod
    def named(cls): return cls()

    class Till:
        open = True

class Colour(enum.Enum):
    RED = 1

def price(n):
    return 1 / n
"""

WANTED: tuple[dict[str, str], dict[str, str]] = (
    {"/tmp/ipykernel_1/0.py": FIRST, "/tmp/ipykernel_1/1.py": "class Plain:\n    y = 4\n"},  # noqa: S108
    dict.fromkeys(["Shop", "Shop.Till", "Colour"], "/tmp/ipykernel_1/0.py") | {"Plain": "/tmp/ipykernel_1/1.py"},  # noqa: S108
)


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Two cells, run as ipykernel does, in a ``__main__`` without a file."""
    module = type(sys)("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    for number, source in enumerate([FIRST, "class Plain:\n    y = 4\n"]):
        name = f"/tmp/ipykernel_1/{number}.py"  # noqa: S108 - a name only
        monkeypatch.setitem(linecache.cache, name, (len(source), None, source.splitlines(keepends=True), name))
        exec(compile(source, name, "exec"), module.__dict__)  # noqa: S102
    return module.__dict__


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a worker begins: without cells."""
    monkeypatch.setattr(linecache, "cache", {})
    monkeypatch.setattr(inspect, "getfile", inspect.getfile)
    monkeypatch.setattr(_sources, "_cells", type(_sources._cells)())
    monkeypatch.setattr(_sources, "_classes", {})


def test_a_cell_is_what_linecache_has_and_no_disk(main: dict[str, Any]) -> None:
    assert cell(main["price"].__code__.co_filename) == FIRST
    linecache.getlines(__file__)
    assert cell(__file__) is None
    assert cell("<string>") is None


def test_classes_are_found_by_their_functions_else_by_their_definition(main: dict[str, Any]) -> None:
    first, second = "/tmp/ipykernel_1/0.py", "/tmp/ipykernel_1/1.py"  # noqa: S108
    assert file_of_class(main["Shop"]) == first
    assert file_of_class(main["Shop"].Till) == first
    assert file_of_class(main["Colour"]) == first
    assert file_of_class(main["Plain"]) == second  # defined twice: the later one holds
    assert file_of_class(type("Nowhere", (), {})) is None
    assert file_of_class(type("Nowhere", (), {"f": len})) is None


def test_sources_travel_with_what_is_pickled_by_value(main: dict[str, Any]) -> None:
    task = pack(main["price"], (main["Shop"](), main["Shop"].Till, main["Colour"].RED), pool="p")
    assert (task.code.sources, task.code.classes) == WANTED
    assert list(pack(main["price"], (1,), pool="p").code.sources) == ["/tmp/ipykernel_1/0.py"]  # noqa: S108
    assert pack(len, ([],), pool="p").code.sources == {}
    assert pack(main["price"], (1,), pool="p").digest != pack(main["price"], (main["Plain"](),), pool="p").digest


def test_in_a_worker_functions_and_classes_have_their_source(main: dict[str, Any], worker: None) -> None:
    kinds = [main["price"], main["Shop"], main["Shop"].Till, main["Plain"], main["Colour"]]
    with pytest.raises((OSError, TypeError), match=r"source code|could not get|not found"):  # the last is what DSPy makes of it
        inspect.getsource(main["Shop"])
    install(*WANTED)
    install(*WANTED)
    sources = [inspect.getsource(kind) for kind in kinds]
    assert [source.splitlines()[0].strip() for source in sources] == [
        "def price(n):",
        "class Shop(Plain):",
        "class Till:",
        "class Plain:",
        "class Colour(enum.Enum):",
    ]
    assert "y = 4" in sources[3]
    assert inspect.getfile(Pool).endswith("_pool.py")
    assert inspect.getsource(install).startswith("def install")


def test_tracebacks_of_workers_show_the_lines_of_the_cell(main: dict[str, Any], worker: None) -> None:
    install(*WANTED)
    with pytest.raises(ZeroDivisionError) as raised:
        main["price"](0)
    with pytest.raises(ZeroDivisionError) as caught:
        decode(encode_error(raised.value), pool="p", worker="p-0", label="price")
    assert "return 1 / n" in caught.value.__notes__[0]


def test_a_worker_remembers_so_many_cells(worker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sources, "REMEMBERED", 2)
    for number in range(4):
        install({f"<cell {number}>": "x"}, {f"K{number}": f"<cell {number}>"})
    assert list(linecache.cache) == ["<cell 2>", "<cell 3>"]
    assert list(_sources._classes) == ["K2", "K3"]


def test_doctests_are_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "<doctest some[0]>"
    lines = {name: ["def f(): return 1\n"]}
    monkeypatch.setattr(linecache, "getlines", lambda file, *_: lines.get(file, []))
    assert cell(name) == "def f(): return 1\n"
    assert cell("<doctest other[0]>") is None
    code = compile(lines[name][0], name, "exec")
    space: dict[str, Any] = {}
    exec(code, space)  # noqa: S102
    assert sources_of([space["f"]]) == ({name: "def f(): return 1\n"}, {})


NOTEBOOK = """
import asyncio, pickle, sys
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
run = shell.run_cell(CELL)
run.raise_error()
from dspex_lab.pools._carry import pack
task = pack(shell.user_ns["refined"], (), pool="p")
sys.stdout.buffer.write(pickle.dumps(task))
"""

CELL = '''
import dspy

class Ask(dspy.Signature):
    """Answer in one word."""
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()

class Shop(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict(Ask)

    def forward(self, question):
        return self.ask(question=question)

def short(args, prediction):
    # how short it is
    return 1.0 / len(prediction.answer)

def refined():
    import inspect
    from dspy.propose.utils import get_dspy_source_code
    from dspy.utils.dummies import DummyLM

    answers = [{"answer": "a long one"}, {"discussion": "d", "advice": {"ask": "be brief"}}, {"answer": "short"}] * 4
    lm = DummyLM(answers)
    with dspy.context(lm=lm):
        refine = dspy.Refine(Shop(), N=2, reward_fn=short, threshold=1.0)
        answer = refine(question="?").answer
    return {
        "answer": answer,
        "module": refine.module_code,
        "reward": refine.reward_fn_code,
        "proposer": get_dspy_source_code(Shop()),
        "signature": inspect.getsource(Ask),
        "asked": str(lm.history),
    }
'''


def test_refine_and_the_program_aware_proposer_work_in_a_worker_on_what_was_defined_in_a_cell(general: Pool) -> None:
    """The cell runs in an IPython of its own; what it defines is called in a worker of the pool."""
    script = f"CELL = {CELL!r}\n{NOTEBOOK}"
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert made.returncode == 0, made.stderr.decode()
    task = pickle.loads(made.stdout[made.stdout.index(b"\x80\x04") if made.stdout[:2] != b"\x80\x04" else 0 :])  # noqa: S301
    [name] = task.code.sources
    assert name.startswith("<ipython-input-")
    got = asyncio.run(general.call(run_there, task))
    assert got["answer"] == "short"
    assert "self.ask(question=question)" in got["module"]
    assert "# how short it is" in got["reward"]
    assert "class Shop(dspy.Module):" in got["proposer"]
    assert got["signature"].startswith("class Ask(dspy.Signature):")
    assert "how short it is" in got["asked"]  # Refine's own question had the source


def run_there(task: Any) -> Any:
    """In the worker: as its host does."""
    from dspex_lab.pools._carry import decode
    from dspex_lab.pools._host import Host

    return decode(Host().work(task.call("1", send=True)), pool="p", worker="w", label="refined")


def test_a_cell_of_this_process_has_its_source_in_a_worker(general: Pool) -> None:
    source = textwrap.dedent(
        """
        class Here:
            z = 26

        def look():
            import inspect
            return inspect.getsource(Here), inspect.getsource(look)
        """
    )
    name = "<ipython-input-1-test>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, name, "exec"), space)  # noqa: S102
    one, two = asyncio.run(general.call(space["look"]))
    assert one == "class Here:\n    z = 26\n"
    assert two.startswith("def look():")
    del linecache.cache[name]
