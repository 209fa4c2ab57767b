"""A local model in a worker of a pool: what the kernel's engines call there. Plain data goes in and comes out.

The worker keeps its models. Calls that are in it at the same time (``PoolSpec.threads``) are answered as one batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from typing import NamedTuple

from dspy.lm15 import LM15Error

from dspex_lab._lazy import require
from dspex_lab.lms._hub import hush
from dspex_lab.lms.engines._local_batch import Job, mailbox
from dspex_lab.lms.engines._local_checkpoint import Checkpoint
from dspex_lab.lms.engines._local_errors import Failure, LocalOutOfMemory, failure_of
from dspex_lab.lms.engines._local_model import LocalModel, load, release
from dspex_lab.lms.engines._local_request import Answer, Ask, Begun, Piece

_held: dict[Checkpoint, LocalModel] = {}
_holding = threading.Lock()


class How(NamedTuple):
    """The engine's settings that a request is answered by; see :class:`~dspex_lab.lms.engines._local_batch.Job`."""

    tokens: int
    window: float
    most: int


async def answer(checkpoint: Checkpoint, ask: Ask, how: How) -> Answer | Failure:
    """Return the whole answer; a call that is cancelled stops the model before its next token."""
    async with contextlib.aclosing(_told(checkpoint, ask, how, streams=False)) as told:
        async for outcome in told:
            if isinstance(outcome, Answer | Failure):
                return outcome
    raise AssertionError("a model tells an outcome")  # pragma: no cover


async def write(checkpoint: Checkpoint, ask: Ask, how: How) -> AsyncIterator[Begun | Piece | Answer | Failure]:
    """Yield the answer as its tokens come, and at the end the whole of it; closing stops the model before its next token."""
    async with contextlib.aclosing(_told(checkpoint, ask, how, streams=True)) as told:
        async for each in told:
            yield each


async def _told(
    checkpoint: Checkpoint, ask: Ask, how: How, *, streams: bool
) -> AsyncGenerator[Begun | Piece | Answer | Failure]:
    heard, tell = mailbox()
    job = Job(ask, tell, streams=streams, tokens=how.tokens, window=how.window, most=how.most)
    try:
        # In a thread of its own: a call that is cancelled does not wait for gigabytes, which the next one will want too.
        (await asyncio.to_thread(kept, checkpoint)).submit(job)
        while True:
            item = await heard.get()
            if isinstance(item, BaseException):
                raise item
            yield item
            if isinstance(item, Answer):
                return
    except LM15Error as problem:
        yield failure_of(problem)
    finally:
        job.cancel()


def kept(checkpoint: Checkpoint) -> LocalModel:
    """Return the model, loaded unless this worker has it.

    One whose files have changed is loaded anew in the old one's place; where memory does not hold one more, the others go.

    Raises:
        LM15Error, ConfigurationError: as :func:`~dspex_lab.lms.engines._local_model.load`.
    """
    require("transformers", "for local models")
    hush()
    with _holding:
        model = _try(checkpoint) if _held else load(checkpoint)
        if model is None:
            _held.clear()
            release()
            model = load(checkpoint)
        for old in [old for old in _held if _place(old) == _place(model.checkpoint)]:
            del _held[old]
        _held[model.checkpoint] = model
        return model


def _try(checkpoint: Checkpoint) -> LocalModel | None:
    try:
        return load(checkpoint)
    except LocalOutOfMemory:
        return None  # what the error's traceback holds is free when this has returned


def _place(checkpoint: Checkpoint) -> tuple[str | None, ...]:
    return checkpoint.path, checkpoint.device, checkpoint.dtype, checkpoint.revision
