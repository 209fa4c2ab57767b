"""``%dspex jobs``: the jobs of this notebook's store; one of them with its card, its widget, its result put to use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_lab.errors import ConfigurationError, DspexError, JobError
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._lab import open_lab
from dspex_lab.magics._line import Line, parse

FLAGS = ("live", "adopt", "force", "guard", "rollback", "result")
SWITCHES = ("live", "adopt", "force", "rollback", "result")
_LAST = 20


def run(call: Call) -> Any:
    """List the jobs, those of earlier kernels too, the newest first; with N (a number, an id or a name) show one.

    --live shows it as it goes on. --result waits for what it found. --adopt puts that to use, if it is shown to be better on
    the held-out rows (--force: all the same; --guard off | suggest | auto: what happens when its live score falls);
    --rollback brings back what was in use before.
    """
    line = parse(call.line, words=1, flags=FLAGS, switches=SWITCHES)
    jobs = call.lab.jobs
    if not line.words:
        if asked := [flag for flag in FLAGS if flag in line.flags]:
            raise ConfigurationError(f"--{asked[0]} of which job?", key="jobs", hint=f"Write: {COMMAND.usage}").at(
                line.text, 1, line.text.find(f"--{asked[0]}") + 1
            )
        return jobs
    return _one(call, line, job_of(call, line))


def _one(call: Call, line: Line, job: Any) -> Any:
    try:
        if "adopt" in line.flags:
            guard = {"guard": line.flags["guard"]} if "guard" in line.flags else {}
            job.adopt(force="force" in line.flags, **guard)
            return call.lab.adoption
        if "rollback" in line.flags:
            job.rollback()
            return call.lab.adoption
        if "result" in line.flags:
            return job.result()
    except DspexError as error:
        if error.text is None:
            error.at(line.text, 1, 1)
        raise error from error.__cause__
    if "live" in line.flags:
        from dspex_lab.widgets import show_job

        show_job(call.lab, job)
        return None
    return job


def job_of(call: Call, line: Line) -> Any:
    """Return the job that the line's first word names.

    Raises:
        JobError: there is none; the place is marked.
    """
    word = line.words[0].strip("\"'")
    try:
        return call.lab.jobs.get(word)
    except JobError as error:
        raise error.at(line.text, 1, line.text.find(line.words[0]) + 1) from None


def numbers(namespace: Mapping[str, Any], states: tuple[str, ...] = ()) -> list[str]:
    """Return the numbers of jobs, for completion."""
    lab = open_lab()
    if lab is None or lab.closed:
        return []
    return [str(job.number) for job in lab.jobs.list(limit=_LAST) if not states or job.state in states]


COMMAND = Command(
    "jobs",
    "%dspex jobs [N [--live | --result | --adopt [--force] [--guard auto] | --rollback]]",
    "the jobs of this notebook; show one, adopt its result",
    run,
    flags=FLAGS,
    names=numbers,
)
