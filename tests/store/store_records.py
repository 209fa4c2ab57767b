"""Records to put into a store."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from dspex_lab.events import Event, LMCall, RunRecord, Span

#: The fixture ``script``: runs Python source with arguments in a process of its own.
Script = Callable[..., "subprocess.CompletedProcess[str]"]

START = 1_700_000_000.25


def begin(run_id: str, kind: str = "run", name: str = "support", at: float = START) -> Event:
    return Event("run.start", at, run_id, data={"kind": kind, "name": name})


def end(run_id: str, **fields: object) -> RunRecord:
    record = RunRecord(run_id, None, "run", "support", "complete", START, 0.5, {"message": "hello"}, {"intent": "card"})
    return record._replace(**fields)


def span(span_id: str, run_id: str = "r", **fields: object) -> Span:
    return Span(span_id, None, run_id, "step", "classify", START, 0.2, "complete")._replace(**fields)


def call(call_id: str, run_id: str = "r", **fields: object) -> LMCall:
    return LMCall(call_id, None, run_id, "classify", "m", START, 0.1, 10, 5, 0.001, False, False)._replace(**fields)
