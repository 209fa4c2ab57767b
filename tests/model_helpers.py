"""Keys typed at a prompt, a keyring of this process, and models that are put back as they were."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dspy
import keyring
import keyring.errors
import pytest
from keyring.backend import KeyringBackend

from dspex_lab.lms.choice import _capabilities, _prices
from dspex_lab.lms.choice._cache import _put_aside

KEY = "sk-proj-A1b2C3d4E5f6G7h8I9j0"


class Memory(KeyringBackend):
    """A keyring of this process."""

    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise keyring.errors.KeyringLocked(f"locked with {KEY}")
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


@contextmanager
def keyring_in_memory() -> Iterator[Memory]:
    """Have keys kept in this process while the block runs."""
    before = keyring.get_keyring()
    made = Memory()
    keyring.set_keyring(made)
    yield made
    keyring.set_keyring(before)


def typed(monkeypatch: pytest.MonkeyPatch, key: str) -> list[str]:
    """Have ``key`` typed at the next prompt; returns the prompts shown."""
    prompts: list[str] = []

    def answer(prompt: str = "", stream: Any = None) -> str:
        prompts.append(prompt)
        return key

    monkeypatch.setattr(getpass, "getpass", answer)
    return prompts


@contextmanager
def models_put_back() -> Iterator[None]:
    """Put back the environment, DSPy's cache, and what was said of models and their prices."""
    environment, cache = dict(os.environ), dspy.cache
    yield
    os.environ.clear()
    os.environ.update(environment)
    _capabilities._own.clear()
    _prices._own.clear()
    _put_aside.clear()
    dspy.cache = cache
