"""What a model's tokens cost, from a public table of prices that is read as a file: nothing is fetched, LiteLLM is not loaded.

The table is LiteLLM's (``model_prices_and_context_window``), as the installed package ships it; what it lacks is looked up in
the one that DSPy ships, by which DSPy itself says the cost of a call. Prices are list prices of ordinary use: no discount for
cached prompts or batches, no surcharge for very long ones.
"""

from __future__ import annotations

import gzip
import json
import math
import threading
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from dspex_lab.errors import ConfigurationError

#: The tables in the order in which they are asked: the package and the file in it.
_TABLES = (
    ("litellm", "model_prices_and_context_window_backup.json"),
    ("dspy", "clients/model_metadata/snapshot.json.gz"),
)
_MILLION = 1_000_000
#: The source of a price that the user said.
OWN = "set_price"

#: Providers whose models the tables list under another provider's name: the same service, spoken to in another way.
_KIN: dict[str, tuple[str, ...]] = {
    "bedrock": ("bedrock_converse",),
    "cohere": ("cohere_chat",),
    "moonshotai": ("moonshot",),
    "ollama_chat": ("ollama",),
    "openai-chat": ("openai",),
}

#: Whose models an address has, for names such as ``http/MODEL@HOST`` (our HTTP engine's).
_HOSTS = {
    "api.anthropic.com": "anthropic",
    "api.cerebras.ai": "cerebras",
    "api.deepseek.com": "deepseek",
    "api.fireworks.ai": "fireworks_ai",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "api.openai.com": "openai",
    "api.perplexity.ai": "perplexity",
    "api.together.xyz": "together_ai",
    "api.x.ai": "xai",
    "generativelanguage.googleapis.com": "gemini",
    "openrouter.ai": "openrouter",
}


class Price(NamedTuple):
    """US dollars per million tokens of the prompt (``input``) and of the answer (``output``), and who says so."""

    input: float
    output: float
    source: str

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Return the US dollars that so many tokens cost."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / _MILLION


_own: dict[str, Price] = {}
_lock = threading.Lock()


def set_price(model: str, *, input: float | None, output: float | None = None) -> None:  # noqa: A002 - the word of price lists
    """Say what a model costs, in US dollars per million tokens, in the place of what the table says.

    Args:
        model: the model's name as DSPy has it, ``"provider/model"``.
        input: the price of the prompt's tokens; None forgets what was said before.
        output: the price of the answer's tokens.

    Raises:
        ConfigurationError: a price is no number of dollars, 0 or more.
    """
    if not isinstance(model, str) or not model.strip():
        raise ConfigurationError(f"{model!r} is no model.", key="model", expected="'provider/model'", actual=model)
    if input is None and output is None:
        with _lock:
            _own.pop(model, None)
        return
    for name, value in (("input", input), ("output", output)):
        if not _is_sum(value):
            raise ConfigurationError(
                f"The price {name}={value!r} of {model!r} is no sum.",
                key=name,
                expected="US dollars per million tokens, 0 or more",
                actual=value,
                hint="Give both: set_price('provider/model', input=0.25, output=2.0).",
            )
    with _lock:
        _own[model] = Price(float(input), float(output), OWN)  # type: ignore[arg-type]


def price_of(model: str) -> Price | None:
    """Return what ``model`` (``"provider/model"``) costs, None where nobody says."""
    listed = listed_name(model)
    with _lock:
        own = _own.get(model) or _own.get(listed)
    if own is not None:
        return own
    for package, file in _TABLES:
        found = _priced(listed, _table(package, file))
        if found is not None:
            return Price(*found, source=f"{package}'s table of prices")
    return None


def _priced(model: str, table: Mapping[str, Any]) -> tuple[float, float] | None:
    for entry in _entries(model, table):
        sent, answered = (entry.get(f"{side}_cost_per_token") for side in ("input", "output"))
        if _is_sum(sent) and _is_sum(answered):
            return sent * _MILLION, answered * _MILLION
    return None


def listed_name(model: str) -> str:
    """Return the name under which tables would have ``model``: ``http/MODEL@api.openai.com`` is ``openai/MODEL``."""
    name, at, host = model.rpartition("@")
    provider = _HOSTS.get(host.lower())
    return f"{provider}/{name.partition('/')[2]}" if at and provider else model


def table_entries(model: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Return what the tables have of ``model``, with the package whose table it is, in the order in which they count."""
    return [(package, entry) for package, file in _TABLES for entry in _entries(listed_name(model), _table(package, file))]


def listed_models(provider: str) -> list[str]:
    """Return the names ``"provider/model"`` of the models for text that the tables list of ``provider``, sorted."""
    found = set()
    for package, file in _TABLES:
        for name, entry in _table(package, file).items():
            if not isinstance(entry, Mapping) or entry.get("mode") not in ("chat", "responses"):
                continue
            if entry.get("litellm_provider") == provider:
                found.add(f"{provider}/{name.removeprefix(f'{provider}/')}")
    return sorted(found)


def _is_sum(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _entries(model: str, table: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield what the table has of a model: under its whole name, else under its own name where the provider is the same."""
    provider, _, name = model.partition("/")
    kin = (provider, *_KIN.get(provider, ()))
    for whole in (model, *(f"{other}/{name}" for other in kin[1:])):
        entry = table.get(whole)
        if isinstance(entry, Mapping):
            yield entry
    entry = table.get(name)
    if isinstance(entry, Mapping):
        owner = str(entry.get("litellm_provider"))
        # "vertex_ai-language-models": the part of a provider that has the model.
        if owner in kin or owner.startswith(f"{provider}-"):
            yield entry


@lru_cache(maxsize=len(_TABLES))
def _table(package: str, file: str) -> Mapping[str, Any]:
    """Return a table of the installed ``package``, an empty one where there is none."""
    spec = find_spec(package)  # of a package at the top, this runs nothing of it
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder, file)
        if path.is_file():
            data = path.read_bytes()
            found = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
            return found if isinstance(found, dict) else {}
    return {}
