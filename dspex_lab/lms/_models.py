"""Which model is in use: what was chosen, where, and what stands in for none."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from dspex_lab.lms._make import make_lm
from dspex_lab.lms.calls._asking import current_recorder


class Models:
    """The models of one Lab. Thread-safe.

    Args:
        owner: the Lab's id, as in the context of its recorders.
        replayed: says whether no provider will be called, so that no key is needed: a tape answers.
    """

    def __init__(self, owner: str, replayed: Callable[[], bool] = lambda: False) -> None:
        self._owner, self._replayed = owner, replayed
        self._chosen: Any = None
        self._offline: Any = None
        self._lock = threading.RLock()

    def use(self, lm: Any, **options: Any) -> Any:
        """Choose a model and return it; None goes back to what ``dspy.configure`` set. See :meth:`Lab.use`."""
        made = None if lm is None else self.made(lm, **options)
        with self._lock:
            self._chosen = made
        return self.current() if made is None else made

    def made(self, lm: Any, **options: Any) -> Any:
        """Return the model that ``lm`` names; see :func:`make_lm`."""
        if self._replayed():
            options.setdefault("check", False)
        return make_lm(lm, **options)

    def current(self) -> Any:
        """Return the model a run would use now; see :attr:`Lab.lm`."""
        chosen = self._chosen
        if "dspy" in sys.modules:
            from dspy.dsp.utils.settings import main_thread_config, thread_local_overrides

            around = thread_local_overrides.get().get("lm")
            if around is not None and not self._of_another(around):
                return around
            chosen = chosen or main_thread_config.get("lm")
        return chosen if chosen is not None else self.offline()

    def _of_another(self, lm: Any) -> bool:
        """Say whether ``lm`` is around here because a step of another Lab runs, and was not set by the user."""
        recorder = current_recorder()
        return recorder is not None and recorder.lm is lm and getattr(recorder.context, "owner", self._owner) != self._owner

    def offline(self) -> Any:
        """Return the offline model, made when it is first needed."""
        with self._lock:
            if self._offline is None:
                self._offline = make_lm("offline")
            return self._offline
