"""What is known about a model without calling it: how much it takes, what it can do, what it costs, where it runs.

In this order: what the user said (:func:`set_model`, ``set_price``), what the LM's own engine declares, and the public tables
(``_prices.py``). A fact that none of them tells is None: it is not guessed.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.lms._make import OFFLINE_MODEL, describe, is_simulated, without_secrets
from dspex_lab.lms.choice._prices import Price, price_of, table_entries
from dspex_lab.lms.choice._providers import is_local, key_variables, own_address

#: What a model can do, and under which name the tables say so.
ABILITIES: dict[str, str] = {
    "structured": "supports_response_schema",
    "streaming": "supports_native_streaming",
    "tools": "supports_function_calling",
    "vision": "supports_vision",
    "reasoning": "supports_reasoning",
}
#: What DSPy asks an engine object for (``dspy/clients/capabilities.py``); it takes no other source beside it.
_DECLARED = ("structured", "tools", "reasoning")
#: Servers for one's own machine, by the provider's name; they stream whatever is loaded into them.
_SERVERS = frozenset(["hosted_vllm", "llamafile", "lm_studio", "ollama", "ollama_chat", "sglang", "vllm"])
#: Ollama serves these from its own machines, through the server at home.
_CLOUD = re.compile(r"[:-]cloud$")
_TOKENS = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmM]?)")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known about a model; None where nobody says.

    Args:
        model: ``"provider/model"``.
        context: tokens of a prompt that it takes; ``max_output`` those of its longest answer.
        price: US dollars per million tokens.
        structured: it keeps to a JSON schema (``response_format``); ``tools``: it calls functions; ``streaming``, ``vision``
            (it takes images), ``reasoning`` likewise.
        local: it answers on this machine: nothing leaves it. A server in one's own network counts as away, unless
            ``set_model(model, local=True)`` says otherwise.
        sources: who says so, the one that counts most first.
    """

    model: str
    context: int | None = None
    max_output: int | None = None
    price: Price | None = None
    structured: bool | None = None
    streaming: bool | None = None
    tools: bool | None = None
    vision: bool | None = None
    reasoning: bool | None = None
    local: bool | None = None
    sources: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the facts in one line."""
        able = [word for word in ABILITIES if getattr(self, word)]
        unable = [word for word in ABILITIES if getattr(self, word) is False]
        parts = [
            f"takes {self.context:,} tokens" if self.context else "",
            f"answers with at most {self.max_output:,}" if self.max_output else "",
            price_text(self.price),
            "runs here" if self.local else "",
            f"can: {', '.join(able)}" if able else "",
            f"cannot: {', '.join(unable)}" if unable else "",
        ]
        return " · ".join(p for p in parts if p)


def price_text(price: Price | None) -> str:
    """Return a price in words."""
    if price is None:
        return "price unknown"
    if not price.input and not price.output:
        return "free"
    return f"{price.input:.4g} in, {price.output:.4g} out (US dollars per million tokens)"


def tokens(value: int | str) -> int:
    """Return a number of tokens, also written ``"32k"`` (32,000) or ``"1M"``.

    Raises:
        ConfigurationError: it is none, or not above 0.
    """
    found = _TOKENS.fullmatch(value.strip().replace("_", "")) if isinstance(value, str) else None
    if found:
        count = float(found[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[found[2].lower()]
        value = int(count) if count.is_integer() else -1
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ConfigurationError(
            f"{value!r} is no number of tokens.", key="context", expected="a whole number above 0, or '32k'", actual=value
        )
    return value


_own: dict[str, dict[str, Any]] = {}
_lock = threading.Lock()


def set_model(model: str, **facts: Any) -> None:
    """Say what is true of a model, in the place of what the tables say; for one's own servers and for new models.

    Args:
        model: ``"provider/model"``.
        facts: ``context`` and ``max_output`` (tokens, also ``"32k"``), ``structured``, ``streaming``, ``tools``, ``vision``,
            ``reasoning``, ``local`` (True or False); None forgets what was said of it before. Without any, everything said
            of the model is forgotten. Prices: :func:`set_price`.

    Raises:
        ConfigurationError: there is no such fact, or that is no value for it; nothing was changed.
    """
    if not isinstance(model, str) or not model.strip():
        raise ConfigurationError(f"{model!r} is no model.", key="model", expected="'provider/model'", actual=model)
    said = {name: _checked(name, value) for name, value in facts.items()}
    with _lock:
        kept = {**_own.get(model, {}), **said} if facts else {}
        kept = {name: value for name, value in kept.items() if value is not None}
        if kept:
            _own[model] = kept
        else:
            _own.pop(model, None)


def _checked(name: str, value: Any) -> Any:
    known = (*ABILITIES, "local", "context", "max_output")
    if name not in known:
        raise ConfigurationError(
            f"There is no fact {name!r} about a model.{did_you_mean(name, known)}",
            key=name,
            hint=f"Facts: {', '.join(known)}; prices are told with set_price.",
        )
    if value is None:
        return None
    if name in ("context", "max_output"):
        return tokens(value)
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name}={value!r} is neither True nor False.", key=name, expected=bool, actual=value)
    return value


def facts_of(model: Any, api_base: str | None = None) -> ModelFacts:
    """Return what is known about a model. Nothing is called.

    Args:
        model: ``"provider/model"``, or a language model, whose engine and address are taken into account.
        api_base: the address of the server that has it, where it is not the provider's.
    """
    lm = None if isinstance(model, str) else model
    name = model if isinstance(model, str) else describe(model)
    if lm is not None and api_base is None:
        api_base = address_of(lm)
    engine = _engine_of(lm)
    layers = list(_layers(name, lm, engine))
    known: dict[str, Any] = {}
    for _, said in reversed(layers):
        known.update({fact: value for fact, value in said.items() if value is not None})
    known.setdefault("local", _place(name, lm, engine, api_base))
    price = price_of(name)
    if price is None and known["local"]:
        price = Price(0.0, 0.0, "runs on this machine")
    told_by = [source for source, said in layers if any(value is not None for value in said.values())]
    sources = [*told_by, *([price.source] if price else [])]
    return ModelFacts(model=name, price=price, sources=tuple(dict.fromkeys(sources)), **known)


def address_of(lm: Any) -> str | None:
    """Return the address that a language model was given for its server, None where it is the provider's own."""
    engine = _engine_of(lm)
    given = getattr(lm, "kwargs", None) or {}
    found = given.get("api_base") or given.get("base_url") or getattr(engine, "api_base", None)
    return found if isinstance(found, str) else None


def at(name: str, address: str | None) -> str:
    """Return ``"name@address"``; the name alone where there is none, or where it says its address itself."""
    return name if not address or "@" in name else f"{name}@{without_secrets(address)}"


def _engine_of(lm: Any) -> Any:
    """Return the engine object of an LM, None where DSPy chooses one."""
    engine = getattr(lm, "engine", None)
    return None if isinstance(engine, str) else engine


def _layers(name: str, lm: Any, engine: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield who says what, the one that counts most first."""
    with _lock:
        yield "set_model", dict(_own.get(name, {}))
    if engine is not None:
        yield "its engine", _declared(engine)
    if name == OFFLINE_MODEL:
        yield "dspex_lab", _offline()
    for package, entry in table_entries(name):
        said = _listed(entry)
        # Where an engine is given, DSPy believes it alone about what it can send.
        yield f"{package}'s table of models", {f: v for f, v in said.items() if engine is None or f not in _DECLARED}
    if name.partition("/")[0] in _SERVERS:
        yield "its server", {"streaming": True}


def _offline() -> dict[str, Any]:
    """Return what is known of the offline engine, which reads a prompt of any length and knows text alone."""
    able = {"structured": True, "streaming": True, "tools": True, "vision": False}
    return {"context": 1_000_000, "local": True, **able}


def _declared(engine: Any) -> dict[str, Any]:
    said = {fact: getattr(engine, ABILITIES[fact], None) for fact in _DECLARED}
    streams = callable(getattr(engine, "stream", None))
    context = _count(getattr(engine, "context", None))
    return {
        "streaming": streams,
        "context": context,
        **{fact: value for fact, value in said.items() if isinstance(value, bool)},
    }


def _listed(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an entry of a table says; ``max_tokens`` is the table's older word for both limits."""
    said: dict[str, Any] = {fact: entry[key] for fact, key in ABILITIES.items() if isinstance(entry.get(key), bool)}
    if entry.get("mode") in ("chat", "responses"):
        # The table names only those that do not; LiteLLM reads it so too (utils.supports_native_streaming).
        said.setdefault("streaming", True)
    most = entry.get("max_tokens")
    said["context"] = _count(entry.get("max_input_tokens")) or _count(most)
    said["max_output"] = _count(entry.get("max_output_tokens")) or _count(most)
    return said


def _count(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None


def _place(name: str, lm: Any, engine: Any, api_base: str | None) -> bool | None:
    """Say whether a model answers on this machine."""
    provider, _, rest = name.partition("/")
    if isinstance(getattr(engine, "local", None), bool):
        return bool(engine.local)
    address = api_base or own_address(provider)
    if address is not None:
        return is_local(address) and not _CLOUD.search(rest)
    if lm is not None and is_simulated(lm):
        return True
    if provider in _SERVERS and provider != "hosted_vllm":
        return not _CLOUD.search(rest)
    if engine is not None or provider == "hosted_vllm":
        return None
    return False if table_entries(name) or key_variables(provider) else None
