"""From what the user names to a ``dspy.LM``, checked before anything is called."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import LMError
from dspex_lab.lms.choice._providers import check_model, is_local

if TYPE_CHECKING:
    import dspy

OFFLINE_MODEL = "offline/exemplar"
#: Engines of our own, by the first part of a model's name.
_OWN = ("http/", "instructor/", "local/")
_OFFLINE_NAMES = frozenset(["offline", OFFLINE_MODEL])
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
_QUERY = re.compile(r"\?.*$")


def make_lm(spec: str | dspy.BaseLM, *, check: bool = True, **options: Any) -> dspy.BaseLM:
    """Return the language model that ``spec`` names. Nothing is called and no connection is opened.

    Args:
        spec: ``"offline"`` for the engine that needs no key, ``"provider/model"`` for any model DSPy reaches,
            ``"http/MODEL"`` (with ``api_base=``) for a server of the OpenAI form, ``"instructor/MODEL"`` for one whose
            structured answers instructor validates, ``"local/PATH"`` for a model in this process or, with ``pool="neural"``, in
            the workers of that pool, or a DSPy language model, which is returned as it is (a copy with ``options``, where
            some are given).
        check: compare the name with the providers, keys and models that are known. A model that DSPy's metadata
            lacks may be new and passes, unless it is one slip of the pen away from a known one.
        options: handed to ``dspy.LM`` (``temperature``, ``max_tokens``, ``api_base``, ``api_key``, ``cache``, …).

    Raises:
        LMError: ``spec`` is no model, its provider does not exist, or its key is missing.
    """
    import dspy

    if isinstance(spec, dspy.BaseLM):
        return spec.copy(**options) if options else spec
    if not isinstance(spec, str):
        raise LMError(
            f"A language model is a name or a dspy.LM; this is {_kind(spec)}.",
            hint="For example 'openai/gpt-5-mini', 'offline', or dspy.LM(…).",
        )
    name = spec.strip()
    if name in _OFFLINE_NAMES:
        return _offline(options)
    if name.startswith(_OWN):
        return _own(name, options)
    if check:
        check_model(name, options)
    # Else DSPy fetches a newer table of prices from the network when the first call ends, and warns where there is none.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "true")
    if is_local(options.get("api_base") or options.get("base_url")) and not options.get("api_key"):
        # Servers on this machine take any key, and clients refuse to send none.
        options["api_key"] = "local"
    try:
        return dspy.LM(name, **options)
    except (TypeError, ValueError, dspy.LMError) as error:
        raise LMError(
            f"DSPy refuses {name!r} with these options: {error}", engine=name, hint="Change or leave out that option."
        ) from error


def _own(name: str, options: dict[str, Any]) -> dspy.BaseLM:
    """Return a model on one of our own engines."""
    from dspex_lab.lms import engines

    kind, _, model = name.partition("/")
    if kind == "local":
        return engines.local_lm(model, **options)
    address = options.pop("api_base", None) or options.pop("base_url", None)
    if not address:
        raise LMError(
            f"{name!r} is on a server, and nobody says which.",
            engine=name,
            hint=f"Give its address: lab.use({name!r}, api_base='https://host/v1').",
        )
    return (engines.http_lm if kind == "http" else engines.instructor_lm)(model, api_base=address, **options)


def _offline(options: dict[str, Any]) -> dspy.LM:
    import dspy

    from dspex_lab.lms.exemplar._engine import VERSION, AsyncExemplarEngine, ExemplarEngine

    engine = ExemplarEngine(latency=float(options.pop("latency", 0.0)))
    # The engine's version is part of the request, so that DSPy's disk cache never gives an older engine's answers.
    options.setdefault("metadata", {"engine": f"exemplar-{VERSION}"})
    options.setdefault("num_retries", 0)
    # An answer costs about what a cache hit does, and a hit would hide its tokens.
    options.setdefault("cache", False)
    try:
        return dspy.LM(OFFLINE_MODEL, engine=engine, async_engine=AsyncExemplarEngine(engine.latency), **options)
    except (TypeError, ValueError) as error:
        raise LMError(
            f"The offline engine does not take these options: {error}", engine=OFFLINE_MODEL, hint="Leave them out."
        ) from error


def is_simulated(lm: Any) -> bool:
    """Whether ``lm`` only imitates a provider: the offline engine, a test engine, DSPy's ``DummyLM``."""
    if getattr(getattr(lm, "engine", None), "simulated", False):
        return True
    return any(c.__name__ == "DummyLM" and c.__module__ == "dspy.utils.dummies" for c in type(lm).__mro__)


def describe(lm: Any) -> str:
    """Return the name of a model, fit for records and displays: it holds no key and no password."""
    model = getattr(lm, "model", None)
    return without_secrets(model if isinstance(model, str) and model else type(lm).__name__)


def without_secrets(address: str) -> str:
    """Return a model's name or address without what may be a secret in it: user and password, and what is asked for."""
    return _QUERY.sub("", _USERINFO.sub("", address))


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__} ({str(value)[:40]!r})"
