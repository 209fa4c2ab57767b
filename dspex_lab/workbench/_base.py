"""What a Lab is made of, and its life: from opening the store to closing everything."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, cast

from dspex_lab._closing import closed_at_exit, forget
from dspex_lab._loop import LoopThread
from dspex_lab.config import Config, default_store_path
from dspex_lab.errors import ConfigurationError
from dspex_lab.events import Bus, Event, LMCall, Record, new_id
from dspex_lab.lms import Gateway, Ledger, LMs, Models, Notice
from dspex_lab.pipelines import Maps, Pipeline, Result, Runner
from dspex_lab.pools import Pools
from dspex_lab.resilience import Change, Health
from dspex_lab.router import Router
from dspex_lab.security import warm
from dspex_lab.sessions import Runs, Sessions
from dspex_lab.store import Store, views
from dspex_lab.workbench import _health
from dspex_lab.workbench._defined import Defined

#: Threads are made only when none is idle. Many, because a step may itself run a pipeline and wait for it.
_MAX_THREADS = 1024

#: Seconds that closing a Lab waits for runs in other threads.
_PATIENCE = 10.0


def _jobs_folder(store: str | Path, lab_id: str) -> Path:
    """Return a folder beside the store, which is made when it is needed; of a store in memory one that goes with the Lab.

    That lies where everybody may write. So it is made now, for this user alone: a name that is known before could be taken.
    """
    if str(store) == ":memory:":
        return Path(tempfile.mkdtemp(prefix=f"dspex-jobs-{lab_id}-"))
    return Path(store).absolute().with_suffix(".jobs")


def _tidy(folder: Path, *, all_of_it: bool) -> None:
    """Remove a folder that jobs need no more: one that is empty, or all of it."""
    if all_of_it:
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


class Base:
    """The rooms of a Lab, wired, and who is in them; the doors (:mod:`dspex_lab.workbench`) are classes made on this one."""

    def __init__(self, path: str | Path | None = None, config: Config | None = None) -> None:
        self.config = (config or Config()).filled()
        self.id = new_id()
        #: What is to be closed, last in, first out; each even where another one raises.
        self._parts = contextlib.ExitStack()
        try:
            self._wire(path if path is not None else default_store_path())
        except BaseException:
            self._parts.close()  # a setting is wrong; nobody is to hold the file for that
            raise
        closed_at_exit(self)

    def _wire(self, path: str | Path) -> None:
        self.store = Store(path, lab_id=self.id, memory=self.config.store_memory)
        #: Where jobs have their files; a job's work may write there on any worker.
        self.jobs_folder = _jobs_folder(self.store.path, self.id)
        self._parts.callback(_tidy, self.jobs_folder, all_of_it=str(self.store.path) == ":memory:")
        self._parts.callback(self.store.close)
        self._executor = ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix="dspex-step")
        self._parts.callback(self._executor.shutdown, wait=False, cancel_futures=True)
        self._loop = LoopThread()
        self._parts.callback(self._loop.close)
        self.bus = Bus()
        self.bus.subscribe(self.store.sink if self.config.record_messages else self._keep, live=False)
        self.router = Router()
        self.pools = Pools(self.config.pools, emit=self.bus.emit, writable=[self.jobs_folder])
        self._parts.callback(self.pools.close)
        # Who runs code in the sandbox starts it; from then on it is there for the next.
        self._parts.enter_context(warm())
        self.pipelines = Defined(self._in_use)
        self.signatures: dict[str, Any] = {}
        self.last_result: Result | None = None
        self.gateway = Gateway(self.bus.emit, self.config.policy)
        self._models = Models(self.id, self.gateway.replays)
        self.ledger = Ledger(self.config.budget, "this Lab", told=self._of_budget)
        opened = datetime.now(UTC).replace(tzinfo=None)
        self.lms = LMs(
            self._models.current,
            self._models.offline,
            health=self._circuit,
            fetch=self._recorded_call,
            history=lambda: views.calls_before(self.store, opened),
        )
        self.bus.subscribe(self.lms.observe, live=False)
        self.health = Health(told=self._of_health)
        self.sessions = Sessions(self.store, self.pools.get, self.bus.emit, wait=self._loop.run, runs=cast(Runs, self))
        self._parts.callback(self.sessions.close)
        self._parts.callback(self.health.close)
        self.bus.subscribe(self.sessions.observe, live=False)
        self._runner = Runner(
            self.id,
            self.bus,
            self._executor,
            self.router,
            self.pools.get,
            self._models.current,
            self._models.made,
            self._loop.run,
            self.store,
            self.gateway,
            self.ledger,
            self.sessions,
        )
        self._maps = Maps(self._runner, self._loop.run, self.store)
        self._idle = threading.Condition()
        self._space: Any = None
        self._exposed: list[Any] = []
        self._jobs: Any = None
        self._adopting: Any = None
        self._users: dict[int, int] = {}
        self._closers: list[Callable[[], object]] = []
        self.closed = False
        if self.config.lm is not None:
            self._models.use(self.config.lm)
        _health.watch(self.health, self.gateway, self.store, self.pools)
        self.bus.subscribe(_health.suspicions(self.health), live=False)

    def _in_use(self, name: str, pipeline: Pipeline) -> Pipeline:
        """Return what is in use where a pipeline is put under a name."""
        return pipeline

    def _keep(self, record: Record) -> None:
        if isinstance(record, LMCall):
            record = record._replace(messages=None, outputs=None)
        self.store.sink(record)

    def _of_budget(self, notice: Notice) -> None:
        name = "budget.refuse" if notice.kind == "refused" else "budget.cross"
        self.bus.emit(Event(name, time.time(), data={"target": notice.model, **notice.to_dict()}))

    def _of_health(self, change: Change) -> None:
        self.bus.emit(Event(change.event, change.time, data=change.as_data()))

    def _circuit(self, target: str) -> Any:
        return next((row.state for row in self.gateway.guards.snapshot() if row.target == target and row.state), "closed")

    def _recorded_call(self, call_id: str | None) -> dict[str, Any] | None:
        self._ensure_open()
        return views.call(self.store, call_id)

    def _keep_last(self, result: Result) -> None:
        self.last_result = result

    def _enter(self) -> int:
        """Keep the Lab from being closed by another thread while this one carries out a run of its own; see :meth:`_leave`."""
        me = threading.get_ident()
        with self._idle:
            self._ensure_open()
            self._users[me] = self._users.get(me, 0) + 1
        return me

    def _leave(self, me: int) -> None:
        with self._idle:
            if self._users[me] > 1:
                self._users[me] -= 1
            else:
                del self._users[me]
                self._idle.notify_all()

    def on_close(self, callback: Callable[[], object]) -> None:
        """Call ``callback()`` when this Lab is closed, before its parts are."""
        self._closers.append(callback)

    def _ensure_open(self) -> None:
        if self.closed:
            raise ConfigurationError("This Lab is closed.", key="lab", hint="Make another: dx.lab() or dx.Lab(path).")

    def close(self) -> None:
        """End pools, servers and the store; running work is cancelled. Calling it again does nothing."""
        with self._idle:
            if self.closed:
                return
            self.closed = True
            # A run in another thread is let finish: its outcome belongs into the store.
            mine = threading.get_ident()
            self._idle.wait_for(lambda: not [t for t in self._users if t != mine], timeout=_PATIENCE)
        forget(self)
        for closer in self._closers:
            self._parts.callback(closer)
        self._parts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __repr__(self) -> str:
        return f"Lab({str(self.store.path)!r}{', closed' if self.closed else ''})"
