"""What a text demands of an answer: lengths, parts it must have or must not have, values it may take or has lost.

Read are the sentences of people (``at most 10 words``, ``must contain 'x'``), those of this library's validators
(``It has 12 words, and may have at most 10.``), conditions of programs (``len(answer.split()) <= 10``), and the report
on an earlier answer that a model is given when it is asked again. A demand that is not understood is left alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from typing import Any

from dspex_lab.lms.exemplar._limits import Limit, limit_at, limits_in

_I = re.IGNORECASE
_CODE_SAID = re.compile(r"(['\"])((?:(?!\1)[^\n\\]){1,80})\1\s+(not in|in)\s+([A-Za-z_][\w.]*)")
_CODE_ENDS = re.compile(r"\b([\w.]+)\.(startswith|endswith)\(\s*(['\"])((?:(?!\3)[^\n\\]){1,80})\3")
_CODE_IS = re.compile(r"\b([A-Za-z_][\w.]*)\s*(==|!=)\s*(['\"])((?:(?!\3)[^\n\\]){1,80})\3")
_CODE_AMONG = re.compile(r"\b([A-Za-z_][\w.]*)\s+in\s+[\[({]((?:\s*(?:'[^'\n]*'|\"[^\"\n]*\")\s*,?)+)[\])}]")
_CODE_BOUND = re.compile(r"\b([A-Za-z_][\w.]*)\s*(<=|>=|<|>)\s*([-+]?\d+(?:\.\d+)?)")
_QUOTED = re.compile(
    r"'((?:[^'\n]|(?<=\w)'(?=\w)){1,200}?)'(?!\w)|\"([^\"\n]{1,200})\"|“([^”\n]{1,200})”|`([^`\n]{1,200})`|«([^»\n]{1,200})»"
)
_BE = r"(?:be|equal|say|read|have been|return)"
_HAVE = r"(?:contain|include|mention|use|have|say|cite|name)"
_MUST = r"(?:must|should|has to|have to|needs? to)"
_MUST_NOT = r"(?:must not|mustn't|should not|shouldn't|may not|never|do not|don't|cannot)"


def _cue(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), _I)


_HAS = _cue(rf"\b(?:{_MUST}|please|does not|doesn't)\s+(?:also\s+|always\s+)?{_HAVE}\b", r"^\W*(?:include|mention|contain)\b")
_HAS_NOT = _cue(rf"\b{_MUST_NOT}\s+{_HAVE}\b", r"\bwithout\b", r"\bavoid\b", r"^\W*it contains\b")
_BEGINS = _cue(r"\b(?:begin|start)s?\s+with\b")
_ENDS = _cue(r"\bends?\s+(?:with|in)\b")
_AMONG = _cue(
    rf"\b(?:{_MUST}|can only)\s+be\s+(?:one of|either|among)\b",
    r"\bis none of\b",
    r"\bone of\b:?",
    r"\bchoose (?:from|between)\b",
    r"\ballowed(?: values)?(?: are)?\b:?",
)
_SHOULD_BE = _cue(rf"\b(?:{_MUST}|ought to)\s+{_BE}\b", r"\bexpected\b:?", r"\b(?:correct|right) (?:answer|value|label) is\b:?")
_NOT_IT = _cue(
    r"\b(?:must|should|can|may)(?: not|n't)\s+be\b",
    r"\bnot\b(?=\s*[:'\"“`«])",
    r"\binstead of\b",
    r"\brather than\b",
    r"\banything (?:but|other than)\b",
)
_WRONG = _cue(r"\b(?:is|was)\s+(?:wrong|not right|incorrect|not correct|not accepted|not allowed|no(?:t an?)? answer)\b")
_VALUE = r"([-+]?\d+(?:\.\d+)?)"
_NO_UNIT = r"(?!\s*(?:words|characters|lines|sentences|items))"
_RANGE = _cue(rf"\b(?:from|between)\s+{_VALUE}\s+(?:to|and)\s+{_VALUE}{_NO_UNIT}")
_NOT_LEAST = _cue(rf"\b(?:is not|must be|should be)\s+(at least|at most)\s+{_VALUE}{_NO_UNIT}")
_SHORTER = re.compile(r"\b(?:shorter|too long|more concise|more brief|briefer|be brief|be concise|too verbose|shorten)\b", _I)
_LONGER = re.compile(r"\b(?:longer|too short|more detail(?:ed|s)?|too brief|elaborate)\b", _I)
_LOWER = re.compile(r"\b(?:(?:must|should) be|in|use|all)\s+(?:all[- ])?lower[- ]?case\b|\.islower\(\)", _I)
_UPPER = re.compile(
    r"\b(?:(?:must|should) be|in|use|all)\s+(?:all[- ])?(?:upper[- ]?case|capitals|capital letters)\b|\.isupper\(\)", _I
)
_FULL_STOP = re.compile(r"\bends? (?:with|in) an? (?:full stop|period)\b", _I)
_EARLIER = re.compile(r"^(\w+): (.+)$")
#: Quoted parts of a sentence that are read.
_MOST_QUOTES = 50
#: A part that is longer than this is read as a description, not as the words themselves.
_LITERAL_WORDS = 3


@dataclass(frozen=True)
class Constraints:
    """What an answer must be like; a field that is None or empty demands nothing.

    ``refused`` are values an answer must not take again. ``allowed`` are the only ones it may take.
    ``shorter`` and ``longer`` hold against an earlier answer, which ``refused`` then has.
    """

    limits: tuple[Limit, ...] = ()
    contains: tuple[str, ...] = ()
    described: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    begins: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    case: str = ""
    shorter: bool = False
    longer: bool = False
    earlier: tuple[str, ...] = field(default=())

    def __bool__(self) -> bool:
        return self != NONE

    def limit(self, unit: str) -> tuple[int | None, int | None]:
        """Return the least and the most ``unit`` (``"words"``, ``"characters"``, ``"lines"``, ``"sentences"``, ``"items"``)."""
        low = [least for name, least, _ in self.limits if name == unit and least is not None]
        high = [most for name, _, most in self.limits if name == unit and most is not None]
        return (max(low) if low else None), (min(high) if high else None)


NONE = Constraints()


@lru_cache(maxsize=1024)
def constraints_in(text: str, name: str, names: tuple[str, ...], reported: bool) -> Constraints:
    """Return what ``text`` demands of the field ``name``.

    Args:
        names: all output fields; a sentence that names another one of them is not about this one.
        reported: the text reports on an earlier answer, so values that it rejects are refused and values that it asks for
            are taken; where it is False, only the form is read (lengths, parts, case).
    """
    found = NONE
    others = [re.compile(rf"(?<![\w'\"]){re.escape(n)}(?![\w'\"])") for n in names if n != name]
    own = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
    earlier: list[str] = []
    for line in text.splitlines():
        if reported and (said := _EARLIER.match(line)) and said.group(1) in names:
            if said.group(1) == name:
                earlier.append(_loaded(said.group(2)))
            continue
        for sentence in re.split(r"(?<=[.!?;])\s+(?=[A-Z'\"])", line):
            if not own.search(sentence) and any(other.search(sentence) for other in others):
                continue
            found = _merged(found, _read(sentence, reported))
    return replace(found, earlier=tuple(earlier)) if earlier else found


def _loaded(text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _read(sentence: str, reported: bool) -> Constraints:
    limits = tuple(limits_in(sentence))
    # Instructions name fields and tools in backticks.
    quotes = (m for m in _QUOTED.finditer(sentence) if reported or not m.group().startswith("`"))
    quoted = [(m.start(), next(g for g in m.groups() if g is not None)) for m in islice(quotes, _MOST_QUOTES)]
    made: dict[str, Any] = {"limits": limits}
    made.update(_parts(sentence, quoted))
    if _FULL_STOP.search(sentence):
        made["ends"] = (".",)
    if _LOWER.search(sentence):
        made["case"] = "lower"
    if _UPPER.search(sentence):
        made["case"] = "upper"
    if reported:
        made.update(_code(sentence))
        made.update(_values(sentence, quoted))
        made["shorter"], made["longer"] = bool(_SHORTER.search(sentence)), bool(_LONGER.search(sentence))
    return Constraints(**made)


def _parts(sentence: str, quoted: Sequence[tuple[int, str]]) -> dict[str, Any]:
    """Read what an answer must have in it, at its start, at its end, or nowhere."""
    made: dict[str, Any] = {}
    cues = (("without", _HAS_NOT), ("begins", _BEGINS), ("ends", _ENDS), ("contains", _HAS))
    for name, cue in cues:
        match = cue.search(sentence)
        if match is None or limit_at(sentence, match.end()):
            continue
        after = tuple(text for start, text in quoted if start >= match.end())
        if after:
            made[name] = after
        elif name == "contains":
            rest = re.split(r"[.;,\n]", sentence[match.end() :], maxsplit=1)[0].strip()
            rest = re.sub(r"^(?:the\s+)?(?:words?|phrase|term|string|text)\s+", "", rest)
            if rest:
                literal = len(rest.split()) <= _LITERAL_WORDS and not re.match(
                    r"(?:the|an?|at|its?|your|some|any|all|one)\b", rest, _I
                )
                made["contains" if literal else "described"] = (rest,)
        return made
    return made


def _code(text: str) -> dict[str, Any]:
    """Read conditions as programs write them."""
    made: dict[str, Any] = {}
    for match in _CODE_SAID.finditer(text):
        key = "contains" if match.group(3) == "in" else "without"
        made[key] = (*made.get(key, ()), match.group(2))
    for match in _CODE_ENDS.finditer(text):
        made["begins" if match.group(2) == "startswith" else "ends"] = (match.group(4),)
    for match in _CODE_AMONG.finditer(text):
        made["allowed"] = tuple(next(g for g in m.groups() if g is not None) for m in _QUOTED.finditer(match.group(2)))
    for match in _CODE_IS.finditer(text):
        made["allowed" if match.group(2) == "==" else "refused"] = (match.group(4),)
    for match in _CODE_BOUND.finditer(text):
        made["low" if match.group(2).startswith(">") else "high"] = float(match.group(3))
    return made


def _values(sentence: str, quoted: Sequence[tuple[int, str]]) -> dict[str, Any]:
    """Read which values are right and which were refused."""
    made: dict[str, Any] = {}
    ends = [m.end() for m in _NOT_IT.finditer(sentence)] if quoted else []
    refused = [text for start, text in quoted if any(0 <= start - end <= 2 for end in ends)]
    if _WRONG.search(sentence) and quoted:
        refused.append(quoted[0][1])
    among = _AMONG.search(sentence)
    if among:
        after = [text for start, text in quoted if start >= among.end()]
        made["allowed"] = tuple(after) or _plain_list(sentence[among.end() :])
        refused += [text for start, text in quoted if start < among.start()]
    elif said := _SHOULD_BE.search(sentence):
        after = [text for start, text in quoted if 0 <= start - said.end() <= 2 and text not in refused]
        if after:
            made["allowed"] = tuple(after)
    if refused:
        made["refused"] = tuple(refused)
    if within := _RANGE.search(sentence):
        made["low"], made["high"] = float(within.group(1)), float(within.group(2))
    if bound := _NOT_LEAST.search(sentence):
        made["low" if bound.group(1).lower() == "at least" else "high"] = float(bound.group(2))
    return made


def _plain_list(text: str) -> tuple[str, ...]:
    parts = re.split(r",|\bor\b|\|", re.split(r"[.;\n](?:\s|$)", text, maxsplit=1)[0])
    return tuple(p.strip(" :'\"`") for p in parts if p.strip(" :'\"`"))


def _merged(one: Constraints, other: Constraints) -> Constraints:
    if not other:
        return one
    if not one:
        return other
    return Constraints(
        limits=one.limits + other.limits,
        contains=tuple(dict.fromkeys(one.contains + other.contains)),
        described=one.described + other.described,
        without=tuple(dict.fromkeys(one.without + other.without)),
        begins=other.begins or one.begins,
        ends=other.ends or one.ends,
        allowed=other.allowed or one.allowed,
        refused=tuple(dict.fromkeys(one.refused + other.refused)),
        low=other.low if other.low is not None else one.low,
        high=other.high if other.high is not None else one.high,
        case=other.case or one.case,
        shorter=one.shorter or other.shorter,
        longer=one.longer or other.longer,
    )


def merged(one: Constraints, other: Constraints) -> Constraints:
    """Return what both demand together; where they differ, ``other`` counts."""
    found = _merged(one, other)
    return replace(found, earlier=one.earlier + other.earlier) if one.earlier or other.earlier else found
