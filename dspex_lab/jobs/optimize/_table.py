"""The optimizers by name."""

from __future__ import annotations

from typing import Any

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.jobs.optimize._driver import Base
from dspex_lab.jobs.optimize._fewshot import Bootstrap, Labeled, OptunaSearch, RandomSearch
from dspex_lab.jobs.optimize._gepa import GEPA
from dspex_lab.jobs.optimize._meta import Ensemble, Together
from dspex_lab.jobs.optimize._mipro import MIPRO
from dspex_lab.jobs.optimize._nearest import KNN
from dspex_lab.jobs.optimize._training import GRPO, Finetune, Unknown
from dspex_lab.jobs.optimize._writing import COPRO, SIMBA, Avatar, InferRules

#: One of each; they have no state.
DRIVERS: tuple[Base, ...] = (
    MIPRO(),
    GEPA(),
    Bootstrap(),
    RandomSearch(),
    OptunaSearch(),
    SIMBA(),
    COPRO(),
    InferRules(),
    KNN(),
    Labeled(),
    Together(),
    Ensemble(),
    Finetune(),
    GRPO(),
    Avatar(),
)
UNKNOWN = Unknown()

#: How each is resumed, in words.
RESUMES = {
    "state": "goes on from its own state, kept after each iteration; the iteration under way is done again",
    "replay": "runs again with the same seed: what was done is answered by DSPy's cache and marked as repeated",
    "best": "begins again with the best candidate so far as its student",
    "again": "begins again: it tries one candidate only",
}


def names() -> list[str]:
    """Return the names of the optimizers."""
    return [driver.name for driver in DRIVERS]


def driver_of(optimizer: Any) -> tuple[Base, Any]:
    """Return how an optimizer is driven, and its class or the instance that was given.

    Args:
        optimizer: a name; a class or an instance of an optimizer; or anything with ``compile``.

    Raises:
        ConfigurationError: a name that is not known, or something without ``compile``.
    """
    if isinstance(optimizer, str):
        driver = _named(optimizer)
        return driver, driver.cls()
    if not callable(getattr(optimizer, "compile", None)):
        raise ConfigurationError(
            f"optimizer is {optimizer!r}, which has no compile().",
            key="optimizer",
            expected=f"one of {', '.join(names())}, an optimizer, or an object with compile()",
            actual=type(optimizer).__name__,
        )
    given = optimizer if isinstance(optimizer, type) else type(optimizer)
    ours = {f"{d.path.split(':')[1]}": d for d in DRIVERS}
    for each in given.__mro__:
        # Known by its class: by the name alone a third party's would be taken for one of DSPy's.
        if each.__module__.startswith("dspy.teleprompt") and each.__name__ in ours:
            return ours[each.__name__], optimizer
    return UNKNOWN, optimizer


def _named(name: str) -> Base:
    asked = name.strip().lower().replace("-", "_").replace(" ", "_")
    for driver in DRIVERS:
        if asked in (driver.name, *driver.other):
            return driver
    known = [n for driver in DRIVERS for n in (driver.name, *driver.other)]
    raise ConfigurationError(
        f"There is no optimizer {name!r}.{did_you_mean(asked, known)}",
        key="optimizer",
        expected=", ".join(names()),
        actual=name,
        hint="Give its class or an instance for one that is not in the list.",
    )
