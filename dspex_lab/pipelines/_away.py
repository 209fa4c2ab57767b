"""A step's work on a pool, from the kernel's side: what is given along, and what is made of what comes home."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import PoolError, WorkerKilled
from dspex_lab.lms import Ledger, current_feedback, portable
from dspex_lab.pipelines._remote import Errand, RemoteTarget, Reply, active_trace, current_adapter, travelling_lm
from dspex_lab.pipelines._told import show
from dspex_lab.pools import Outcome, decode, fingerprint
from dspex_lab.resilience import is_retrying

if TYPE_CHECKING:
    from dspex_lab.pipelines._calls import Calls


#: Times that a step is begun at most whose worker is killed while it spends on loan.
TRIES = 5


async def carried_out(step: Calls, pool: str, target: Any, inputs: Mapping[str, Any], module: bool) -> Any:
    """Return what a step's function or DSPy module gives on a worker of ``pool``.

    Args:
        module: it is a DSPy module (else a function).
    """
    context = step.context
    trace = active_trace() if module else None
    lm = travelling_lm(context, module, step.lm)
    ledger = context.terms.ledger if lm else None
    gateway = context.terms.gateway if lm else None
    errand = Errand(
        context.run_id,
        step.span_id,
        step.name,
        lm,
        current_adapter() if lm else None,
        trace is not None,
        None,
        current_feedback(),
        context.terms.fresh,
        is_retrying(),
        None if gateway is None else gateway.terms_of(context.chosen(step.lm), portable),
        context.owner,
        context.listen is not None,
    )
    trip = _Trip(step, pool, RemoteTarget(target, module), inputs, errand)
    reply = await (trip.call(errand, trip.again) if ledger is None else trip.on_loan(ledger))
    for record in reply.records:
        context.emit(record)
    if reply.note is not None:
        context.degrade(step.span_id, reply.note)
    if reply.taped and gateway is not None and gateway.tape is not None:
        gateway.tape.extend(reply.taped)
    if trace is not None:
        own = dict(target.named_predictors())
        trace.extend((own[predictor], given, made) for predictor, given, made in reply.trace if predictor in own)
    if reply.failed is not None:
        decode(reply.failed, pool=pool, worker=trip.outcomes[-1].worker if trip.outcomes else "", label=step.name)
    if reply.error is not None:
        raise reply.error
    return reply.value


class _Trip:
    """A step's work on its way to a worker, as often as it takes.

    Attributes:
        outcomes: of the tries that a worker had, in order.
        told: something of it was heard on the way: it is not done again.
    """

    def __init__(self, step: Calls, pool: str, target: RemoteTarget, inputs: Mapping[str, Any], errand: Errand) -> None:
        self._step, self._pool, self._target, self._inputs, self._errand = step, pool, target, inputs, errand
        #: Whether it may be done again here, because the step itself does not.
        self.again = step.item.idempotent and not errand.once
        self.outcomes: list[Outcome] = []
        self.told = False

    async def on_loan(self, ledger: Ledger) -> Reply:
        """Return the reply of a try that may spend.

        Where spending is limited, the pool does not do it again by itself: all that was lent to a try whose worker died is
        booked, and the next one has a loan of its own, so that together they cross no limit.
        """
        for left in reversed(range(TRIES)):
            # Others may go out before this one is back: each gets half of what is left.
            loan = ledger.lend(0.5)
            tried = len(self.outcomes)
            try:
                reply = await self.call(replace(self._errand, allowance=loan.data), self.again and not loan.limited)
            except BaseException as problem:
                # A worker that is gone took along what it knew of; an error of the step's own comes before any call.
                begun = any(outcome.worker for outcome in self.outcomes[tried:])
                lost = not isinstance(problem, Exception) or (isinstance(problem, PoolError) and begun)
                loan.settle(None) if lost else loan.release()
                again = left and self.again and loan.limited and not self.told
                if not again or not isinstance(problem, WorkerKilled):
                    raise
            else:
                loan.settle(reply.spent)
                return reply
        raise AssertionError("the last try returns or raises")  # pragma: no cover

    async def call(self, errand: Errand, idempotent: bool) -> Reply:
        """Return the reply of one call of the pool.

        Args:
            idempotent: the pool may do it again.
        """
        tried = len(self.outcomes)
        try:
            reply: Reply = await self._step.context.finish(self._call(errand, idempotent))
        finally:
            for outcome in self.outcomes[tried:]:
                _note(self._step, self._pool, outcome)
        return reply

    async def _call(self, errand: Errand, idempotent: bool) -> Any:
        step, context, inputs, target = self._step, self._step.context, self._inputs, self._target.target
        watched: dict[str, Callable[[Any], None]] = {"on_chunk": self._show} if context.listen or context.bus.watched else {}
        return await context.pool(self._pool).call(
            self._target,
            dict(inputs),
            errand,
            timeout=context.remaining(step.item.timeout),
            idempotent=idempotent,
            label=step.name,
            tags={"run_id": context.run_id, "span_id": step.span_id, "step": step.name},
            # The errand differs each time; what kills workers is the function and what it is given.
            identity=lambda: fingerprint(step.name, getattr(target, "__qualname__", type(target).__name__), inputs),
            place=None if context.seats is None else context.seats.placement(context.session, self._pool),
            told=self.outcomes.append,
            **watched,
        )

    def _show(self, told: Any) -> None:
        self.told = True
        show(self._step.context, self._step.span_id, self._step.name, told)


def _note(step: Calls, pool: str, outcome: Outcome) -> None:
    """Have the step's span say where it ran and what that cost."""
    if not outcome.worker:
        return
    context, usage, received = step.context, outcome.usage, outcome.received
    step.worker = f"{outcome.worker}, pid {outcome.pid}"
    about = {
        "waited": outcome.waited,
        "cpu_seconds": usage.cpu_seconds,
        "peak_memory": usage.peak_memory,
        "gpu_memory": usage.gpu_memory,
        "sent": f"{outcome.sent.protocol}, {outcome.sent.size} bytes",
        "received": None if received is None else f"{received.protocol}, {received.size} bytes",
    }
    step.data = {**(step.data or {}), **{k: v for k, v in about.items() if v is not None}}
    if context.seats is not None:
        context.seats.placed(context.session, pool, outcome.worker, outcome.pid)
