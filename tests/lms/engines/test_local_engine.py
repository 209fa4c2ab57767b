"""LocalEngine over a tiny random transformer made on the spot: real torch, real transformers, no network."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import logging
import pickle
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

dspy = pytest.importorskip("dspy")
torch = pytest.importorskip("torch", reason="local models need torch (extra neural)")
pytest.importorskip("transformers", reason="local models need transformers (extra neural)")

from dspy.lm15 import (  # noqa: E402
    Config,
    ContextLengthError,
    FunctionTool,
    ImagePart,
    InvalidRequestError,
    Message,
    ProviderError,
    Reasoning,
    Request,
    TextPart,
    ThinkingPart,
    UnsupportedFeatureError,
    UnsupportedModelError,
)
from dspy.lm15 import ConfigurationError as EngineConfigurationError  # noqa: E402
from local_checkpoints import make_checkpoint, one_thread  # noqa: E402

from dspex_lab.errors import ConfigurationError, LMError  # noqa: E402
from dspex_lab.lms import from_portable, portable  # noqa: E402
from dspex_lab.lms.engines import AsyncLocalEngine, LocalEngine, local_lm  # noqa: E402
from dspex_lab.lms.engines import _local_checkpoint as checkpoints  # noqa: E402
from dspex_lab.lms.engines import _local_grammar as grammars  # noqa: E402
from dspex_lab.lms.engines._local_errors import GarbledAnswer, LocalOutOfMemory  # noqa: E402

CPU = {"device": "cpu", "window": 0.0}
SCHEMA = {
    "type": "object",
    "properties": {"label": {"enum": ["billing", "card"]}, "sure": {"type": "boolean"}},
    "required": ["label", "sure"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def engine(tiny: Path) -> Iterator[LocalEngine]:
    made = LocalEngine(tiny, **CPU)
    yield made
    made.close()


def ask(text: str = "Hello", *, system: str | None = None, **config: Any) -> Request:
    config = {"temperature": 0, "max_tokens": 12, **config}
    return Request(model="local/tiny", messages=(Message.user(text),), system=system, config=Config(**config))


@contextmanager
def watched(engine: LocalEngine, before: Callable[[int], Any]) -> Iterator[list[int]]:
    """Have ``before`` called with the number of each forward pass; yields the batch size of each."""
    passes: list[int] = []

    def hook(module: Any, args: Any, kwargs: Any) -> None:
        given = kwargs.get("input_ids")
        passes.append((args[0] if given is None else given).shape[0])
        before(len(passes))

    handle = engine.load().weights.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield passes
    finally:
        handle.remove()
        assert engine.load().idle(30)


# --- answers ------------------------------------------------------------------------------------------------------


def reference(engine: LocalEngine, prompt: str, tokens: int) -> str:
    """Return what transformers itself answers greedily."""
    from transformers import GenerationConfig

    model = engine.load()
    ids = torch.tensor([model.tokenizer(prompt, add_special_tokens=False)["input_ids"]])
    settings = GenerationConfig(do_sample=False, max_new_tokens=tokens, pad_token_id=0)
    out = model.weights.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    return model.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


def test_the_greedy_answer_is_that_of_transformers(engine: LocalEngine) -> None:
    response = engine.complete(ask("how are you?", system="Be brief.", max_tokens=30))
    prompt = "<|system|>Be brief.<|end|><|user|>how are you?<|end|><|assistant|>"
    assert response.text == reference(engine, prompt, 30)
    assert response.usage.output_tokens == 30
    assert response.usage.input_tokens == len(engine.load().tokenizer(prompt, add_special_tokens=False)["input_ids"])
    assert response.finish_reason == "length"
    assert response.model == "local/tiny"


def test_requests_that_wait_together_are_one_batch_with_the_answers_each_would_have_alone(tiny: Path) -> None:
    alone = LocalEngine(tiny, **CPU)
    texts = ["a", "How are you? " * 6, "the quick brown fox", "☃ é"]
    single = [alone.complete(ask(t, max_tokens=8 + n)) for n, t in enumerate(texts)]
    together = LocalEngine(tiny, device="cpu", window=30.0, max_batch=4)
    with watched(together, lambda n: None) as passes, ThreadPoolExecutor(4) as threads:
        both = list(threads.map(together.complete, [ask(t, max_tokens=8 + n) for n, t in enumerate(texts)]))
    assert set(passes) == {4}
    assert len(passes) == 11
    assert [r.text for r in both] == [r.text for r in single]
    assert [r.usage for r in both] == [r.usage for r in single]


def test_what_does_not_fit_into_one_batch_is_answered_after_it(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dspex_lab.lms.engines import _local_model

    expected = [LocalEngine(tiny, **CPU).complete(ask(t)).text for t in "abc"]
    monkeypatch.setattr(_local_model, "_BATCH_TOKENS", 1)
    together = LocalEngine(tiny, device="cpu", window=30.0, max_batch=3)
    with watched(together, lambda n: None) as passes, ThreadPoolExecutor(3) as threads:
        assert [r.text for r in threads.map(together.complete, map(ask, "abc"))] == expected
    assert set(passes) == {1}


def test_a_seed_gives_the_same_answer_again_also_beside_others(tiny: Path, engine: LocalEngine) -> None:
    def hot(seed: int | None) -> Request:
        return ask(temperature=1.5, seed=seed, max_tokens=20)

    alone = [engine.complete(hot(seed)).text for seed in (1, 2, 3)]
    assert len(set(alone)) == 3
    assert engine.complete(hot(2)).text == alone[1]
    together = LocalEngine(tiny, device="cpu", window=30.0, max_batch=3)
    with ThreadPoolExecutor(3) as threads:
        assert [r.text for r in threads.map(together.complete, map(hot, (1, 2, 3)))] == alone
    assert engine.complete(hot(None)).text != engine.complete(hot(None)).text


def test_the_narrowest_sampling_is_the_likeliest_token(engine: LocalEngine) -> None:
    greedy = engine.complete(ask()).text
    assert engine.complete(ask(temperature=2, top_p=0.0, seed=1)).text == greedy
    assert engine.complete(ask(temperature=2, top_k=1, seed=1)).text == greedy
    assert engine.complete(ask(temperature=0.00001, seed=1)).text == greedy
    assert engine.complete(ask(temperature=2, seed=1)).text != greedy


def test_penalties_keep_a_token_from_coming_again(engine: LocalEngine) -> None:
    plain = engine.complete(ask(max_tokens=40, logprobs=0))
    assert len({p.token_id for p in plain.logprobs}) < 40
    less = engine.complete(ask(max_tokens=40, logprobs=0, frequency_penalty=2.0, presence_penalty=2.0))
    assert len({p.token_id for p in less.logprobs}) > len({p.token_id for p in plain.logprobs})


def test_without_a_temperature_the_checkpoint_says_how_tokens_are_taken(tmp_path: Path, engine: LocalEngine) -> None:
    own = make_checkpoint(tmp_path / "own", do_sample=True, temperature=1.5, top_k=30, top_p=0.9, repetition_penalty=1.2)
    sampling = LocalEngine(own, **CPU)
    hot = [sampling.complete(ask(temperature=None, seed=s)).text for s in (1, 2)]
    assert hot[0] != hot[1]
    assert engine.complete(ask(temperature=None, seed=1)).text == engine.complete(ask(temperature=0)).text
    tokens = [p.token_id for p in sampling.complete(ask(max_tokens=60, logprobs=0)).logprobs]
    plain = [p.token_id for p in engine.complete(ask(max_tokens=60, logprobs=0)).logprobs]
    assert len(set(tokens)) > len(set(plain))  # its repetition penalty


def test_the_end_token_ends_the_answer(tmp_path: Path, engine: LocalEngine) -> None:
    third = engine.complete(ask(logprobs=0)).logprobs[2].token_id
    ending = LocalEngine(make_checkpoint(tmp_path / "ending", eos_token_id=[third]), **CPU)
    response = ending.complete(ask())
    assert response.finish_reason == "stop"
    assert response.usage.output_tokens <= 3
    assert engine.complete(ask()).text.startswith(response.text.rstrip("\ufffd"))


def test_a_stop_sequence_ends_the_answer_and_is_not_part_of_it(engine: LocalEngine) -> None:
    text = engine.complete(ask("how are you?", max_tokens=30)).text
    stop = text[9:13]  # it spans tokens
    request = ask("how are you?", max_tokens=30, stop=("never-said", stop), logprobs=0)
    response = engine.complete(request)
    assert response.text == text[: text.index(stop)]
    assert response.finish_reason == "stop"
    pieces = [e.delta.text for e in engine.stream(request) if e.type == "delta"]
    assert "".join(pieces) == response.text


def test_log_probabilities_are_those_of_the_models_numbers(engine: LocalEngine) -> None:
    response = engine.complete(ask("Hello", max_tokens=5, logprobs=3))
    model = engine.load()
    prompt = model.tokenizer("<|user|>Hello<|end|><|assistant|>", add_special_tokens=False)["input_ids"]
    chosen = [p.token_id for p in response.logprobs]
    with torch.no_grad():
        logits = model.weights(torch.tensor([prompt + chosen])).logits[0, len(prompt) - 1 : -1]
    known = torch.log_softmax(logits.float(), -1)
    for place, entry in enumerate(response.logprobs):
        assert entry.logprob == pytest.approx(float(known[place, entry.token_id]), abs=1e-3)
        assert [t.token_id for t in entry.top] == known[place].topk(3).indices.tolist()
        assert entry.top[0].token_id == entry.token_id
        assert entry.bytes == (None if "\ufffd" in entry.token else tuple(entry.token.encode()))
    streamed = [p for e in engine.stream(ask("Hello", max_tokens=5, logprobs=3)) if e.type == "delta" for p in e.delta.logprobs]
    assert [p.token_id for p in streamed] == chosen


def test_chosen_tokens_alone_are_scored_where_no_alternatives_are_wanted(engine: LocalEngine) -> None:
    assert all(p.top == () for p in engine.complete(ask(logprobs=0)).logprobs)
    assert engine.complete(ask()).logprobs is None


# --- prompts ------------------------------------------------------------------------------------------------------


def prompt_of(engine: LocalEngine, *messages: Message, system: str | None = None) -> str:
    from dspex_lab.lms.engines._local_request import ask_of

    model = engine.load()
    request = Request(model="m", messages=messages, system=system)
    return model.tokenizer.decode(model.prompt(ask_of(request)))


def test_a_developer_message_and_what_was_thought(engine: LocalEngine) -> None:
    answer = Message.assistant([ThinkingPart("hm"), TextPart("yes")])
    told = prompt_of(engine, Message.developer("rules"), Message.user("a"), answer, Message.developer("more"))
    assert told == ("<|system|>rules<|end|><|user|>a<|end|><|assistant|>yes<|end|><|user|>[developer] more<|end|><|assistant|>")


def test_an_answer_that_was_begun_is_gone_on_with(engine: LocalEngine) -> None:
    assert prompt_of(engine, Message.user("a"), Message.assistant("Well,")) == "<|user|>a<|end|><|assistant|>Well,"


def test_a_template_that_knows_no_system_message_gets_its_text_with_the_users(tmp_path: Path) -> None:
    strict = (
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|>"
    )
    engine = LocalEngine(make_checkpoint(tmp_path / "strict", template=strict), **CPU)
    told = prompt_of(engine, Message.user("a"), Message.user("b"), Message.assistant("c"), Message.user("d"), system="s")
    assert told == "<|user|>s\n\na\n\nb<|assistant|>c<|user|>d<|assistant|>"


def test_a_template_that_refuses_everything_is_an_error_in_its_words(tmp_path: Path) -> None:
    engine = LocalEngine(make_checkpoint(tmp_path / "never", template="{{ raise_exception('not today') }}"), **CPU)
    with pytest.raises(InvalidRequestError, match="not today"):
        engine.complete(ask())


def test_a_model_without_a_template_gets_a_plain_prompt_and_stops_at_the_next_turn(tmp_path: Path) -> None:
    engine = LocalEngine(make_checkpoint(tmp_path / "base", template=None), **CPU)
    told = prompt_of(engine, Message.user("a"), Message.assistant("b"), Message.user("c"), system="s")
    assert told == "s\n\nUser: a\n\nAssistant: b\n\nUser: c\n\nAssistant:"
    assert prompt_of(engine, Message.user("a"), Message.assistant("b")) == "User: a\n\nAssistant: b"
    row = engine.load().row(engine._job(ask(stop=("x",)), print, streams=False))
    assert row._writing._stops == ("x", "\n\nUser:")
    assert engine.complete(ask()).text


@pytest.mark.parametrize(
    ("request_", "feature"),
    [
        (Request(model="m", messages=(Message.user("a"),), tools=(FunctionTool(name="f"),)), "tools"),
        (Request(model="m", messages=(Message.user(["a", ImagePart(url="https://x/y.png")]),)), "messages[0].parts[1]"),
        (
            Request(model="m", messages=(Message.user("a"),), config=Config(reasoning=Reasoning(effort="low"))),
            "config.reasoning",
        ),
        (
            Request(model="m", messages=(Message.user("a"),), config=Config(extensions={"logit_bias": {}})),
            "config.extensions.logit_bias",
        ),
    ],
)
def test_what_no_local_model_takes_is_refused_by_name(engine: LocalEngine, request_: Request, feature: str) -> None:
    with pytest.raises(UnsupportedFeatureError) as caught:
        engine.complete(request_)
    assert caught.value.feature == feature


def test_a_prompt_beyond_the_context_says_both_numbers(engine: LocalEngine) -> None:
    with pytest.raises(ContextLengthError, match=r"The prompt has 3\d\d tokens; the context of .* holds 256"):
        engine.complete(ask("Hello " * 300))
    with pytest.raises(dspy.ContextWindowExceededError), dspy.context(disable_history=True):
        local_lm(engine.model, **CPU, cache=False)("Hello " * 300)


def test_room_that_is_less_than_max_tokens_is_used_and_said(engine: LocalEngine) -> None:
    request = ask("Hello " * 100, max_tokens=1000)
    response = engine.complete(request)
    used = response.usage.input_tokens + response.usage.output_tokens
    assert used == 256
    (change,) = response.adaptations
    assert (change.field, change.action, change.asked) == ("config.max_tokens", "clamped", 1000)
    assert change.applied == response.usage.output_tokens
    assert next(iter(engine.stream(request))).adaptations == response.adaptations
    assert engine.complete(ask()).adaptations == ()


# --- streams and cancelling ---------------------------------------------------------------------------------------


def test_a_stream_tells_the_same_answer_token_by_token(engine: LocalEngine) -> None:
    request = ask("the quick", max_tokens=30)
    events = list(engine.stream(request))
    assert [e.type for e in events[:1]] == ["start"]
    assert events[-1].type == "end"
    assert events[-1].finish_reason == "length"
    whole = engine.complete(request)
    assert events[-1].usage == whole.usage
    assert "".join(e.delta.text for e in events[1:-1]) == whole.text
    assert len(events) > 8

    async def collect() -> list[Any]:
        return [e async for e in AsyncLocalEngine(engine.model, **CPU).stream(request)]

    assert asyncio.run(collect()) == events


def test_a_stream_that_is_closed_early_stops_the_model(engine: LocalEngine) -> None:
    closed = threading.Event()

    def before(number: int) -> None:
        if number == 4:
            assert closed.wait(30)

    with watched(engine, before) as passes:
        stream = engine.stream(ask(max_tokens=200))
        assert next(stream).type == "start"
        assert next(stream).type == "delta"
        stream.close()
        closed.set()
    assert len(passes) <= 4


def test_a_call_that_is_cancelled_stops_the_model(engine: LocalEngine) -> None:
    async def go() -> None:
        half = AsyncLocalEngine(engine.model, **CPU)
        loop, begun, cancelled = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

        def before(number: int) -> None:
            if number == 3:
                loop.call_soon_threadsafe(begun.set)
                assert cancelled.wait(30)

        with watched(engine, before) as passes:
            call = asyncio.create_task(half.complete(ask(max_tokens=200)))
            await begun.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            cancelled.set()
        assert len(passes) == 3
        await half.aclose()

    asyncio.run(go())


def test_a_request_that_is_cancelled_while_it_waits_is_never_begun(tiny: Path) -> None:
    engine = LocalEngine(tiny, device="cpu", window=0.0, max_batch=1)
    gate = threading.Event()
    with watched(engine, lambda n: gate.wait(30)) as passes, ThreadPoolExecutor(1) as threads:
        first = threads.submit(engine.complete, ask(max_tokens=2))
        waiting = engine._job(ask(max_tokens=200), lambda outcome: pytest.fail("it was answered"), streams=False)
        engine.load().submit(waiting)
        waiting.cancel()
        gate.set()
        assert first.result(30).usage.output_tokens == 2
    assert len(passes) == 2


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system sends no signal to a thread")
def test_an_interrupt_ends_the_call_and_the_model_stops(engine: LocalEngine) -> None:
    over = threading.Event()

    def before(number: int) -> None:
        if number == 3:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            assert over.wait(30)

    with watched(engine, before) as passes:
        with pytest.raises(KeyboardInterrupt):
            engine.complete(ask(max_tokens=200))
        over.set()
    assert len(passes) == 3


def test_a_loop_that_is_gone_is_no_concern_of_the_model(engine: LocalEngine) -> None:
    gate = threading.Event()

    async def begin() -> None:
        half = AsyncLocalEngine(engine.model, **CPU)
        stream = half.stream(ask(max_tokens=3))
        assert (await anext(stream)).type == "start"
        lost.append(stream)

    lost: list[Any] = []
    with watched(engine, lambda n: gate.wait(30)):
        asyncio.run(begin())
        gate.set()
    assert engine.complete(ask()).text


# --- structured answers -------------------------------------------------------------------------------------------


def structured(schema: dict[str, Any] | None = SCHEMA, **config: Any) -> Request:
    kind = {"type": "json_object"} if schema is None else {"type": "json_schema", "schema": schema, "name": "a", "strict": True}
    return ask(response_format=kind, **{"max_tokens": 60, **config})


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_an_answer_is_held_to_its_schema(engine: LocalEngine, temperature: float) -> None:
    pytest.importorskip("llguidance", reason="answers are held to a schema by llguidance (extra neural)")
    response = engine.complete(structured(temperature=temperature, seed=5))
    value = json.loads(response.text)
    assert value["label"] in ("billing", "card")
    assert isinstance(value["sure"], bool)
    assert response.finish_reason == "stop"
    assert "".join(e.delta.text for e in engine.stream(structured(temperature=temperature, seed=5)) if e.type == "delta") == (
        response.text
    )


def test_a_dspy_program_gets_typed_answers_from_a_model_that_knows_nothing(tiny: Path) -> None:
    pytest.importorskip("llguidance", reason="answers are held to a schema by llguidance (extra neural)")
    lm = local_lm(make_checkpoint(tiny.parent / "long", context=4096), **CPU, cache=False, max_tokens=100, temperature=0)
    assert lm.supports_response_schema
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
        got = dspy.Predict("question -> sure: bool, kind: Literal['a', 'b']")(question="Is it?")
    assert isinstance(got.sure, bool)
    assert got.kind in ("a", "b")
    assert lm.history[-1]["usage"]["completion_tokens"] > 0


@pytest.fixture
def unconstrained(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    grammars.can_constrain.cache_clear()
    yield
    grammars.can_constrain.cache_clear()


@pytest.mark.usefixtures("unconstrained")
def test_without_llguidance_an_answer_that_is_no_json_is_an_error_that_keeps_it(engine: LocalEngine) -> None:
    assert not engine.supports_response_schema
    assert "response_format" not in engine.supported_params
    text = engine.complete(ask(stop=("{",), max_tokens=12)).text
    ends = engine.complete(ask(max_tokens=12)).text[3:6]
    with pytest.raises(GarbledAnswer, match="no JSON") as caught:
        engine.complete(structured(None, stop=(ends,)))
    assert caught.value.partial.text in text
    assert caught.value.provider_code == "garbled_answer"
    events = engine.stream(structured(None, stop=(ends,)))
    with pytest.raises(GarbledAnswer):
        list(events)


@pytest.mark.usefixtures("unconstrained")
def test_json_that_does_not_fit_its_schema_is_an_error_that_says_where(engine: LocalEngine) -> None:
    from dspex_lab.lms.engines._local_request import Answer, response_of

    with pytest.raises(GarbledAnswer, match=r"at \$\.label: 'x' is not one of") as caught:
        response_of(structured(), Answer('{"label": "x", "sure": true}', "stop", 1, 1))
    assert caught.value.partial.text.startswith("{")
    assert response_of(structured(None), Answer("{}", "stop", 1, 1)).text == "{}"
    with pytest.raises(GarbledAnswer, match="does not fit"):
        response_of(structured(None), Answer("[1]", "stop", 1, 1))
    with pytest.raises(InvalidRequestError, match="no JSON schema"):
        response_of(structured({"type": "nothing"}), Answer("1", "stop", 1, 1))
    with pytest.raises(InvalidRequestError, match="cannot be followed"):
        response_of(structured({"$ref": "http://127.0.0.1:9/schema"}), Answer("1", "stop", 1, 1))


def test_json_that_was_cut_is_an_error_that_keeps_it(engine: LocalEngine) -> None:
    with pytest.raises(GarbledAnswer, match=r"cut after 2 tokens \(max_tokens\)") as caught:
        engine.complete(structured(max_tokens=2))
    assert caught.value.partial.usage.output_tokens == 2


def test_a_schema_that_cannot_be_held_to_is_refused(engine: LocalEngine) -> None:
    pytest.importorskip("llguidance", reason="answers are held to a schema by llguidance (extra neural)")
    with pytest.raises(InvalidRequestError, match="JSON schema"):
        engine.complete(structured({"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}, "required": ["a"]}))


def test_a_grammar_says_which_tokens_may_come(engine: LocalEngine) -> None:
    pytest.importorskip("llguidance", reason="answers are held to a schema by llguidance (extra neural)")
    tokenizer = engine.load().tokenizer
    size = len(tokenizer)
    made = grammars.grammar_tokenizer(tokenizer, size)
    grammar = grammars.Grammar(made, {"const": True})
    # More logits than tokens, as models with a rounded vocabulary give: the rest may not come.
    masked = grammar.mask(torch.zeros(size + 3))
    allowed = [tokenizer.decode([n]) for n in range(size + 3) if masked[n] == 0]
    assert allowed
    assert all("true".startswith(text) for text in allowed)
    with pytest.raises(GarbledAnswer, match="left its JSON schema"):
        grammar.take(tokenizer("false")["input_ids"][0])
    with pytest.raises(GarbledAnswer):
        grammar.mask(torch.zeros(size))
    assert grammars.grammar_tokenizer(object(), size) is None


def test_a_row_that_cannot_be_gone_on_with_fails_alone(engine: LocalEngine) -> None:
    from dspex_lab.lms.engines._local_rows import Choosing

    row = engine.load().row(engine._job(structured(), print, streams=False))
    row._grammar._matcher.consume_token(0)  # it has left its schema
    forced = Choosing([row])(None, torch.zeros(1, len(engine.load().tokenizer)))
    assert (forced == 0).sum() == 1
    assert isinstance(row.problem, GarbledAnswer)


# --- what goes wrong ----------------------------------------------------------------------------------------------


def full_memory(number: int) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nsecond line")


def test_memory_that_is_not_enough_has_a_name_and_the_model_lives(engine: LocalEngine) -> None:
    with (
        watched(engine, full_memory),
        pytest.raises(LocalOutOfMemory, match=r"a prompt of 5 tokens.*Tried to allocate 20") as e,
    ):
        engine.complete(ask())
    assert e.value.provider_code == "out_of_memory"
    assert engine.complete(ask()).text
    with watched(engine, full_memory), pytest.raises(dspy.LMError) as outside:
        local_lm(engine.model, **CPU, cache=False)("Hello")
    assert isinstance(outside.value.__cause__, LocalOutOfMemory)
    assert not dspy.utils.exceptions.is_retryable_lm_error(outside.value)


def test_a_batch_too_large_for_the_memory_is_answered_one_by_one(tiny: Path) -> None:
    together = LocalEngine(tiny, device="cpu", window=30.0, max_batch=2)
    expected = [LocalEngine(tiny, **CPU).complete(ask(t)).text for t in "ab"]
    passes: list[int] = []
    with watched(together, lambda n: full_memory(n) if passes[-1] > 1 else None) as seen, ThreadPoolExecutor(2) as threads:
        passes = seen
        assert [r.text for r in threads.map(together.complete, map(ask, "ab"))] == expected
    assert seen[0] == 2
    assert set(seen[1:]) == {1}


def test_a_stream_that_has_told_something_is_not_begun_again(tiny: Path) -> None:
    together = LocalEngine(tiny, device="cpu", window=30.0, max_batch=2)
    told = threading.Event()

    def before(number: int) -> None:
        if number == 4:
            assert told.wait(30)
            full_memory(number)

    with watched(together, before), ThreadPoolExecutor(2) as threads:
        stream = together.stream(ask("a"))
        first = threads.submit(next, stream)
        other = threads.submit(together.complete, ask("b"))
        assert first.result(30).type == "start"
        assert next(stream).type == "delta"
        told.set()
        with pytest.raises(LocalOutOfMemory):
            list(stream)
        assert other.result(30).text == LocalEngine(tiny, **CPU).complete(ask("b")).text


def test_a_model_that_breaks_down_says_how(engine: LocalEngine) -> None:
    def broken(number: int) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with watched(engine, broken), pytest.raises(ProviderError, match="RuntimeError: mat1 and mat2") as caught:
        engine.complete(ask())
    assert caught.value.provider_code == "model_failed"
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_numbers_that_are_none_spoil_their_own_row_only(tiny: Path) -> None:
    together = LocalEngine(tiny, device="cpu", window=30.0, max_batch=2)
    longer = "the quick brown fox"

    def spoil(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        # The row of the shorter prompt begins with padding.
        rows = (kwargs["attention_mask"][:, 0] == 0).nonzero()
        output.logits[rows] = float("nan")

    handle = together.load().weights.register_forward_hook(spoil, with_kwargs=True)
    try:
        with ThreadPoolExecutor(2) as threads:
            bad, good = threads.submit(together.complete, ask("a")), threads.submit(together.complete, ask(longer))
            with pytest.raises(GarbledAnswer, match="NaN"):
                bad.result(30)
            assert good.result(30).text
    finally:
        handle.remove()


# --- which model --------------------------------------------------------------------------------------------------


def test_engines_share_the_weights_and_the_last_one_frees_them(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "shared")
    one, two = LocalEngine(folder, **CPU), AsyncLocalEngine(str(folder), **CPU)
    gone = weakref.ref(one.load())
    assert two.load() is one.load()
    assert LocalEngine(folder, dtype="bfloat16", **CPU).load() is not one.load()
    one.complete(ask())
    assert one.load().idle(30)
    one.close()
    one.close()
    assert gone() is not None
    asyncio.run(two.aclose())
    gc.collect()
    assert gone() is None
    assert one.complete(ask()).text  # it is loaded again
    one.close()


def test_settings_travel_and_weights_do_not(engine: LocalEngine, tiny: Path) -> None:
    engine.load()
    for made in (pickle.loads(pickle.dumps(engine)), LocalEngine.load_state(engine.dump_state())):  # noqa: S301
        assert made.dump_state() == engine.dump_state()
        assert made._loaded is None
    assert len(pickle.dumps(engine)) < 1000
    json.dumps(engine.dump_state())
    assert copy.deepcopy(engine) is engine
    assert AsyncLocalEngine.load_state(AsyncLocalEngine(tiny, **CPU).dump_state()).model == str(tiny)
    assert repr(engine) == f"LocalEngine({str(tiny)!r}, device='cpu', dtype='auto')"


def test_the_model_of_a_dspy_lm_travels_to_workers(tiny: Path) -> None:
    lm = local_lm(tiny, **CPU, dtype="float32", temperature=0, max_tokens=5, cache=False)
    again = from_portable(portable(lm))
    assert again.model == f"local/{tiny}"
    assert again("Hello") == lm("Hello")
    assert asyncio.run(again.acall("Hello")) == lm("Hello")


def test_an_answer_of_other_weights_is_not_taken_from_the_cache(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "trained")
    before = local_lm(folder, **CPU, temperature=0, max_tokens=5)
    first = before("Hello")
    make_checkpoint(folder, seed=7)
    after = local_lm(folder, **CPU, temperature=0, max_tokens=5)
    assert after.kwargs["metadata"] != before.kwargs["metadata"]
    before.engine.close()
    assert after("Hello") != first
    assert local_lm("org/name").kwargs["metadata"]["weights"] == "main"


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (Path.touch, (self.target,))


def test_pickled_weights_are_refused_and_not_opened(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "hostile")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    with pytest.raises(UnsupportedModelError, match="Only safetensors are read"):
        LocalEngine(folder, **CPU).complete(ask())
    assert not (tmp_path / "exploded").exists()


def test_code_of_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "hostile")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'exploded')!r}, 'w')")
    with pytest.raises(UnsupportedModelError, match="code of its own, which is never run"):
        LocalEngine(folder, **CPU).complete(ask())
    assert not (tmp_path / "exploded").exists()


def test_garbage_instead_of_weights_is_an_error(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "garbage")
    (folder / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(UnsupportedModelError, match="cannot be loaded"):
        LocalEngine(folder, **CPU).load()


@pytest.mark.parametrize("name", ["/nowhere/model", "./nowhere", "~/nowhere-at-all", "a/b/c"])
def test_a_folder_that_is_not_there_is_said_and_no_hub_is_asked(name: str) -> None:
    with pytest.raises(UnsupportedModelError, match="there is no such folder"):
        LocalEngine(name, **CPU).load()


def test_offline_the_hub_is_not_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import socket

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(UnsupportedModelError, match=r"some-one/some-model.*HF_HUB_OFFLINE"):
        LocalEngine("some-one/some-model", **CPU).load()


def test_weights_too_large_for_the_memory(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import LlamaForCausalLM

    monkeypatch.setattr(LlamaForCausalLM, "to", lambda self, device: full_memory(0))
    with pytest.raises(LocalOutOfMemory, match="the model"):
        LocalEngine(tiny, dtype="float16", **CPU).load()


def test_a_device_that_is_not_there(tiny: Path) -> None:
    missing = "mps" if torch.cuda.is_available() else "cuda:7"
    with pytest.raises(EngineConfigurationError, match=r"There is no device .* there is .*cpu"):
        LocalEngine(tiny, device=missing).load()


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="this machine has a GPU")
def test_that_the_cpu_is_used_is_said_once(
    tiny: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_said_cpu", False)
    with caplog.at_level(logging.WARNING, logger="dspex_lab"):
        first, second = LocalEngine(tiny).load(), LocalEngine(tiny, dtype="float32").load()
    assert first is second
    assert first.checkpoint.device == "cpu"
    assert [r.message for r in caplog.records if r.name == "dspex_lab"] == [
        "local models run on the CPU: torch sees no GPU (said once)"
    ]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use on this machine")
def test_on_a_gpu_the_answers_are_those_of_the_cpu(tiny: Path, engine: LocalEngine) -> None:
    gpu = LocalEngine(tiny, dtype="float32")
    assert gpu.load().checkpoint.device == "cuda"
    assert gpu.complete(ask(max_tokens=5)).text == engine.complete(ask(max_tokens=5)).text
    assert (
        gpu.complete(ask(temperature=1, seed=3, max_tokens=5)).text
        == engine.complete(ask(temperature=1, seed=3, max_tokens=5)).text
    )
    gpu.close()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", " "),
        ("device", "gpu"),
        ("device", "cuda:x"),
        ("dtype", "int4"),
        ("default_tokens", 0),
        ("default_tokens", True),
        ("max_batch", 1.5),
        ("window", -1),
        ("window", True),
    ],
)
def test_a_setting_that_does_not_fit_is_refused_at_once(key: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=key) as caught:
        LocalEngine(**{"model": "m", key: value})
    assert caught.value.key == key


def test_options_that_dspy_refuses(tiny: Path) -> None:
    with pytest.raises(LMError, match="api_key"):
        local_lm(tiny, api_key="sk-secret")


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_a_missing_package_names_the_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigurationError, match=r'pip install "dspex-lab\[neural\]"'):
        local_lm("org/name")


def test_a_local_model_says_that_it_is_one(engine: LocalEngine) -> None:
    assert engine.local
    assert not engine.supports_function_calling
    assert {"seed", "stop", "temperature"} <= engine.supported_params
