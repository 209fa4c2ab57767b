"""A step's work in a worker process: what travels there, and what comes back."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import dspex_lab.pipelines._baggage  # noqa: F401 - says what of DSPy's objects travels
from dspex_lab.errors import LMError, PipelineError
from dspex_lab.events import Event, LMCall, Record
from dspex_lab.lms import CONTEXT_KEY, Gateway, Ledger, Recorder, Terms, asking_again, from_portable, install, portable, stay
from dspex_lab.pipelines._context import RunContext
from dspex_lab.pipelines._result import describe
from dspex_lab.pipelines._told import Written
from dspex_lab.pools import Task, current_task, encode_error
from dspex_lab.resilience import retrying
from dspex_lab.security import warm
from dspex_lab.security.interpreter import chosen_factory


@dataclass(frozen=True, slots=True)
class Errand:
    """The surroundings of one execution: the ids its records carry, the model (without its secret) and adapter it uses.

    ``allowance`` is what it may spend (``Loan.data``), None for no limit; ``trace`` asks for the trace of its predictors;
    ``feedback`` says what was wrong with the last try; ``fresh`` that no cache answers; ``once`` that who sent it tries again;
    ``terms`` is how its calls pass (``Gateway.terms_of``), ``owner`` the Lab it comes from, and ``listened`` says that somebody
    streams it.
    """

    run_id: str
    span_id: str
    step: str
    lm: dict[str, Any] | None = None
    adapter: Any = None
    trace: bool = False
    allowance: dict[str, Any] | None = None
    feedback: str | None = None
    fresh: bool = False
    once: bool = False
    terms: dict[str, Any] | None = None
    owner: str = ""
    listened: bool = False


@dataclass(slots=True)
class Reply:
    """What came of it: the value, or the error, and in either case the records told on the way.

    ``spent`` is what its ledger says was spent, where it had one; ``taped`` what was recorded; ``note`` what the answer lacks;
    ``trace`` holds, for each predictor that ran, its name in the module, its inputs and its prediction.
    """

    pid: int
    value: Any = None
    error: BaseException | None = None
    failed: Any = None
    records: list[Record] = field(default_factory=list)
    spent: Any = None
    taped: list[str] = field(default_factory=list)
    note: str | None = None
    trace: list[tuple[str, dict[str, Any], Any]] = field(default_factory=list)


class RemoteTarget:
    """A step's function or DSPy module as something a pool can call. It holds nothing of the kernel's."""

    def __init__(self, target: Callable[..., Any], is_module: bool) -> None:
        self.target = target
        self.is_module = is_module
        self.lms: dict[str, dict[str, Any]] = {}
        if is_module:
            own = [(n, m) for n, m in target.named_sub_modules() if getattr(m, "lm", None) is not None]  # type: ignore[attr-defined]
            if own:
                # A model of a predictor's own would take its key and its history along.
                self.lms = {name: portable(module.lm) for name, module in own}
                self.target = target.deepcopy()  # type: ignore[attr-defined]
                for name, module in self.target.named_sub_modules():  # type: ignore[attr-defined]
                    if name in self.lms:
                        module.lm = None

    @property
    def name(self) -> str:
        """What people call it."""
        return str(getattr(self.target, "__qualname__", type(self.target).__name__))

    def __call__(self, inputs: Mapping[str, Any], errand: Errand) -> Reply:
        reply = Reply(os.getpid())
        if current_task().worker:
            _settle()
        if errand.lm is None:
            return self._run(inputs, reply)
        import dspy

        install()
        for name, module in self.target.named_sub_modules() if self.lms else ():  # type: ignore[attr-defined]
            if name in self.lms:
                module.lm = from_portable(self.lms[name])
        ledger = None if errand.allowance is None else Ledger.from_allowance(errand.allowance)
        lm, gateway = from_portable(errand.lm), _gateway(errand.owner)
        tape = None if errand.terms is None else gateway.take(lm, errand.terms, from_portable)
        terms = Terms(gateway, ledger, None, errand.fresh)
        recorder = Recorder(
            reply.records.append,
            errand.run_id,
            errand.span_id,
            errand.step,
            terms,
            lm,
            _Here(reply, errand.listened),
            errand.once,
        )
        settings: dict[str, Any] = {"lm": lm, "adapter": errand.adapter, CONTEXT_KEY: recorder, "trace": []}
        settings["interpreter_factory"] = chosen_factory()
        again = asking_again(errand.feedback) if errand.feedback else contextlib.nullcontext()
        with dspy.context(**settings), again, retrying(errand.once):
            self._run(inputs, reply)
            reply.spent = None if ledger is None else ledger.spent
            reply.taped = tape.lines() if tape is not None and tape.mode == "record" else []
            if errand.trace and self.is_module:
                names = {id(p): name for name, p in self.target.named_predictors()}  # type: ignore[attr-defined]
                reply.trace = [(names[id(p)], given, made) for p, given, made in dspy.settings.trace if id(p) in names]
        return reply

    def _run(self, inputs: Mapping[str, Any], reply: Reply) -> Reply:
        try:
            value = self.target(**inputs)
            reply.value = current_task().finish(value) if inspect.isawaitable(value) else value
        except Exception as error:
            # The records of what was already paid for come home with the error.
            if not any(isinstance(r, Event | LMCall) for r in reply.records):
                raise
            failed = encode_error(error)
            if failed.kind == "opaque":
                reply.error = _carried(error)
            else:
                reply.failed = failed
        return reply


class _Here:
    """What a call finds in a worker in the place of its run."""

    owner = ""

    def __init__(self, reply: Reply, listened: bool = False) -> None:
        self._reply = reply
        #: Takes what models write while they do (``lms.Listener``), where somebody streams the run.
        self.listen = _Listener(current_task()) if listened else None

    def degrade(self, span_id: str, why: str) -> None:
        """Take note that a model's answer is less than was asked for."""
        self._reply.note = why


class _Listener:
    """Sends what models write to the kernel. It waits while too much is not taken there."""

    def __init__(self, task: Task) -> None:
        self._task = task

    @property
    def closed(self) -> bool:
        """Whether nobody watches any more."""
        return self._task.cancelled

    def __call__(self, event: tuple[Any, ...]) -> None:
        self._task.tell(Written(tuple(event)))


@functools.cache
def _gateway(owner: str) -> Gateway:
    """Return what the calls of a Lab pass in this worker: breakers and limits are its own, and remember from task to task."""
    return Gateway(lambda record: None)


@functools.cache
def _settle() -> contextlib.ExitStack:
    """Let what steps load in this worker stay for the next ones: weights of local models, the warm Python of the sandbox."""
    stay()
    held = contextlib.ExitStack()
    held.enter_context(warm())
    return held


def _carried(error: Exception) -> Exception:
    """Return ``error`` as it can travel home, its traceback in a note; some of DSPy's cannot be unpickled."""
    where = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:
        error = PipelineError(describe(error))
    error.add_note(f"In the worker:\n{where}")
    return error


def current_adapter() -> Any:
    """Return the adapter in use, None for DSPy's default."""
    import dspy

    return dspy.settings.adapter


def active_trace() -> list[Any] | None:
    """Return the trace DSPy's optimizers collect in, if one asked for it; the default, process-wide one is not fed."""
    from dspy.dsp.utils.settings import thread_local_overrides

    trace = thread_local_overrides.get().get("trace")
    return trace if isinstance(trace, list) else None


def travelling_lm(context: RunContext, module: bool, lm: Any = None) -> dict[str, Any] | None:
    """Return the model as it travels to a worker; a native step whose model cannot travel goes without.

    Args:
        lm: the step's own model; None is the one in use.
    """
    if module:
        return portable(context.chosen(lm))
    if "dspy" not in sys.modules:
        return None
    try:
        return portable(context.chosen(lm))
    except LMError:
        return None
