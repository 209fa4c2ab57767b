"""Where a server is, and that what is secret about it stays so."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
from dspy.lm15 import NotConfiguredError
from http_helpers import KEY, failure

from dspex_lab.errors import ConfigurationError
from dspex_lab.lms.engines import AsyncHttpEngine, Endpoint, HttpEngine

BASE = "http://localhost:8000/v1"


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"api_base": "localhost:8000"}, "api_base"),
        ({"api_base": "ftp://localhost/v1"}, "api_base"),
        ({"api_base": ""}, "api_base"),
        ({"api_base": None}, "api_base"),
        ({"api_base": "http://[::1/v1"}, "api_base"),
        ({"api_base": "http://host/v1?api-version=1"}, "api_base"),
        ({"api_base": "http://host /v1"}, "api_base"),
        ({"api_base": "http://host:99999/v1"}, "api_base"),
        ({"api_base": BASE, "proxy": "socks5://host:1"}, "proxy"),
        ({"api_base": BASE, "read_timeout": 0}, "read_timeout"),
        ({"api_base": BASE, "connect_timeout": True}, "connect_timeout"),
        ({"api_base": BASE, "total_timeout": float("inf")}, "total_timeout"),
        ({"api_base": BASE, "read_timeout": None}, "read_timeout"),
        ({"api_base": BASE, "max_body": 0}, "max_body"),
        ({"api_base": BASE, "max_connections": 1.5}, "max_connections"),
        ({"api_base": BASE, "api_key": "k", "api_key_env": "K"}, "api_key"),
        ({"api_base": BASE, "headers": {"X-Note": "a\nb"}}, "headers['X-Note']"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(options: dict[str, Any], key: str) -> None:
    error = failure(lambda: Endpoint(**options))
    assert isinstance(error, ConfigurationError)
    assert error.key == key


@pytest.mark.parametrize("key", ["api_base", "proxy"])
def test_a_password_in_an_address_is_refused_and_not_repeated(key: str) -> None:
    error = failure(lambda: Endpoint(**{"api_base": BASE, key: "http://anna:hunter22@host:1/v1"}))
    assert isinstance(error, ConfigurationError)
    assert "hunter22" not in f"{error} {error.hint} {error.__cause__}"


@pytest.mark.parametrize("header", ["Authorization", "api-key", "X-Auth-Token", "Cookie"])
def test_a_secret_header_must_be_named_by_its_variable(header: str) -> None:
    error = failure(lambda: Endpoint(api_base=BASE, headers={header: KEY}))
    assert isinstance(error, ConfigurationError)
    assert KEY not in f"{error} {error.hint}"
    assert "header_env" in str(error.hint)


def test_a_slip_in_an_option_is_pointed_at() -> None:
    assert "read_timeout" in str(failure(lambda: HttpEngine(BASE, read_timout=3)))
    assert "dialect" in str(failure(lambda: HttpEngine(BASE, dialect="klingon")))
    assert failure(lambda: HttpEngine(BASE, api_base=BASE)).key == "api_base"
    assert failure(lambda: HttpEngine.load_state({})).key == "api_base"


def test_an_engine_may_change_an_endpoint() -> None:
    endpoint = Endpoint(api_base=f"{BASE}/", tools=True)
    assert endpoint.api_base == BASE
    engine = HttpEngine(endpoint, read_timeout=3)
    assert (engine.endpoint.read_timeout, engine.endpoint.tools) == (3, True)
    assert HttpEngine(endpoint).endpoint is endpoint


@pytest.mark.parametrize("make", [lambda e: e, HttpEngine, AsyncHttpEngine], ids=["endpoint", "sync", "async"])
def test_the_key_is_in_nothing_that_is_shown_or_saved(make: Any) -> None:
    made = make(Endpoint(api_base=BASE, api_key=KEY))
    state = made.dump() if isinstance(made, Endpoint) else made.dump_state()
    for text in (repr(made), str(made), repr(pickle.dumps(made)), json.dumps(state)):
        assert KEY not in text
    assert isinstance(copy.deepcopy(made), type(made))
    assert copy.copy(made) is made
    assert copy.deepcopy(made) is made


def test_a_key_that_stands_in_a_variable_is_found_there_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    again = pickle.loads(pickle.dumps(Endpoint(api_base=BASE, api_key=KEY)))  # noqa: S301 - our own
    assert again.api_key_env == "SOME_KEY"
    assert again.key() == KEY


def test_a_key_that_stands_nowhere_is_asked_for_where_it_is_missing() -> None:
    again = pickle.loads(pickle.dumps(Endpoint(api_base=BASE, api_key=KEY)))  # noqa: S301 - our own
    error = failure(again.key)
    assert isinstance(error, NotConfiguredError)
    assert "api_key_env" in str(error)
    assert Endpoint.load({**again.dump(), "api_key": "another"}).key() == "another"


def test_a_placeholder_is_no_secret() -> None:
    assert Endpoint.load(Endpoint(api_base=BASE, api_key="EMPTY").dump()).key() == "EMPTY"


def test_states_are_whole() -> None:
    endpoint = Endpoint(
        api_base=BASE, api_key_env="K", model="m", headers={"X-A": "b"}, header_env={"api-key": "V"}, tools=True
    )
    assert Endpoint.load(json.loads(json.dumps(endpoint.dump()))) == endpoint
    assert Endpoint(api_base=BASE).dump() == {"api_base": BASE}


def test_the_key_is_read_at_each_call_and_trimmed(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = Endpoint(api_base=BASE, api_key_env="MINE")
    assert "MINE" in str(failure(endpoint.key))
    monkeypatch.setenv("MINE", f" {KEY}\n")
    assert endpoint.key() == KEY
    monkeypatch.setenv("MINE", f"{KEY}\nX-Evil: 1")
    error = failure(endpoint.key)
    assert isinstance(error, NotConfiguredError)
    assert KEY not in f"{error}{error.__cause__}"
    assert Endpoint(api_base=BASE).key() is None


def test_a_known_address_brings_its_dialect_and_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    groq = Endpoint(api_base="https://api.groq.com/openai/v1")
    assert groq.server == "groq"
    assert "GROQ_API_KEY" in str(failure(groq.key))
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    assert groq.key() == KEY
    assert groq.secrets() == [KEY.encode()]
    assert "GROQ_API_KEY" in groq.origin_of_key()
    spied = Endpoint(api_base="http://api.groq.com/openai/v1")
    assert spied.server is None
    assert spied.key() is None, "a key is not sent unencrypted because a host is called so"


def test_proxies_come_from_the_environment_or_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    endpoint = Endpoint(api_base="http://models.example/v1")
    assert endpoint.proxy_address() is None
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:3128")
    assert endpoint.proxy_address() == "http://127.0.0.1:3128"
    assert Endpoint(api_base="http://models.example/v1", trust_env=False).proxy_address() is None
    assert Endpoint(api_base="http://models.example/v1", proxy="http://p:1").proxy_address() == "http://p:1"
    monkeypatch.setenv("no_proxy", "models.example")
    assert endpoint.proxy_address() is None
