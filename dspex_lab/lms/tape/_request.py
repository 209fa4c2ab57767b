"""A request as it stands on a tape: plain data without secrets, large media by their digest; it is found by its own digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dspex_lab.security import MASK, Redactor

#: Options that say where a provider is and who asks. They change no answer and are not kept.
CLIENT_OPTIONS = frozenset(
    {"api_key", "api_base", "base_url", "headers", "extra_headers", "timeout", "api_version", "azure_ad_token", "organization"}
    | {"azure_ad_token_provider", "project", "extra_query", "custom_llm_provider", "num_retries", "cache", "rollout_id"}
    | {"prompt_cache", "stream", "stream_options"}
)
_SECRET_OPTIONS = ("api_key", "azure_ad_token", "headers", "extra_headers", "extra_query")
#: A shorter one is a placeholder ("local", "none") or would mask ordinary words.
SHORTEST_SECRET = 8
#: Characters of a medium that are kept as they are; more are kept as their digest.
LONGEST_MEDIUM = 1024
_MEDIA_KEYS = frozenset({"data", "file_data", "url"})


class Asked(NamedTuple):
    """A request as a tape keeps it.

    Args:
        digest: SHA-256 of ``request`` (and of ``rollout``), by which it is found.
        request: the request as JSON-able data, masked.
        rollout: DSPy's ``rollout_id``, which tells apart calls that are otherwise the same; None without one.
        masked: something in it is masked.
    """

    digest: str
    request: dict[str, Any]
    rollout: Any
    masked: bool

    @property
    def model(self) -> str:
        """The model that was asked."""
        return str(self.request.get("model"))

    @classmethod
    def of(cls, request: Mapping[str, Any], rollout: Any = None, mask: Masker | None = None) -> Asked:
        """Return ``request`` (of :func:`canonical` or :func:`canonical_legacy`) as a tape keeps it."""
        return cls.masked_already((mask or Masker()).data(request), rollout)

    @classmethod
    def masked_already(cls, request: dict[str, Any], rollout: Any) -> Asked:
        """Return a request that was read from a tape."""
        text = dumps({"request": request, "rollout": rollout}, ordered=True)
        return cls(hashlib.sha256(text.encode()).hexdigest(), request, rollout, MASK in text)


class Masker:
    """Masks secrets in text: those that :func:`dspex_lab.security.redact` knows, and the ones given.

    Args:
        secrets: values that are secret, of whatever form; those under 8 characters are ignored.
    """

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        # The environment is read anew for each call: a key is often set in a cell, after the tape was opened.
        self._redactor = Redactor()
        known = {s for s in secrets if len(s) >= SHORTEST_SECRET}
        spellings = {form for s in known for form in (s, json.dumps(s)[1:-1], json.dumps(s, ensure_ascii=False)[1:-1])}
        self._secrets = sorted(spellings, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return self._redactor(text)

    def data(self, value: Any) -> Any:
        """Return JSON-able data with its secrets masked."""
        try:
            return json.loads(self(dumps(value)))
        except ValueError:
            # What looks like a secret reaches over the end of a text into JSON's own marks: each value by itself.
            return self._each(value)

    def _each(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {self._one(str(key)): self._under(str(key), inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self._each(inner) for inner in value]
        return self._one(value)

    def _under(self, key: str, value: Any) -> Any:
        """Return a value as its key demands: ``{"password": "…"}`` has its secret in the value."""
        if isinstance(value, Mapping | list | tuple):
            return self._each(value)
        try:
            return next(iter(json.loads(self(dumps({key: value}))).values()))
        except ValueError:
            return MASK

    def _one(self, value: Any) -> Any:
        try:
            return json.loads(self(dumps(value)))
        except ValueError:
            return MASK


def secrets_of(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the secrets among the options of a ``dspy.LM`` (``lm.kwargs``): its key, the values of its headers."""
    found: list[str] = []
    for name in _SECRET_OPTIONS:
        value = options.get(name)
        found += [str(v) for v in value.values()] if isinstance(value, Mapping) else [value] if isinstance(value, str) else []
    return tuple(secret for secret in found if len(secret) >= SHORTEST_SECRET)


def dumps(value: Any, ordered: bool = False) -> str:
    """Return ``value`` as JSON in one line, ASCII only; what is no data is written as the name of its type.

    Args:
        ordered: sort the keys.
    """
    return json.dumps(value, sort_keys=ordered, separators=(",", ":"), default=lambda v: f"<{type(v).__qualname__}>")


def canonical(request: Any) -> dict[str, Any]:
    """Return an ``lm15.Request`` as plain data."""
    from dspy._vendor.lm15.serde import request_to_dict

    small: dict[str, Any] = _small(request_to_dict(request))
    return small


def canonical_legacy(model_type: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what DSPy hands to an engine without an ``lm15.Request`` (LiteLLM) as plain data.

    Args:
        model_type: ``"chat"``, ``"text"`` or ``"responses"``: the same messages go different ways.
        request: model, messages and options, as DSPy has merged them.
    """
    kept = {key: _plain(value) for key, value in request.items() if key not in CLIENT_OPTIONS and value is not None}
    small: dict[str, Any] = _small({**kept, "legacy": model_type})
    return small


def _plain(value: Any) -> Any:
    """Return ``value`` as data that is the same in every process."""
    schema = getattr(value, "model_json_schema", None)
    if isinstance(value, type):
        return {"class": value.__qualname__, **({"schema": schema()} if callable(schema) else {})}
    if callable(getattr(value, "model_dump", None)):
        return _plain(value.model_dump())
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, str | int | float | bool) else f"<{type(value).__qualname__}>"


def _small(value: Any, key: str = "") -> Any:
    """Return data with large media, and files of this machine, as their digests."""
    if isinstance(value, Mapping):
        out = {name: _small(inner, name) for name, inner in value.items() if not (name == "path" and "media_type" in value)}
        if "media_type" in value and isinstance(value.get("path"), str):
            out["data"] = _digest(Path(value["path"]).read_bytes())
        return out
    if isinstance(value, list | tuple):
        return [_small(inner, key) for inner in value]
    if key in _MEDIA_KEYS and isinstance(value, str) and len(value) > LONGEST_MEDIUM:
        return _digest(value.encode())
    return value


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield where each plain value in JSON-able data stands, and the value."""
    if isinstance(value, Mapping):
        for key in sorted(value):
            yield from leaves(value[key], f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{at}]")
    else:
        yield path, value
