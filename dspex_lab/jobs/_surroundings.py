"""What a work finds around it: the model in use, as ``dspy.context`` has it, with every call recorded and paid from the job's
account."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from dspex_lab.events import Record
from dspex_lab.jobs._work import Surroundings
from dspex_lab.lms import (
    CONTEXT_KEY,
    Gateway,
    Ledger,
    Recorder,
    Terms,
    describe,
    from_portable,
    install,
    is_simulated,
    portable,
    price_of,
)
from dspex_lab.security.interpreter import chosen_factory


class Bare:
    """No model: for works that need none."""

    def entered(self, job_id: str, tell: Callable[[Record], None], ledger: Ledger | None) -> AbstractContextManager[Any]:
        """Return a context that does nothing."""
        return contextlib.nullcontext()

    def price(self, prompt_tokens: int, answer_tokens: int) -> float | None:
        """Nothing costs anything."""
        return None

    def away(self) -> Surroundings:
        """Return itself."""
        return self


@dataclass(frozen=True)
class Models:
    """The model in use and what stands around its calls.

    Args:
        lm: a ``dspy.LM``.
        adapter: DSPy's adapter; None is DSPy's default.
        gateway: what the calls pass; None is one of its own.
        owner: names the Lab to its workers.
        fresh: no cache answers, and none is filled.
        settings: more keys for ``dspy.context``, picklable.
    """

    lm: Any
    adapter: Any = None
    gateway: Gateway | None = None
    owner: str = ""
    fresh: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def entered(self, job_id: str, tell: Callable[[Record], None], ledger: Ledger | None) -> AbstractContextManager[Any]:
        """Return the ``dspy.context`` of the job."""
        return _entered(self, self.lm, self.gateway or _gateway(self.owner), job_id, tell, ledger)

    def price(self, prompt_tokens: int, answer_tokens: int) -> float | None:
        """Return what so many tokens cost."""
        if is_simulated(self.lm):
            return 0.0
        price = price_of(describe(self.lm))
        return None if price is None else price.of(prompt_tokens, answer_tokens)

    def away(self) -> Surroundings:
        """Return them without the model's key and history."""
        terms = None if self.gateway is None else self.gateway.terms_of(self.lm, portable)
        return Away(portable(self.lm), terms, replace(self, lm=None, gateway=None))


@dataclass(frozen=True)
class Away:
    """:class:`Models` as they travel. ``lm`` is the model as data, ``terms`` how its calls pass (``Gateway.terms_of``)."""

    lm: dict[str, Any]
    terms: dict[str, Any] | None
    models: Models

    def entered(self, job_id: str, tell: Callable[[Record], None], ledger: Ledger | None) -> AbstractContextManager[Any]:
        """Return the ``dspy.context`` of the job, in a worker."""
        lm, gateway = from_portable(self.lm), _gateway(self.models.owner)
        if self.terms is not None:
            gateway.take(lm, self.terms, from_portable)
        return _entered(self.models, lm, gateway, job_id, tell, ledger)

    def price(self, prompt_tokens: int, answer_tokens: int) -> float | None:
        """It was asked before."""
        return None

    def away(self) -> Surroundings:
        """Return itself."""
        return self


class _Nowhere:
    """What a call finds in the place of its run: nobody streams a job."""

    owner = ""
    listen = None

    def degrade(self, span_id: str | None, why: str) -> None:
        """The answers of a job's calls are judged by its metric."""


@contextlib.contextmanager
def _entered(
    models: Models, lm: Any, gateway: Gateway, job_id: str, tell: Callable[[Record], None], ledger: Ledger | None
) -> Iterator[None]:
    import dspy

    install()
    terms = Terms(gateway, ledger, None, models.fresh)
    recorder = Recorder(tell, job_id, None, None, terms, lm, _Nowhere())
    settings = {**models.settings, "lm": lm, "adapter": models.adapter, CONTEXT_KEY: recorder, "trace": []}
    with dspy.context(**settings, interpreter_factory=chosen_factory()):
        yield


_making = threading.Lock()


def _gateway(owner: str) -> Gateway:
    """Return what the calls of a Lab pass in this process: its breakers and limits remember from one job to the next."""
    with _making:  # of several first pieces at once, each would make one
        return _made_gateway(owner)


@functools.cache
def _made_gateway(owner: str) -> Gateway:
    return Gateway(lambda record: None)
