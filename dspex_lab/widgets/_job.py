"""The job widget: a job as it goes on, live in the cell, with buttons to stop, resume and adopt it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import traitlets

from dspex_lab.errors import DspexError
from dspex_lab.events import Bus, Event, LMCall, Record, TrialRecord
from dspex_lab.widgets import _job_static
from dspex_lab.widgets._job_facts import candidate_of, facts_of
from dspex_lab.widgets._live import LiveWidget

__all__ = ["JobWidget"]

_STATIC = Path(__file__).parent.parent / "static"

#: What a person can ask for, and how that is done.
_DEEDS: dict[str, Callable[[Any], object]] = {
    "stop": lambda job: job.stop(),
    "resume": lambda job: job.resume(),
    "adopt": lambda job: job.adopt(),
    "rollback": lambda job: job.rollback(),
}


class JobWidget(LiveWidget):
    """State, score curve, current candidate with what it changed, trials, lineage, rejected proposals, budget and time left.

    It is told by the bus and pushes at most every ``INTERVAL``. The buttons work while the notebook is free: a blocking cell
    delays them. What they ask for is done in a thread; what was refused is said in words.

    Args:
        job: a :class:`~dspex_lab.jobs.Job`.
        bus: the Lab's, which tells of the job.

    The synced traits ``facts`` (:func:`facts_of`), ``candidate`` (the trial that is looked at) and ``answered`` (what came of
    the last button: ``n``, ``deed``, ``error``) are for reading. Close it when it is no longer needed.
    """

    _esm = _STATIC / "job.js"
    _css = _STATIC / "job.css"

    #: Never in the thread that tells: a job holds its account while it does.
    PUSHES_WHERE_TOLD = False

    facts = traitlets.Dict().tag(sync=True)
    candidate = traitlets.Dict().tag(sync=True)
    answered = traitlets.Dict().tag(sync=True)

    def __init__(self, job: Any, bus: Bus) -> None:
        self._job = job
        self._chosen: int | None = None
        self._doing: threading.Thread | None = None
        # Told before it is read, so that nothing in between is missed.
        self._unsubscribe.append(bus.subscribe(self._told))
        facts = facts_of(job)
        super().__init__(facts=facts, candidate=facts["candidate"], answered={"n": 0, "deed": "", "error": ""})
        self.on_msg(self._message)

    def _told(self, record: Record) -> None:
        job_id = self._job.id
        mine = (
            (isinstance(record, TrialRecord) and record.job_id == job_id)
            or (isinstance(record, LMCall) and record.run_id == job_id)
            or (isinstance(record, Event) and record.name.startswith("job.") and (record.data or {}).get("job_id") == job_id)
        )
        if mine:
            self._changed()

    def _push(self) -> None:
        facts = facts_of(self._job, self._chosen)
        with self.hold_sync():
            self.facts = facts
            self.candidate = facts["candidate"]

    def _message(self, _: object, content: Any, __: object) -> None:
        """Carry out what a person did in the browser; anything else is not looked at."""
        if self._ended or not isinstance(content, dict):
            return
        deed = content.get("type")
        if deed == "look" and isinstance(number := content.get("number"), int) and not isinstance(number, bool):
            self._chosen = number
            with self._pushing:
                self.candidate = candidate_of(self._job.trials, number)
            return
        if deed in self.facts["head"]["buttons"] and (self._doing is None or not self._doing.is_alive()):
            # A comparison on held-out rows may take a while, and the kernel stays free.
            self._doing = threading.Thread(target=self._do, args=(str(deed),), name="dspex-job-button", daemon=True)
            self._doing.start()

    def _do(self, deed: str) -> None:
        error = ""
        try:
            _DEEDS[deed](self._job)
        except DspexError as problem:
            error = str(problem)
        with self._pushing:
            self._push()
            self.answered = {"n": self.answered["n"] + 1, "deed": deed, "error": error}

    def _picture(self) -> str:
        return _job_static.job_html(self.facts)

    def __repr__(self) -> str:
        return _job_static.job_text(self.facts)
