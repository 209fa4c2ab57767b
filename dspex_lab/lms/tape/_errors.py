"""Errors of engines as plain data, and back. Only classes that are named here are ever made."""

from __future__ import annotations

from typing import Any

from dspex_lab.errors import ConfigurationError, LMError

_FIELDS = ("code", "provider", "provider_code", "status", "request_id", "retry_after")
_EXTRA = ("feature", "part_index", "env_keys", "credential_hint", "model")
_BUILTIN: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (ValueError, TypeError, RuntimeError, KeyError, OSError, TimeoutError, ConnectionError, NotImplementedError)
}


class TapeError(LMError):
    """A tape that cannot be opened, read or written."""


class TapeMiss(TapeError, ConfigurationError):
    """A call that is not on the tape. It is the program or the tape that is another, so it is not tried again."""


def error_data(error: Exception) -> dict[str, Any]:
    """Return an engine's error as JSON-able data: family, class, words, status and what else it says."""
    from dspy import LMError as DSPyLMError
    from dspy.lm15 import LM15Error

    family = "lm15" if isinstance(error, LM15Error) else "dspy" if isinstance(error, DSPyLMError) else "python"
    data: dict[str, Any] = {"family": family, "class": type(error).__name__, "message": getattr(error, "message", str(error))}
    if family == "python":
        return {**data, "message": str(error)}
    for name in (*_FIELDS, *_EXTRA):
        value = getattr(error, name, None)
        if value not in (None, (), ""):
            data[name] = list(value) if isinstance(value, tuple) else value
    headers = getattr(error, "rate_limit_headers", None)
    if headers:
        data["rate_limit_headers"] = {str(key): list(values) for key, values in headers.items()}
    partial = getattr(error, "partial", None)
    if partial is not None:
        from dspy._vendor.lm15.serde import response_to_dict

        data["partial"] = response_to_dict(partial, include_provider_data=True)
    return data


def error_from(data: dict[str, Any]) -> Exception:
    """Return the error that :func:`error_data` described.

    A class that is not known comes back as ``LM15Error``: DSPy makes of it what it makes of the original.

    Raises:
        ValueError, TypeError, KeyError: it is no such data.
    """
    message, name = data["message"], data["class"]
    if not isinstance(message, str) or not isinstance(name, str):
        raise TypeError("an error's class and message are texts")
    if data["family"] == "python" and name in _BUILTIN:
        return _BUILTIN[name](message)
    fields: dict[str, Any] = {key: data[key] for key in _FIELDS if key in data}
    if data["family"] == "dspy":
        return _dspy_error(name, message, fields, data)
    from dspy._vendor.lm15 import errors

    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, errors.LM15Error)) or kind is errors.CollectionLimitError:
        kind = errors.LM15Error
    error = kind()  # with the attributes of its class; then with its words, which have their advice already
    errors.LM15Error.__init__(error, message, rate_limit_headers=data.get("rate_limit_headers"), **fields)
    return _dressed(error, data)


def _dspy_error(name: str, message: str, fields: dict[str, Any], data: dict[str, Any]) -> Exception:
    from dspy.utils import exceptions

    kind = getattr(exceptions, name, None)
    if not (isinstance(kind, type) and issubclass(kind, exceptions.LMError)) or kind is exceptions.LMCollectionLimitError:
        kind = exceptions.LMUnexpectedError
    error = kind()
    exceptions.DSPyError.__init__(error, message, model=data.get("model"), **fields)
    return _dressed(error, data)


def _dressed(error: Any, data: dict[str, Any]) -> Exception:
    """Give the error what it says beside the words of its root."""
    for name in _EXTRA:
        if name in data:
            setattr(error, name, tuple(data[name]) if name == "env_keys" else data[name])
    if "partial" in data:
        from dspy._vendor.lm15.serde import response_from_dict

        error.partial = response_from_dict(data["partial"])
    made: Exception = error
    return made
