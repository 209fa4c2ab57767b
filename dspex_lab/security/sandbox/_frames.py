"""How messages cross between the kernel and the code: a length, then JSON. Neither side believes the other.

Used on both sides. Standard library only.
"""

from __future__ import annotations

import json
import math
import re
import struct
from typing import Any, NoReturn

HEADER = struct.Struct("!I")

#: The exit code of a process that could not even say that its memory is used up.
OUT_OF_MEMORY = 99

#: As many digits as Python itself turns into a number by default.
_MOST_DIGITS = 4300
#: Strings, also one that does not end, in time that grows with their length alone.
_PARTS = re.compile(rb'"[^"\\]*+(?:\\.?[^"\\]*+)*+"?|[\[{]|[\]}]', re.DOTALL)


class TooLarge(Exception):
    """A message beyond the limits; nothing of it was sent or read."""


class Malformed(Exception):
    """A message that is no JSON, or not the JSON that RFC 8259 means."""


# Bound here: the code may put what it likes in place of the functions of the modules.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_encode_ascii = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
_pack_header, _unpack_header = HEADER.pack, HEADER.unpack


def pack(value: Any, most: int, depth: int) -> bytes:
    """Return a message.

    Args:
        most: bytes that it may have; ``depth``: how deep it may be nested.

    Raises:
        TypeError, ValueError, RecursionError: there is no JSON form of the value.
        TooLarge: there is, and it is too much.
    """
    try:
        data = _encode(value).encode()
    except UnicodeEncodeError:  # half a surrogate pair
        data = _encode_ascii(value).encode()
    if len(data) > most:
        raise TooLarge(f"{len(data):,} bytes as JSON, and {most:,} are allowed")
    check_depth(data, depth)
    return _pack_header(len(data)) + data


def length(header: bytes) -> int:
    """Return how many bytes follow the header of a message."""
    number: int = _unpack_header(header)[0]
    return number


def unpack(data: bytes, depth: int) -> Any:
    """Return what a message says, without its header.

    Raises:
        Malformed: it is no JSON; or holds NaN, an infinity, or a number of more than 4300 digits.
        TooLarge: it is nested deeper than ``depth``.
    """
    check_depth(data, depth)
    try:
        # Decoded here: json.loads would take UTF-16 as well, and surrogates as they are.
        value = json.loads(data.decode(), parse_int=_whole, parse_float=_finite, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Malformed(str(error)) from None
    return _mended(value) if b"\\u" in data else value


def check_depth(data: bytes, most: int) -> None:
    """Raise TooLarge where the JSON in ``data`` is nested deeper than ``most``."""
    if data.count(b"[") + data.count(b"{") <= most:
        return
    depth = 0
    for part in _PARTS.finditer(data):
        first = data[part.start()]
        if first in b"[{":
            depth += 1
            if depth > most:
                raise TooLarge(f"nested more than {most} deep")
        elif first != 0x22:
            depth -= 1


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number too large for a float")
    return number


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def _mended(value: Any) -> Any:
    """Half a surrogate pair is a text that no file or database takes: it becomes the replacement character."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_mended(one) for one in value]
    if isinstance(value, dict):
        return {_mended(key): _mended(one) for key, one in value.items()}
    return value
