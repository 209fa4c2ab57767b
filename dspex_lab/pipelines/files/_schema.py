"""The format of pipeline files as a JSON schema, for editors that check and complete while one writes.

It says what may stand where; what it cannot say (a name that is not known, a template that cannot be read, fields that do not
fit) :func:`load_pipeline` says.
"""

from __future__ import annotations

from typing import Any, Final

_TEXT: Final = {"type": "string"}
_NUMBER: Final = {"type": "number"}
_COUNT: Final = {"type": "integer", "minimum": 1}
_FLAG: Final = {"type": "boolean"}
_STEP: Final = {"$ref": "#/$defs/step"}
_STEPS: Final = {"type": "object", "additionalProperties": _STEP, "minProperties": 1}
_CONDITION: Final = {"$ref": "#/$defs/condition"}
_SIGNATURE: Final = {"$ref": "#/$defs/signature"}
_DEMOS: Final = {"type": "array", "items": {"type": "object"}}
_CONFIG: Final = {"type": "object"}
_LEARNED: Final = {"signature": _SIGNATURE, "demos": _DEMOS, "config": _CONFIG}

#: What every step may have.
COMMON: Final[dict[str, Any]] = {
    "description": _TEXT,
    "preset": _TEXT,
    "condition": _CONDITION,
    "name": _TEXT,
    "pool": _TEXT,
    "timeout": {"type": "number", "exclusiveMinimum": 0},
    "retries": {"type": "integer", "minimum": 0},
    "retry_count": {"type": "integer", "minimum": 0},
    "idempotent": _FLAG,
    "cache": {"type": ["number", "boolean", "null"]},
    "batch": {
        "type": "object",
        "properties": {"size": _COUNT, "window": {"type": "number", "minimum": 0}},
        "additionalProperties": False,
    },
    "lm": {"type": ["string", "object"]},
    "on_error": {"enum": ["stop", "continue", "fallback"]},
    "fallback": {},
    "replaces": _FLAG,
    "outputs": {"type": "array", "items": _TEXT},
}

#: What the steps of each type have besides, and which of it must be there.
TYPES: Final[dict[str, tuple[dict[str, Any], tuple[str, ...]]]] = {
    "native": ({"function": _TEXT, "values": {"type": "object"}}, ("function",)),
    "predict": (_LEARNED, ("signature",)),
    "chain_of_thought": (_LEARNED, ("signature",)),
    "operation": ({"operation": _TEXT, **_LEARNED}, ("operation", "signature")),
    "dspy": (
        {
            "module": _TEXT,
            **_LEARNED,
            "tools": {"type": "array", "items": _TEXT},
            "max_iters": _COUNT,
            "predictors": {"type": "object", "additionalProperties": {"type": "object"}},
            "compiled": _FLAG,
            "adapter": _TEXT,
        },
        ("module",),
    ),
    "lm": (
        {
            "template": {"type": ["string", "array"]},
            "system": _TEXT,
            "returns": {"type": ["string", "object"]},
            "output": _TEXT,
            "config": _CONFIG,
        },
        ("template",),
    ),
    "retrieve": (
        {
            "source": {"type": ["string", "object"]},
            "query": _TEXT,
            "k": _COUNT,
            "output": _TEXT,
            "scores": _FLAG,
            "longest": _COUNT,
        },
        ("source",),
    ),
    "code": (
        {
            "code": _TEXT,
            "signature": _SIGNATURE,
            "variables": {"type": "array", "items": _TEXT},
            "limits": {
                "type": "object",
                "properties": {"seconds": _NUMBER, "memory": {"type": ["integer", "string"]}},
                "additionalProperties": False,
            },
        },
        ("code",),
    ),
    "parallel": ({"steps": _STEPS}, ("steps",)),
    "when": ({"then": _STEP, "otherwise": _STEP}, ("condition", "then")),
    "switch": (
        {"on": _TEXT, "cases": {"type": "object", "additionalProperties": _STEP, "minProperties": 1}, "default": _STEP},
        ("on", "cases"),
    ),
    "each": ({"field": _TEXT, "do": _STEP, "item": _TEXT, "concurrency": _COUNT}, ("field", "do")),
    "loop": ({"do": _STEP, "until": _CONDITION, "while": _CONDITION, "limit": _COUNT}, ("do",)),
    **{
        strict: (
            {
                "do": _STEP,
                "check": {"anyOf": [_CONDITION, {"type": "array", "items": _CONDITION}]},
                "message": _TEXT,
                "attempts": _COUNT,
                "on": _TEXT,
            },
            ("do", "check"),
        )
        for strict in ("assert", "suggest")
    },
    "pipeline": ({"pipeline": {"$ref": "#/$defs/inline"}, "file": _TEXT}, ()),
    "compute": ({"values": {"type": "object", "minProperties": 1}}, ("values",)),
    "transform": (
        {"field": _TEXT, "keep": _TEXT, "make": _TEXT, "sort": _TEXT, "descending": _FLAG, "limit": {"type": "integer"}},
        ("field",),
    ),
}


def _typed(name: str) -> dict[str, Any]:
    keys, needed = TYPES[name]
    return {
        "type": "object",
        "properties": {"type": {"const": name}, **COMMON, **keys},
        "required": ["type", *needed],
        "additionalProperties": False,
    }


_INNER: Final[dict[str, Any]] = {"name": _TEXT, "description": _TEXT, "variables": {"type": "object"}, "steps": _STEPS}
_PRESET: Final[dict[str, Any]] = {"type": "object", "properties": {**COMMON, "config": _CONFIG}, "additionalProperties": False}

SCHEMA: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "A pipeline of dspex_lab",
    "type": "object",
    "properties": {
        **_INNER,
        "version": {"const": 1},
        "types": {"type": "object", "additionalProperties": _TEXT},
        "presets": {"type": "object", "additionalProperties": _PRESET},
    },
    "required": ["name", "steps"],
    "additionalProperties": False,
    "$defs": {
        "inline": {
            "type": "object",
            "properties": _INNER,
            "required": ["name", "steps"],
            "additionalProperties": False,
        },
        "step": {
            "anyOf": [
                {"type": "string", "description": "a function's name, or a template with {{ fields }}"},
                {
                    "type": "object",
                    "description": "a step; without a type it has a function, a template or a module",
                    "anyOf": [{"required": [key]} for key in ("type", "function", "template", "module")],
                    # Not one of many: a reader looks at the type first, and then at that type's keys alone.
                    "allOf": [
                        {
                            "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
                            "then": {"$ref": f"#/$defs/{name}"},
                        }
                        for name in TYPES
                    ],
                },
            ]
        },
        "condition": {
            "anyOf": [
                {"type": ["string", "boolean"]},
                {
                    "type": "object",
                    "properties": {
                        "function": _TEXT,
                        "not": {"$ref": "#/$defs/condition"},
                        **{k: {"type": "array", "items": {"$ref": "#/$defs/condition"}} for k in ("all", "any", "and", "or")},
                    },
                    "minProperties": 1,
                    "maxProperties": 1,
                    "additionalProperties": False,
                },
            ]
        },
        "signature": {
            "anyOf": [
                _TEXT,
                {
                    "type": "object",
                    "properties": {"name": _TEXT, "text": _TEXT},
                    "required": ["text"],
                    "additionalProperties": False,
                },
            ]
        },
        **{name: _typed(name) for name in TYPES},
    },
}
