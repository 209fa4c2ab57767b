"""``%dspex budget``: what the Lab may spend on models, and what it has."""

from __future__ import annotations

from typing import Any

from dspex_lab.errors import ConfigurationError
from dspex_lab.magics._base import Call, Command


def run(call: Call) -> Any:
    """Show limits, what is spent and held, by model and by the last runs; with limits, set them; with off, take them away.

    A limit holds from the next run on and counts from then; another limit in its place counts on. A call that would cross one
    is refused before it is made. Limits of a single run are given with %dspex run … --budget.
    """
    from dspex_lab.dashboards import account

    text = call.line.strip()
    lab = call.lab
    limits = text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text
    if limits.lower() in ("off", "none"):
        lab.budget = None
    elif limits:
        try:
            lab.budget = limits
        except ConfigurationError as error:
            raise error.at(call.line, 1, 1) from error.__cause__
    return account(lab)


COMMAND = Command(
    "budget",
    "%dspex budget ['$2, 50k tokens, 100 calls' | off]",
    "what the Lab may spend on models and has spent; set a limit, or take it away",
    run,
    names=lambda namespace: ["off"],
)
