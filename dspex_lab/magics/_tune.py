"""``%dspex tune NAME --vars temperature,k --trials 40``: a search of variables' values, in the background."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._job_line import FLAGS, Start, begin, programs, read

_OWN = ("vars", "trials", "data", "heldout", "beside")


def run(call: Call) -> Any:
    """Start a search and show its job; %dspex jobs 3 --adopt commits the best values.

    --vars names variables, as %dspex vars lists them: whole names, their last parts, or patterns (support.*); without it all
    that can be searched. --data names the rows, --heldout rows to compare on before they are adopted. --beside gepa has an
    optimizer rewrite the instructions meanwhile. name=value are settings of the search: objectives=["quality", "cost"].
    """
    start = read(call, call.line, usage=COMMAND.usage, words=2, flags=_OWN)
    line = start.line
    word = line.flags.get("data", line.words[1] if len(line.words) > 1 else None)
    arguments = {
        "variables": _chosen(start),
        "metric": start.metric(),
        "data": start.rows(word, "data"),
        "heldout": start.rows(line.flags["heldout"], "heldout") if "heldout" in line.flags else None,
        "trials": line.flag("trials", int, 40),
        "beside": line.flags.get("beside"),
        **start.how(),
        **line.values(call.shell.user_ns),
    }
    return begin(start, start.lab.tune, arguments)


def _chosen(start: Start) -> list[str] | None:
    """Return the names of the variables that ``--vars`` asks for; None where it is not there."""
    asked = [word.strip() for word in start.line.flags.get("vars", "").split(",") if word.strip()]
    if not asked:
        return None
    exposure = start.lab.exposure_of(start.target)
    names = list(dict.fromkeys([*exposure.names, *start.lab.variables]))
    found: list[str] = []
    for word in asked:
        own = [n for n in exposure.names if n.rpartition(".")[2] == word or n.endswith(f".{word}")]
        some = [n for n in names if n == word] or own or [n for n in names if fnmatchcase(n, word)]
        if not some:
            raise start.at(
                word,
                ConfigurationError(
                    f"No variable is called {word!r}.{did_you_mean(word, names)}",
                    key="vars",
                    expected=names,
                    actual=word,
                    hint="%dspex vars lists them.",
                ),
            )
        found += some
    return list(dict.fromkeys(found))


COMMAND = Command(
    "tune",
    "%dspex tune NAME DATA --metric M [--vars temperature,k] [--trials 40] [--beside gepa] [--heldout ROWS] [setting=value …] "
    "[--budget '$2'] [--pool P] [--seed N] [--name N] [--into VARIABLE] [--wait]",
    "search the values of variables, in the background",
    run,
    flags=(*_OWN, *FLAGS),
    names=programs,
)
