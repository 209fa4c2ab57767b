"""Whether a value fits a JSON schema, when either may come from a stranger."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dspex_lab._lazy import require

_LONGEST = 300


def violation(schema: Mapping[str, Any], value: Any) -> str | None:
    """Return where and how ``value`` does not fit ``schema``; None where it does.

    Nothing is fetched: a reference that points outside the schema is a violation.

    Raises:
        ValueError: the schema is none, or it cannot be followed.
    """
    library = require("jsonschema", "to check JSON")
    registry = require("referencing", "to check JSON").Registry()
    try:
        library.Draft202012Validator.check_schema(schema)
        errors = library.Draft202012Validator(schema, registry=registry).iter_errors(value)
        error = library.exceptions.best_match(errors)
    except library.exceptions.SchemaError as problem:
        raise ValueError(f"this is no JSON schema: {problem.message[:_LONGEST]}") from problem
    except (require("referencing.exceptions", "to check JSON").Unresolvable, RecursionError, re.error) as problem:
        raise ValueError(f"this JSON schema cannot be followed: {type(problem).__name__}: {problem}"[:_LONGEST]) from problem
    return None if error is None else f"at {error.json_path}: {error.message[:_LONGEST]}"
