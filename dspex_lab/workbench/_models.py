"""The model of a Lab: choosing it, and lending it to plain DSPy code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from dspex_lab.lms import CACHE, make_lm
from dspex_lab.pools import current_task
from dspex_lab.workbench._base import Base


class ModelDoors(Base):
    """``use``, ``lm`` and ``context``."""

    def use(self, lm: Any, *, fallbacks: Sequence[Any] = (), **options: Any) -> Any:
        """Choose the model of this Lab and return it.

        Args:
            lm: a model string (``"openai/gpt-5-mini"``), a ``dspy.LM``, or ``"offline"``; None goes back to what
                ``dspy.configure`` set.
            fallbacks: asked in turn where it fails, one or a list: models, named as ``lm``, and ``"cache"`` for an answer that
                one of them gave to the same prompt before (the step is ``partial`` then).
            options: handed to ``dspy.LM`` (``temperature=``, ``api_base=`` …); ``pool="neural"`` has a ``"local/PATH"`` model
                answer in the workers of that pool.

        Raises:
            LMError: there is no such model, or its key is missing. Nothing was called.
        """
        listed = fallbacks if isinstance(fallbacks, list | tuple) else [fallbacks]
        others = [other if other == CACHE else self._models.made(other) for other in listed]
        if isinstance(options.get("pool"), str) and not current_task().worker:
            options["pool"] = self.pools.get(options["pool"])
        chosen = self._models.use(lm, **options)
        self.gateway.use_fallbacks(chosen, others)
        return chosen

    @property
    def lm(self) -> Any:
        """Return the model a run would use now.

        In this order: what ``dspy.context`` set around the call, what :meth:`use` chose, what ``dspy.configure`` set,
        the offline engine.
        """
        return self._models.current()

    @contextlib.contextmanager
    def context(self, lm: Any = None) -> Iterator[Any]:
        """Use this Lab's model for plain DSPy code in the block (``dspy.context``); yields the model."""
        import dspy

        chosen = make_lm(lm) if lm is not None else self.lm
        with dspy.context(lm=chosen):
            yield chosen
