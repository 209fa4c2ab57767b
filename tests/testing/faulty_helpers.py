"""A client of the faulty server, and what is asked and answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from dspex_lab.testing import FaultyServer

KEY = "sk-0123456789abcdefghij"


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(headers={"authorization": f"Bearer {KEY}"}, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "true")


def ask(client: httpx.Client, server: FaultyServer, text: str = "hello", **more: Any) -> httpx.Response:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **more}
    return client.post(f"{server.url}/chat/completions", json=body)


def said(response: httpx.Response) -> str:
    return response.json()["choices"][0]["message"]["content"]


def chunks(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]
