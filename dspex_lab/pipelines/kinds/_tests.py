"""What ``when`` and ``loop`` ask of the fields: a condition as text, or a function of named fields."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines._execution import StepRun
from dspex_lab.pipelines._fields import StepField, function_shape


class Test:
    """A condition over fields.

    Args:
        test: text in the condition language, or a function (sync or async) of named fields.
        where: what it belongs to, for messages.

    Raises:
        PipelineError: the text is no condition, or the function's parameters cannot be matched to fields.
    """

    __test__ = False  # no test of pytest's

    def __init__(self, test: str | Callable[..., Any], where: str) -> None:
        from dspex_lab.native import Condition

        self.source = test
        if isinstance(test, str):
            self.condition: Condition | None = Condition(test)
            self.inputs = {n: StepField(n) for n in self.condition.names}
        elif callable(test) and not isinstance(test, type):
            self.condition, self.inputs = None, function_shape(where, test).inputs
        else:
            raise PipelineError(
                f"{where}: {test!r} is no condition.", hint='Give text such as "score > 0.8", or a function of named fields.'
            )

    async def holds(self, work: StepRun, fields: Mapping[str, Any]) -> bool:
        """Say whether it holds.

        Raises:
            PipelineError: the condition cannot be applied to the values of ``fields``.
        """
        given = {n: fields[n] for n in self.inputs if n in fields}
        if self.condition is not None:
            return self.condition.test(given)
        return bool(await work.call(self.source, given))  # type: ignore[arg-type]

    @property
    def plain(self) -> bool:
        """Say whether it can be asked without an event loop."""
        return self.condition is not None or not inspect.iscoroutinefunction(self.source)

    def __str__(self) -> str:
        return self.source if isinstance(self.source, str) else getattr(self.source, "__name__", "function")
