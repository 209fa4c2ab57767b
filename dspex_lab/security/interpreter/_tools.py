"""Tools of a program as code in the sandbox can call them: by position or name, sync or async, JSON there and back."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import keyword
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from dspex_lab.errors import ConfigurationError, did_you_mean

#: What the sandbox itself puts into the namespace of the code.
RESERVED = frozenset({"SUBMIT", "__builtins__", "__name__"})


def check_names(names: Iterable[Any], what: str, taken: Iterable[str] = ()) -> None:
    """Refuse what cannot be a name in the code.

    Raises:
        ConfigurationError: a name is no identifier, is a word of Python, or is taken.
    """
    used = RESERVED.union(taken)
    for name in names:
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name) or name in used:
            why = "is taken" if name in used else "is no name"
            raise ConfigurationError(
                f"The {what} {name!r} {why} in sandboxed code.", key=what, actual=name, hint="Give it another name."
            )


def call_tool(tools: Mapping[str, Callable[..., Any]], name: str, args: Iterable[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return what a tool gives; a coroutine is awaited, in a thread of its own where a loop runs in this one.

    Arguments by position become named ones where the tool's parameters have names: many of DSPy's tools take named ones only.

    Raises:
        ConfigurationError: there is no such tool. Else what the tool raises, also TypeError where the arguments do not fit.
    """
    tool = tools.get(name)
    if tool is None:
        raise ConfigurationError(f"There is no tool {name!r}.{did_you_mean(name, tools)}", key="tools", actual=name)
    given, named = _bound(tool, tuple(args), dict(kwargs))
    value = tool(*given, **named)
    return _finished(value) if inspect.isawaitable(value) else value


def _bound(tool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if not args:
        return args, kwargs
    try:
        # A dspy.Tool takes **kwargs; its function says what they are called.
        signature = inspect.signature(getattr(tool, "func", tool))
    except (TypeError, ValueError):
        return args, kwargs
    bound = signature.bind(*args, **kwargs)
    by_place = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL}
    if any(signature.parameters[name].kind in by_place for name in bound.arguments):
        return bound.args, bound.kwargs
    named: dict[str, Any] = {}
    for parameter, value in bound.arguments.items():
        named.update(value if signature.parameters[parameter].kind is inspect.Parameter.VAR_KEYWORD else {parameter: value})
    return (), named


def _finished(work: Awaitable[Any]) -> Any:
    async def one() -> Any:
        return await work

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(one())
    found: list[Any] = []
    problem: list[BaseException] = []

    def there() -> None:
        try:
            found.append(asyncio.run(one()))
        except BaseException as error:  # it is raised again in the thread that asked
            problem.append(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(there,), name="dspex-sandbox-tool", daemon=True)
    thread.start()
    thread.join()
    if problem:
        raise problem[0]
    return found[0]
