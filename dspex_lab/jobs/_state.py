"""The states of a job and what leads from one to another. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from dspex_lab.errors import JobError
from dspex_lab.jobs._book import State

Action = Literal["start", "stop", "complete", "halt", "fail", "interrupt", "resume"]

#: Those in which something is still to come.
LIVE: tuple[State, ...] = ("waiting", "running", "stopping")
#: Those in which a job rests; all but ``complete`` can be left by a resume.
ENDED: tuple[State, ...] = ("complete", "stopped", "failed", "interrupted")

#: What each action makes of each state; where a state is missing, the action is refused.
MOVES: Mapping[Action, Mapping[State, State]] = {
    "start": {"waiting": "running"},
    "stop": {"waiting": "stopped", "running": "stopping", "stopping": "stopping"},
    "complete": {"running": "complete", "stopping": "complete"},
    # It was asked to stop and did, or its budget is spent.
    "halt": {"running": "stopped", "stopping": "stopped"},
    "fail": {"waiting": "failed", "running": "failed", "stopping": "failed"},
    "interrupt": {"waiting": "interrupted", "running": "interrupted", "stopping": "interrupted"},
    "resume": {"stopped": "waiting", "failed": "waiting", "interrupted": "waiting"},
}

_HINTS: Mapping[tuple[Action, State], str] = {
    ("stop", "complete"): "It has its result: job.result().",
    ("stop", "stopped"): "job.result() has the best until then; job.resume() goes on.",
    ("stop", "failed"): "job.result() raises why; job.resume() tries again.",
    ("stop", "interrupted"): "Its process ended under it; job.resume() goes on.",
    ("resume", "complete"): "It has its result: job.result(). Start another job to do it again.",
    ("resume", "waiting"): "It waits for a job before it and starts by itself.",
    ("resume", "running"): "Watch it: job.progress, job.events(); or job.stop().",
    ("resume", "stopping"): "Wait until it has stopped: job.wait().",
}


def move(state: State, action: Action, job: str = "the job") -> State:
    """Return the state that an action leads to.

    Args:
        job: how errors call the job: ``"job 3 (tune)"``.

    Raises:
        JobError: there is no such way; it names the state, and what to do.
    """
    after = MOVES[action].get(state)
    if after is None:
        words = {"halt": "stopped", "stop": "stopped", "fail": "failed"}.get(action, f"{action}ed".replace("eed", "ed"))
        hint = _HINTS.get((action, state))
        raise JobError(f"{job[0].upper()}{job[1:]} is {state}: it cannot be {words}.", job=job, state=state, hint=hint)
    return after
