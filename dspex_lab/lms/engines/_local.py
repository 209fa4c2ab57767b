"""``LocalEngine``: a model of the Hugging Face kind, with ``transformers`` (extra ``neural``), in this process or on a pool.

::

    lm = local_lm("models/my-model")                      # a folder, or a name on the hub: "Qwen/Qwen2.5-0.5B-Instruct"
    lm = local_lm("org/name", device="cuda", dtype="bfloat16", temperature=0.7, max_tokens=400)
    lm = local_lm("org/name", pool="neural")              # the workers of that pool have the weights, this process does not

The weights are loaded at the first call, once per process, and shared by all engines that name the same ones. Requests that
wait together are answered as one batch; each keeps its own settings and seed, and stops between two tokens when it is
cancelled or its stream is closed. Only safetensors are read and no code of a checkpoint is run.

In a worker a model with ``pool=`` answers where it is: what is in a pool already is not sent to one again.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import queue
import re
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex_lab._lazy import require
from dspex_lab.errors import ConfigurationError, LMError
from dspex_lab.lms._submit import name_of_pool, stays, submit_to
from dspex_lab.lms.engines._local_batch import mailbox
from dspex_lab.lms.engines._local_checkpoint import Checkpoint, mark_of

if TYPE_CHECKING:
    import dspy
    from dspy.lm15 import Request, Response

    from dspex_lab.lms._submit import Workers
    from dspex_lab.lms.engines._local_batch import Job
    from dspex_lab.lms.engines._local_model import LocalModel
    from dspex_lab.lms.engines._local_pool import Away
    from dspex_lab.lms.engines._local_request import Answer, Begun, Piece

#: Changes whenever the same prompt may get another answer, so that caches of answers do not outlive the engine.
VERSION = 1
#: Seconds after which a thread that waits looks whether it was interrupted.
_BREATH = 0.5
_DTYPES = ("auto", "float32", "bfloat16", "float16")
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
_PARAMETERS = ("temperature", "max_tokens", "top_p", "top_k", "stop", "seed", "logprobs", "top_logprobs",
               "frequency_penalty", "presence_penalty")  # fmt: skip


class _Settings:
    """What both halves of the engine have: which model, how it is asked, and the model itself once it is loaded.

    Args:
        model: a folder, or a name on the hub.
        device: ``"auto"`` (a GPU where torch sees one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        dtype: ``"auto"`` (the checkpoint's own, float32 on a CPU), ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        revision: the hub's branch, tag or commit.
        default_tokens: the most tokens of an answer where the request does not say.
        window: seconds a request may wait for others, to be answered with them.
        max_batch: the most requests answered together.
        pool: the pool whose workers it runs on, by its name or itself; None for this process.

    Raises:
        ConfigurationError: a setting is none of these.
    """

    #: It runs on machines of the user's: no key, no network, no price.
    local = True
    supports_function_calling = False
    supports_reasoning = False

    def __init__(
        self,
        model: str | Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        revision: str | None = None,
        default_tokens: int = 1024,
        window: float = 0.005,
        max_batch: int = 8,
        pool: str | Workers | None = None,
    ) -> None:
        self.model = str(model)
        self.device = device
        self.dtype = dtype
        self.revision = revision
        self.default_tokens = default_tokens
        self.window = window
        self.max_batch = max_batch
        self.pool = name_of_pool(pool)
        self._check()
        self._workers: str | Workers | None = pool
        self._loaded: LocalModel | None = None

    def _check(self) -> None:
        _expect("model", bool(self.model.strip()), "a folder or a name on the hub", self.model)
        _expect("device", isinstance(self.device, str) and bool(_DEVICE.fullmatch(self.device)),
                "'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'", self.device)  # fmt: skip
        _expect("dtype", self.dtype in _DTYPES, " or ".join(map(repr, _DTYPES)), self.dtype)
        _expect("default_tokens", _is_count(self.default_tokens), "a whole number above 0", self.default_tokens)
        _expect("max_batch", _is_count(self.max_batch), "a whole number above 0", self.max_batch)
        fit = isinstance(self.window, int | float) and not isinstance(self.window, bool) and 0 <= self.window <= 60
        _expect("window", fit, "seconds from 0 to 60", self.window)

    @property
    def supports_response_schema(self) -> bool:
        """Whether answers are held to a schema while they are written: llguidance is installed."""
        from dspex_lab.lms.engines._local_grammar import can_constrain

        return can_constrain()

    @property
    def supported_params(self) -> frozenset[str]:
        """The settings of a request that have an effect."""
        return frozenset(_PARAMETERS) | ({"response_format"} if self.supports_response_schema else set())

    def load(self) -> LocalModel:
        """Return the model in this process, loaded now unless it has it already. Takes seconds to minutes.

        Raises:
            ConfigurationError: torch or transformers is missing, or there is no such device.
            UnsupportedModelError: there is no such checkpoint, or it is refused.
            LocalOutOfMemory: it is too large for the device.
        """
        model = self._loaded
        if model is None:
            # In a worker an engine lives as long as its step; the worker keeps the model.
            if self.pool is None and not stays():
                from dspex_lab.lms.engines._local_model import load as get
            else:
                from dspex_lab.lms.engines._local_worker import kept as get
            model = self._loaded = get(self._checkpoint)
        return model

    @property
    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(self.model, self.device, self.dtype, self.revision)

    def _away(self) -> Away | None:
        """Return the model on its pool; None where it answers in this process, in a worker too."""
        submit = None if self._workers is None else submit_to(self._workers)
        if submit is None:
            return None
        from dspex_lab.lms.engines._local_pool import Away
        from dspex_lab.lms.engines._local_worker import How

        return Away(submit, self._checkpoint, How(self.default_tokens, self.window, self.max_batch))

    def _free(self) -> None:
        had = None if self._loaded is None else weakref.ref(self._loaded)
        self._loaded = None
        if had is not None and had() is None:  # no other engine holds it
            from dspex_lab.lms.engines._local_model import release

            release()

    def _job(self, request: Request, tell: Callable[[Any], None], streams: bool) -> Job:
        from dspex_lab.lms.engines._local_batch import Job
        from dspex_lab.lms.engines._local_request import ask_of

        ask = ask_of(request)
        return Job(ask, tell, streams=streams, tokens=self.default_tokens, window=self.window, most=self.max_batch)

    def dump_state(self) -> dict[str, Any]:
        """Return the settings as JSON-able data; weights are not part of it."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __getstate__(self) -> dict[str, Any]:
        return self.dump_state()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._loaded, self._workers = None, self.pool

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self  # DSPy copies programs and settings; the weights are shared anyway

    def __repr__(self) -> str:
        where = f", pool={self.pool!r}" if self.pool else ""
        return f"{type(self).__name__}({self.model!r}, device={self.device!r}, dtype={self.dtype!r}{where})"


def _expect(key: str, holds: bool, expected: str, actual: object) -> None:
    if not holds:
        raise ConfigurationError(
            f"{key}={actual!r} does not fit a local model.", key=key, expected=expected, actual=actual, hint=f"Give {expected}."
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


class LocalEngine(_Settings):
    """A local model as a DSPy engine; see the module's text. Thread-safe. The arguments are those of ``local_lm``."""

    def complete(self, request: Request) -> Response:
        """Answer one request.

        Raises:
            LM15Error: what went wrong: ``UnsupportedModelError``, ``ContextLengthError``, ``UnsupportedFeatureError``,
                ``LocalOutOfMemory``, ``GarbledAnswer`` (with the text as ``partial``).
            PoolError: what a pool has to say: ``GpuOutOfMemory``, ``OutOfMemory``, ``WorkerKilled``, ``PoolBusy``.
        """
        from dspex_lab.lms.engines._local_request import ask_of, response_of

        away = self._away()
        if away is not None:
            return response_of(request, away.answer(ask_of(request)))
        with contextlib.closing(self._told(request, streams=False)) as told:
            return response_of(request, _answer(next(told)))

    def stream(self, request: Request) -> Iterator[Any]:
        """Yield the events of one answer as its tokens come; closing the stream stops the model before the next token."""
        from dspex_lab.lms.engines._local_request import ask_of

        away, begun = self._away(), False
        told = self._told(request, streams=True) if away is None else away.write(ask_of(request))
        with contextlib.closing(told):
            for item in told:
                events, begun, over = _events(request, item, begun)
                yield from events
                if over and away is None:  # what a pool tells ends by itself; to leave it earlier is to cancel it
                    return

    def _told(self, request: Request, streams: bool) -> Generator[Any]:
        heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
        job = self._job(request, heard.put, streams)
        self.load().submit(job)
        try:
            while True:
                yield _next(heard)
        finally:
            job.cancel()  # also at an interrupt: the model stops before its next token

    def close(self) -> None:
        """Let go of the weights; they are freed when no other engine holds them. The next call loads them again.

        What a pool's workers have loaded stays there while they live.
        """
        self._free()

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> LocalEngine:
        """Make an engine from what :meth:`dump_state` returned."""
        return cls(**state)


class AsyncLocalEngine(_Settings):
    """The async half of :class:`LocalEngine`; same arguments, same answers, same weights. Works on any event loop."""

    async def complete(self, request: Request) -> Response:
        """Answer one request; a call that is cancelled stops the model before its next token. Raises as the sync half."""
        from dspex_lab.lms.engines._local_request import ask_of, response_of

        away = self._away()
        if away is not None:
            return response_of(request, await away.answer_async(ask_of(request)))
        async with contextlib.aclosing(self._told(request, streams=False)) as told:
            return response_of(request, _answer(await anext(told)))

    async def stream(self, request: Request) -> AsyncIterator[Any]:
        """Yield the events of one answer as its tokens come; closing the stream stops the model before the next token."""
        from dspex_lab.lms.engines._local_request import ask_of

        away, begun = self._away(), False
        told = self._told(request, streams=True) if away is None else away.write_async(ask_of(request))
        async with contextlib.aclosing(told):
            async for item in told:
                events, begun, over = _events(request, item, begun)
                for event in events:
                    yield event
                if over and away is None:
                    return

    async def _told(self, request: Request, streams: bool) -> AsyncGenerator[Any]:
        heard, tell = mailbox()
        job = self._job(request, tell, streams)
        (await self._ready()).submit(job)
        try:
            while True:
                yield await heard.get()
        finally:
            job.cancel()

    async def _ready(self) -> LocalModel:
        return await asyncio.to_thread(self.load) if self._loaded is None else self._loaded

    async def aclose(self) -> None:
        """Let go of the weights, as :meth:`LocalEngine.close` does."""
        await asyncio.to_thread(self._free)

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> AsyncLocalEngine:
        """Make an engine from what :meth:`dump_state` returned."""
        return cls(**state)


def _next(heard: queue.SimpleQueue[Any]) -> Any:
    while True:
        try:
            return heard.get(timeout=_BREATH)
        except queue.Empty:
            continue  # an interrupt that came just before the wait began is taken now


def _answer(outcome: Answer | BaseException) -> Answer:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _events(request: Request, heard: Begun | Piece | Answer | BaseException, begun: bool) -> tuple[list[Any], bool, bool]:
    """Return the events of a stream that tell what was heard, whether it has begun with them, and whether it is over."""
    from dspy.lm15 import StreamDeltaEvent, StreamEndEvent, StreamStartEvent, TextDelta, Usage

    from dspex_lab.lms.engines._local_request import Begun, Piece, adaptations_of, logprobs_of, response_of

    if isinstance(heard, Begun):
        # Said twice where a batch was too large for the memory and is answered one by one.
        start = StreamStartEvent(id=None, model=request.model, adaptations=adaptations_of(heard))
        return [] if begun else [start], True, False
    if isinstance(heard, Piece):
        delta = TextDelta(heard.text, logprobs=logprobs_of(heard.scores), logprobs_complete=heard.scored)
        return [StreamDeltaEvent(delta)], True, False
    answer = _answer(heard)
    response_of(request, answer)  # refuses an answer that is not the JSON that was asked for
    usage = Usage(input_tokens=answer.input_tokens, output_tokens=answer.output_tokens)
    return [StreamEndEvent(finish_reason=answer.finish, usage=usage)], True, True


def local_lm(
    path_or_id: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    window: float = 0.005,
    max_batch: int = 8,
    pool: str | Workers | None = None,
    **options: Any,
) -> dspy.LM:
    """Return a ``dspy.LM`` whose model runs in this process, or on a pool. Nothing is loaded before the first call.

    Its name is ``local/PATH``. DSPy's retries are off: a local model that failed would fail again.

    Args:
        path_or_id: a folder, or a name on the hub (which is asked unless ``HF_HUB_OFFLINE`` is set).
        device: ``"auto"`` (a GPU where torch sees one, else the CPU, which is said once), ``"cpu"``, ``"cuda"``, ``"mps"``.
        dtype: ``"auto"`` (the checkpoint's own, float32 on a CPU), ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        revision: the hub's branch, tag or commit.
        window: seconds a request may wait for others, to be answered with them; ``max_batch`` at most. On a pool those that are
            in one worker at the same time are.
        pool: the pool whose workers it runs on (``"neural"``), by name or itself. This process needs neither torch nor the
            memory then.
        options: handed to ``dspy.LM`` (``temperature``, ``max_tokens``, ``seed``, ``cache``, …). Without a temperature the
            checkpoint's own configuration says how tokens are taken.

    Raises:
        ConfigurationError: a setting does not fit, or torch or transformers is not installed.
        LMError: DSPy refuses the options.
    """
    import dspy

    for package in ("torch", "transformers") if pool is None else ():
        if importlib.util.find_spec(package) is None:
            require(package, "for local models")
    settings: dict[str, Any] = {
        "device": device,
        "dtype": dtype,
        "revision": revision,
        "window": window,
        "max_batch": max_batch,
        "pool": pool,
    }
    name = f"local/{path_or_id}"
    engine = LocalEngine(path_or_id, **settings)
    # Part of the request, so that DSPy's disk cache never gives the answers of other weights or of an older engine.
    mark = {"engine": f"local-{VERSION}", "weights": mark_of(path_or_id, revision), "dtype": dtype}
    options.setdefault("metadata", mark)
    options.setdefault("num_retries", 0)
    try:
        return dspy.LM(name, engine=engine, async_engine=AsyncLocalEngine(path_or_id, **settings), **options)
    except (TypeError, ValueError) as error:
        raise LMError(f"A local model does not take these options: {error}", engine=name, hint="Leave them out.") from error
