"""The door through which plain DSPy calls are recorded in a Lab."""

from __future__ import annotations

from dspex_lab.lms import autolog, autolog_off, is_autologging
from dspex_lab.workbench._base import Base


class PlainCalls(Base):
    """``autolog`` and ``autologging``."""

    def autolog(self, on: bool = True) -> None:
        """Record plain DSPy calls of this process too, until switched off or the Lab is closed.

        Each call of a top-level DSPy program is a run tagged ``"autolog"``, each LM call outside any run an LM call; see
        :mod:`dspex_lab.lms.plain._autolog`. ``dspy.context(dspex_autolog=False)`` leaves a block out.
        """
        self._ensure_open()
        if not on:
            autolog_off(self.id)
        elif not self.autologging:
            self._closers.append(autolog(self.bus.emit, owner=self.id))

    @property
    def autologging(self) -> bool:
        """Say whether plain DSPy calls are recorded here."""
        return is_autologging(self.id)
