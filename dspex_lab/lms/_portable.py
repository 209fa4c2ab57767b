"""A language model as plain data, without its secrets, for the journey to a worker process.

A secret never travels. What travels is the name of the environment variable that holds it; the worker reads the
variable there.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from dspex_lab.errors import LMError
from dspex_lab.lms.choice._providers import key_variables

if TYPE_CHECKING:
    import dspy

T = TypeVar("T", bound=type)

_SECRET = re.compile(r"(api|access|private|secret|subscription)[-_]?key|password|secret|credential|authorization|bearer"
                     r"|(^|[-_])(token|auth|key)$|token_provider|cookie", re.IGNORECASE)  # fmt: skip
#: What people give a server that asks for a key and does not read it.
_PLACEHOLDERS = frozenset(["", "empty", "none", "local", "dummy", "fake", "no-key", "not-needed", "sk-no-key-required", "x"])
_VERSION = 1
_ENGINES = ("engine", "async_engine")
_registered: dict[str, type] = {}


def register_engine(engine: T) -> T:
    """Allow a class of engines to be rebuilt in worker processes; usable as a decorator.

    The class must be importable by its name in the worker and offer ``dump_state()`` and ``load_state(state)``.
    """
    _registered[_path(engine)] = engine
    return engine


def portable(lm: Any) -> dict[str, Any]:
    """Return ``lm`` as JSON-able data from which :func:`from_portable` makes an equal model in another process.

    Raises:
        LMError: a secret was given as an argument and stands in no environment variable; an option is no plain
            data; or the engine cannot be rebuilt.
    """
    name = str(getattr(lm, "model", type(lm).__name__))
    try:
        state = lm.dump_state()
    except (AttributeError, TypeError) as error:
        raise LMError(
            f"The model {name!r} cannot be sent to a worker: {error}",
            engine=name,
            hint="Give its engine dump_state() and load_state(state) and register it with dspex_lab.lms.register_engine.",
        ) from error
    for class_path in _classes(state):
        _check_class(class_path, name)
    plain = {key: value for key, value in state.items() if key not in _ENGINES}
    secrets = _take_secrets(state, {**plain, **getattr(lm, "kwargs", {})}, name)
    for key, value in state.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise LMError(
                f"The option {key!r} of {name!r} is a {type(value).__name__}, which cannot be sent to a worker.",
                engine=name,
                hint="Give it as plain data (numbers, text, lists, dicts), or leave it out.",
            ) from error
    return {"version": _VERSION, "state": state, "secrets": secrets}


def from_portable(state: Mapping[str, Any]) -> dspy.BaseLM:
    """Make the language model that :func:`portable` described; its secrets come from this process's environment.

    Raises:
        LMError: a variable with a secret is missing here, or the engine's class is not allowed.
    """
    import dspy

    if state.get("version") != _VERSION:
        raise LMError(f"This state of a language model has version {state.get('version')!r}; {_VERSION} is understood.")
    inner = dict(state["state"])
    name = str(inner.get("model"))
    for class_path in _classes(inner):
        _check_class(class_path, name)
    for key, variable in state["secrets"].items():
        if not os.environ.get(variable):
            raise LMError(
                f"{name!r} takes its {key} from {variable}, which is not set in this process.",
                engine=name,
                hint=f"Set {variable} in the worker's environment.",
            )
        inner[key] = os.environ[variable]
    return dspy.BaseLM.load_state(inner, allow_custom_lm_class=True)


def _path(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _classes(state: Mapping[str, Any]) -> Iterator[str]:
    """Yield the dotted names of all classes that loading ``state`` would import."""
    for key in _ENGINES:
        if isinstance(state.get(key), Mapping):
            yield str(state[key].get("class"))
    for key, value in state.items():
        if key.endswith("lm_class") and isinstance(value, str):
            yield value


def _check_class(class_path: str, name: str) -> None:
    module = class_path.replace(":", ".").rpartition(".")[0]
    if module.startswith(("dspex_lab.", "dspy.clients.")) or class_path.replace(":", ".") in {
        path.replace(":", ".") for path in _registered
    }:
        return
    raise LMError(
        f"The model {name!r} uses {class_path}, which is not registered, so no worker may rebuild it.",
        engine=name,
        hint="Register it in every process with dspex_lab.lms.register_engine.",
    )


def _take_secrets(state: dict[str, Any], options: Mapping[str, Any], name: str) -> dict[str, str]:
    """Remove the secrets from ``state`` and return, by option, the variable each can be read from."""
    secrets = {}
    for key, value in options.items():
        if not _holds_secret(key, value):
            continue
        state.pop(key, None)
        if isinstance(value, str) and value.lower() in _PLACEHOLDERS:
            state[key] = value
            continue
        provider = name.partition("/")[0]
        variable = _variable_with(value, key_variables(provider) if key == "api_key" else ())
        if variable is None:
            raise LMError(
                f"The {key} of {name!r} was given as an argument, and secrets are not sent to workers.",
                engine=name,
                hint=_remedy(provider, key, value),
            )
        secrets[key] = variable
    return secrets


def _holds_secret(key: str, value: Any) -> bool:
    if value is None or isinstance(value, bool | int | float):
        return False
    if _SECRET.search(key):
        return True
    if isinstance(value, Mapping):
        return any(_holds_secret(str(inner), v) for inner, v in value.items())
    return isinstance(value, str) and "//" in value and bool(urlsplit(value).password)


def _variable_with(value: Any, preferred: tuple[str, ...]) -> str | None:
    if not isinstance(value, str):
        return None
    named = [variable for variable in preferred if os.environ.get(variable) == value]
    return next(iter(named), None) or next((variable for variable, held in os.environ.items() if held == value), None)


def _remedy(provider: str, key: str, value: Any) -> str:
    if not isinstance(value, str):
        return f"Leave {key} out, or run this step without a pool."
    name = next(iter(key_variables(provider)), "") if key == "api_key" else ""
    name = name or re.sub(r"[^A-Z0-9]", "_", f"{provider}_{key}".upper())
    return f"Put it into the environment variable {name}, in the notebook and in the workers."
