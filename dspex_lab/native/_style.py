"""What DSPy's adapters ask of a model, as far as it has a native form."""

from __future__ import annotations

from typing import Any, NamedTuple

from dspex_lab.native._prompt import Format


class Style(NamedTuple):
    """How an adapter puts a question: its form and the two switches that change what is sent."""

    form: Format
    native_calls: bool
    json_fallback: bool


#: What ``adapter="chat"`` and ``"json"`` mean.
STYLES = {"chat": Style("chat", False, True), "json": Style("json", True, False)}


def adapter_in_force(adapter: Any) -> Style | str:
    """Return what an adapter of DSPy (None: its default) means here, or why it has no equal here."""
    if adapter is None:
        return STYLES["chat"]
    from dspy import ChatAdapter, JSONAdapter
    from dspy.adapters.base import _DEFAULT_NATIVE_RESPONSE_TYPES

    if type(adapter) not in (ChatAdapter, JSONAdapter):
        return f"{type(adapter).__name__} has no native equal"
    if adapter.callbacks:
        return "callbacks hang on the adapter"
    if adapter.native_response_types is not _DEFAULT_NATIVE_RESPONSE_TYPES:
        return "the adapter has native_response_types of its own"
    if type(adapter) is JSONAdapter:
        return Style("json", adapter.use_native_function_calling, False)
    return Style("chat", adapter.use_native_function_calling, adapter.use_json_adapter_fallback)


def response_format(signature: Any, native_calls: bool, schema: bool) -> Any:
    """Return what ``JSONAdapter`` asks a model for that takes a format, and, if ``schema``, one with a schema."""
    from dspy import JSONAdapter

    class Model:
        supported_params = frozenset({"response_format"})
        supports_response_schema = schema

    config: dict[str, Any] = {}
    JSONAdapter(use_native_function_calling=native_calls)._prepare_response_format(Model, config, signature)
    return config["response_format"]
