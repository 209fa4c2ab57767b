"""A function whose parameters have other defaults."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from dspex_lab.errors import PipelineError, did_you_mean
from dspex_lab.pipelines._modules import is_async


class Tuned:
    """A step's function with other values for parameters that nobody gives; a run that gives them has its own.

    To the engine it is the function: the same fields, name and source. Two of the same function and values share the answers
    that a step has cached, and it travels as the function and the values.

    Args:
        function: what it calls.
        values: by parameter.
    """

    def __init__(self, function: Callable[..., Any], values: Mapping[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self.function, self.values = function, dict(values)
        signature = inspect.signature(function)
        parameters = [p.replace(default=self.values[n]) if n in self.values else p for n, p in signature.parameters.items()]
        self.__signature__ = signature.replace(parameters=parameters)

    def __call__(self, **fields: Any) -> Any:
        return self.function(**{**self.values, **fields})

    @property
    def __code__(self) -> Any:
        return getattr(self.function, "__code__", None)

    def cache_token(self) -> tuple[Any, ...]:
        """Return what tells this from other functions."""
        return (self.function, tuple(sorted(self.values.items())))

    def __eq__(self, other: object) -> bool:
        return self.cache_token() == other.cache_token() if isinstance(other, Tuned) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.function)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.function, self.values))

    def __repr__(self) -> str:
        given = ", ".join(f"{n}={v!r}" for n, v in self.values.items())
        return f"{getattr(self.function, '__name__', self.function)}({given})"


class TunedAsync(Tuned):
    """The same of a function whose answer is awaited."""

    async def __call__(self, **fields: Any) -> Any:
        return await self.function(**{**self.values, **fields})


def tuned(function: Callable[..., Any], name: str, value: Any) -> Callable[..., Any]:
    """Return ``function`` with another default of a parameter; itself where that is the one it was written with.

    Raises:
        PipelineError: it has no such parameter.
    """
    base, values = (function.function, function.values) if isinstance(function, Tuned) else (function, {})
    written = inspect.signature(base).parameters
    if name not in written:
        raise PipelineError(
            f"The function {getattr(base, '__name__', base)!r} has no parameter {name!r}.{did_you_mean(name, written)}",
            hint=f"It has {', '.join(written) or 'none'}.",
        )
    every = {n: v for n, v in {**values, name: value}.items() if not _same(written[n].default, v)}
    if not every:
        return base
    return (TunedAsync if is_async(base) else Tuned)(base, every)


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)
