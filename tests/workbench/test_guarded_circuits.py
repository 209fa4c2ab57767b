"""The circuits of a Lab: when they open, refuse, probe and close again, over real sockets."""

from __future__ import annotations

import threading
from typing import Any

import dspy
import pytest
from guard_helpers import ANSWER, SIGNATURE, WAYS, Seen, breaker_of, model_at, only, quick, run, without_waits

import dspex_lab as dx
from dspex_lab.testing import Fault, FaultyServer, Gate

__all__ = ["quick"]


@pytest.mark.parametrize("way", WAYS)
def test_a_circuit_opens_refuses_at_once_and_closes_by_one_probe(quick: dx.Lab, way: str) -> None:
    without_waits(quick, breaker=dx.BreakerSettings(minimum=3, window=3, cool_down=3600.0, longest=3600.0, on=_ailing()))
    seen = Seen(quick)
    with FaultyServer(ANSWER) as server:
        quick.use(model_at(server))
        server.outage()
        for _ in range(3):
            assert isinstance(run(quick, way).error, dspy.LMServerError)
        assert server.counts.arrived == 3
        refused = run(quick, way)
        error = only(refused).error
        assert type(error) is dx.CircuitOpen
        assert error.target == f"openai/any-model@{server.url}"
        assert 3000 < (error.retry_after or 0) <= 3600
        assert server.counts.arrived == 3, "nobody was asked"
        assert seen.calls[-1].attempts == 0
        server.recover()
        assert type(run(quick, way).error) is dx.CircuitOpen
        _cooled_down(quick)
        assert run(quick, way).status == "complete"
        assert run(quick, way).status == "complete"
    assert seen.names("breaker.") == ["breaker.open", "breaker.half_open", "breaker.close"]
    assert seen.events("breaker.open")[0].data["target"].startswith("openai/any-model@")


def _ailing() -> Any:
    from dspex_lab.lms.calls._failures import ailing

    return ailing


def _cooled_down(lab: dx.Lab) -> None:
    breaker_of(lab)._open_until = 0.0


def test_a_probe_that_fails_opens_it_again_and_only_one_probes(quick: dx.Lab) -> None:
    hold = Gate()
    with FaultyServer(ANSWER, hold=hold) as server:
        quick.use(model_at(server))
        breaker_of(quick).open("for this test", 3600.0)
        _cooled_down(quick)
        probing = threading.Thread(target=lambda: quick.run(SIGNATURE, message="probe"))
        probing.start()
        assert server.reached(1)
        assert type(quick.run(SIGNATURE, message="another").error) is dx.CircuitOpen
        hold.open()
        probing.join(30)
        assert breaker_of(quick).state == "closed"
        server.outage()
        breaker_of(quick).open("again", 3600.0)
        _cooled_down(quick)
        quick.run(SIGNATURE, message="x")
        assert breaker_of(quick).state == "open"
        assert server.counts.arrived == 2


def test_cached_answers_come_while_it_is_open(quick: dx.Lab) -> None:
    with FaultyServer(ANSWER) as server:
        quick.use(model_at(server, cache=True))
        for x in (SIGNATURE, dspy.Predict(SIGNATURE)):
            assert quick.run(x, message="x").status == "complete"
        breaker_of(quick).open("for this test")
        for way in ("run", "dspy"):
            assert run(quick, way, message="x").outputs == ANSWER
        assert type(quick.run(SIGNATURE, message="new").error) is dx.CircuitOpen


def test_a_rate_limit_and_a_wrong_request_open_no_circuit(quick: dx.Lab) -> None:
    for fault in (Fault.rate_limit(retry_after=0), Fault.wrong_key(), Fault.context_length()):
        with FaultyServer(ANSWER, faults=fault) as server:
            quick.use(model_at(server))
            for _ in range(8):
                quick.run(SIGNATURE, message="x")
            assert breaker_of(quick).state == "closed"
            assert server.counts.arrived == 8


def test_two_labs_do_not_mix(quick: dx.Lab) -> None:
    with dx.Lab(":memory:") as other, FaultyServer(ANSWER) as server:
        lm = model_at(server)
        quick.use(lm)
        other.use(lm)
        breaker_of(quick).open("here only")
        inner = other.run(lambda x: quick.run(SIGNATURE, message=x).outputs, x="a")
        assert inner.outputs == {"result": {}} or not next(iter(inner.outputs.values()))
        assert type(quick.run(SIGNATURE, message="x").error) is dx.CircuitOpen
        assert other.run(SIGNATURE, message="x").status == "complete"
        nested = quick.run(lambda x: other.run(SIGNATURE, message=x).outputs["label"], x="a")
        assert next(iter(nested.outputs.values())) == "billing"


def test_health_says_which_circuit_is_open(quick: dx.Lab) -> None:
    with FaultyServer(ANSWER) as server:
        quick.use(model_at(server))
        assert quick.run(SIGNATURE, message="x").status == "complete"
        assert {c.state for c in quick.health.check("models")} >= {"healthy"}
        breaker_of(quick).open("for this test")
        (found,) = [c for c in quick.health.check("models") if c.name == "models"]
        assert found.state == "unhealthy"
        assert server.url in found.reason
