"""What ``SandboxInterpreter`` does beyond DSPy's: limits, state that outlives its process, threads, loops and copies."""

from __future__ import annotations

import asyncio
import copy
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import pytest
from dspy.primitives.code_interpreter import CodeExecutionError, CodeInterpreter, CodeInterpreterError, FinalOutput
from sandbox_helpers import needs_sandbox

from dspex_lab import errors
from dspex_lab.security import Limits, protection
from dspex_lab.security.interpreter import SandboxInterpreter


@pytest.fixture
def ours() -> Iterator[SandboxInterpreter]:
    if protection().level != "full":
        pytest.skip(f"the kernel gives too little: {protection()}")
    with SandboxInterpreter(timeout=20) as interpreter:
        yield interpreter


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("while True: pass", errors.SandboxTimeout, r"within 4\.5 s"),
        ("x = bytearray(10**11)", errors.SandboxOutOfMemory, "memory"),
        ("import os\nos._exit(0)", errors.SandboxDied, ""),
        ("open('/etc/passwd').read()", errors.SandboxViolation, ""),
        ("import socket\nsocket.create_connection(('127.0.0.1', 9))", errors.SandboxViolation, ""),
        ("import subprocess\nsubprocess.run(['true'])", errors.SandboxViolation, ""),
        ("import os\nos.environ['HOME_OF_KEYS']", CodeExecutionError, "KeyError"),
    ],
    ids=["spin", "memory", "exit", "file", "socket", "program", "environment"],
)
@needs_sandbox
def test_code_that_breaks_a_rule_is_told_so_and_the_state_stays(
    code: str, kind: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME_OF_KEYS", "secret")
    asked: list[int] = []

    def count(n: int) -> int:
        asked.append(n)
        return len(asked)

    with SandboxInterpreter(tools={"count": count}, timeout=4.5 if "True" in code else 20) as interpreter:
        interpreter.execute("x = count(1)\ny = [x]")
        interpreter.execute("y.append(count(2))")
        with pytest.raises(CodeExecutionError) as failed:
            interpreter.execute(code)
        assert isinstance(failed.value, kind)
        assert re.search(words, str(failed.value))
        assert interpreter.execute("x, y") == [1, [1, 2]]
    assert asked == [1, 2], "a tool was asked again when the state was made again"


def test_what_failed_half_way_is_made_again_half_way(ours: SandboxInterpreter) -> None:
    with pytest.raises(CodeExecutionError):
        ours.execute("x = 1\n1 / 0\nx = 2")
    with pytest.raises(errors.SandboxDied):
        ours.execute("import os; os._exit(1)")
    assert ours.execute("x") == 1


def test_a_state_that_cannot_be_made_again_ends_the_interpreter() -> None:
    if protection().level != "full":
        pytest.skip("no sandbox")
    interpreter = SandboxInterpreter(tools={"a": lambda: 1, "b": lambda: 2}, timeout=20)
    # Which tool is asked hangs on an address, which is another one in another process.
    interpreter.execute("import os\nx = a() if os.getpid() else b()\ndef which():\n    return os.getpid()\nfirst = which()")
    entry = interpreter._journal._entries[0]
    entry.answers[0] = ("b", 2)
    with pytest.raises(errors.SandboxDied):
        interpreter.execute("os._exit(1)")
    with pytest.raises(CodeInterpreterError, match="could not be made again") as caught:
        interpreter.execute("x")
    assert isinstance(caught.value, errors.SandboxError)
    assert not isinstance(caught.value, CodeExecutionError)
    with pytest.raises(CodeInterpreterError, match="shut down"):
        interpreter.execute("x")


def test_errors_of_the_sandbox_travel(ours: SandboxInterpreter) -> None:
    with pytest.raises(errors.SandboxDied) as caught:
        ours.execute("import os; os._exit(1)")
    again = _pickled(caught.value)
    assert type(again) is type(caught.value)
    assert str(again) == str(caught.value)
    assert isinstance(again, CodeExecutionError)


def test_a_frame_is_a_frame_there(ours: SandboxInterpreter) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"x": [1, 2, 3], "word": ["ä", "b", None]})
    assert ours.execute("float(frame.x.mean())", {"frame": frame}) == 2.0
    assert ours.execute("frame.word.isna().sum().item()") == 1
    assert ours.execute("both['f'].shape[0] + both['n']", {"both": {"f": frame, "n": 1}}) == 4


@needs_sandbox
def test_without_packages_there_is_the_standard_library_alone() -> None:
    with SandboxInterpreter(packages=False, timeout=20) as interpreter:
        assert interpreter.execute("import json, statistics\nstatistics.mean([1, 3])") == 2
        with pytest.raises(CodeExecutionError, match="pydantic"):
            interpreter.execute("import pydantic")


@needs_sandbox
def test_a_flood_is_cut_and_says_so() -> None:
    with SandboxInterpreter(output=1000, timeout=20) as interpreter:
        printed = interpreter.execute("print('é' * 100_000)")
        assert len(printed) < 2000
        assert "more was printed" in printed


def test_several_threads_take_turns(ours: SandboxInterpreter) -> None:
    ours.execute("n = 0")
    gate = threading.Barrier(4)

    def count() -> None:
        gate.wait()
        for _ in range(5):
            ours.execute("n += 1")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ours.execute("n") == 20


def test_it_works_on_an_event_loop(ours: SandboxInterpreter) -> None:
    async def both() -> list[Any]:
        async with SandboxInterpreter(timeout=20) as other:
            return await asyncio.gather(ours.aexecute("1 + 1"), other.aexecute("2 + 2"))

    assert asyncio.run(both()) == [2, 4]


@needs_sandbox
def test_a_cancelled_execution_ends_its_process() -> None:
    begun = threading.Event()

    async def cancelled() -> None:
        interpreter = SandboxInterpreter(tools={"begun": begun.set}, timeout=60)
        work = asyncio.create_task(interpreter.aexecute("begun()\nwhile True: pass"))
        await asyncio.to_thread(begun.wait)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        # The thread is at its end as well: the interpreter can be used, and asyncio.run need not wait for it.
        assert await interpreter.aexecute("1") == 1
        interpreter.shutdown()

    asyncio.run(cancelled())


def test_an_interrupt_in_a_tool_goes_through_and_the_state_is_as_before(ours: SandboxInterpreter) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    ours.tools["stop"] = stop
    ours.execute("x = 1")
    with pytest.raises(KeyboardInterrupt):
        ours.execute("x = 2\nstop()")
    assert ours.execute("x") == 1


def _shout(text: str) -> str:
    return text.upper()


def _pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - our own


def _cloudpickled(value: Any) -> Any:
    return pickle.loads(cloudpickle.dumps(value))  # noqa: S301 - our own


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, _pickled, _cloudpickled])
@needs_sandbox
def test_a_copy_is_a_fresh_one_with_the_same_tools_and_limits(again: Callable[[Any], Any]) -> None:
    with SandboxInterpreter({"shout": _shout}, [{"name": "a"}], memory="100 MB", timeout=20) as interpreter:
        interpreter.execute("x = 1")
        with again(interpreter) as other:
            assert (other.limits, list(other.tools), other.output_fields) == (interpreter.limits, ["shout"], [{"name": "a"}])
            assert other.tools is not interpreter.tools
            with pytest.raises(CodeExecutionError, match="NameError"):
                other.execute("x")
            assert other.execute("SUBMIT(shout('a'))") == FinalOutput({"a": "A"})
        assert interpreter.execute("x") == 1


def test_limits_are_what_was_said() -> None:
    made = SandboxInterpreter(timeout=5, memory="1.5 GB", limits=Limits(output=7))
    assert (made.limits.seconds, made.limits.memory, made.limits.output) == (5, 1_500_000_000, 7)
    assert repr(SandboxInterpreter({"f": len}, timeout=5)).startswith("SandboxInterpreter(5 s, ")


@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"timeout": "soon"}, {"memory": "much"}, {"memory": 1}, {"output": True}])
def test_a_limit_that_is_none_is_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(errors.ConfigurationError):
        SandboxInterpreter(**wrong)
    with pytest.raises(errors.ConfigurationError):
        SandboxInterpreter.factory(**wrong)


@needs_sandbox
def test_a_factory_makes_new_ones_with_its_limits_and_tells_the_model() -> None:
    factory = _pickled(SandboxInterpreter.factory(timeout=7))
    one, other = factory(), factory()
    assert one is not other
    assert one.limits.seconds == other.limits.seconds == 7
    assert "7 s" in factory.execution_instructions
    assert repr(factory) == "SandboxInterpreter.factory(timeout=7)"
    assert not isinstance(factory, CodeInterpreter)


def test_code_must_be_a_text(ours: SandboxInterpreter) -> None:
    with pytest.raises(CodeInterpreterError, match="not a text"):
        ours.execute(3)  # type: ignore[arg-type]


@needs_sandbox
def test_a_kernel_that_does_not_hold_when_it_comes_to_it_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    from dspex_lab.security import Sandbox
    from dspex_lab.security.interpreter import watch_sandbox

    def fails(*args: Any, **kwargs: Any) -> Any:
        raise errors.SandboxUnavailable("The kernel did not hold a process to its limits.", level="none")

    monkeypatch.setattr(Sandbox, "run", fails)
    told: list[str] = []
    before = watch_sandbox(lambda what, data: told.append(what))
    try:
        interpreter = SandboxInterpreter()
        for use in (interpreter.start, lambda: interpreter.execute("1")):
            with pytest.raises(errors.SandboxUnavailable) as caught:
                use()
            assert isinstance(caught.value, CodeInterpreterError)
            assert not isinstance(caught.value, CodeExecutionError)
    finally:
        watch_sandbox(before)
    assert told == ["sandbox.refuse"] * 2
