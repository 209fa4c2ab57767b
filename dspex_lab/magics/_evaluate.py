"""``%dspex evaluate NAME DATA --metric M``: a program on many rows, in the background."""

from __future__ import annotations

from typing import Any

from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._job_line import FLAGS, begin, programs, read

_OWN = ("concurrency", "fresh")


def run(call: Call) -> Any:
    """Start the evaluation and show it; the notebook stays free.

    DATA is the name of a DataFrame or list of the notebook, of a data set (``tickets``, ``tickets.test``), or a file. --metric
    names a function ``(example, prediction)`` of the notebook or a registered metric. --pool NAME has workers do it, --fresh
    asks no cache, --budget '$2, 50k tokens' limits it. --into NAME binds the job, --wait waits and returns what was found.
    """
    start = read(call, call.line, usage=COMMAND.usage, words=2, flags=_OWN, switches=("fresh",))
    line, words = start.line, start.line.words
    arguments = {
        "data": start.rows(words[1] if len(words) > 1 else None, "data"),
        "metric": start.metric(),
        "fresh": "fresh" in line.flags,
        **start.how(),
    }
    if "concurrency" in line.flags:
        arguments["concurrency"] = line.flag("concurrency", int)
    return begin(start, start.lab.evaluate, arguments)


COMMAND = Command(
    "evaluate",
    "%dspex evaluate NAME DATA --metric M [--concurrency N] [--fresh] [--pool P] [--budget '$2'] [--seed N] [--name N] "
    "[--into VARIABLE] [--wait]",
    "score a program on rows, in the background",
    run,
    flags=(*_OWN, *FLAGS),
    names=programs,
)
