"""Direct calls of an LM: the same effects as ``lm(messages=…)``, and when they step aside."""

from __future__ import annotations

import asyncio
import uuid
import warnings
from typing import Any

import dspy
import pytest
from dspy import lm15
from dspy.clients.execution import _canonical, prepare
from dspy.utils.callback import BaseCallback

from dspex_lab.errors import BudgetExceeded
from dspex_lab.events import Event, LMCall
from dspex_lab.lms import CONTEXT_KEY, DirectCalls, Gateway, Ledger, Recorder, Terms, install
from dspex_lab.lms.calls._direct import _from_memory, _prepared
from dspex_lab.lms.calls._feedback import asking_again
from dspex_lab.native._predict import NativePredict
from dspex_lab.native._transport import LMCalls
from dspex_lab.testing import scripted_lm

MESSAGES = [
    {"role": "system", "content": "Sort."},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "a"},
    {"role": "user", "content": "zwö"},
]
MODES = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
TRANSPORTS: list[Any] = [DirectCalls(), LMCalls()]


def messages() -> list[dict[str, str]]:
    return [dict(message) for message in MESSAGES]


def ask(transport: Any, lm: Any, asynchronous: bool = False, config: dict[str, Any] | None = None, given: Any = None) -> Any:
    """Return the outputs, or the error's class and words."""
    given = messages() if given is None else given
    try:
        if asynchronous:
            return asyncio.run(transport.acall(lm, given, dict(config or {})))
        return transport.call(lm, given, dict(config or {}))
    except Exception as error:
        return type(error), str(error), type(error.__cause__)


@pytest.fixture
def cache() -> Any:
    """A DSPy cache of the test's own, in memory and on disk."""
    before = dspy.cache
    dspy.configure_cache(enable_disk_cache=True, enable_memory_cache=True)
    dspy.cache.reset_memory_cache()
    yield dspy.cache
    dspy.cache = before


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 1},
        {"temperature": 1.0, "max_tokens": 3},
        {"stop": ["x", "y"], "seed": 1},
        {"response_format": {"type": "json_object"}},
        {"logprobs": True, "top_logprobs": 2},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}], "tool_choice": "auto"},
        {"rollout_id": 3, "temperature": 0.2},
    ],
    ids=str,
)
def test_the_request_is_the_one_dspy_makes_of_the_messages(config: dict[str, Any]) -> None:
    lm = scripted_lm("x", temperature=0.1)
    for given in (messages(), messages()[1:], messages()[:2]):
        call = _prepared(lm, given, config, asynchronous=False)
        assert call is not None
        assert call.request == _canonical(prepare(lm, None, given, config))
        assert repr(call.request) == repr(_canonical(prepare(lm, None, given, config))), "1 is not 1.0"
        for asynchronous in (False, True):
            assert call.key(lm, asynchronous) == prepare(lm, None, given, config).key(lm, asynchronous)


class Tool(BaseCallback):
    """Counts what it is told."""

    def __init__(self) -> None:
        self.starts = 0

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self.starts += 1


class Sub(dspy.LM):
    """A subclass may do anything."""


def elsewhere() -> dict[str, tuple[Any, dict[str, Any], list[dict[str, Any]]]]:
    plain = scripted_lm("x")
    patched = scripted_lm("x")
    patched.forward = lambda *args, **kwargs: None
    blocks = [{"role": "user", "content": [{"type": "text", "text": "x"}]}]
    return {
        "an engine DSPy chooses": (dspy.LM("openai/x", api_key="k"), {}, messages()),
        "a subclass": (Sub("sub/x", engine=plain.engine), {}, messages()),
        "an instance that was patched": (patched, {}, messages()),
        "another kind of model": (scripted_lm("x", model_type="responses"), {}, messages()),
        "callbacks of the model": (scripted_lm("x", callbacks=[Tool()]), {}, messages()),
        "several candidates": (plain, {"n": 2}, messages()),
        "several candidates by the model": (scripted_lm("x", n=2), {}, messages()),
        "a connection": (plain, {"api_key": "k"}, messages()),
        "a prompt cache": (plain, {"prompt_cache": lm15.CacheConfig()}, messages()),
        "blocks": (plain, {}, blocks),
        "empty text": (plain, {}, [{"role": "user", "content": ""}]),
        "text that cannot be sent": (plain, {}, [{"role": "user", "content": "\ud800"}]),
        "more than role and content": (plain, {}, [{"role": "user", "content": "x", "name": "n"}]),
        "nothing": (plain, {}, []),
    }


@pytest.mark.parametrize("case", elsewhere())
def test_what_is_not_plain_goes_the_ordinary_way(case: str) -> None:
    lm, config, given = elsewhere()[case]
    assert _prepared(lm, given, config, asynchronous=False) is None


def test_so_does_every_call_while_callbacks_a_stream_or_feedback_are_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, watcher = scripted_lm("x"), Tool()
    with dspy.context(callbacks=[watcher]):
        assert ask(DirectCalls(), lm) == ["x"]
    assert watcher.starts == 1
    with dspy.context(send_stream=object()):
        assert _prepared(lm, messages(), {}, False) is None
    with asking_again("Be brief."):
        assert ask(DirectCalls(), lm) == ["x"]
    assert lm.history[-1]["messages"][-1]["content"].endswith("Be brief.")

    class Instrumented:
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return ["instrumented"]

    monkeypatch.setattr(dspy.LM, "__call__", Instrumented())
    assert ask(DirectCalls(), lm) == ["instrumented"]


def test_an_engine_without_an_async_half_is_refused_in_dspys_words() -> None:
    lm = dspy.LM("spy/sync", engine=scripted_lm("x").engine, cache=False)
    first, second = (ask(t, lm, asynchronous=True) for t in TRANSPORTS)
    assert first == second
    assert "no async counterpart" in first[1]


def test_messages_of_other_roles_are_made_into_a_request_by_dspy() -> None:
    given = [*messages(), {"role": "developer", "content": "now"}]
    lms = [scripted_lm("x", model="scripted/roles") for _ in TRANSPORTS]
    assert [ask(t, lm, given=given) for t, lm in zip(TRANSPORTS, lms, strict=True)] == [["x"], ["x"]]
    assert _prepared(lms[0], given, {}, False).request is None  # type: ignore[union-attr]


@pytest.mark.parametrize("config", [{"temperature": "hot"}, {"unknown": 1}, {"stop": object()}, {"top_logprobs": 1}])
@MODES
def test_refused_settings_are_refused_in_dspys_words(config: dict[str, Any], asynchronous: bool) -> None:
    first, second = (ask(t, scripted_lm("x", model="scripted/refused"), asynchronous, config) for t in TRANSPORTS)
    assert first == second
    assert isinstance(first, tuple)


@MODES
@pytest.mark.parametrize("first", [0, 1], ids=["direct first", "dspy first"])
def test_entries_of_the_cache_are_shared_both_ways(cache: Any, asynchronous: bool, first: int) -> None:
    model = f"scripted/{uuid.uuid4().hex}"
    order = [TRANSPORTS[first], TRANSPORTS[1 - first], TRANSPORTS[first]]
    lm = scripted_lm(["one", "two"], cache=True, model=model)
    assert [ask(t, lm, asynchronous, {"temperature": 1.0}) for t in order] == [["one"]] * 3
    assert lm.engine.calls == 1
    cache.reset_memory_cache()
    assert ask(order[1], lm, asynchronous, {"temperature": 1.0}) == ["one"], "the disk has it"
    assert ask(order[1], lm, asynchronous, {"temperature": 1.0, "rollout_id": 4}) == ["two"]
    assert ask(order[0], lm, asynchronous, {"temperature": 1.0, "rollout_id": 4}) == ["two"]
    assert ask(order[0], lm, asynchronous, {"temperature": 1.0, "cache": False}) == ["one"]
    assert lm.engine.calls == 3
    shown = [{k: v for k, v in e.items() if k not in ("uuid", "timestamp")} for e in lm.history[1:3]]
    assert repr(shown[0]) == repr(shown[1]), "a hit looks the same in the history"


def test_predictions_share_them_too(cache: Any) -> None:
    lm = scripted_lm([{"label": "one"}, {"label": "two"}], cache=True)
    native, module = NativePredict("text -> label", transport=DirectCalls()), dspy.Predict("text -> label")
    with dspy.context(lm=lm):
        assert module(text="x").label == native(text="x")["label"] == "one"
        assert native(text="y")["label"] == module(text="y").label == "two"
    assert lm.engine.calls == 2


def test_only_plain_text_is_taken_out_of_the_memory_without_a_copy(cache: Any) -> None:
    lm = scripted_lm("x", cache=True)
    call = _prepared(lm, messages(), {}, asynchronous=False)
    assert call is not None
    assert _from_memory(lm, call, False) is None
    assert ask(DirectCalls(), lm) == ["x"]
    key = cache.cache_key(call.key(lm, False), ["api_key", "api_base", "base_url"])
    good = cache.memory_cache[key]
    found = _from_memory(lm, call, False)
    assert found is not None
    assert (found.outputs, found.cache_hit, found.usage) == (["x"], True, {})
    found.cost_details["mine"] = 1
    assert "mine" not in good["cost_details"], "what is done to the answer does not reach the cache"
    response = good["responses"][0]
    for other in (
        {**good, "responses": [response, response]},
        {**good, "outputs": [{"text": "x"}]},
        {**good, "responses": [{**response, "provider_data": {}}]},
        {
            **good,
            "responses": [{**response, "message": {"role": "assistant", "parts": [{"type": "thinking", "text": "t"}, {}]}}],
        },
        {**good, "cost_details": {"metadata": {}}},
        {**good, "_dspy_format": "older"},
    ):
        cache.memory_cache[key] = other
        assert _from_memory(lm, call, False) is None
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    assert _from_memory(lm, call, False) is None
    assert ask(DirectCalls(), lm, config={"extra_body": {1: object()}})[0] is not None


def test_what_cannot_be_a_key_of_the_cache_is_asked_as_in_dspy(cache: Any) -> None:
    config = {"metadata": {"x": {1, 2}}}
    seen = []
    for transport in TRANSPORTS:
        lm = scripted_lm("x", cache=True, model="scripted/unkeyed")
        seen.append(([ask(transport, lm, config=config) for _ in range(2)], lm.engine.calls))
    assert seen[0] == seen[1]


def test_a_rollout_without_temperature_is_warned_of_as_in_dspy(cache: Any) -> None:
    for transport in TRANSPORTS:
        lm = scripted_lm("x", temperature=0)
        with pytest.warns(UserWarning, match="rollout_id has no effect"):
            transport.call(lm, messages(), {"rollout_id": 1})


@MODES
def test_retries_wait_and_end_as_in_dspy(asynchronous: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspy.clients.execution._delay", lambda error, attempt: 0)
    busy, refused = lm15.RateLimitError("busy"), lm15.AuthError("no key")
    for faults, calls in (
        ({1: busy, 2: busy}, 3),
        ({1: busy, 2: refused}, 2),
        ({1: busy, 2: busy, 3: busy}, 3),
        ({1: OSError("x")}, 1),
    ):
        seen = []
        for transport in TRANSPORTS:
            lm = scripted_lm("fine", faults=faults, num_retries=2, model="scripted/retries")
            seen.append((ask(transport, lm, asynchronous), lm.engine.calls, len(lm.history)))
        assert seen[0] == seen[1]
        assert seen[0][1] == calls


@MODES
def test_usage_and_history_settings_are_obeyed(asynchronous: bool) -> None:
    seen = []
    for transport in TRANSPORTS:
        lm = scripted_lm("x", model="scripted/usage")
        with dspy.track_usage() as tracker:
            ask(transport, lm, asynchronous)
            with dspy.context(disable_history=True):
                ask(transport, lm, asynchronous)
            with dspy.context(max_history_size=1):
                ask(transport, lm, asynchronous)
        seen.append((tracker.get_total_tokens(), len(lm.history)))
    assert seen[0] == seen[1]
    assert seen[0][1] == 1
    assert seen[0][0]["scripted/usage"]["prompt_tokens"] > 0


@MODES
def test_the_record_of_a_call_is_the_same(asynchronous: bool, cache: Any) -> None:
    install()
    kept: list[list[Any]] = []
    for transport in TRANSPORTS:
        records: list[Any] = []
        lm = scripted_lm("x", cache=True, model=f"scripted/record-{asynchronous}-{type(transport).__name__}")
        broken = scripted_lm("x", faults={1: OSError("gone")}, model="scripted/broken")
        ledger = Ledger("9 calls")
        recorder = Recorder(records.append, "run", "span", "step", Terms(Gateway(records.append), ledger), lm=lm)
        with dspy.context(lm=lm, **{CONTEXT_KEY: recorder}):
            for model in (lm, lm, broken):
                ask(transport, model, asynchronous, {"temperature": 0.5})
        kept.append([_comparable(r) for r in records])
        assert (ledger.snapshot().under_way, ledger.spent.calls >= 1) == (0, True)
    assert kept[0] == kept[1]
    calls = [r for r in kept[0] if isinstance(r, dict)]
    assert [c["cache_hit"] for c in calls] == [False, True, False]
    assert [c["error"] is None for c in calls] == [True, True, False]
    assert calls[0]["messages"] == MESSAGES
    assert calls[0]["outputs"] == ["x"]
    assert [c["attempts"] for c in calls] == [1, 0, 1]


def _comparable(record: Any) -> Any:
    if isinstance(record, LMCall):
        fields = {f: getattr(record, f) for f in LMCall.__dataclass_fields__} if hasattr(LMCall, "__dataclass_fields__") else {}
        fields = fields or dict(record._asdict())  # type: ignore[attr-defined]
        return {k: v for k, v in fields.items() if k not in ("call_id", "started", "seconds", "model")}
    return record.name if isinstance(record, Event) else record


def test_what_the_budget_refuses_is_not_asked() -> None:
    install()
    lm, records = scripted_lm("x"), []
    terms = Terms(Gateway(records.append), Ledger("0 calls", "this test"))
    with dspy.context(**{CONTEXT_KEY: Recorder(records.append, "run", terms=terms)}):
        kind, said = ask(DirectCalls(), lm)[:2]
    assert kind is BudgetExceeded
    assert "this test" in said
    assert (lm.engine.calls, [r for r in records if isinstance(r, LMCall)]) == (0, [])


def test_whoever_watches_a_run_is_told_of_the_tokens() -> None:
    install()
    lm, told = scripted_lm("[[ ## label ## ]]\na b"), []

    class Run:
        @staticmethod
        def listen(event: Any) -> None:
            told.append(event.value)

    for asynchronous in (False, True):
        told.clear()
        with dspy.context(**{CONTEXT_KEY: Recorder(lambda record: None, "run", context=Run)}):
            ask(DirectCalls(), lm, asynchronous)
        assert "".join(told).split()[-2:] == ["a", "b"]
        assert len(told) > 1


def test_a_cancelled_call_is_cancelled_at_once() -> None:
    lm = scripted_lm("x", delay=60)

    async def main() -> None:
        work = asyncio.create_task(DirectCalls().acall(lm, messages(), {}))
        await asyncio.sleep(0)
        assert lm.engine.calls == 1
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(main())


def test_no_warning_of_messages_that_are_dictionaries() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for transport in TRANSPORTS:
            assert ask(transport, scripted_lm("x", callbacks=[Tool()])) == ["x"]
            assert ask(transport, scripted_lm("x", callbacks=[Tool()]), True) == ["x"]


def test_what_is_kept_of_settings_does_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from dspex_lab.lms.calls import _direct

    kept: dict[Any, Any] = {}
    monkeypatch.setattr(_direct, "_known_options", kept)
    lm = scripted_lm("x")
    for number in range(600):
        call = _prepared(lm, messages(), {"seed": number}, False)
        assert call is not None
        assert call.request is not None
    assert len(kept) <= 512
