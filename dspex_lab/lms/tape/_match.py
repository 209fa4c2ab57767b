"""Finding a request on a tape that is not there letter for letter: behind a mask, or only near."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from dspex_lab.lms.tape._request import leaves
from dspex_lab.security import MASK

_WHITE = re.compile(r"(\s+)")

#: Differences that are told; characters of a text before and after the place where it differs.
TOLD, BEFORE, AFTER = 3, 15, 40
#: Requests that are compared when the nearest is looked for; characters of them where texts are.
COMPARED, TEXT = 500, 4_000


def fits(recorded: Any, asked: Any) -> bool:
    """Say whether ``asked`` is what was recorded, where a mask stands for any text without white space.

    A secret that was masked by its value (that of an environment variable) can not be masked where it is replayed, for it is
    not known there.
    """
    if isinstance(recorded, str) and isinstance(asked, str):
        return _fits_text(recorded, asked)
    if isinstance(recorded, Mapping) and isinstance(asked, Mapping):
        return recorded.keys() == asked.keys() and all(fits(recorded[key], asked[key]) for key in recorded)
    if isinstance(recorded, list) and isinstance(asked, list):
        return len(recorded) == len(asked) and all(map(fits, recorded, asked))
    return type(recorded) is type(asked) and recorded == asked


def _fits_text(recorded: str, asked: str) -> bool:
    if MASK not in recorded:
        return recorded == asked
    # A secret holds no white space: word by word, or a mask would stand for whole prompts.
    there, here = (_WHITE.split(text) for text in (recorded, asked))
    return len(there) == len(here) and all(map(_fits_word, there, here))


def _fits_word(recorded: str, asked: str) -> bool:
    first, *rest = recorded.split(MASK)
    if not rest:
        return recorded == asked
    *middle, last = rest
    if not asked.startswith(first) or not asked.endswith(last) or len(asked) < len(first) + len(last):
        return False
    at, end = len(first), len(asked) - len(last)
    for part in middle:
        found = asked.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def nearest(asked: Mapping[str, Any], recorded: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the index of the request that is most like ``asked``, None where there is none.

    Most like is the one with the most equal parts; of those, the one whose text is.
    """
    wanted = set(_hashable(asked))
    scored = [(_shared(wanted, set(_hashable(each))), at) for at, each in enumerate(recorded[-COMPARED:])]
    if not scored:
        return None
    best = max(score for score, _ in scored)
    equals = [at for score, at in scored if score == best]
    text, offset = _text(asked), max(len(recorded) - COMPARED, 0)
    near = max(equals, key=lambda at: SequenceMatcher(None, text, _text(recorded[at + offset])).quick_ratio())
    return near + offset


def differences(recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Return in words what differs, the first three."""
    there, here = dict(leaves(recorded)), dict(leaves(asked))
    paths = [path for path in dict.fromkeys([*there, *here]) if there.get(path, _ABSENT) != here.get(path, _ABSENT)]
    # What is said in a word comes before texts.
    paths.sort(key=lambda path: max(len(str(there.get(path, ""))), len(str(here.get(path, "")))) > BEFORE + AFTER)
    told = [_told(path, there.get(path, _ABSENT), here.get(path, _ABSENT)) for path in paths[:TOLD]]
    return told if len(paths) <= TOLD else [*told, f"and {len(paths) - TOLD} more"]


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


_ABSENT = _Absent()


def _told(path: str, there: Any, here: Any) -> str:
    if isinstance(there, str) and isinstance(here, str):
        at = next((i for i, (a, b) in enumerate(zip(there, here, strict=False)) if a != b), min(len(there), len(here)))
        there, here = _excerpt(there, at), _excerpt(here, at)
    else:
        there, here = (repr(value)[: BEFORE + AFTER] for value in (there, here))
    return f"{path} is {there} on the tape and {here} here"


def _excerpt(text: str, at: int) -> str:
    start, end = max(at - BEFORE, 0), at + AFTER
    return f"{'…' if start else ''}{text[start:end]!r}{'…' if end < len(text) else ''}"


def _hashable(request: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(path, repr(value)) for path, value in leaves(request)]


def _shared(one: set[Any], two: set[Any]) -> float:
    return len(one & two) / (len(one | two) or 1)


def _text(request: Mapping[str, Any]) -> str:
    return "\n".join(str(value) for _, value in leaves(request))[-TEXT:]
