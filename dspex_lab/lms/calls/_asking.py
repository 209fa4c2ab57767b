"""One call of a model on behalf of a run: who asks, on what terms, and what came of it until now."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex_lab.events import new_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex_lab.events import Record
    from dspex_lab.lms.budget import Ledger
    from dspex_lab.lms.calls._gateway import Gateway
    from dspex_lab.lms.calls._streaming import LiveCall

#: The key under which ``dspy.context`` carries the recorder of the step that is running.
CONTEXT_KEY = "dspex_recorder"


class Terms(NamedTuple):
    """On what terms the calls of a run are made; the same for all of them.

    Args:
        gateway: what stands between DSPy's cache and the engines; without one DSPy's own retries are all there is.
        ledger: what may be spent.
        deadline: the ``time.monotonic()`` after which no answer is of use.
        fresh: DSPy's cache is neither asked nor filled.
    """

    gateway: Gateway | None = None
    ledger: Ledger | None = None
    deadline: float | None = None
    fresh: bool = False

    @property
    def uncached(self) -> bool:
        """No cache answers: the run is fresh, or its calls are recorded or replayed."""
        return self.fresh or (self.gateway is not None and self.gateway.tape is not None)

    def usual(self, lm: Any) -> bool:
        """Say whether a call of ``lm`` asks nobody else, and the cache as always."""
        return not self.uncached and (self.gateway is None or len(self.gateway.order(lm)) == 1)


#: The terms where none are said.
_PLAIN = Terms()


class Recorder:
    """Tells ``emit`` of every LM call made on behalf of one step.

    Args:
        emit: takes each record; called in the thread that made the call.
        run_id: the run the calls belong to; ``span_id`` and ``step`` likewise.
        terms: on which the calls are made.
        lm: the model the step was given; ``context`` is the run it belongs to.
        once: the step is tried again where it fails, so that each call is made once. (``is_retrying`` says so too, but
            does not reach DSPy's own threads.)
    """

    __slots__ = ("context", "emit", "lm", "once", "run_id", "span_id", "step", "terms")

    def __init__(
        self,
        emit: Callable[[Record], None],
        run_id: str | None,
        span_id: str | None = None,
        step: str | None = None,
        terms: Terms | None = None,
        lm: Any = None,
        context: Any = None,
        once: bool = False,
    ) -> None:
        self.emit = emit
        self.once = once
        self.terms = terms or _PLAIN
        self.lm = lm
        self.context = context
        self.run_id = run_id
        self.span_id = span_id
        self.step = step

    def __copy__(self) -> Recorder:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Recorder:
        # DSPy copies its settings for threads; the records must still go to the one run.
        return self


class Asking:
    """One call under way.

    Attributes:
        call_id: that of its record.
        entry: what DSPy put into the model's history when it ended.
        attempts: how often an engine was asked; 0 where the answer came from a cache.
        again: it asks a second time for one answer, because the first could not be read.
        instead_of: the model in whose place this one is asked.
        live: who watches it, where somebody does.
        streams: DSPy itself streams it (``send_stream``), and asks again itself as long as nothing of it was passed on.
    """

    __slots__ = ("again", "attempts", "call_id", "entry", "instead_of", "live", "lm", "recorder", "streams")

    def __init__(self, lm: Any, recorder: Recorder, live: LiveCall | None) -> None:
        self.lm, self.recorder, self.live = lm, recorder, live
        self.call_id = live.call_id if live is not None else new_id()
        self.entry: dict[str, Any] | None = None
        self.attempts = 0
        self.again = self.streams = False
        self.instead_of: str | None = None


#: The call under way in this task or thread.
asking: ContextVar[Asking | None] = ContextVar("dspex_asking", default=None)


def current_recorder() -> Recorder | None:
    """Return the recorder of the step that runs here, None outside a run or while DSPy is not loaded."""
    loaded = sys.modules.get("dspy.dsp.utils.settings")
    if loaded is None:
        return None
    recorder = loaded.thread_local_overrides.get().get(CONTEXT_KEY)
    return recorder if isinstance(recorder, Recorder) else None
