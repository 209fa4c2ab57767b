"""``SandboxInterpreter`` is what DSPy calls a CodeInterpreter: the same tests over ours and, where Deno is, over DSPy's."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterator
from typing import Any

import dspy
import pytest
from dspy.primitives.code_interpreter import CodeExecutionError, CodeInterpreter, CodeInterpreterError, FinalOutput
from dspy.utils.callback import BaseCallback
from sandbox_helpers import needs_sandbox

from dspex_lab.security.interpreter import SandboxInterpreter

# DSPy's interpreter leaves its pipes open.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@functools.cache
def _no_deno() -> str | None:
    """Why DSPy's own interpreter cannot be tried here; None where it can."""
    from dspex_lab.security.interpreter._deno import deno_version

    if deno_version() is None:
        return 'Deno is not installed (pip install "dspy[deno]")'
    try:
        with dspy.PythonInterpreter() as interpreter:
            interpreter.start()
    except CodeInterpreterError as error:
        return f"Deno cannot load DSPy's runner here: {str(error)[:200]}"
    return None


@pytest.fixture(params=[pytest.param("ours", marks=needs_sandbox), "dspy"])
def make(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """What makes interpreters; all are shut down afterwards."""
    if request.param == "dspy" and _no_deno() is not None:
        pytest.skip(str(_no_deno()))
    made: list[Any] = []

    def one(**options: Any) -> Any:
        made.append(SandboxInterpreter(**options) if request.param == "ours" else dspy.PythonInterpreter(**options))
        return made[-1]

    yield one
    for each in made:
        each.shutdown()


def test_it_is_a_code_interpreter(make: Callable[..., Any]) -> None:
    assert isinstance(make(), CodeInterpreter)
    assert isinstance(make().execution_instructions, str)


def test_the_last_expression_is_the_value_and_else_what_was_printed(make: Callable[..., Any]) -> None:
    interpreter = make()
    assert interpreter.execute("1 + 1") == 2
    assert interpreter.execute("print('a'); print('b')") == "a\nb\n"
    assert interpreter.execute("print('a')\n[1, 'x', None, 2.5, True]") == [1, "x", None, 2.5, True]
    assert interpreter("x = 1") in (None, "")


def test_names_stay_from_one_execution_to_the_next(make: Callable[..., Any]) -> None:
    interpreter = make()
    interpreter.execute("import math\nx = 20\ndef double(n):\n    return 2 * n")
    assert interpreter.execute("double(x) + math.floor(2.5)") == 42


@pytest.mark.parametrize(
    "value",
    [None, True, 3, 2.5, 'ünïcödé 🎉 \'quotes\' """ \\', [1, [2]], {"a": {"b": [1]}}, "x" * 100_000],
    ids=["none", "true", "int", "float", "text", "list", "dict", "long"],
)
def test_variables_reach_the_code(make: Callable[..., Any], value: Any) -> None:
    assert make().execute("[x]", {"x": value}) == [value]


def test_dicts_keep_keys_that_are_no_text_and_odd_numbers_stay(make: Callable[..., Any]) -> None:
    interpreter = make()
    assert interpreter.execute("x[1]", {"x": {1: "one"}}) == "one"
    assert interpreter.execute("x == float('inf')", {"x": float("inf")}) is True
    assert interpreter.execute("sorted(x)", {"x": {2, 1}}) == [1, 2]


@pytest.mark.parametrize("name", ["1a", "for", "a b"])
def test_a_variable_that_is_no_name_is_refused(make: Callable[..., Any], name: str) -> None:
    interpreter = make()
    with pytest.raises(CodeInterpreterError) as caught:
        interpreter.execute("1", {name: 1})
    assert not isinstance(caught.value, CodeExecutionError)
    assert interpreter.execute("1") == 1


def test_a_value_without_a_form_is_refused(make: Callable[..., Any]) -> None:
    with pytest.raises(CodeInterpreterError):
        make().execute("1", {"x": object()})


def test_what_is_no_python_is_a_syntax_error_and_the_session_lives(make: Callable[..., Any]) -> None:
    interpreter = make()
    interpreter.execute("x = 5")
    with pytest.raises(SyntaxError):
        interpreter.execute("def f(:\n  pass")
    assert interpreter.execute("x") == 5


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("1 / 0", ("ZeroDivisionError", "division by zero")),
        ("missing + 1", ("NameError", "missing")),
        ("{}['k']", ("KeyError", "k")),
    ],
)
def test_the_codes_own_error_is_named_for_the_model(make: Callable[..., Any], code: str, words: tuple[str, ...]) -> None:
    interpreter = make()
    with pytest.raises(CodeExecutionError) as caught:
        interpreter.execute(f"x = 5\n{code}")
    assert all(word in str(caught.value) for word in words)
    assert interpreter.execute("x") == 5


def test_submit_ends_the_execution_with_its_value(make: Callable[..., Any]) -> None:
    interpreter = make()
    assert interpreter.execute("SUBMIT({'a': [1]})\nraise ValueError") == FinalOutput({"output": {"a": [1]}})
    assert interpreter.execute("try:\n    SUBMIT(3)\nexcept Exception:\n    pass") == FinalOutput({"output": 3})


def test_submit_takes_the_fields_it_was_told(make: Callable[..., Any]) -> None:
    interpreter = make(output_fields=[{"name": "answer", "type": "str"}, {"name": "score"}])
    assert interpreter.execute("SUBMIT('a', 2)") == FinalOutput({"answer": "a", "score": 2})
    assert interpreter.execute("SUBMIT(score=2, answer='a')") == FinalOutput({"answer": "a", "score": 2})
    with pytest.raises(CodeExecutionError, match=r"SUBMIT|argument"):
        interpreter.execute("SUBMIT('a')")


def test_tools_are_functions_of_the_code(make: Callable[..., Any]) -> None:
    asked: list[Any] = []

    def search(query: str, k: int = 3) -> list[str]:
        asked.append((query, k))
        return [query] * k

    async def later(n: int) -> dict[str, int]:
        await asyncio.sleep(0)
        return {"n": n}

    interpreter = make(tools={"search": search, "later": later})
    assert interpreter.execute("search('a', k=2) + search(query='b', k=1)") == ["a", "a", "b"]
    assert asked == [("a", 2), ("b", 1)]
    assert interpreter.execute("later(4)['n']") == 4


def test_tools_may_be_added_to_a_living_session_as_rlm_does(make: Callable[..., Any]) -> None:
    interpreter = make()
    interpreter.execute("x = 1")
    interpreter.tools.update({"add": lambda a, b: a + b})
    interpreter.output_fields = [{"name": "total"}]
    if hasattr(interpreter, "_tools_registered"):
        interpreter._tools_registered = False
    assert interpreter.execute("SUBMIT(add(x, 2))") == FinalOutput({"total": 3})


def test_what_a_tool_raises_can_be_caught_and_else_fails_the_code(make: Callable[..., Any]) -> None:
    def broken() -> None:
        raise ValueError("no such thing")

    interpreter = make(tools={"broken": broken})
    caught = "try:\n    broken()\nexcept RuntimeError as error:\n    found = str(error)\nfound"
    assert "no such thing" in interpreter.execute(caught)
    with pytest.raises(CodeExecutionError, match="no such thing"):
        interpreter.execute("broken()")


def test_a_tool_cannot_run_code_in_the_interpreter_that_waits_for_it(make: Callable[..., Any]) -> None:
    interpreter = make()
    interpreter.tools["again"] = lambda: interpreter.execute("1")
    with pytest.raises(CodeExecutionError, match="tool"):
        interpreter.execute("again()")


def test_after_shutdown_it_is_of_no_use(make: Callable[..., Any]) -> None:
    interpreter = make()
    with interpreter:
        interpreter.start()
        interpreter.start()
        assert interpreter.execute("1") == 1
    interpreter.shutdown()
    for use in (interpreter.start, lambda: interpreter.execute("1")):
        with pytest.raises(CodeInterpreterError) as caught:
            use()
        assert not isinstance(caught.value, CodeExecutionError)


def test_callbacks_hear_of_each_operation_once(make: Callable[..., Any]) -> None:
    heard: list[str] = []

    class Hearing(BaseCallback):
        def on_interpreter_execute_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
            heard.append(f"execute {inputs['code']}")

        def on_interpreter_execute_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
            heard.append(f"executed {outputs}")

        def on_interpreter_tool_call_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
            heard.append(f"tool {outputs}")

        def on_interpreter_shutdown_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
            heard.append("shutdown")

    interpreter = make(tools={"one": lambda: 1}, callbacks=[Hearing()])
    interpreter.execute("one()")
    interpreter.shutdown()
    assert heard == ["execute one()", "tool 1", "executed 1", "shutdown"]
