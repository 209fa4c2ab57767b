"""Values of fields in a file: JSON's own types as they are, others in the JSON form of the field's type."""

from __future__ import annotations

import json
from typing import Any

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines._fields import adapter_of, misfit, type_name


def to_plain(value: Any, kind: Any, where: str) -> Any:
    """Return ``value`` as plain data, from which :func:`from_plain` makes it again.

    Args:
        kind: the type of the field it belongs to; ``Any`` where none is declared.
        where: what it is, for messages.

    Raises:
        PipelineError: it has no form in a file.
    """
    if is_plain(value):
        return value
    adapter = adapter_of(kind) if kind is not Any else None
    if adapter is not None:
        try:
            plain = json.loads(adapter.dump_json(value, warnings=False))
            if from_plain(plain, kind) == value:
                return plain
        except Exception as error:  # a serializer or comparison of the user's own
            raise _unfit(value, where) from error
    raise _unfit(value, where)


def _unfit(value: Any, where: str) -> PipelineError:
    return PipelineError(
        f"{where} is {type(value).__name__}, which a file cannot hold.",
        hint="Use texts, numbers, booleans, lists and dicts with text keys, or declare the field's type.",
    )


def from_plain(value: Any, kind: Any) -> Any:
    """Return the value that plain data stands for where a field of type ``kind`` is wanted.

    Raises:
        ValueError: it is no value of that type; says why.
    """
    why = misfit(kind, value)
    if why is None:
        return value
    adapter = adapter_of(kind)
    try:
        return adapter.validate_json(json.dumps(value), strict=True)
    except ValueError:
        raise ValueError(why) from None
    except Exception as error:  # a validator of the user's own
        raise ValueError(f"{type_name(kind)} could not be made: {type(error).__name__}: {error}") from error


def is_plain(value: Any, depth: int = 0) -> bool:
    """Say whether a file holds ``value`` as it is."""
    if value is None or type(value) in (str, int, float, bool):
        return not isinstance(value, str) or _writable(value)
    if depth > 30:
        return False
    if type(value) is list:
        return all(is_plain(v, depth + 1) for v in value)
    if type(value) is dict:
        return all(type(k) is str and _writable(k) and is_plain(v, depth + 1) for k, v in value.items())
    return False


def _writable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
