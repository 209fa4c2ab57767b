"""The doors to what guards a Lab's calls: budgets, policies, health, and the tape."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from dspex_lab.events import Event
from dspex_lab.lms import Ledger, Tape
from dspex_lab.resilience import Policy
from dspex_lab.workbench._base import Base


class Guarding(Base):
    """``budget``, ``policy``, ``record`` and ``replay``."""

    @property
    def budget(self) -> Ledger:
        """The account of this Lab: what may be spent, what is, and what calls under way hold.

        Set it to limit what is spent from the next run on: US dollars, ``"$2, 50k tokens, 100 calls"``, a ``dx.Budget``, or
        None for no limit. A call that would cross a limit is refused before it is made.
        """
        return self.ledger

    @budget.setter
    def budget(self, limits: Any) -> None:
        self.ledger.budget = limits

    def policy(self, policy: Policy, lm: Any = None) -> None:
        """Let ``policy`` stand around the calls of ``lm``, or of all models that have none of their own.

        Args:
            policy: retries, circuit breaker, places, hedging, timeout.
            lm: a model, as for :meth:`use`.
        """
        self.gateway.use_policy(policy, None if lm is None else self._models.made(lm))

    def record(self, path: str | Path, **how: Any) -> Tape:
        """Record what models answer from now on to a file, secrets masked, until the tape is closed; see :meth:`replay`.

        While it runs, no cache answers. Use it as a context manager, or close what is returned.

        Args:
            path: ``.jsonl`` or ``.jsonl.gz``; an old recording there is kept, and answers what this one lacks.
            how: as of :class:`~dspex_lab.lms.Tape`.
        """
        return self._insert(Tape(path, "record", told=self._of_tape, **how))

    def replay(self, path: str | Path, mode: str = "replay", **how: Any) -> Tape:
        """Answer from a recording until the tape is closed: no model is called, and no key is needed.

        Args:
            path: what :meth:`record` wrote.
            mode: ``"replay"``; ``"fill"`` asks the model for what is missing and records it.
            how: as of :class:`~dspex_lab.lms.Tape` (``exact=``, ``speed=``).

        Raises:
            ConfigurationError, LMError: there is no such file, or it is no tape. A call that is not on it is an `LMError` that
                names the nearest one that is.
        """
        return self._insert(Tape(path, mode, told=self._of_tape, **how))

    def _insert(self, tape: Tape) -> Tape:
        self.gateway.tape = tape
        self._closers.append(tape.close)
        return tape

    def _of_tape(self, event: str, data: dict[str, Any]) -> None:
        self.bus.emit(Event(event, time.time(), data={"target": data.get("model"), **data}))
