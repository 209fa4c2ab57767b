"""The gateway by itself: names, what travels to a worker, the one loop of retries, and DSPy left as it was outside a Lab."""

from __future__ import annotations

from typing import Any

import dspy
import pytest

from dspex_lab.errors import BulkheadFull, CircuitOpen, ConfigurationError, LMError
from dspex_lab.lms import hint_of, lasting, partial_of
from dspex_lab.lms.calls._asking import Asking, Recorder, Terms
from dspex_lab.lms.calls._failures import ailing, named, transient
from dspex_lab.lms.calls._gateway import Gateway, default_policy, provider_of, target_of
from dspex_lab.lms.calls._recording import install
from dspex_lab.lms.tape._tape import Tape
from dspex_lab.resilience import Level, Load, Policy, Retry, Standing, decide
from dspex_lab.testing import Fault, FaultyServer, scripted_lm


def _gateway() -> Gateway:
    return Gateway(lambda record: None)


def _lm(name: str = "openai/a", **options: Any) -> dspy.LM:
    return dspy.LM(name, api_key="k", **options)


def test_a_target_is_a_model_at_an_address_and_names_no_secret() -> None:
    assert target_of(_lm()) == "openai/a"
    there = _lm(api_base="http://user:hunter2@127.0.0.1:1/v1?key=abc")
    assert target_of(there) == "openai/a@http://127.0.0.1:1/v1"
    assert provider_of(there) == "openai@http://127.0.0.1:1/v1"
    gateway = _gateway()
    assert gateway.guard(there).target == target_of(there)
    assert gateway.guard(_lm("openai/b")).bulkhead is gateway.guard(_lm()).bulkhead, "one provider, one set of places"
    assert gateway.guard(_lm("openai/b")).breaker is not gateway.guard(_lm()).breaker


def test_a_policy_of_the_users_counts_and_not_the_models_number() -> None:
    gateway = _gateway()
    often = _lm(num_retries=7)
    retry = gateway.guard(often).policy.retry
    assert retry is not None
    assert retry.attempts == 8
    gateway.use_policy(Policy(retry=Retry(attempts=2)), often)
    retry = gateway.guard(often).policy.retry
    assert retry is not None
    assert retry.attempts == 2
    other = gateway.guard(_lm("openai/b", num_retries=7)).policy.retry
    assert other is not None
    assert other.attempts == 8
    gateway.use_policy(Policy(retry=None))
    assert gateway.guard(_lm("openai/b", num_retries=7)).policy.retry is None


def test_what_a_model_says_of_its_retries_outlives_a_change_of_policy() -> None:
    gateway = _gateway()
    first = gateway.guard(_lm(num_retries=1))
    assert gateway.guard(_lm(num_retries=1)) is first
    gateway.guards.use(Policy(retry=Retry(attempts=9)))
    assert gateway.guard(_lm(num_retries=1)) is not first


def test_the_terms_of_a_model_travel_and_are_taken() -> None:
    here, there = _gateway(), _gateway()
    lm, other = _lm(), _lm("openai/b")
    assert here.terms_of(lm, lambda each: each.model) == {"fallbacks": []}
    here.use_policy(Policy(retry=Retry(attempts=2)), lm)
    here.use_fallbacks(lm, [other, "cache"])
    terms = here.terms_of(lm, lambda each: each.model)
    policy = terms["policy"]
    assert terms == {"fallbacks": ["openai/b", "cache"], "policy": policy}
    assert (policy.retry.attempts, policy.retry.on, policy.breaker.on) == (2, transient, ailing)
    assert there.take(lm, terms, lambda name: {"openai/b": other}[name]) is None
    assert there.fallbacks(lm) == (other, "cache")
    guard = there.guard(lm)
    there.take(lm, terms, lambda name: other)
    assert there.guard(lm) is guard, "the same terms change nothing"


def test_a_tape_travels_as_a_recording_in_memory_or_as_its_path(tmp_path: Any) -> None:
    here, there = _gateway(), _gateway()
    lm = _lm()
    with Tape(tmp_path / "t.jsonl", "record") as tape:
        here.tape = tape
        terms = here.terms_of(lm, str)
        assert terms["tape"] == {"path": None, "mode": "record", "exact": False, "speed": None}
        first = there.take(lm, terms, str)
        assert first is not None
        assert there.take(lm, terms, str) is not first, "each errand has its own, so that nothing comes home twice"
    assert here.tape is None, "a closed tape is none"
    here.tape = Tape(tmp_path / "t.jsonl", "replay")
    assert here.replays()
    terms = here.terms_of(lm, str)
    kept = there.take(lm, terms, str)
    assert there.take(lm, terms, str) is kept, "it goes on where it was"
    here.tape = Tape(tmp_path / "t.jsonl", "fill")
    with pytest.raises(ConfigurationError, match="does not reach the workers"):
        here.terms_of(lm, str)
    here.tape.close()
    assert there.take(lm, here.terms_of(lm, str), str) is None
    assert there.tape is None


def test_an_unknown_price_is_the_dearest_under_load() -> None:
    gateway = _gateway()
    dear, cheap, unknown = _lm("openai/gpt-4o"), _lm("openai/gpt-4o-mini"), _lm("openai/nobody-knows-this")
    gateway.use_fallbacks(unknown, [dear, "cache", cheap])
    assert gateway.order(unknown) == (unknown, dear, "cache", cheap)
    gateway.degradation.pin("cheapest_model_first")
    assert gateway.order(unknown) == (cheap, dear, unknown, "cache")
    assert gateway.order(_lm("openai/c"))[0].model == "openai/c"


def test_an_lm_that_is_not_dspys_own_is_guarded_as_it_is() -> None:
    class Old:
        model = "own/model"

    assert _gateway().guard(Old()).target == "own/model"


def test_only_calls_are_refused_where_only_caches_answer() -> None:
    gateway = _gateway()
    gateway.degradation.pin("cached_only")
    lm = scripted_lm("x")
    call = Asking(lm, Recorder(lambda record: None, None, terms=Terms(gateway)), None)
    with pytest.raises(BulkheadFull, match="only caches answer"):
        gateway.around(call, lm.engine, False, False)


def test_a_map_of_a_thousand_rows_at_once_is_not_refused_by_its_own_queue() -> None:
    settings, standing = _gateway().degradation.settings, Standing()
    for second in range(0, 600, 10):
        standing = decide(standing, Load(use=1.0, queue=0.97), settings, float(second))
    assert standing.level == Level.CHEAPEST_MODEL_FIRST
    assert decide(standing, Load(refused=0.5), settings, 700.0).level == Level.CACHED_ONLY


def test_a_default_circuit_asks_again_every_five_seconds_at_most() -> None:
    settings = default_policy().breaker
    assert settings is not None
    assert (settings.cool_down, settings.longest) == (2.0, 5.0)


def test_outside_a_lab_dspy_is_as_it_was() -> None:
    install()
    install()
    with FaultyServer("hi", faults={1: Fault.rate_limit(retry_after=0)}) as server:
        lm = dspy.LM("openai/a", api_base=server.url, api_key="k", cache=False, num_retries=1)
        assert lm("hello") == ["hi"]
        assert server.counts.arrived == 2, "DSPy's own loop"
    recorder = Recorder(lambda record: None, "r", terms=Terms())
    with FaultyServer("hi", faults={1: Fault.rate_limit(retry_after=0)}) as server, dspy.context(dspex_recorder=recorder):
        lm = dspy.LM("openai/a", api_base=server.url, api_key="k", cache=False, num_retries=1)
        assert lm("hello") == ["hi"]
        assert server.counts.arrived == 2, "a recorder without a gateway only listens"


# --- what a failure says --------------------------------------------------------------------------------------------------


def _lm15() -> Any:
    from dspy import lm15

    return lm15


def test_which_failures_are_asked_again_and_which_speak_of_an_ailing_provider() -> None:
    lm15 = _lm15()
    both = (lm15.ServerError("x"), lm15.TimeoutError("x"), lm15.TransportError("x"), dspy.LMServerError("x"), ConnectionError())
    for error in both:
        assert transient(error), error
        assert ailing(error), error
    for error in (lm15.RateLimitError("x"), dspy.LMRateLimitError("x")):
        assert transient(error)
        assert not ailing(error)
    for error in (
        lm15.BillingError("x"),
        lm15.AuthError("x"),
        dspy.LMAuthError("x"),
        CircuitOpen("x"),
        ValueError(),
        LMError("x"),
    ):
        assert not transient(error), error
        assert not ailing(error), error
    for error in (lm15.StreamAssemblyError("x"), dspy.LMStreamAssemblyError("x")):
        assert not transient(error), "it was paid for"
        assert ailing(error)
    cut = lm15.ServerError("x")
    cut.partial = object()
    assert not transient(cut)
    assert ailing(cut)


def test_a_timeout_gets_the_name_that_dspy_knows() -> None:
    lm15 = _lm15()
    own = lm15.TimeoutError("own")
    assert named(own, "t") is own
    made = named(TimeoutError(), "openai/a")
    assert isinstance(made, lm15.TimeoutError)
    assert "openai/a" in str(made)


def test_a_spent_quota_lasts_wherever_it_is_wrapped() -> None:
    wrapped = RuntimeError("x")
    wrapped.__cause__ = dspy.LMBillingError("spent", status=429)
    assert lasting(wrapped)
    assert not lasting(dspy.LMRateLimitError("x", status=429))
    loop = RuntimeError("round")
    loop.__cause__ = loop
    assert not lasting(loop)
    assert partial_of(loop) is None


def test_hints_are_our_own_errors_or_known_ones_of_dspys() -> None:
    assert hint_of(LMError("x", hint="do it")) == "do it"
    assert hint_of(None) is None
    assert hint_of(ValueError("x")) is None
    assert "key" in (hint_of(dspy.LMAuthError("x")) or "")
    assert "Shorten" in (hint_of(dspy.ContextWindowExceededError(message="x")) or "")
    assert hint_of(dspy.LMProviderError("x")) is None
