"""An engine for one call, with what stands around it; see ``_gateway.py``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from dspex_lab.events import LMCall, new_id
from dspex_lab.lms._make import describe, is_simulated
from dspex_lab.lms.budget import Estimate, Hold, Ledger, estimate
from dspex_lab.lms.calls._failures import named
from dspex_lab.lms.calls._live_engine import Work
from dspex_lab.lms.choice._capabilities import facts_of
from dspex_lab.lms.choice._prices import price_of

if TYPE_CHECKING:
    from dspy.lm15 import Request, Response

    from dspex_lab.lms.calls._asking import Asking
    from dspex_lab.resilience import Attempt, Guard

#: Seconds that a call waits for others to end where only what is held for them stands between it and a limit.
_PATIENCE = 30.0


class _Request:
    """One request that is really made: what is held for it, and what it cost; a context manager around the asking.

    Args:
        race: holds one thing, which the first answer to the same question takes; empty, the answer comes too late.
    """

    def __init__(self, call: Asking, hold: Hold | None, race: list[None]) -> None:
        self._call, self._hold, self._race = call, hold, race
        self._left = False
        call.attempts += 1
        self._started, self._clock = time.time(), time.perf_counter()

    def __enter__(self) -> _Request:
        return self

    def answered(self, answer: Any) -> None:
        """Take note of the answer: an ``lm15.Response``, or what DSPy's LiteLLM engine gives."""
        usage = getattr(answer, "usage", None)
        if self._hold is not None:
            self._hold.settle(usage, cost=getattr(answer, "cost", None))
        try:
            self._race.pop()
            late = self._left
        except IndexError:
            late = True
        if late:
            self._late(usage)

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self._left = True
        if self._hold is not None:
            self._hold.__exit__(kind, error, traceback)

    def _late(self, usage: Any) -> None:
        """Record an answer that nobody took any more: it is paid for like the one that was taken."""
        call, used = self._call, (lambda name: getattr(usage, name, None))
        recorder, model = call.recorder, describe(call.lm)
        sent, answered = used("input_tokens"), used("output_tokens")
        price = None if is_simulated(call.lm) else facts_of(model).price
        cost = 0.0 if is_simulated(call.lm) else None if price is None else price.of(sent or 0, answered or 0)
        recorder.emit(
            LMCall(
                new_id(),
                recorder.span_id,
                recorder.run_id,
                recorder.step,
                model,
                self._started,
                time.perf_counter() - self._clock,
                sent,
                answered,
                cost,
                False,
                is_simulated(call.lm),
                # By that name it is counted as nobody's failure.
                "CancelledError: it was answered when nobody waited for it any more",
            )
        )


class _Passage:
    """One call on its way to an engine.

    Args:
        ledger: what is spent on it is held and booked there.
        again: it may be asked more than once.
    """

    def __init__(self, engine: Any, guard: Guard, call: Asking, ledger: Ledger | None, again: bool) -> None:
        self._engine, self._guard, self._call, self._ledger, self._again = engine, guard, call, ledger, again
        self._deadline = call.recorder.terms.deadline

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def _estimate(self, request: Any) -> Estimate:
        model, simulated = describe(self._call.lm), is_simulated(self._call.lm)
        if self._ledger is None or not self._ledger.limited:
            # What it used is booked, by the price; how much that may become concerns nobody.
            return Estimate(model, 0, 0, None, None if simulated else price_of(model), False, simulated)
        facts = facts_of(model)
        usual = None if self._ledger is None else self._ledger.usual(model)
        price = None if simulated else facts.price
        return estimate(request, model=model, price=price, max_output=facts.max_output, usual=usual, simulated=simulated)

    def _wait(self) -> float:
        return _PATIENCE if self._deadline is None else min(_PATIENCE, max(self._deadline - time.monotonic(), 0.0))

    def _how(self) -> dict[str, Any]:
        # What is told of piece by piece is not asked for twice at once.
        return {"deadline": self._deadline, "idempotent": self._again, "hedge": self._call.live is None}


class GuardedEngine(_Passage):
    """The sync engine of one call."""

    def complete(self, request: Request) -> Response:
        """Answer one request."""
        response: Response = self._pass(request, lambda: self._engine.complete(request))
        return response

    def complete_legacy(self, lm: Any, legacy: dict[str, Any], **about: Any) -> Any:
        """Answer a call in DSPy's older form."""
        return self._pass(legacy, lambda: self._engine.complete_legacy(lm, legacy, **about))

    def stream(self, request: Request) -> Iterator[Any]:
        """Yield the engine's stream. DSPy asks again, as long as nothing of it was passed on: here it is asked once."""
        from dspy.clients.engines.lifecycle import closing_stream

        guard, self._call.streams = self._guard, True
        with contextlib.ExitStack() as stack:
            if guard.breaker is not None:
                guard.breaker.check()
            if guard.bulkhead is not None:
                stack.enter_context(guard.bulkhead.slot(deadline=self._deadline))
            if guard.breaker is not None:
                stack.enter_context(guard.breaker.admit())
            made = stack.enter_context(self._request(request, [None]))
            for event in stack.enter_context(closing_stream(self._engine.stream(request))):
                if event.type == "end":
                    made.answered(event)
                yield event

    def _pass(self, request: Any, ask: Callable[[], Any]) -> Any:
        race: list[None] = [None]

        def once(attempt: Attempt) -> Any:
            with self._request(request, race) as made:

                def asked() -> Any:
                    answer = ask()
                    made.answered(answer)
                    return answer

                if attempt.deadline is None:
                    return asked()
                # A thread cannot be stopped, but it can be left.
                left = max(attempt.deadline - time.monotonic(), 0.0)
                return Work(asked, "dspex-lm").result(left, repr(self._guard.target))

        try:
            return self._guard.call(once, **self._how())
        except TimeoutError as error:
            raise named(error, self._guard.target) from error

    def _request(self, request: Any, race: list[None]) -> _Request:
        ledger = self._ledger
        hold = None if ledger is None else ledger.reserve(self._estimate(request), wait=self._wait())
        return _Request(self._call, hold, race)


class AsyncGuardedEngine(_Passage):
    """The async engine of one call."""

    async def complete(self, request: Request) -> Response:
        """Answer one request."""
        response: Response = await self._pass(request, lambda: self._engine.complete(request))
        return response

    async def complete_legacy(self, lm: Any, legacy: dict[str, Any], **about: Any) -> Any:
        """Answer a call in DSPy's older form."""
        return await self._pass(legacy, lambda: self._engine.complete_legacy(lm, legacy, **about))

    async def stream(self, request: Request) -> AsyncIterator[Any]:
        """Yield the engine's stream, as :meth:`GuardedEngine.stream`."""
        from dspy.clients.engines.lifecycle import aclosing_stream

        guard, self._call.streams = self._guard, True
        async with contextlib.AsyncExitStack() as stack:
            if guard.breaker is not None:
                guard.breaker.check()
            if guard.bulkhead is not None:
                await stack.enter_async_context(guard.bulkhead.aslot(deadline=self._deadline))
            if guard.breaker is not None:
                stack.enter_context(guard.breaker.admit())
            made = stack.enter_context(await self._request(request, [None]))
            events = await stack.enter_async_context(aclosing_stream(self._engine.stream(request)))
            async for event in events:
                if event.type == "end":
                    made.answered(event)
                yield event

    async def _pass(self, request: Any, ask: Callable[[], Awaitable[Any]]) -> Any:
        race: list[None] = [None]

        async def once(attempt: Attempt) -> Any:
            with await self._request(request, race) as made:
                answer = await ask()
                made.answered(answer)
                return answer

        try:
            return await self._guard.acall(once, **self._how())
        except TimeoutError as error:
            raise named(error, self._guard.target) from error

    async def _request(self, request: Any, race: list[None]) -> _Request:
        ledger = self._ledger
        hold = None if ledger is None else await ledger.areserve(self._estimate(request), wait=self._wait())
        return _Request(self._call, hold, race)
