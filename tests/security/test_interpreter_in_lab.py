"""DSPy's modules that run model-written code, in a Lab: in our sandbox, told, on a pool as in the kernel."""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import dspy
import pandas as pd
import pytest
from sandbox_helpers import needs_sandbox

import dspex_lab as dx
from dspex_lab.security.interpreter import SandboxInterpreter
from dspex_lab.testing import scripted_lm

pytestmark = needs_sandbox


def quiet(make: Callable[..., Any]) -> Callable[..., Any]:
    """DSPy calls two of these modules deprecated each time one is made."""

    @functools.wraps(make)
    def made(*args: Any, **kwargs: Any) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*is deprecated")
            return make(*args, **kwargs)

    return made


program_of_thought = quiet(dspy.ProgramOfThought)
code_act = quiet(dspy.CodeAct)


@pytest.fixture(scope="module")
def lab() -> Iterator[dx.Lab]:
    # One small worker is enough.
    with dx.Lab(":memory:", dx.Config(pools={"general": {"workers": 1, "memory": "600 MB"}})) as made:
        yield made


def fenced(code: str) -> str:
    return f"```python\n{code}\n```"


def thinking(*codes: str, **answer: Any) -> list[dict[str, Any]]:
    """The answers a ProgramOfThought gets: programs, then what is read off the last one's output."""
    return [*({"reasoning": "so", "generated_code": fenced(code)} for code in codes), {"reasoning": "so", **answer}]


def acting(*codes: str, **answer: Any) -> list[dict[str, Any]]:
    steps = [{"generated_code": fenced(code), "finished": code is codes[-1]} for code in codes]
    return [*steps, {"reasoning": "so", **answer}]


def exploring(*codes: str) -> list[dict[str, Any]]:
    return [{"reasoning": "so", "code": fenced(code)} for code in codes]


def run(lab: dx.Lab, module: Any, answers: Any, pool: str | None = None, **fields: Any) -> tuple[Any, Any]:
    lm = scripted_lm(answers)
    with dspy.context(lm=lm):
        result = lab.run(dx.step(module, pool=pool), **fields)
    return result, lm


def told(lab: dx.Lab, run_id: str, name: str = "sandbox.run") -> list[dict[str, Any]]:
    lab.store.flush()
    found = lab.sql("select run_id, name, data from events order by time")
    found = found[(found.run_id == run_id) & (found.name == name)]
    return [json.loads(data) if isinstance(data, str) else data for data in found["data"]]


# --- ProgramOfThought -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", [None, "general"])
def test_program_of_thought_runs_its_program_in_the_sandbox(lab: dx.Lab, pool: str | None) -> None:
    module = program_of_thought("question -> answer: int")
    result, lm = run(lab, module, thinking("SUBMIT(sum(range(10)))", answer=45), pool, question="What is it?")
    assert (result.status, result.outputs) == ("complete", {"answer": 45}), result.error
    (event,) = told(lab, result.run_id)
    assert (event["outcome"], event["tools"]) == ("submitted", 0)
    assert "landlock" in event["level"]
    assert event["seconds"] > 0
    if pool is None:
        assert 'output": 45' in lm.history[-1]["messages"][-1]["content"]


def test_a_program_that_fails_is_mended_with_its_error_in_hand(lab: dx.Lab) -> None:
    module = program_of_thought("question -> answer: int")
    result, lm = run(lab, module, thinking("SUBMIT(1 / 0)", "SUBMIT(7)", answer=7), question="?")
    assert result.outputs == {"answer": 7}, result.error
    assert "ZeroDivisionError: division by zero" in lm.history[1]["messages"][-1]["content"]
    assert [event["outcome"] for event in told(lab, result.run_id)] == ["failed", "submitted"]


@pytest.mark.parametrize(
    ("attack", "outcome"),
    [
        ("import os\nos._exit(0)", "died"),
        ("open('/etc/passwd').read()", "violation"),
        ("import socket\nsocket.socket().connect(('127.0.0.1', 80))", "violation"),
        ("x = 'x' * 10**11", "out of memory"),
    ],
)
def test_a_program_that_attacks_is_told_so_and_may_be_mended(lab: dx.Lab, attack: str, outcome: str) -> None:
    module = program_of_thought("question -> answer: int")
    result, _ = run(lab, module, thinking(attack, "SUBMIT(7)", answer=7), question="?")
    assert result.outputs == {"answer": 7}, result.error
    assert [event["outcome"] for event in told(lab, result.run_id)] == [outcome, "submitted"]


def test_a_program_that_never_ends_is_ended(lab: dx.Lab) -> None:
    module = program_of_thought(
        "question -> answer: int", max_iters=2, interpreter_factory=SandboxInterpreter.factory(timeout=4)
    )
    result, _ = run(lab, module, thinking("while True: pass", "SUBMIT(7)", answer=7), question="?")
    assert result.outputs == {"answer": 7}, result.error
    assert [event["outcome"] for event in told(lab, result.run_id)] == ["timeout", "submitted"]


def test_what_cannot_be_mended_fails_the_step_by_name(lab: dx.Lab) -> None:
    module = program_of_thought("question -> answer: int", max_iters=2)
    result, _ = run(lab, module, thinking("1 / 0", "None['x']", answer=7), question="?")
    assert result.status == "failed"
    assert "TypeError" in str(result.error)


# --- CodeAct ----------------------------------------------------------------------------------------------------------


def double(n: int) -> int:
    """Return twice as much."""
    return 2 * n


@pytest.mark.parametrize("pool", [None, "general"])
def test_code_act_has_its_functions_and_its_state(lab: dx.Lab, pool: str | None) -> None:
    module = code_act("n: int -> answer: int", tools=[double])
    answers = acting("x = double(21)\nprint(x)", "import os; os._exit(1)", "print(double(x))", answer=84)
    result, _ = run(lab, module, answers, pool, n=21)
    assert (result.status, result.outputs["answer"]) == ("complete", 84), result.error
    outcomes = [event["outcome"] for event in told(lab, result.run_id)]
    assert outcomes == ["complete", "complete", "died", "complete"]


# --- RLM --------------------------------------------------------------------------------------------------------------


def rlm(*args: Any, **kwargs: Any) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*experimental")
        return dspy.RLM(*args, **kwargs)


@pytest.mark.parametrize("pool", [None, "general"])
def test_rlm_explores_its_context_with_tools_and_a_model(lab: dx.Lab, pool: str | None) -> None:
    def find(text: str, word: str) -> int:
        return text.find(word)

    module = rlm("context, query -> answer, where: int", tools=[find], max_iters=5)
    answers = exploring(
        "print(len(context), query)",
        "at = find(context, word='needle')\nprint(at)",
        "missing_name",
        "SUBMIT(answer=context[at:at + 6], where=at)",
    )
    result, _ = run(lab, module, answers, pool, context="ünï " * 1000 + "needle", query="Where is it?")
    assert result.status == "complete", result.error
    assert (result.outputs["answer"], result.outputs["where"]) == ("needle", 4000)
    events = told(lab, result.run_id)
    # The first is DSPy's own: it puts its stand-in for dspy there.
    assert [event["outcome"] for event in events] == ["complete", "complete", "complete", "failed", "submitted"]
    assert [event["tools"] for event in events] == [0, 0, 1, 0, 0]


def test_rlm_asks_a_model_from_its_code_and_is_not_asked_again_after_a_death(lab: dx.Lab) -> None:
    asked: list[str] = []

    def script(prompt: Any) -> Any:
        text = prompt.text
        if text.startswith("What is"):
            asked.append(text)
            return "four"
        return exploring("said = llm_query('What is 2 + 2?')", "import os; os._exit(1)", "import dspy\nSUBMIT(said)")[
            script.turn()
        ]

    turns = iter(range(10))
    script.turn = lambda: next(turns)  # type: ignore[attr-defined]
    result, _ = run(lab, rlm("query -> answer"), script, query="?")
    assert (result.status, result.outputs) == ("complete", {"answer": "four"}), result.error
    assert asked == ["What is 2 + 2?"]
    assert [event["outcome"] for event in told(lab, result.run_id)] == ["complete", "complete", "died", "submitted"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # DSPy's own, of the model it lends to sandboxed code
def test_rlm_builds_sub_agents_in_the_sandbox(lab: dx.Lab) -> None:
    def script(prompt: Any) -> Any:
        if "repl_history" in prompt.question:
            return {"reasoning": "so", "code": fenced("import dspy\nSUBMIT(dspy.Predict('q -> a')(q='hi').a)")}
        return {"a": "hello"}

    result, _ = run(lab, rlm("query -> answer"), script, query="?")
    assert (result.status, result.outputs) == ("complete", {"answer": "hello"}), result.error


def test_rlm_has_a_frame_as_a_frame(lab: dx.Lab) -> None:
    class Total(dspy.Signature):
        """Add up."""

        rows: pd.DataFrame = dspy.InputField()
        total: int = dspy.OutputField()

        model_config: ClassVar[dict[str, Any]] = {"arbitrary_types_allowed": True}

    result, _ = run(lab, rlm(Total), exploring("SUBMIT(int(rows.n.sum()))"), rows=pd.DataFrame({"n": [1, 2, 39]}))
    assert (result.status, result.outputs) == ("complete", {"total": 42}), result.error


def test_rlm_shows_the_model_a_cut_flood(lab: dx.Lab) -> None:
    module = rlm("query -> answer", max_output_chars=200)
    result, lm = run(lab, module, exploring("print('x' * 3_000_000)", "SUBMIT('a')"), query="?")
    assert result.status == "complete", result.error
    shown = lm.history[1]["messages"][-1]["content"]
    assert "characters omitted" in shown
    assert len(shown) < 5_000


def test_rlm_does_not_stop_the_loop_it_is_asked_on() -> None:
    from dspex_lab.pipelines._modules import facts_of

    assert facts_of(rlm("query -> answer")).acall is False


# --- whose interpreter ------------------------------------------------------------------------------------------------


def test_outside_a_lab_dspy_is_as_it_was(lab: dx.Lab) -> None:
    from dspy.primitives.code_interpreter import resolve_interpreter_factory

    run(lab, program_of_thought("question -> answer"), thinking("SUBMIT(1)", answer="1"), question="?")
    assert resolve_interpreter_factory() is dspy.PythonInterpreter


class Counting(SandboxInterpreter):
    made = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        type(self).made += 1


def test_an_interpreter_of_ones_own_is_kept(lab: dx.Lab) -> None:
    Counting.made = 0
    answers = thinking("SUBMIT(1)", answer="1")
    run(lab, program_of_thought("question -> answer", interpreter_factory=Counting), answers, question="?")
    assert Counting.made == 1
    with dspy.context(interpreter_factory=Counting):
        run(lab, program_of_thought("question -> answer"), answers, question="?")
    assert Counting.made == 2


def test_where_there_is_no_sandbox_the_step_is_refused_and_says_why(lab: dx.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from dspex_lab.security import Protection
    from dspex_lab.security.interpreter import _opening

    nothing = Protection(landlock=0, seccomp=False, rlimits=True, missing=("Landlock (no files): Linux 5.13 is needed",))
    monkeypatch.setattr(_opening, "protection", lambda: nothing)
    monkeypatch.setattr(_opening, "_deno", lambda: None)
    module = program_of_thought("question -> answer")
    result, lm = run(lab, module, thinking("SUBMIT(1)", answer="1"), question="?")
    assert result.status == "failed"
    assert "Landlock" in str(result.error)
    (refused,) = told(lab, result.run_id, "sandbox.refuse")
    assert refused["level"] == "none"
    assert told(lab, result.run_id) == []
    assert lm.engine.calls == 1, "nothing was asked again: it is not the model's to mend"


def kept_there() -> tuple[bool, int | None]:
    """Whether this worker keeps the models it loads, and its warm Python."""
    from dspex_lab.lms._submit import stays
    from dspex_lab.security.sandbox import _warm

    return stays(), None if _warm._zygote is None else _warm._zygote.pid


def test_what_steps_have_loaded_in_a_worker_is_there_for_the_next_ones(lab: dx.Lab) -> None:
    look = dx.pipeline("look", found=dx.step(kept_there, pool="general"))
    coded = dx.pipeline("coded", answer=dx.step(dx.code("program"), pool="general"))
    seen = []
    for _ in range(2):
        assert lab.run(coded, program="1 + 1").outputs == {"answer": 2}
        seen.append(lab.run(look).outputs["found"])
    (stays, pid), again = seen
    assert stays
    assert pid is not None
    assert again == (stays, pid)
    assert kept_there()[0] is False, "only there"
