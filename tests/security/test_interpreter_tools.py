"""How a tool is called for code in the sandbox."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import dspy
import pytest

from dspex_lab.errors import ConfigurationError
from dspex_lab.security.interpreter._tools import call_tool, check_names

AROUND: contextvars.ContextVar[str] = contextvars.ContextVar("around", default="nothing")


def plain(a: int, b: int = 2, *, c: int = 3) -> list[int]:
    return [a, b, c]


def only_named(**kwargs: Any) -> dict[str, Any]:
    return kwargs


def by_place(a: int, /, *rest: int, **more: int) -> tuple[Any, ...]:
    return a, rest, more


async def slow(a: int) -> str:
    await asyncio.sleep(0)
    return f"{AROUND.get()} {a}"


TOOLS = {"plain": plain, "only_named": only_named, "by_place": by_place, "slow": slow, "tool": dspy.Tool(plain), "max": max}


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "value"),
    [
        ("plain", (1,), {}, [1, 2, 3]),
        ("plain", (1, 5), {"c": 6}, [1, 5, 6]),
        ("plain", (), {"a": 1, "b": 4}, [1, 4, 3]),
        ("only_named", (), {"x": 1}, {"x": 1}),
        ("by_place", (1, 2, 3), {"k": 4}, (1, (2, 3), {"k": 4})),
        ("tool", (7,), {"c": 8}, [7, 2, 8]),
        ("max", (1, 2), {}, 2),
    ],
)
def test_arguments_reach_the_tool(name: str, args: Any, kwargs: Any, value: Any) -> None:
    assert call_tool(TOOLS, name, args, kwargs) == value


def test_arguments_that_do_not_fit_are_the_codes_error() -> None:
    with pytest.raises(TypeError, match=r"unexpected|multiple|too many"):
        call_tool(TOOLS, "plain", (1, 2, 3, 4), {})


def test_an_unknown_tool_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"no tool 'plan'\. Did you mean 'plain'"):
        call_tool(TOOLS, "plan", (), {})


def test_a_coroutine_function_is_awaited_with_its_surroundings() -> None:
    AROUND.set("here")
    assert call_tool(TOOLS, "slow", (1,), {}) == "here 1"

    async def on_a_loop() -> Any:
        return call_tool(TOOLS, "slow", (2,), {})

    assert asyncio.run(on_a_loop()) == "here 2"


def test_what_a_coroutine_raises_is_raised() -> None:
    async def fails() -> None:
        raise KeyError("gone")

    async def on_a_loop() -> Any:
        return call_tool({"fails": fails}, "fails", (), {})

    for call in (lambda: call_tool({"fails": fails}, "fails", (), {}), lambda: asyncio.run(on_a_loop())):
        with pytest.raises(KeyError, match="gone"):
            call()


@pytest.mark.parametrize("name", ["1a", "for", "a b", "SUBMIT", "__builtins__", "taken", 3, ""])
def test_names_that_code_cannot_use_are_refused(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="in sandboxed code"):
        check_names(["fine", name], "variable", ["taken"])


def test_names_that_code_can_use_are_taken() -> None:
    check_names(["fine", "_x", "ünï"], "variable", ["taken"])
