"""A step's work in a worker process: what travels there, and what comes back."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex_lab.errors import PipelineError
from dspex_lab.events import Event, LMCall, Record
from dspex_lab.lms import CONTEXT_KEY, Recorder, from_portable, install
from dspex_lab.pipelines._result import describe


@dataclass(frozen=True, slots=True)
class Errand:
    """The surroundings of one execution: the ids its records carry and the model it uses (without its secret)."""

    run_id: str
    span_id: str
    step: str
    lm: dict[str, Any] | None = None
    trace: bool = False


@dataclass(slots=True)
class Reply:
    """What came of it: the value, or the error, and in either case the records told on the way.

    ``trace`` holds, for each predictor that ran, its name in the module, its inputs and its prediction.
    """

    value: Any = None
    error: BaseException | None = None
    records: list[Record] = field(default_factory=list)
    trace: list[tuple[str, dict[str, Any], Any]] = field(default_factory=list)


class RemoteTarget:
    """A step's function or DSPy module as something a pool can call. It holds nothing of the kernel's."""

    def __init__(self, target: Callable[..., Any], is_module: bool) -> None:
        self.target = target
        self.is_module = is_module

    def __call__(self, inputs: Mapping[str, Any], errand: Errand) -> Reply:
        reply = Reply()
        if errand.lm is None:
            return self._run(inputs, reply)
        import dspy

        install()
        recorder = Recorder(reply.records.append, errand.run_id, errand.span_id, errand.step)
        settings: dict[str, Any] = {"lm": from_portable(errand.lm), CONTEXT_KEY: recorder, "trace": []}
        with dspy.context(**settings):
            self._run(inputs, reply)
            if errand.trace and self.is_module:
                names = {id(p): name for name, p in self.target.named_predictors()}  # type: ignore[attr-defined]
                reply.trace = [(names[id(p)], given, made) for p, given, made in dspy.settings.trace if id(p) in names]
        return reply

    def _run(self, inputs: Mapping[str, Any], reply: Reply) -> Reply:
        try:
            reply.value = self.target(**inputs)
        except Exception as error:
            # The records of what was already paid for come home with the error.
            if not any(isinstance(r, Event | LMCall) for r in reply.records):
                raise
            reply.error = _carried(error)
        return reply


def _carried(error: Exception) -> Exception:
    """Return ``error`` as it can travel home, its traceback in a note; some of DSPy's cannot be unpickled."""
    where = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:
        error = PipelineError(describe(error))
    error.add_note(f"In the worker:\n{where}")
    return error
