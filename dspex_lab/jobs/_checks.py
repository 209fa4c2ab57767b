"""What is refused before anything is spent."""

from __future__ import annotations

from collections.abc import Iterator
from pickle import PicklingError
from typing import Any

from dspex_lab.errors import ConfigurationError
from dspex_lab.jobs._work import Plan
from dspex_lab.lms import Budget
from dspex_lab.pools import dumps, find_culprit, unserialisable_part

_WORDS = {"cost": "money", "tokens": "tokens", "calls": "calls"}


def check_budget(budget: Budget, *, spent: bool = False) -> None:
    """Refuse a budget with which nothing can be done.

    Args:
        spent: it is what is left of one.

    Raises:
        ConfigurationError: a limit of it is 0.
    """
    for key, word in _WORDS.items():
        if getattr(budget, key) == 0:
            raise ConfigurationError(
                f"The job's budget of {word} is spent." if spent else f"The job's budget of {word} is 0: it could not begin.",
                key=f"budget.{key}",
                expected="more than 0, or None for no limit",
                actual=0,
                hint="Give more: job.resume(budget=…)." if spent else "Leave it out for no limit.",
            )


def limits_of(budget: Budget) -> dict[str, float | int]:
    """Return the limits of a budget, as they are kept."""
    found = {"cost": budget.cost, "tokens": budget.tokens, "calls": budget.calls}
    return {key: value for key, value in found.items() if value is not None}


def over_budget(plan: Plan, budget: Budget) -> Iterator[str]:
    """Yield what a person should know where a plan is more than the budget: the job will stop at it, with its best so far."""
    for key, word in _WORDS.items():
        planned, limit = getattr(plan, key), getattr(budget, key)
        if planned is not None and limit is not None and planned > limit:
            said = f"${planned:,.4g}, of ${limit:,.4g}" if key == "cost" else f"{planned:,} {word}, of {limit:,}"
            yield f"It may take about {said} that it may spend: it stops there, with its best so far."


def check_travels(work: Any, what: str, pool: str) -> None:
    """Refuse a work of which a part cannot go to a worker.

    Raises:
        Unserialisable: its ``path`` names the part: ``work.program.retriever.lock``.
    """
    try:
        dumps(work)
    except MemoryError:
        raise
    except Exception as error:
        raise unserialisable_part(what, _parts(work), error, pool=pool, label=what) from error


def packed(value: Any, what: str) -> bytes:
    """Return a value as a pickle.

    Raises:
        PicklingError: a part of it cannot be pickled; it names the part.
    """
    try:
        return dumps(value)
    except MemoryError:
        raise
    except Exception as error:
        path, part = find_culprit(_parts(value) or [(what, value)])
        raise PicklingError(f"{path} is a {type(part).__name__}: {error}") from error


def _parts(value: Any) -> list[tuple[str, Any]]:
    fields = getattr(value, "__dict__", None) or {name: getattr(value, name) for name in getattr(value, "__slots__", ())}
    return list(fields.items())
