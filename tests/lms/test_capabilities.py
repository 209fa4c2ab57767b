"""What is known about a model without calling it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import dspy
import pytest

from dspex_lab import ConfigurationError
from dspex_lab.lms import make_lm, price_of, set_price
from dspex_lab.lms.choice import _capabilities, _prices
from dspex_lab.lms.choice._capabilities import ABILITIES, ModelFacts, facts_of, set_model, tokens
from dspex_lab.lms.choice._prices import listed_models
from dspex_lab.testing import scripted_lm


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    _capabilities._own.clear()
    _prices._own.clear()


def test_a_listed_model_has_what_the_tables_say() -> None:
    facts = facts_of("openai/gpt-5-mini")
    assert facts.context is not None
    assert facts.context > 100_000
    assert facts.max_output is not None
    assert (facts.tools, facts.structured, facts.vision, facts.reasoning, facts.streaming) == (True,) * 5
    assert facts.local is False
    assert facts.price == price_of("openai/gpt-5-mini")
    assert facts.sources[0] == "litellm's table of models"
    assert "tools" in str(facts)
    assert "runs here" not in str(facts)


def test_what_nobody_says_is_none_and_not_no() -> None:
    facts = facts_of("nobody/nothing")
    assert facts == ModelFacts("nobody/nothing")
    assert str(facts) == "price unknown"
    new = facts_of("openai/gpt-99")
    assert (new.context, new.tools, new.price) == (None, None, None)
    assert new.local is False, "its provider is not on this machine"


def test_an_entry_says_only_what_it_says() -> None:
    listed = _capabilities._listed
    assert listed({"mode": "chat", "supports_vision": False, "max_tokens": 8192}) == {
        "vision": False,
        "streaming": True,
        "context": 8192,
        "max_output": 8192,
    }
    assert listed({"mode": "chat", "supports_native_streaming": False})["streaming"] is False
    assert listed({"mode": "embedding", "supports_vision": "yes", "max_input_tokens": "many"}) == {
        "context": None,
        "max_output": None,
    }


def test_the_second_table_fills_what_the_first_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [("one", {"supports_vision": True}), ("two", {"supports_vision": False, "max_input_tokens": 5})]
    monkeypatch.setattr(_capabilities, "table_entries", lambda model: entries)
    facts = facts_of("any/thing")
    assert (facts.vision, facts.context) == (True, 5)


@pytest.mark.parametrize(
    ("model", "api_base", "local"),
    [
        ("ollama_chat/llama3.1", None, True),
        ("ollama/gpt-oss:20b-cloud", None, False),
        ("ollama_chat/llama3.1", "http://far.example:11434", False),
        ("ollama_chat/gpt-oss:20b-cloud", "http://localhost:11434", False),
        ("vllm/mine", None, True),
        ("hosted_vllm/mine", None, None),
        ("hosted_vllm/mine", "http://127.0.0.1:8000/v1", True),
        ("openai/mine", "http://localhost:8000/v1", True),
        ("openai/gpt-5-mini", None, False),
        ("anthropic/claude-sonnet-4-5", None, False),
        ("offline/exemplar", None, True),
        ("nobody/x", None, None),
    ],
)
def test_where_a_model_runs(model: str, api_base: str | None, local: bool | None) -> None:
    assert facts_of(model, api_base).local is local


def test_the_address_in_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_API_BASE", "http://gpu.example:11434")
    assert facts_of("ollama/llama3").local is False
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:4000/v1")
    assert facts_of("openai/gpt-4o").local is True


def test_what_runs_here_is_free_unless_a_price_was_set() -> None:
    facts = facts_of("vllm/mine")
    assert facts.price is not None
    assert (facts.price.input, facts.price.output) == (0, 0)
    assert "free" in str(facts)
    assert facts.streaming is True
    set_price("vllm/mine", input=1, output=2)
    assert facts_of("vllm/mine").price == (1.0, 2.0, "set_price")


def test_the_users_word_goes_before_everything_until_it_is_forgotten() -> None:
    before = facts_of("openai/gpt-5-mini")
    set_model("openai/gpt-5-mini", context="64k", tools=False, local=True)
    facts = facts_of("openai/gpt-5-mini")
    assert (facts.context, facts.tools, facts.local) == (64_000, False, True)
    assert facts.vision is True, "what was not said stays"
    assert facts.sources[0] == "set_model"
    assert "cannot: tools" in str(facts)
    set_model("openai/gpt-5-mini", tools=None)
    assert (facts_of("openai/gpt-5-mini").tools, facts_of("openai/gpt-5-mini").context) == (True, 64_000)
    set_model("openai/gpt-5-mini")
    assert facts_of("openai/gpt-5-mini") == before
    set_model("openai/gpt-5-mini", context=None)
    assert not _capabilities._own


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"contxt": 1}, "Did you mean 'context'"),
        ({"price": 1}, "set_price"),
        ({"tools": "yes"}, "neither True nor False"),
        ({"tools": 1}, "neither True nor False"),
        ({"context": 0}, "no number of tokens"),
        ({"context": True}, "no number of tokens"),
        ({"context": "32q"}, "no number of tokens"),
        ({"context": "1.5"}, "no number of tokens"),
        ({"max_output": -1}, "no number of tokens"),
        ({"tools": True, "context": 1.5}, "no number of tokens"),
    ],
)
def test_what_is_no_fact_is_refused_and_changes_nothing(facts: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        set_model("a/b", **facts)
    assert not _capabilities._own


def test_what_is_no_model_has_no_facts_to_set() -> None:
    with pytest.raises(ConfigurationError, match="no model"):
        set_model(" ", tools=True)


def test_tokens_are_written_as_people_write_them() -> None:
    assert [tokens(t) for t in (5, "5", "32k", "32 K", "1.5k", "2m", "128_000")] == [5, 5, 32000, 32000, 1500, 2000000, 128000]


def test_an_engine_is_believed_about_what_dspy_may_send_it() -> None:
    class Engine:
        supports_function_calling = True
        supports_response_schema = False
        api_base = "http://far.example/v1"
        context = 4096

        def complete(self, request: Any) -> Any: ...
        def stream(self, request: Any) -> Any: ...
        def close(self) -> None: ...

    facts = facts_of(dspy.LM("openai/gpt-5-mini", engine=Engine()))
    assert (facts.tools, facts.structured, facts.streaming, facts.local) == (True, False, True, False)
    assert facts.reasoning is None, "the table says so, but DSPy asks the engine"
    assert facts.context == 4096
    assert facts.price == price_of("openai/gpt-5-mini")

    Engine.local = True  # type: ignore[attr-defined]
    assert facts_of(dspy.LM("openai/gpt-5-mini", engine=Engine())).local is True


def test_a_model_of_ones_own_server_is_told_by_its_address() -> None:
    lm = dspy.LM("openai/mine", api_base="http://127.0.0.1:9/v1", api_key="local")
    assert facts_of(lm).local is True
    assert facts_of(lm, "http://far.example").local is False
    assert _capabilities.address_of(SimpleNamespace(kwargs=None)) is None


def test_a_test_engine_runs_here() -> None:
    assert facts_of(scripted_lm(["x"])).local is True


def test_the_offline_engine_is_known() -> None:
    facts = facts_of(make_lm("offline"))
    assert (facts.structured, facts.local, facts.vision) == (True, True, False)
    assert facts.context == 1_000_000
    named = facts_of("offline/exemplar")
    assert [getattr(named, a) for a in ABILITIES] == [getattr(facts, a) for a in ABILITIES]
    assert (named.context, named.local, named.price) == (facts.context, facts.local, facts.price)


def test_a_model_behind_a_known_address_has_the_facts_of_its_provider() -> None:
    listed = facts_of("openai/gpt-5-mini")
    facts = facts_of("http/gpt-5-mini@api.openai.com")
    assert (facts.price, facts.context) == (listed.price, listed.context)
    assert facts_of("http/gpt-5-mini@far.example").price is None
    set_price("openai/gpt-5-mini", input=7, output=8)
    assert price_of("http/gpt-5-mini@api.openai.com") == (7.0, 8.0, "set_price")
    set_price("http/gpt-5-mini@api.openai.com", input=1, output=1)
    assert price_of("http/gpt-5-mini@api.openai.com") == (1.0, 1.0, "set_price")


@pytest.mark.parametrize(
    ("model", "other"),
    [
        ("ollama_chat/llama3.1", "ollama/llama3.1"),
        ("openai-chat/gpt-5-mini", "openai/gpt-5-mini"),
        ("vertex_ai/gemini-2.5-flash", "gemini/gemini-2.5-flash"),
    ],
)
def test_one_service_under_two_names_has_one_price(model: str, other: str) -> None:
    assert price_of(model) is not None
    assert price_of(model) == price_of(other)


def test_the_models_of_a_provider_are_listed_by_their_full_names() -> None:
    models = listed_models("openai")
    assert "openai/gpt-5-mini" in models
    assert models == sorted(set(models))
    assert not [m for m in models if "embedding" in m or "dall-e" in m]
    assert listed_models("gemini")
    assert not [m for m in listed_models("gemini") if m.startswith("gemini/gemini/")]
    assert listed_models("nobody") == []


def test_every_ability_is_one_of_the_facts() -> None:
    assert set(ABILITIES) <= set(ModelFacts.__dataclass_fields__)


def test_facts_need_neither_litellm_nor_the_network() -> None:
    code = (
        "import sys, socket\n"
        "def refuse(*a, **k): raise OSError('the network')\n"
        "socket.socket.connect = refuse\n"
        "from dspex_lab.lms.choice._capabilities import facts_of\n"
        "assert facts_of('openai/gpt-5-mini').context\n"
        "print('litellm' in sys.modules, 'dspy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"
