"""The kernel's side of a local model on a pool: requests go out as plain data, and answers or named errors come back.

Loads neither torch nor transformers: the kernel need not have them.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from dspex_lab.errors import GpuOutOfMemory, OutOfMemory
from dspex_lab.lms._hub import is_offline
from dspex_lab.lms._submit import Submit
from dspex_lab.lms.engines._local_checkpoint import Checkpoint
from dspex_lab.lms.engines._local_errors import Failure, LocalOutOfMemory, error_of
from dspex_lab.lms.engines._local_worker import How, answer, write

if TYPE_CHECKING:
    from dspex_lab.lms.engines._local_request import Answer, Ask, Begun, Piece

T = TypeVar("T")


class Away:
    """A local model as the kernel knows it: which one, how it is asked, and the pool that has it.

    Args:
        submit: the way to the pool.
        checkpoint: as the user named it; a folder's path is made whole here, since workers live in other folders.
        how: the settings of its requests.
    """

    def __init__(self, submit: Submit, checkpoint: Checkpoint, how: How) -> None:
        folder = Path(checkpoint.path).expanduser()
        self._path = str(folder.resolve()) if folder.exists() else checkpoint.path
        self._named, self._submit, self._how = checkpoint, submit, how
        self._about = {"key": f"{self._path}@{checkpoint.revision}", "label": f"local/{checkpoint.path}"}

    def answer(self, ask: Ask) -> Answer:
        """Return the answer, waiting in this thread.

        Raises:
            LM15Error: what the engine raises in this process, but
            PoolError: what the pool has to say; ``OutOfMemory`` or ``GpuOutOfMemory`` where the model's memory was not enough.
        """
        return self._good(self._submit.call_here(answer, self._checkpoint(), ask, self._how, **self._about))

    async def answer_async(self, ask: Ask) -> Answer:
        """As :meth:`answer`."""
        return self._good(await self._submit.call(answer, self._checkpoint(), ask, self._how, **self._about))

    def write(self, ask: Ask) -> Generator[Begun | Piece | Answer]:
        """Yield the answer as its tokens come; raises as :meth:`answer`. Closing it stops the model."""
        items = self._submit.stream_here(write, self._checkpoint(), ask, self._how, **self._about)
        with contextlib.closing(cast("Any", items)):
            for item in items:
                yield self._good(item)

    async def write_async(self, ask: Ask) -> AsyncGenerator[Begun | Piece | Answer]:
        """As :meth:`write`."""
        items = self._submit.stream(write, self._checkpoint(), ask, self._how, **self._about)
        async with contextlib.aclosing(cast("Any", items)):
            async for item in items:
                yield self._good(item)

    def _checkpoint(self) -> Checkpoint:
        # Asked at each call: a worker's environment is that of its start.
        return replace(self._named, path=self._path, offline=is_offline())

    def _good(self, item: T | Failure) -> T:
        if not isinstance(item, Failure):
            return item
        error = error_of(item)
        if not isinstance(error, LocalOutOfMemory):
            raise error
        pool = self._submit.name
        kind, more = (
            (GpuOutOfMemory, "") if item.device.startswith("cuda") else (OutOfMemory, f", or more memory for pool {pool!r}")
        )
        raise kind(
            item.message,
            pool=pool,
            worker=self._submit.last(self._about["key"]),
            task=self._about["label"],
            hint=f"Take a smaller model, dtype='bfloat16', a lower max_batch, fewer threads in a worker{more}.",
        ) from error
