"""Records to put into a store, and processes that open one or are killed while they write."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from dspex_lab.events import Event, LMCall, RunRecord, Span
from dspex_lab.store import Store

#: The fixture ``script``: runs Python source with arguments in a process of its own.
Script = Callable[..., "subprocess.CompletedProcess[str]"]

START = 1_700_000_000.25


def at(seconds: float) -> datetime:
    """Return the moment so many seconds after ``START``, as the store gives times: in UTC, without saying so."""
    return datetime.fromtimestamp(START + seconds, UTC).replace(tzinfo=None)


def begin(run_id: str, kind: str = "run", name: str = "support", at: float = START) -> Event:
    return Event("run.start", at, run_id, data={"kind": kind, "name": name})


def end(run_id: str, **fields: object) -> RunRecord:
    record = RunRecord(run_id, None, "run", "support", "complete", START, 0.5, {"message": "hello"}, {"intent": "card"})
    return record._replace(**fields)


def span(span_id: str, run_id: str = "r", **fields: object) -> Span:
    return Span(span_id, None, run_id, "step", "classify", START, 0.2, "complete")._replace(**fields)


def call(call_id: str, run_id: str = "r", **fields: object) -> LMCall:
    return LMCall(call_id, None, run_id, "classify", "m", START, 0.1, 10, 5, 0.001, False, False)._replace(**fields)


OPEN = """
import sys
from dspex_lab.errors import StoreError
from dspex_lab.store import Store
try:
    with Store(sys.argv[1]) as store:
        print("opened", store.recovery)
except StoreError as error:
    print(error)
"""

KILLED = """
import os, signal, sys
from dspex_lab.events import Event, RunRecord
from dspex_lab.store import Store
store = Store(sys.argv[1])
for n in range(40):
    store.write(RunRecord(f"r{n}", None, "run", "n", "complete", 1.0, 0.1, {"text": "x" * 500}))
    store.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def wal(path: Path) -> Path:
    return path.with_name(path.name + ".wal")


def held_up(store: Store) -> tuple[threading.Event, threading.Event]:
    """Have a callback hold up a store's writer: the first event says that it does, the second lets it go on."""
    entered, free = threading.Event(), threading.Event()

    def hold(records: object) -> None:
        entered.set()
        free.wait(30)

    store.on_commit(hold)
    return entered, free
