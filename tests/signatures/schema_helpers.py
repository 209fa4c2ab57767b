"""What the tests of signatures and JSON schemas share."""

from __future__ import annotations

import json
from typing import Any

from dspex_lab.signatures import Field, Signature


def of(node: Any, *, required: bool = True, **words: Any) -> Field:
    """Return the field ``x`` whose schema is ``node``."""
    schema = {"type": "object", "properties": {"x": node}, "required": ["x"] if required else []}
    return Signature.from_json_schema({**schema, **words}).inputs["x"]


def unordered(schema: Any) -> Any:
    """Return a schema with the members of its unions and literals sorted.

    Python keeps those made before and gives one of them for another of the same members, whatever their order.
    """
    if isinstance(schema, list):
        return [unordered(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {k: sorted(map(unordered, v), key=_in_order) if k in ("anyOf", "enum") else unordered(v) for k, v in schema.items()}


def _in_order(item: Any) -> str:
    return json.dumps(item, sort_keys=True, default=repr)
