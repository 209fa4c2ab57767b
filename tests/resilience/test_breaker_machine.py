"""The breaker against a model of it that is written as plainly as it can be."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from dspex_lab.errors import CircuitOpen, LMError
from dspex_lab.resilience import Breaker, BreakerSettings, Change, Permit

WINDOW, MINIMUM, THRESHOLD, COOL, GROWTH, LONGEST, PROBE = 5, 3, 0.5, 4.0, 2.0, 10.0, 20.0


class BreakerMachine(RuleBasedStateMachine):
    """Each admitted call is a number in the model, and a permit in the real one."""

    permits: Bundle[tuple[int, Permit]] = Bundle("permits")

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.told: list[Change] = []
        policy = BreakerSettings(
            window=WINDOW,
            minimum=MINIMUM,
            threshold=THRESHOLD,
            cool_down=COOL,
            growth=GROWTH,
            longest=LONGEST,
            probe_within=PROBE,
        )
        self.breaker = Breaker("t", policy, self.told.append, lambda: self.now)
        self.state, self.outcomes, self.until, self.openings = "closed", [], 0.0, 0  # type: ignore[var-annotated]
        self.probe: int | None = None
        self.probe_since = 0.0
        self.era, self.eras, self.settled = 0, {}, set()  # type: ignore[var-annotated]
        self.states = ["closed"]

    def become(self, state: str) -> None:
        self.state = state
        self.states.append(state)
        self.era += 1
        self.probe = None
        if state == "open":
            self.until = self.now + min(COOL * GROWTH**self.openings, LONGEST)
            self.openings += 1
        if state == "closed":
            self.outcomes, self.openings = [], 0

    @rule(target=permits)
    def admit(self) -> tuple[int, Permit]:
        free = self.state == "closed" or (self.state == "open" and self.now >= self.until)
        free = free or (self.state == "half_open" and (self.probe is None or self.now >= self.probe_since + PROBE))
        number = len(self.eras)
        try:
            permit = self.breaker.admit()
        except CircuitOpen:
            assert not free
            self.eras[number] = -1
            self.settled.add(number)
            gone = Permit(self.breaker, -1)
            gone.released()
            return number, gone
        assert free
        if self.state != "closed":
            if self.state == "open":
                self.become("half_open")
            self.probe, self.probe_since = number, self.now
        self.eras[number] = self.era
        return number, permit

    def end(self, number: int, failed: bool | None) -> None:
        if number in self.settled:
            return
        self.settled.add(number)
        if number == self.probe:
            self.probe = None
            if failed is not None:
                self.become("open" if failed else "closed")
        elif failed is not None and self.state == "closed" and self.eras[number] == self.era:
            self.outcomes = [*self.outcomes, failed][-WINDOW:]
            full = len(self.outcomes) >= MINIMUM
            if failed and full and sum(self.outcomes) >= THRESHOLD * len(self.outcomes):
                self.become("open")

    @rule(call=consumes(permits), also=st.booleans())
    def succeeded(self, call: tuple[int, Permit], also: bool) -> None:
        self.end(call[0], False)
        call[1].succeeded()
        if also:
            call[1].failed(LMError("x", status=500))

    @rule(call=consumes(permits))
    def failed(self, call: tuple[int, Permit]) -> None:
        self.end(call[0], True)
        call[1].failed(LMError("x", status=500))

    @rule(call=permits)
    def failed_and_maybe_said_again(self, call: tuple[int, Permit]) -> None:
        self.failed(call)

    @rule(call=consumes(permits))
    def released(self, call: tuple[int, Permit]) -> None:
        self.end(call[0], None)
        call[1].released()

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0, 8.0, 10.0, 20.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def open_by_hand(self) -> None:
        self.breaker.open("by hand", seconds=COOL)
        openings = self.openings
        self.become("open")
        self.until, self.openings = self.now + COOL, openings

    @rule()
    def close_by_hand(self) -> None:
        self.breaker.close()
        self.become("closed")

    @invariant()
    def they_agree(self) -> None:
        status = self.breaker.status()
        assert status.state == self.state
        if self.state == "closed":
            assert (status.calls, status.failures) == (len(self.outcomes), sum(self.outcomes))
        if self.state == "open":
            assert status.retry_after == max(self.until - self.now, 0.0)
        assert [each.after for each in self.told] == self.states[1:]
        assert [each.before for each in self.told] == self.states[:-1]


BreakerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestBreaker = BreakerMachine.TestCase
