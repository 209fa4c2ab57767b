"""Writes answers as the adapter that wrote the prompt will read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def write(values: Mapping[str, Any], style: str) -> str:
    """Return ``values`` as a completion.

    Args:
        values: the value of each output field; None means that an optional field has no value.
        style: ``"chat"`` (marked sections), ``"json"`` (one object), ``"xml"`` (one element a field) or
            ``"plain"`` (a line a field).
    """
    if style == "json":
        return json.dumps(dict(values), ensure_ascii=False, indent=2)
    present = {name: _text(value) for name, value in values.items() if value is not None}
    if style == "xml":
        return "\n\n".join(f"<{name}>\n{_escaped(text)}\n</{name}>" for name, text in present.items())
    if style == "plain":
        return "\n\n".join(f"{name}: {text}" for name, text in present.items())
    sections = [f"[[ ## {name} ## ]]\n{text.replace('[[ ##', '[ ##')}" for name, text in present.items()]
    return "\n\n".join([*sections, "[[ ## completed ## ]]"])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) if _is_json(value) else str(value)


def _is_json(value: Any) -> bool:
    return isinstance(value, list | dict)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
