"""Outputs that the store kept as JSON, as values of the types that the pipeline declares."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from dspex_lab.pipelines._fields import StepField

#: What the store writes in the place of what it does not keep: masked secrets, cut texts, and values that are no data.
_NOT_KEPT = re.compile(r"\[redacted|\[cut: |\[not kept: |^<[\w.]+ (?:of|object at|that raised|,)")


class Restorer:
    """Restores the outputs of rows and counts the values that could not be.

    Args:
        fields: the pipeline's outputs.
    """

    def __init__(self, fields: Mapping[str, StepField]) -> None:
        self._fields = fields
        self._adapters: dict[str, Any] = {}
        self.lost: Counter[str] = Counter()

    def outputs(self, kept: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the values of ``kept``; one that cannot be restored stays as the store has it."""
        return {name: self._value(name, value) for name, value in (kept or {}).items() if name in self._fields}

    def said(self) -> str | None:
        """Return in words what could not be restored, None where all was."""
        if not self.lost:
            return None
        fields = ", ".join(f"{name!r} of {n:,} row{'s' * (n > 1)}" for name, n in self.lost.items())
        return f"not restored from the store, but as it keeps them (JSON, secrets masked, long texts cut): {fields}"

    def _value(self, name: str, value: Any) -> Any:
        if _is_lost(value):
            self.lost[name] += 1
            return value
        adapter = self._adapter(name)
        if adapter is None or value is None:
            return value
        from pydantic import ValidationError

        try:
            return adapter.validate_python(value)
        except ValidationError:
            self.lost[name] += 1
            return value

    def _adapter(self, name: str) -> Any:
        if name not in self._adapters:
            self._adapters[name] = _adapter_of(self._fields[name].type)
        return self._adapters[name]


def _adapter_of(kind: Any) -> Any:
    if kind is Any or kind is str:
        return None
    from pydantic import ConfigDict, TypeAdapter
    from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

    try:
        try:
            return TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True))
        except PydanticUserError:
            return TypeAdapter(kind)
    except PydanticSchemaGenerationError:
        return None


def _is_lost(value: Any) -> bool:
    if isinstance(value, str):
        return _NOT_KEPT.search(value) is not None
    if isinstance(value, dict):
        return any(_is_lost(v) or _is_lost(k) for k, v in value.items())
    return isinstance(value, list) and any(_is_lost(v) for v in value)
