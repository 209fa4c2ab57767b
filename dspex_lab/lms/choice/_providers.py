"""Which providers there are, which key each needs, and which models a provider is known to have.

Nothing here calls a model, opens a connection or loads LiteLLM. What is known comes from DSPy's own parts: the
registry of its built-in engine, the providers declared with ``dspy.lm15.register_provider``, and the model
metadata that DSPy ships as a file. That file is read here directly, because DSPy's own loader first tries to
fetch a newer one from the network.
"""

from __future__ import annotations

import difflib
import gzip
import json
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from dspex_lab.errors import LMError, did_you_mean

#: Providers that LiteLLM reaches and DSPy's registry does not list, with the variables of which one must be set.
#: An empty tuple: no key is needed, or the provider's own credential chain finds one.
LITELLM_KEYS: dict[str, tuple[str, ...]] = {
    "ai21": ("AI21_API_KEY",),
    "azure": ("AZURE_API_KEY", "AZURE_OPENAI_API_KEY", "AZURE_AD_TOKEN", "AZURE_CLIENT_ID"),
    "azure_ai": ("AZURE_AI_API_KEY", "AZURE_API_KEY"),
    "bedrock": (),
    "cerebras": ("CEREBRAS_API_KEY",),
    "codestral": ("CODESTRAL_API_KEY",),
    "cohere": ("COHERE_API_KEY", "CO_API_KEY"),
    "cohere_chat": ("COHERE_API_KEY", "CO_API_KEY"),
    "custom_openai": (),
    "databricks": (),
    "deepinfra": ("DEEPINFRA_API_KEY", "DEEPINFRA_TOKEN"),
    "fireworks_ai": ("FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY", "FIREWORKSAI_API_KEY", "FIREWORKS_AI_TOKEN"),
    "github": ("GITHUB_API_KEY",),
    "github_copilot": (),
    "hosted_vllm": (),
    "huggingface": ("HF_TOKEN", "HUGGINGFACE_API_KEY"),
    "litellm_proxy": (),
    "llamafile": (),
    "lm_studio": (),
    "mistral": ("MISTRAL_API_KEY",),
    "moonshot": ("MOONSHOT_API_KEY", "MOONSHOTAI_API_KEY"),
    "nebius": ("NEBIUS_API_KEY",),
    "nvidia_nim": ("NVIDIA_NIM_API_KEY", "NVIDIA_API_KEY"),
    "ollama_chat": (),
    "openai_like": (),
    "perplexity": ("PERPLEXITYAI_API_KEY", "PERPLEXITY_API_KEY"),
    "replicate": ("REPLICATE_API_KEY", "REPLICATE_API_TOKEN"),
    "sagemaker": (),
    "sagemaker_chat": (),
    "sambanova": ("SAMBANOVA_API_KEY",),
    "text-completion-openai": ("OPENAI_API_KEY",),
    "together_ai": ("TOGETHERAI_API_KEY", "TOGETHER_API_KEY", "TOGETHER_AI_TOKEN"),
    "vertex_ai": (),
    "watsonx": ("WATSONX_APIKEY", "WATSONX_API_KEY", "WATSONX_TOKEN"),
}

#: Providers that serve whatever the user loaded into them, so their model names are never questioned.
_OWN_MODELS = frozenset(
    ["azure", "databricks", "huggingface", "litellm_proxy", "sagemaker", "vllm", "sglang", "ollama", "replicate"]
)
_LOOPBACK = frozenset(["localhost", "127.0.0.1", "::1", "0.0.0.0", "host.docker.internal"])  # noqa: S104 - compared with, not bound
_VARIANT = re.compile(r"[a-z]+|[0-9.]+")


def is_local(url: object) -> bool:
    """Whether ``url`` names this machine."""
    return isinstance(url, str) and (urlsplit(url if "//" in url else f"//{url}").hostname or "") in _LOOPBACK


@lru_cache(maxsize=1)
def _registry() -> Mapping[str, Any]:
    from dspy._vendor.lm15.registry import PROVIDERS

    return PROVIDERS


def _definition(provider: str) -> Any:
    from dspy.lm15 import registered_providers

    spelled = provider.replace("_", "-")
    for declared in registered_providers():
        if spelled in declared.definition.spellings:
            return declared.definition
    return _registry().get(spelled)


@lru_cache(maxsize=1)
def _metadata() -> dict[str, frozenset[str]]:
    """Return the models each provider is known to have, from the metadata DSPy ships."""
    packed = files("dspy.clients.model_metadata").joinpath("snapshot.json.gz").read_bytes()
    models: dict[str, set[str]] = {}
    for key, entry in json.loads(gzip.decompress(packed)).items():
        provider = entry.get("litellm_provider") if isinstance(entry, dict) else None
        if isinstance(provider, str) and re.fullmatch(r"[a-z0-9_-]+", provider):
            models.setdefault(provider, set()).add(key.removeprefix(f"{provider}/"))
    return {provider: frozenset(names) for provider, names in models.items()}


def known_providers() -> list[str]:
    """Return the names of all providers a model string may begin with."""
    from dspy.lm15 import registered_providers

    declared = {spelling for provider in registered_providers() for spelling in provider.definition.spellings}
    return sorted({*_registry(), *LITELLM_KEYS, *declared, *_metadata()})


def key_variables(provider: str) -> tuple[str, ...]:
    """Return the environment variables of which one must hold the provider's key; empty where none is needed."""
    if provider in LITELLM_KEYS:
        return LITELLM_KEYS[provider]
    definition = _definition(provider)
    if definition is None or definition.placeholder_key is not None or definition.credential_policy != "key":
        return ()
    return tuple(definition.env_keys)


def accepted_variables(provider: str) -> tuple[str, ...]:
    """Return the variables in which a provider's key is looked for, also where it has other ways in (xAI's login)."""
    definition = _definition(provider)
    return key_variables(provider) or (tuple(definition.env_keys) if definition is not None else ())


def check_model(model: str, options: Mapping[str, Any]) -> None:
    """Check that ``model`` can be meant and its key is there, before anything is called.

    Args:
        model: ``"provider/model"``.
        options: further arguments of ``dspy.LM``; ``api_key`` and ``api_base`` change what is needed.

    Raises:
        LMError: no provider, one that does not exist, a key that is missing, or a slip in a model's name.
    """
    check_name(model, options)
    _check_key(model, model.partition("/")[0], options)


def check_name(model: str, options: Mapping[str, Any]) -> None:
    """Check that ``model`` can be meant, as :func:`check_model` does; its key may be missing yet.

    Raises:
        LMError: no provider, one that does not exist, or a slip in a model's name.
    """
    provider, slash, name = model.partition("/")
    if not slash or not provider or not name:
        raise LMError(f"{model!r} is not a model: it must be 'provider/model'.", engine=model, hint=_form_hint(model))
    if not is_provider(provider):
        guess = did_you_mean(provider, known_providers())
        raise LMError(
            f"There is no provider {provider!r} (in {model!r}).{guess}",
            engine=model,
            hint="Use a provider DSPy or LiteLLM knows, such as 'openai/…' or 'ollama/…', or 'offline'; "
            "declare your own with dspy.lm15.register_provider, or pass a dspy.LM.",
        )
    _check_name(model, provider, name, options)


def is_provider(name: str) -> bool:
    """Say whether a model string may begin with ``name``."""
    return name in LITELLM_KEYS or _definition(name) is not None or name in _metadata()


def _form_hint(model: str) -> str:
    bare = model.strip("/")
    if bare in _metadata() or _definition(bare) is not None:
        return f"{bare!r} is a provider; name one of its models after a slash."
    owner = next((p for p in ("openai", "anthropic", "gemini") if bare in _metadata().get(p, ())), None)
    if owner:
        return f"Did you mean '{owner}/{bare}'?"
    return "For example 'openai/gpt-5-mini', 'ollama/llama3.2', or 'offline' for the engine that needs no key."


def _reaches_own_server(provider: str, options: Mapping[str, Any]) -> bool:
    """Whether the address is the user's, so that neither the provider's models nor its keys say anything."""
    return bool(options.get("api_base") or options.get("base_url") or own_address(provider))


def own_address(provider: str) -> str | None:
    """Return the address that the environment gives for a provider's servers, None where it gives none."""
    prefix = provider.upper().replace("-", "_")
    return os.environ.get(f"{prefix}_API_BASE") or os.environ.get(f"{prefix}_BASE_URL") or None


def missing_key(model: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the variables of which one must be set before ``model`` can be called; empty where nothing is missing."""
    provider = model.partition("/")[0]
    variables = key_variables(provider)
    if options.get("api_key") or _reaches_own_server(provider, options):
        return ()
    return () if any(os.environ.get(name) for name in variables) else variables


def _check_key(model: str, provider: str, options: Mapping[str, Any]) -> None:
    variables = missing_key(model, options)
    if variables:
        raise LMError(
            f"{model!r} needs a key, and {' or '.join(variables)} is not set in the environment.",
            engine=model,
            hint=f"%dspex key {provider} asks for it without showing it; or set {variables[0]}, or pass api_key=…; "
            "'offline' needs no key.",
        )


def _check_name(model: str, provider: str, name: str, options: Mapping[str, Any]) -> None:
    known = _metadata().get(provider, frozenset())
    if len(known) < 5 or name in known or provider in _OWN_MODELS or _reaches_own_server(provider, options):
        return
    meant = _slip_of(name.lower(), known)
    if meant:
        raise LMError(
            f"{provider!r} is not known to have a model {name!r}. Did you mean '{provider}/{meant}'?",
            engine=model,
            hint="If the model is really called that, pass check=False.",
        )


def is_listed(model: str) -> bool:
    """Say whether a model's name could be checked and is known; names of providers with no list of their own count as known.

    Args:
        model: ``"provider/model"``.
    """
    provider, _, name = model.partition("/")
    known = _metadata().get(provider, frozenset())
    return len(known) < 5 or name in known or provider in _OWN_MODELS


def _slip_of(name: str, known: frozenset[str]) -> str | None:
    """Return the known model of which ``name`` is a misspelling, if it clearly is one.

    A model that the metadata lacks may be new, so it passes unless exactly one word differs from a known name, in a letter
    or two, and is itself no word of any known name. Another number, another suffix, another length: it passes.
    """
    parts = _VARIANT.findall(name)
    words = {word for other in known for word in _VARIANT.findall(other)}
    for other in difflib.get_close_matches(name, known, n=8, cutoff=0.85):
        others = _VARIANT.findall(other.lower())
        if len(others) != len(parts):
            continue
        changed = [(mine, its) for mine, its in zip(parts, others, strict=True) if mine != its]
        if len(changed) == 1 and _is_slip(*changed[0], words):
            return other
    return None


def _is_slip(mine: str, its: str, words: set[str]) -> bool:
    if mine in words or not mine.isalpha() or not its.isalpha() or len(its) < 3:
        return False
    return difflib.SequenceMatcher(None, mine, its).ratio() >= 0.7
