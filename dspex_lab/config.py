"""Settings of a Lab: from code, the environment and a file of settings."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from dspex_lab._settings import SettingsFile, find_settings
from dspex_lab.errors import ConfigurationError

#: Where a Lab keeps its files, beside the notebook.
FOLDER = ".dspex"
_CONCURRENCY = 16


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of a Lab.

    What is not given here comes from the environment (``DSPEX_LM``, ``DSPEX_CONCURRENCY``, ``DSPEX_BUDGET``,
    ``DSPEX_RECORD_MESSAGES``, ``DSPEX_STORE_MEMORY``, ``DSPEX_POOL_…``), then from ``dspex.toml`` or ``[tool.dspex]`` of a
    ``pyproject.toml`` in the current folder or one above, and else is the default; a Lab fills that in (:meth:`filled`).

    Args:
        lm: the model to start with: a model string or ``"offline"``; None is what ``dspy.configure`` set, else offline.
        concurrency: rows of a map and sync steps that run at once.
        record_messages: keep prompts and answers in the store; without, only counts, times and cost are kept.
        store_memory: megabytes that DuckDB may use of the store's file; None is 512, or 64 for each processor.
        budget: what the Lab may spend on models: US dollars, ``"$2, 50k tokens, 100 calls"`` or a ``dx.Budget``.
        policy: what stands around each call of a model (``dx.Policy``); by default retries, a circuit breaker and a limit of
            calls at once. Only in code.
        pools: the pools of workers: a table such as ``{"general": {"workers": 4, "memory": "1GB"}}``, or a ``PoolsConfig``.
            What it leaves open is filled in setting by setting.
    """

    lm: str | None = None
    concurrency: int = _CONCURRENCY
    record_messages: bool = True
    store_memory: int | None = None
    budget: Any = None
    policy: Any = None
    pools: Any = None
    _said: frozenset[str] = field(init=False, repr=False, compare=False)

    def __new__(cls, *values: Any, **named: Any) -> Config:
        """Note what was given: a default that is asked for is not to be overridden by the environment."""
        made = object.__new__(cls)
        names = [f.name for f in fields(cls) if f.init]
        object.__setattr__(made, "_said", frozenset((*names[: len(values)], *named)))
        return made

    @classmethod
    def from_environment(cls) -> Config:
        """Return the settings of the environment and of the file of settings.

        Raises:
            ConfigurationError: one of them makes no sense; it says which variable, or which line of the file.
        """
        return cls().filled()

    def filled(self) -> Config:
        """Return these settings, with what was not given taken from the environment and the file of settings. ``pools`` stays
        as it was given: who makes the pools fills them in.

        Raises:
            ConfigurationError: a setting makes no sense; it says which, and where it is from.
        """
        file = find_settings()
        for key in file.table:
            if key not in _READ and key != "pools":
                raise _foreign(file, key)
        found: dict[str, Any] = {}
        for name, read in _READ.items():
            variable = f"DSPEX_{name.upper()}"
            if name in self._said:
                found[name] = _checked(name, getattr(self, name))
            elif os.environ.get(variable):
                found[name] = read(os.environ[variable], f"{variable} is", variable)
            elif name in file.table:
                found[name] = _of_file(file, name, read)
        return Config(**{"policy": self.policy, "pools": self.pools, **found})


def _foreign(file: SettingsFile, key: str) -> ConfigurationError:
    if key == "policy":
        hint = "Write lab.policy(dx.Policy(…)), or dx.Config(policy=…)."
        return file.error([key], "policy is set in code only.", actual=key, hint=hint)
    return file.unknown([key], (*_READ, "pools"))


def _of_file(file: SettingsFile, name: str, read: Callable[[Any, str, str], Any]) -> Any:
    try:
        return read(file.table[name], f"{name} is", name)
    except ConfigurationError as error:
        raise file.error([name], error.message, expected=error.expected, actual=error.actual, hint=str(error.hint)) from None


def _checked(name: str, value: Any) -> Any:
    """Return what code gave for a setting, as it was given."""
    if name != "lm" and (value is not None or name in ("concurrency", "record_messages")):
        _READ[name](value, f"Config({name}=) is", name)
    return value


def _refused(what: str, key: str, value: Any, expected: str) -> ConfigurationError:
    said = repr(value) if len(repr(value)) <= 100 else repr(value)[:99] + "…"
    return ConfigurationError(f"{what} {said}.", key=key, expected=expected, actual=value, hint=f"Expected: {expected}.")


def _number(value: Any, what: str, key: str, of: str = "") -> int:
    """Read a whole number above 0, from text too."""
    told = value.strip() if isinstance(value, str) else value
    if isinstance(told, str) and told.isascii() and told.isdecimal() and len(told) <= 9:
        told = int(told)
    if not isinstance(told, int) or isinstance(told, bool) or told < 1:
        raise _refused(what, key, value, f"a whole number above 0{of}")
    return told


def _megabytes(value: Any, what: str, key: str) -> int:
    return _number(value, what, key, " (megabytes)")


def _flag(value: Any, what: str, key: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    told = words.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(told, bool):
        raise _refused(what, key, value, "true or false")
    return told


def _model(value: Any, what: str, key: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _refused(what, key, value, "the name of a model, such as 'openai/gpt-5-mini' or 'offline'")
    return value


def _limits(value: Any, what: str, key: str) -> Any:
    """Read a budget as far as a file may say one; the ledger reads it in full."""
    if isinstance(value, bool | list | dict):
        raise _refused(what, key, value, "US dollars, or a text such as '$2, 50k tokens, 100 calls'")
    return value


#: How each setting is read, in the order of the fields.
_READ: dict[str, Callable[[Any, str, str], Any]] = {
    "lm": _model,
    "concurrency": _number,
    "record_messages": _flag,
    "store_memory": _megabytes,
    "budget": _limits,
}


def notebook_path() -> Path | None:
    """Return the notebook this kernel runs, where JupyterLab or VS Code told it, else None."""
    told = os.environ.get("JPY_SESSION_NAME")
    if not told:
        main = sys.modules.get("__main__")
        told = getattr(main, "__vsc_ipynb_file__", None)
    return Path(told) if told and str(told).endswith(".ipynb") else None


def default_store_path() -> Path:
    """Return the file a kernel keeps its store in: one per notebook, in ``.dspex`` of the current folder."""
    told = os.environ.get("DSPEX_STORE")
    if told:
        return Path(told)
    notebook = notebook_path()
    stem = notebook.stem if notebook else "lab"
    return Path(FOLDER) / f"{re.sub(r'[^A-Za-z0-9._-]+', '_', stem)}.duckdb"
