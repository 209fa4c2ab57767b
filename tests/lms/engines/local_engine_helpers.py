"""What the tests of LocalEngine share: settings, requests, and a look at each forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from dspy.lm15 import Config, Message, Request

from dspex_lab.lms.engines import LocalEngine

CPU = {"device": "cpu", "window": 0.0}


def ask(text: str = "Hello", *, system: str | None = None, **config: Any) -> Request:
    config = {"temperature": 0, "max_tokens": 12, **config}
    return Request(model="local/tiny", messages=(Message.user(text),), system=system, config=Config(**config))


def watched(engine: LocalEngine, before: Callable[[int], Any]) -> AbstractContextManager[list[int]]:
    """Have ``before`` called with the number of each forward pass; gives the batch size of each."""
    return passes_of(engine.load(), before)


@contextmanager
def passes_of(model: Any, before: Callable[[int], Any]) -> Iterator[list[int]]:
    """As ``watched``, of a model that is loaded; its forward passes are over afterwards."""
    passes: list[int] = []

    def hook(module: Any, args: Any, kwargs: Any) -> None:
        given = kwargs.get("input_ids")
        passes.append((args[0] if given is None else given).shape[0])
        before(len(passes))

    handle = model.weights.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield passes
    finally:
        handle.remove()
        assert model.idle(30)


def full_memory(number: int) -> None:
    """A forward pass for which the memory of a GPU is not enough."""
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nsecond line")
