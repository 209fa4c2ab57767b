"""Names of models are checked before anything is called."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import Any

import dspy
import pytest
from dspy.utils.dummies import DummyLM

import dspex_lab.lms as lms
from dspex_lab.errors import LMError
from dspex_lab.lms import describe, is_simulated, make_lm
from dspex_lab.lms.choice._providers import is_local, key_variables, known_providers


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for name in ("OPENAI_API_BASE", "OPENAI_BASE_URL", "HF_TOKEN", "AZURE_CLIENT_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", ["offline", " offline ", "offline/exemplar"])
def test_offline_needs_nothing(name: str) -> None:
    lm = make_lm(name)
    assert (lm.model, lm.num_retries) == ("offline/exemplar", 0)
    assert is_simulated(lm)
    assert describe(lm) == "offline/exemplar"


def test_a_language_model_passes_through() -> None:
    lm = dspy.LM("openai/gpt-4o-mini", api_key="k")
    assert make_lm(lm) is lm
    assert make_lm(lm, temperature=0.5).kwargs["temperature"] == 0.5
    assert not is_simulated(lm)


def test_options_reach_dspy() -> None:
    lm = make_lm("openai/gpt-4o-mini", api_key="k", temperature=0.3, max_tokens=9, cache=False)
    assert (lm.kwargs["temperature"], lm.kwargs["max_tokens"], lm.cache) == (0.3, 9, False)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gpt-4o-mini", "Did you mean 'openai/gpt-4o-mini'?"),
        ("openai", "name one of its models"),
        ("openai/", "name one of its models"),
        ("", "provider/model"),
        ("oflfine", "'offline'"),
        ("opnai/gpt-4o-mini", "Did you mean 'openai'?"),
        ("nowhere/model", "no provider 'nowhere'"),
        ("openai/gpt-4o-mni", "Did you mean 'openai/gpt-4o-mini'?"),
        ("anthropic/claude-sonet-4-5", "claude-sonnet-4-5"),
        ("openai/gpt-4o-mini", "OPENAI_API_KEY is not set"),
        ("gemini/gemini-2.5-flash", "GEMINI_API_KEY or GOOGLE_API_KEY"),
        ("mistral/mistral-small-latest", "MISTRAL_API_KEY"),
    ],
)
def test_what_cannot_be_meant_is_refused(name: str, says: str) -> None:
    with pytest.raises(LMError) as caught:
        make_lm(name)
    assert says in str(caught.value)
    assert caught.value.engine == name.strip()


@pytest.mark.parametrize("spec", [None, 3, dspy.LM])
def test_what_is_no_model_is_named(spec: Any) -> None:
    with pytest.raises(LMError, match="A language model is a name"):
        make_lm(spec)


@pytest.mark.parametrize(
    "name", ["openai/gpt-9", "openai/gpt-4o-max", "openai/ft:gpt-4o-mini-2024-07-18:org::id", "anthropic/claude-sonnet-9-9"]
)
def test_a_new_model_of_a_known_provider_passes(name: str) -> None:
    assert make_lm(name, api_key="k", temperature=None).model == name


def test_the_check_can_be_left_out() -> None:
    assert make_lm("openai/gpt-4o-mni", check=False).model == "openai/gpt-4o-mni"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ollama/my-own", {}),
        ("ollama_chat/llama3.2", {}),
        ("vllm/mine", {}),
        ("bedrock/some.model", {}),
        ("openai/mine", {"api_base": "http://localhost:8000/v1"}),
        ("openai/gpt-4o-mni", {"api_base": "https://gateway.example/v1"}),
    ],
)
def test_servers_of_ones_own_need_no_key(name: str, options: dict[str, Any]) -> None:
    assert make_lm(name, **options).model == name


def test_a_server_on_this_machine_gets_a_placeholder_for_a_key() -> None:
    assert make_lm("openai/mine", api_base="http://127.0.0.1:8000/v1").kwargs["api_key"] == "local"
    assert "api_key" not in make_lm("openai/mine", api_base="https://gateway.example/v1").kwargs


def test_a_gateway_in_the_environment_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_BASE", "https://gateway.example")
    assert make_lm("openai/gpt-4o-mini").model == "openai/gpt-4o-mini"


def test_a_key_in_the_environment_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "k")
    assert "k" not in make_lm("gemini/gemini-2.5-flash").kwargs.values()


def test_a_declared_provider_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    from dspy._vendor.lm15.features import AccessPolicy
    from dspy.lm15 import OpenAIChatCompat, ProviderDefinition, register_provider, unregister_provider

    access = AccessPolicy(provider="my-gateway", env_keys=("MY_GATEWAY_KEY",), base_url="https://gateway.example/v1")
    register_provider(ProviderDefinition.chat(access, compat=OpenAIChatCompat.preset("openai")))
    try:
        assert "my-gateway" in known_providers()
        with pytest.raises(LMError, match="MY_GATEWAY_KEY"):
            make_lm("my-gateway/any")
        monkeypatch.setenv("MY_GATEWAY_KEY", "k")
        assert make_lm("my-gateway/any").model == "my-gateway/any"
    finally:
        unregister_provider("my-gateway")


def test_options_dspy_refuses_are_an_lm_error() -> None:
    with pytest.raises(LMError, match="DSPy refuses 'openai/gpt-5-mini'"):
        make_lm("openai/gpt-5-mini", api_key="k", temperature=0.2)
    with pytest.raises(LMError, match="The offline engine does not take"):
        make_lm("offline", api_key="k")


def test_keys_by_provider() -> None:
    assert key_variables("openai") == ("OPENAI_API_KEY",)
    assert key_variables("bedrock") == ()
    assert key_variables("ollama") == ()
    assert key_variables("nowhere") == ()


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://localhost:1/v1", True),
        ("127.0.0.1:8000", True),
        ("http://[::1]:9", True),
        ("https://x.org", False),
        (None, False),
    ],
)
def test_local_addresses(url: str | None, local: bool) -> None:
    assert is_local(url) is local


def test_a_test_model_of_dspy_is_simulated() -> None:
    assert is_simulated(DummyLM([{"answer": "x"}]))
    assert not is_simulated(None)


def test_descriptions_hold_no_secret() -> None:
    lm = dspy.LM("openai/gpt-4o-mini", api_key="sk-secret")
    assert describe(lm) == "openai/gpt-4o-mini"
    lm.model = "openai/http://me:sk-secret@host/v1?key=sk-secret"
    assert describe(lm) == "openai/http://host/v1"
    assert describe(object()) == "object"


def test_the_room_loads_neither_dspy_nor_litellm() -> None:
    code = "import sys, dspex_lab.lms as lms; lms.make_lm; print('dspy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    code = (
        "import sys, dspex_lab.lms as lms\n"
        "from dspex_lab.errors import DspexError\n"
        "for name in ('opnai/x', 'gpt-4o', 'openai/gpt-4o-mni', 'openai/gpt-4o'):\n"
        "    try: lms.make_lm(name)\n"
        "    except DspexError: pass\n"
        "lms.make_lm('offline')('hello')\n"
        "print('litellm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_all_public_names_can_be_had() -> None:
    assert all(getattr(lms, name) is not None for name in lms.__all__)
    assert set(lms.__all__) <= set(dir(lms))
    with pytest.raises(AttributeError, match="nothing_such"):
        lms.nothing_such  # noqa: B018
