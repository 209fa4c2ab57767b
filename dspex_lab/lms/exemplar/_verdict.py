"""What feedback says about an answer: which value would have been right, and what it demands of every answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_VALUE = (
    r"(?:\*\*(?P<bold>[^*\n]{1,80})\*\*|'(?P<single>(?:[^'\n]|(?<=\w)'(?=\w)){1,80})'(?!\w)|\"(?P<double>[^\"\n]{1,80})\""
    r"|“(?P<curly>[^”\n]{1,80})”|`(?P<code>[^`\n]{1,80})`|(?P<bare>[^\s'\"`*“,;:!?()]+(?: [^\s'\"`*“,;:!?()]+){0,4}))"
)
_NOUN = r"(?:(?:answer|label|output|value|class|category|result|response|one|prediction|choice|queue|code|intent)s?\b)"
_CUE = re.compile(
    rf"(?:\b(?:expected|correct|right|true|gold|golden|actual|target|desired|reference|ground[- ]truth)\b"
    rf"(?:\s+(?:{_NOUN}|\w+(?=\s*(?:is|was|:|=|should|for\b)))){{0,2}}(?:\s+for (?:this|it|that)\b[\w ]{{0,20}}?)?"
    rf"\s*(?:\b(?:is|was|were|would be|would have been|should be|should have been)\b|:|=)?\s*:?\s*"
    rf"|\b(?:should|must|ought to|needed to)\s+(?:have\s+been|be|have said|say)\s+"
    rf"|\b(?:answer|reply|choose|pick|use|predict|return|say)\s+(?=['\"`“*])"
    rf"|\b(?:belongs? (?:to|in)|goes to)\s+){_VALUE}",
    re.IGNORECASE,
)
_GOOD = re.compile(r"\b(?:correct|right|good|perfect|exact match|well done|matches|as expected|yes)\b", re.IGNORECASE)
_BAD = re.compile(
    r"\b(?:incorrect|wrong|not (?:correct|right|good|quite)|fail(?:s|ed)?|mistake|mismatch|no match|error)\b", re.IGNORECASE
)
_SCORE = re.compile(r"\bscore(?:d)?(?: of|:| is| was)?\s*(-?\d+(?:\.\d+)?)", re.IGNORECASE)
_STOPS = re.compile(
    r"\s+(?:but|not|instead|rather|and|while|whereas|because|since|got|which|you|the|is|was)\b.*$|\.(?:\s.*)?$", re.IGNORECASE
)
_DEMAND = re.compile(
    r"\b(?:must|should|always|never|at most|at least|no more than|needs? to|has to|have to|do not|don't|avoid|only|without"
    r"|too long|too short|shorter|exactly|may have)\b",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")


def right_value(feedback: str, name: str, given: str, names: Sequence[str], known: Sequence[str]) -> str | None:
    """Return the value that ``feedback`` says is right for the output ``name``; None if it does not say.

    Args:
        given: the value that was answered.
        names: all outputs; where there are several, only a sentence with the name speaks about it.
        known: values seen as outputs in any example, which are recognised whole.
    """
    for sentence in _sentences(feedback):
        if (
            len(names) > 1
            and name.lower() not in sentence.lower()
            and any(n.lower() in sentence.lower() for n in names if n != name)
        ):
            continue
        for value in _told(sentence, known):
            if value.lower() not in (name.lower(), "it", "this", "that", "answer", "label"):
                return value
    if praised(feedback):
        return given
    return None


def praised(feedback: str) -> bool:
    """Whether ``feedback`` says that the answer was right: by words, or by a score of 1."""
    score = _SCORE.search(feedback)
    if score:
        return float(score.group(1)) >= 0.999
    return bool(_GOOD.search(feedback)) and not _BAD.search(feedback)


def _told(sentence: str, known: Sequence[str]) -> Iterator[str]:
    for match in _CUE.finditer(sentence):
        quoted = next((v for n, v in match.groupdict().items() if v and n != "bare"), None)
        if quoted:
            yield quoted.strip()
            continue
        bare = match["bare"]
        whole = [k for k in known if bare.startswith(k)]
        if whole:
            yield max(whole, key=len)
            continue
        value = _STOPS.sub("", bare).strip(" .")
        if (
            value
            and not _GOOD.fullmatch(value)
            and len(value.split()) <= 4
            and value.lower() not in ("answer", "label", "not", "to")
        ):
            yield value


def _sentences(text: str) -> list[str]:
    return [s.strip() for s in _SENTENCE.split(text) if s.strip()]


def demands(feedback: str, values: Sequence[str]) -> list[str]:
    """Return the sentences of ``feedback`` that demand something of every answer, not a value of this one.

    Args:
        values: what was answered and what is right in this example.
    """
    found = []
    for sentence in _sentences(feedback):
        said = next(_told(sentence, ()), None)
        if not _DEMAND.search(sentence) or len(sentence) > 300:
            continue
        if said is not None and said in values:
            continue
        if any(value and len(value) > 1 and re.search(rf"(?<!\w){re.escape(value)}(?!\w)", sentence) for value in values):
            continue
        found.append(sentence.rstrip(";"))
    return found
