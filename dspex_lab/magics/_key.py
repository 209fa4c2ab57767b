"""``%dspex key``: enter a provider's key without showing it, or say which are there. No part of a key is ever shown."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Any

from dspex_lab.errors import ConfigurationError
from dspex_lab.magics._base import Call, Command

_FLAGS = ("from-env-file", "keyring", "forget")
#: Offered before a Lab is open, which knows all.
_COMMON = ("anthropic", "deepseek", "gemini", "groq", "mistral", "openai", "openrouter", "xai")


def run(call: Call) -> Any:
    """Ask for a provider's key and put it into this process's environment, and nowhere else; without one, list what is there.

    --from-env-file FILE takes it from a file (without a provider: all that are in it); --keyring takes it from the system's
    keyring, which keeps it if it has none yet; --forget takes it out again, with --keyring also there.
    """
    provider, flags = _read(call.line)
    keys = call.lab.lms.keys
    if provider is None:
        return _all(keys, flags)
    if "forget" in flags:
        gone = keys.forget(provider, keyring="keyring" in flags)
        print(f"{provider}: {'taken out of ' + ', '.join(gone) if gone else 'there was no key'}")
        return None
    if "from-env-file" in flags:
        state = keys.from_env_file(flags["from-env-file"], provider)[0]
    else:
        state = (keys.from_keyring(provider) if "keyring" in flags else None) or _entered(keys, provider)
    if "keyring" in flags and "from the keyring" not in state.source:
        state = keys.keep(provider)
    print(
        f"{state}: it is in the environment of this process{' and in the keyring' if 'keyring' in flags else ''}, nowhere else."
    )
    return None


def _entered(keys: Any, provider: str) -> Any:
    try:
        return keys.enter(provider)
    except KeyboardInterrupt:
        raise ConfigurationError("Stopped by you; no key was changed.", key="key") from None


def _all(keys: Any, flags: dict[str, str]) -> Any:
    if "from-env-file" in flags and len(flags) == 1:
        found = keys.from_env_file(flags["from-env-file"])
        for why in found.left_out:
            print(f"left out: {why}")
        return found
    if flags:
        raise ConfigurationError("Whose key?", key="key", hint=f"Write: {COMMAND.usage}")
    return keys()


def _read(text: str) -> tuple[str | None, dict[str, str]]:
    """Take the line apart. A message repeats nothing of it: a key may stand there by mistake."""
    try:
        pieces = [p.strip("\"'") for p in shlex.split(text, posix=os.name != "nt")]
    except ValueError:
        raise ConfigurationError("The line ends inside a string.", key="key", hint=f"Write: {COMMAND.usage}") from None
    provider: str | None = None
    flags: dict[str, str] = {}
    while pieces:
        piece = pieces.pop(0)
        name, _, value = piece.removeprefix("--").partition("=")
        if not piece.startswith("--"):
            if provider is not None:
                raise ConfigurationError(
                    "A key is not written into a cell: it would stay in the notebook and in its history. If that was one, take "
                    "it out, and have the provider make a new one.",
                    key="key",
                    hint="Write the provider alone; the key is asked for then, unseen.",
                )
            provider = piece
        elif name not in _FLAGS:
            raise ConfigurationError(
                "There is no such flag here.", key="key", hint=f"Flags: {', '.join('--' + f for f in _FLAGS)}."
            )
        else:
            if name == "from-env-file" and not value:
                value = pieces.pop(0) if pieces and not pieces[0].startswith("--") else ""
                if not value:
                    raise ConfigurationError("--from-env-file needs a file.", key=name, hint="Such as: --from-env-file .env")
            flags[name] = value
    return provider, flags


def _names(namespace: Any) -> list[str]:
    workbench = sys.modules.get("dspex_lab.workbench")
    lab = workbench.current_lab() if workbench is not None else None
    return lab.lms.keys.providers() if lab is not None else list(_COMMON)


COMMAND = Command(
    "key",
    "%dspex key [PROVIDER] [--from-env-file FILE] [--keyring] [--forget]",
    "enter a provider's key without showing it, or list which are there",
    run,
    flags=_FLAGS,
    names=_names,
)
