"""``%dspex optimize NAME --with miprov2 --metric M --train ROWS``: an optimizer, in the background."""

from __future__ import annotations

from typing import Any

from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._job_line import FLAGS, begin, programs, read

_OWN = ("with", "train", "val", "heldout")


def run(call: Call) -> Any:
    """Start an optimizer and show its job: score curve, candidates with their diffs, budget, Stop and Adopt.

    --with names it (miprov2, gepa, …; an optimizer of the notebook too), --train and --val the rows. --heldout names rows that
    it does not see: adopting compares on them. name=value are settings of the optimizer: auto="light". %dspex jobs 3 --adopt
    puts its result to use.
    """
    start = read(call, call.line, usage=COMMAND.usage, words=1, flags=_OWN)
    line, space = start.line, call.shell.user_ns
    chosen = line.flags.get("with", "miprov2")
    arguments = {
        "optimizer": space[chosen] if chosen in space and not isinstance(space[chosen], str) else chosen,
        "metric": start.metric(),
        "trainset": start.rows(line.flags.get("train"), "train"),
        "valset": start.rows(line.flags["val"], "val") if "val" in line.flags else None,
        "heldout": start.rows(line.flags["heldout"], "heldout") if "heldout" in line.flags else None,
        **start.how(),
        **line.values(space),
    }
    return begin(start, start.lab.optimize, arguments)


COMMAND = Command(
    "optimize",
    "%dspex optimize NAME [--with miprov2] --metric M --train ROWS [--val ROWS] [--heldout ROWS] [setting=value …] "
    "[--budget '$2'] [--pool P] [--seed N] [--name N] [--into VARIABLE] [--wait]",
    "have an optimizer improve a program, in the background",
    run,
    flags=(*_OWN, *FLAGS),
    names=programs,
)
