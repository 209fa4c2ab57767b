"""What the tests of guarded calls share: a Lab that waits for nothing, a model at a faulty server, and the ways to run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import dspy
import pytest

import dspex_lab as dx
from dspex_lab.events import Event, LMCall
from dspex_lab.lms.calls._gateway import default_policy
from dspex_lab.testing import FaultyServer

KEY = "sk-test-0123456789abcdefghij"
SIGNATURE = "message -> label"
ANSWER = {"label": "billing"}
#: How something is run: in the caller's thread, on an event loop, streamed; by the native predictor, or by DSPy's module.
WAYS = ("run", "arun", "stream", "dspy", "adspy", "dspy stream")


def without_waits(lab: dx.Lab, **parts: Any) -> dx.Lab:
    """Let the default policy wait for nothing between attempts; ``parts`` replace parts of it."""
    policy = default_policy()
    assert policy.retry is not None
    lab.gateway.guards.use(replace(policy, **{"retry": replace(policy.retry, wait=0.0, jitter=0.0), **parts}))
    return lab


def model_at(server: FaultyServer, name: str = "openai/any-model", **options: Any) -> dspy.LM:
    return dspy.LM(name, api_base=server.url, api_key=KEY, **{"cache": False, "num_retries": 0, **options})


def run(lab: dx.Lab, way: str, x: Any = SIGNATURE, *, options: Any = None, **fields: Any) -> dx.Result:
    fields = fields or {"message": "Where is my card?"}
    if "dspy" in way and isinstance(x, str):
        x = dspy.Predict(x)
    if way in ("arun", "adspy"):
        return asyncio.run(lab.arun(x, options=options, **fields))
    if "stream" in way:
        stream = lab.stream(x, options=options, **fields)
        list(stream)
        assert stream.result is not None
        return stream.result
    return lab.run(x, options=options, **fields)


async def cancelled(lab: dx.Lab, server: FaultyServer) -> None:
    """Cancel a run whose request has reached the server."""
    task = asyncio.ensure_future(lab.arun(SIGNATURE, message="x"))
    assert await asyncio.to_thread(server.reached, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def closed_under(lab: dx.Lab, work: Callable[[], Any], begun: Callable[[], bool]) -> Any:
    """Close a Lab under the work of another thread; return what that gave or raised."""
    caught: list[Any] = []

    def doing() -> None:
        try:
            caught.append(work())
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=doing)
    thread.start()
    assert begun()
    lab.close()
    thread.join(30)
    return caught[0]


class Seen:
    """The LM calls and events that a Lab tells of."""

    def __init__(self, lab: dx.Lab) -> None:
        self.records: list[Any] = []
        lab.bus.subscribe(self.records.append, live=False)

    @property
    def calls(self) -> list[LMCall]:
        return [r for r in self.records if isinstance(r, LMCall)]

    def events(self, *names: str) -> list[Event]:
        return [r for r in self.records if isinstance(r, Event) and (r.name in names if names else True)]

    def names(self, *prefixes: str) -> list[str]:
        return [e.name for e in self.events() if e.name.startswith(prefixes)]


def only(result: dx.Result) -> Any:
    """Return the outcome of the only step."""
    (outcome,) = result.steps.values()
    return outcome


@pytest.fixture
def quick(cache_in_memory: None) -> Iterator[dx.Lab]:
    """A Lab that waits for nothing between attempts, and a cache of DSPy's that no other test has filled."""
    with dx.Lab(":memory:") as lab:
        yield without_waits(lab)


def breaker_of(lab: dx.Lab) -> Any:
    return lab.gateway.guard(lab.lm).breaker
