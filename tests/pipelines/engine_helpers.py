"""Steps and looks at results that the tests of the engine share."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest
from pipeline_limits import in_time

import dspex_lab as dx


def alone(work: Callable[[], Any]) -> Any:
    """Run a coroutine on a loop of its own, and hold that it leaves no task and no complaint behind."""
    complaints: list[Any] = []

    async def go() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda loop, about: complaints.append(about))
        try:
            return await work()
        finally:
            assert asyncio.all_tasks() == {asyncio.current_task()}
            gc.collect()

    try:
        return in_time(lambda: asyncio.run(go()))
    finally:
        gc.collect()
        assert not complaints


check = dx.assert_


def double(n: int) -> int:
    return n * 2


async def double_at_once(n: int) -> int:
    return n * 2


def statuses(result: dx.Result) -> dict[str, str]:
    return {n: o.status for n, o in result.steps.items()}


def message_of(result: dx.Result) -> str:
    with pytest.raises(dx.PipelineError) as caught:
        result.raise_for_status()
    return str(caught.value).removeprefix(f"Run {result.run_id} ")
