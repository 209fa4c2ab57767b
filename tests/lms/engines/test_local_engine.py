"""What LocalEngine answers, over a tiny random transformer made on the spot: real torch, real transformers, no network."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dspy
import pytest

torch = pytest.importorskip("torch", reason="local models need torch (extra neural)")
pytest.importorskip("transformers", reason="local models need transformers (extra neural)")

from dspy.lm15 import (  # noqa: E402
    Config,
    ContextLengthError,
    FunctionTool,
    ImagePart,
    InvalidRequestError,
    Message,
    Reasoning,
    Request,
    TextPart,
    ThinkingPart,
    UnsupportedFeatureError,
)
from local_checkpoints import make_checkpoint  # noqa: E402
from local_engine_helpers import CPU, ask, watched  # noqa: E402

from dspex_lab.lms.engines import LocalEngine, local_lm  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_torch_thread")

# --- answers --------------------------------------------------------------------------------------------------------


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


# --- prompts --------------------------------------------------------------------------------------------------------


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


# --- on a GPU, and what it says of itself ---------------------------------------------------------------------------


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


def test_a_local_model_says_that_it_is_one(engine: LocalEngine) -> None:
    assert engine.local
    assert not engine.supports_function_calling
    assert {"seed", "stop", "temperature"} <= engine.supported_params
