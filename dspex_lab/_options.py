"""How a run is to be carried out, as whoever starts it says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dspex_lab.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How one run is to be carried out.

    Args:
        session: the session the run belongs to; kept with the run, to find its runs together.
        deadline: seconds the whole run may take; what is left of it is handed down to its steps.
        budget: what the run may spend: US dollars, ``"$2, 50k tokens, 100 calls"``, or a ``dx.Budget``.
        pin: the implementation to use, by operation (``{"predict": "dspy"}``), instead of the router's choice.
        seed: varies sampling and separates cache entries of otherwise equal calls.
        tags: kept with the run, to find it again.
        fresh: ask the models anew: neither DSPy's cache nor that of a step answers, and neither is filled.
        checkpoint: a name under which the outputs of its steps are kept as they end. A run with the same name goes on from
            there, also in another process; a complete run forgets it.
    """

    session: str | None = None
    deadline: float | None = None
    budget: Any = None
    pin: dict[str, str] = field(default_factory=dict)
    seed: int | None = None
    tags: tuple[str, ...] = ()
    checkpoint: str | None = None
    fresh: bool = False

    def __post_init__(self) -> None:
        if self.deadline is not None and not self.deadline > 0:
            raise ConfigurationError(
                f"deadline={self.deadline!r} is no time to run.",
                key="deadline",
                expected="seconds above 0",
                actual=self.deadline,
            )
        if isinstance(self.budget, int | float) and not self.budget >= 0:
            raise ConfigurationError(
                f"budget={self.budget!r} is no sum.", key="budget", expected="US dollars, 0 or more", actual=self.budget
            )
