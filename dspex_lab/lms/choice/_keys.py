"""Keys of providers: entered without being shown, taken from a ``.env`` file or the system's keyring, and never kept here.

A key goes into the environment of this process, where DSPy and every provider's client look for it, and nowhere else: no
record, no display and no message of an error holds a character of it. The keyring keeps one only where that was asked for.
"""

from __future__ import annotations

import getpass
import os
import re
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspex_lab._lazy import require
from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.lms._html import table
from dspex_lab.lms.choice._providers import accepted_variables, is_provider, known_providers

#: Under this name the system's keyring keeps the keys; the user's name there is the variable.
SERVICE = "dspex_lab"
_SHORTEST = 8
_NAME = re.compile(r"[a-z][a-z0-9]{0,19}(?:[_-][a-z0-9]{1,12}){0,3}")
_PLACEHOLDER = re.compile(
    r"(?i)\.\.\.|^<|>$|\$\{|x{6,}|\*{3,}|(?<![a-z0-9])(?:your|my|change|changeme|placeholder|example|insert|redacted|todo|dummy)(?![a-z0-9])"
)

#: How the keys of providers begin that are often mistaken for one another.
_BEGINNINGS = {
    "sk-ant-": "anthropic",
    "sk-or-": "openrouter",
    "sk-proj-": "openai",
    "AIza": "gemini",
    "gsk_": "groq",
    "hf_": "huggingface",
    "pplx-": "perplexity",
    "xai-": "xai",
}


def check_key(key: str, variable: str) -> None:
    """Refuse what cannot be a key, in words that hold nothing of it.

    Raises:
        ConfigurationError: it is empty or short, has spaces, quotes or line ends, or stands for a key to be filled in.
    """
    for wrong, why in (
        (not key.strip(), "nothing was given"),
        ("\n" in key or "\r" in key, "it has more than one line"),
        (any(c.isspace() for c in key), "it has spaces"),
        (any(c in "\"'`“”‘’" for c in key), "it has quotes"),
        (key.upper().startswith(f"{variable}="), "it is the whole assignment: give what follows ="),
        (key.upper() == variable, "it is the name of the variable"),
        (not key.isascii() or not key.isprintable(), "it has characters that no key has"),
        (_PLACEHOLDER.search(key) is not None, "it stands for a key that was to be filled in"),
        (len(key) < _SHORTEST, "it is too short"),
    ):
        if wrong:
            raise ConfigurationError(
                f"This is no key for {variable}: {why}. Nothing was changed.",
                key=variable,
                hint="Copy the key alone from the provider's page of keys.",
            )


@dataclass(frozen=True, slots=True)
class KeyState:
    """Which provider's key is there, and from where; no part of the key.

    Args:
        variable: the environment's variable that holds it; ``source`` says how it came there.
    """

    provider: str
    variable: str
    source: str

    def __str__(self) -> str:
        return f"{self.provider}: {self.variable}, {self.source}"


class KeyStates(tuple[KeyState, ...]):
    """Keys that are there, to be shown; ``left_out`` says what was no key."""

    left_out: tuple[str, ...] = ()

    def also(self, state: KeyState) -> KeyStates:
        """Return these and one more."""
        return self._with((*self, state), self.left_out)

    def without(self, why: str) -> KeyStates:
        """Return these, and that one more was left out."""
        return self._with(self, (*self.left_out, why))

    @classmethod
    def _with(cls, states: Iterable[KeyState], left_out: tuple[str, ...]) -> KeyStates:
        made = cls(states)
        made.left_out = left_out
        return made

    def __repr__(self) -> str:
        return "\n".join(map(str, self)) or "No provider has a key. Enter one with %dspex key PROVIDER."

    def _repr_html_(self) -> str:
        return table(("provider", "variable", "from"), [(s.provider, s.variable, s.source) for s in self], "Keys")


class Keys:
    """The keys of this process: calling it says which there are. Thread-safe."""

    def __init__(self) -> None:
        #: How each variable that was set here came to its value.
        self._sources: dict[str, str] = {}
        self._lock = threading.Lock()

    def __call__(self) -> KeyStates:
        """Return which providers have a key, and from where; of several that share one variable, the plainest name."""
        found: dict[str, KeyState] = {}
        for provider in sorted(known_providers(), key=lambda p: (len(p), p)):
            variable = next((v for v in accepted_variables(provider) if os.environ.get(v)), None)
            if variable is not None and variable not in found:
                found[variable] = self._state(provider, variable)
        return KeyStates(sorted(found.values(), key=lambda state: state.provider))

    def __repr__(self) -> str:
        return repr(self())

    def _repr_html_(self) -> str:
        return self()._repr_html_()

    def providers(self) -> list[str]:
        """Return the names of all providers that need a key."""
        return _with_keys()

    def enter(self, provider: str) -> KeyState:
        """Ask for a provider's key without showing it, and put it into the environment.

        Raises:
            ConfigurationError: there is no such provider or it needs no key, nobody can be asked here, or what was given is
                no key. Nothing was changed.
        """
        name, variables = _provider(provider)
        key = _ask(f"Key of {name} ({variables[0]}; it is not shown): ", variables[0])
        return self._set(name, variables[0], key, "entered here")

    def from_env_file(self, path: str | Path, provider: str | None = None) -> KeyStates:
        """Take the key of a provider, or those of all, from a ``.env`` file; its other lines are left alone.

        Returns:
            What was set. Where all are taken, what cannot be a key is left out; ``left_out`` says so.

        Raises:
            ConfigurationError: the file cannot be read, has no key of the provider, or one that cannot be a key.
        """
        values = _env_file(Path(path))
        source = f"from {Path(path).name}"
        if provider is not None:
            name, variables = _provider(provider)
            variable = next((v for v in variables if values.get(v)), None)
            if variable is None:
                raise _not_there(path, f"no {' or '.join(variables)}", list(values))
            return KeyStates([self._set(name, variable, values[variable] or "", source)])
        owners = {v: p for p in sorted(known_providers(), key=len, reverse=True) for v in accepted_variables(p)}
        found = KeyStates([])
        for variable in [v for v in values if v in owners]:
            try:
                found = found.also(self._set(owners[variable], variable, values[variable] or "", source))
            except ConfigurationError as problem:
                found = found.without(problem.message.removesuffix(" Nothing was changed."))
        if not found:
            raise _not_there(path, "no key of a provider", found.left_out)
        return found

    def from_keyring(self, provider: str) -> KeyState | None:
        """Take a provider's key from the system's keyring; None where it has none.

        Raises:
            ConfigurationError: there is no such provider, or no keyring that can be used.
        """
        name, variables = _provider(provider)
        with _keyring() as keyring:
            for variable in variables:
                key = keyring.get_password(SERVICE, variable)
                if key:
                    return self._set(name, variable, key, "from the keyring")
        return None

    def keep(self, provider: str) -> KeyState:
        """Keep a provider's key, as the environment has it, in the system's keyring.

        Raises:
            ConfigurationError: there is no key, or no keyring that can be used, or it did not keep the key.
        """
        name, variables = _provider(provider)
        variable = next((v for v in variables if os.environ.get(v)), None)
        if variable is None:
            raise ConfigurationError(f"{name} has no key to be kept.", key=variables[0], hint=f"Enter it: %dspex key {name}")
        with _keyring() as keyring:
            keyring.set_password(SERVICE, variable, os.environ[variable])
            if keyring.get_password(SERVICE, variable) != os.environ[variable]:
                raise ConfigurationError(
                    "The keyring took the key and did not keep it.", key="keyring", actual=type(keyring.get_keyring()).__name__
                )
        with self._lock:
            self._sources[variable] = "from the keyring"
        return self._state(name, variable)

    def forget(self, provider: str, *, keyring: bool = False) -> tuple[str, ...]:
        """Take a provider's key out of the environment of this process, and, if so asked, out of the keyring.

        Returns:
            From where it was taken; empty where there was none.
        """
        _, variables = _provider(provider)
        gone = [f"{v} (environment)" for v in variables if os.environ.pop(v, None)]
        with self._lock:
            for variable in variables:
                self._sources.pop(variable, None)
        if keyring:
            with _keyring() as store:
                for variable in variables:
                    if store.get_password(SERVICE, variable) is not None:
                        store.delete_password(SERVICE, variable)
                        gone.append(f"{variable} (keyring)")
        return tuple(gone)

    def _set(self, provider: str, variable: str, key: str, source: str) -> KeyState:
        check_key(key, variable)
        other = next((p for start, p in _BEGINNINGS.items() if key.startswith(start)), None)
        if other is not None and variable not in accepted_variables(other):
            source += f"; it begins as the keys of {other} do"
        os.environ[variable] = key
        with self._lock:
            self._sources[variable] = source
        return self._state(provider, variable)

    def _state(self, provider: str, variable: str) -> KeyState:
        with self._lock:
            return KeyState(provider, variable, self._sources.get(variable, "from the environment"))


def _with_keys() -> list[str]:
    return [p for p in known_providers() if accepted_variables(p)]


def _provider(name: str) -> tuple[str, tuple[str, ...]]:
    """Return a provider's name and the variables of its key. A message names only what cannot be a key by mistake.

    Raises:
        ConfigurationError: there is none of that name, or it needs no key.
    """
    wanted = name.strip().partition("/")[0].lower() if isinstance(name, str) else ""
    looks_like_a_key = sum(c.isdigit() for c in wanted) > 2 or any(wanted.startswith(b.lower()) for b in _BEGINNINGS)
    if wanted not in known_providers() and (looks_like_a_key or not _NAME.fullmatch(wanted)):
        raise ConfigurationError(
            "This is no name of a provider. Was it a key? What stands in a cell is kept in the notebook and its history: take "
            "it out, and have the provider make a new one.",
            key="provider",
            hint="Write the name alone, such as %dspex key openai; the key is asked for then.",
        )
    if not is_provider(wanted):
        with_keys = _with_keys()
        raise ConfigurationError(
            f"There is no provider {wanted!r}.{did_you_mean(wanted, with_keys)}",
            key="provider",
            hint=f"Known: {', '.join(with_keys)}.",
        )
    variables = accepted_variables(wanted)
    if not variables:
        raise ConfigurationError(
            f"{wanted} needs no key of its own.",
            key="provider",
            hint="It runs on your machine, or finds its credentials in its own configuration.",
        )
    return wanted, variables


def _ask(prompt: str, variable: str) -> str:
    """Return what the user types, unseen.

    Raises:
        ConfigurationError: nobody can be asked here, or only in plain sight.
    """
    try:
        with warnings.catch_warnings():
            # Without this, getpass goes on where it cannot keep what is typed from being shown.
            warnings.simplefilter("error", getpass.GetPassWarning)
            # As an attribute of the module: a notebook's kernel puts its own prompt there.
            return getpass.getpass(prompt)
    except (EOFError, NotImplementedError, OSError, getpass.GetPassWarning) as error:
        raise ConfigurationError(
            "Nobody can be asked for a key here: this program runs without a prompt that hides what is typed.",
            key=variable,
            hint=f"Set {variable} before the program starts, or use --from-env-file FILE or --keyring.",
        ) from error


def _env_file(path: Path) -> dict[str, str | None]:
    dotenv = require("dotenv", "to read .env files")
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ConfigurationError(f"The file {str(path)!r} {what}.", key="from-env-file", actual=str(path))
    try:
        values: dict[str, str | None] = dotenv.dotenv_values(path, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        # The error of a wrong encoding quotes the bytes.
        raise ConfigurationError(
            f"The file {str(path)!r} cannot be read: {type(error).__name__}.",
            key="from-env-file",
            hint="It must be text in UTF-8.",
        ) from None
    return values


def _not_there(path: str | Path, what: str, found: Any) -> ConfigurationError:
    # Names only: what a line holds that is no assignment may be a key.
    return ConfigurationError(
        f"{str(path)!r} has {what}; it has {len(found)} other line{'s' if len(found) != 1 else ''} of NAME=value.",
        key="from-env-file",
    )


@contextmanager
def _keyring() -> Iterator[Any]:
    """Give the package keyring; what it refuses becomes words that hold no secret.

    Raises:
        ConfigurationError: it is not installed, has nothing to keep keys in, or is locked.
    """
    keyring = require("keyring", "to keep keys in the system's keyring")
    from keyring.errors import KeyringError, NoKeyringError

    hint = "Enter the key with each start (%dspex key PROVIDER), or keep it in a .env file (--from-env-file)."
    try:
        yield keyring
    except NoKeyringError as error:
        problem = "This machine has no keyring to keep a key in (a server or a container seldom has one)."
        raise ConfigurationError(problem, key="keyring", hint=hint) from error
    except KeyringError as error:
        raise ConfigurationError(f"The keyring refused: {type(error).__name__}.", key="keyring", hint=hint) from None
