"""``%dspex stop 3``: a job ends, with its best so far."""

from __future__ import annotations

from typing import Any

from dspex_lab.errors import ConfigurationError, JobError
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._jobs import job_of, numbers
from dspex_lab.magics._line import parse


def run(call: Call) -> Any:
    """Have a job end with its best so far; %dspex resume goes on with it. --wait waits until it rests.

    --patience SECONDS is how long it has to end by itself; then its worker is ended.
    """
    line = parse(call.line, words=1, flags=COMMAND.flags, switches=("wait",))
    if not line.words:
        raise ConfigurationError("Which job is to stop?", key="stop", hint=f"Write: {COMMAND.usage}")
    job = job_of(call, line)
    try:
        job.stop(wait="wait" in line.flags, patience=line.flag("patience", float))
    except JobError as error:
        raise error.at(line.text, 1, 1) from error.__cause__
    print(f"job {job.number} ({job.kind} {job.name}): {job.state}")


COMMAND = Command(
    "stop",
    "%dspex stop N [--wait] [--patience SECONDS]",
    "have a job end with its best so far",
    run,
    flags=("wait", "patience"),
    names=lambda namespace: numbers(namespace, ("waiting", "running")),
)
