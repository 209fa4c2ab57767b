"""``%dspex resume 3``: a job that was stopped or interrupted, or failed, goes on."""

from __future__ import annotations

from typing import Any

from dspex_lab.errors import ConfigurationError, DspexError
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._jobs import job_of, numbers
from dspex_lab.magics._line import parse


def run(call: Call) -> Any:
    """Go on with a job from what it kept and show it; jobs of a kernel that has died too. --budget '$5' is what it may spend in
    all, in place of what it might before. --wait waits and returns what came of it.
    """
    from dspex_lab.widgets import show_job

    line = parse(call.line, words=1, flags=COMMAND.flags, switches=("wait",))
    if not line.words:
        raise ConfigurationError("Which job is to go on?", key="resume", hint=f"Write: {COMMAND.usage}")
    job = job_of(call, line)
    try:
        job.resume(budget=line.flags.get("budget"))
    except DspexError as error:
        if error.text is None:
            error.at(line.text, 1, 1)
        raise error from error.__cause__
    show_job(call.lab, job)
    return job.result() if "wait" in line.flags else None


COMMAND = Command(
    "resume",
    "%dspex resume N [--budget '$5'] [--wait]",
    "go on with a job that was stopped or interrupted",
    run,
    flags=("budget", "wait"),
    names=lambda namespace: numbers(namespace, ("stopped", "interrupted", "failed")),
)
