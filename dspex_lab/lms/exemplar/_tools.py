"""Tools as a prompt describes them, how well one fits a request, and what its arguments are.

A tool is known by what the prompt says: name, description, arguments with types and descriptions. Arguments are filled
from the request: numbers, dates and the like by their form, options by name, other text by what the request says beside
the words of the tool itself.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from dspex_lab.lms.exemplar._arithmetic import expression_in, quantities
from dspex_lab.lms.exemplar._labels import choose
from dspex_lab.lms.exemplar._similarity import FUNCTION_WORDS, features, index, vocabulary, words
from dspex_lab.lms.exemplar._spans import kind_asked, spans

_TOLD = re.compile(
    r"^(?:\(\d+\) )?(?P<name>[\w.-]+)(?:, whose description is <desc>(?P<said>.*?)</desc>)?\."
    r" It takes arguments (?P<args>\{.*\})\.$",
    re.MULTILINE,
)
#: Tools that end the work instead of doing any.
ENDING = frozenset(["finish", "submit"])
_RECKONS = vocabulary(
    "calculate calculator calculates compute computes evaluate evaluates arithmetic math mathematical expression add adds sum "
    "multiply multiplies subtract divide equation"
)
_EXPRESSIONS = vocabulary("expression expr formula equation calculation sum")
_WHOLE = vocabulary("question query request message text input prompt sentence")
_ASKING = vocabulary(
    "what who whom whose when where which why how please tell give find look search show get list many much long old "
    "me us there know want need"
)
_WORD = re.compile(r"\w+(?:['’.-]\w+)*")
#: A word of the request counts as one of the tool's when this share of its n-grams is there.
_SAME = 0.6
#: What speaks for a tool that takes any text, such as a search, where nothing else speaks for one.
_OPEN = 0.1
_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_TYPES = {"integer": int, "number": float}


@dataclass(frozen=True)
class Tool:
    """A tool as the prompt describes it; ``arguments`` are names, each with its JSON schema as text."""

    name: str
    description: str
    arguments: tuple[tuple[str, str], ...]
    required: frozenset[str]

    @property
    def text(self) -> str:
        """All that is said about it."""
        said = [f"{name} {loaded(schema).get('description', '')}" for name, schema in self.arguments]
        return "\n".join([self.name, self.description, *said])

    @property
    def ends(self) -> bool:
        """Whether it ends the work."""
        return self.name in ENDING

    @property
    def reckons(self) -> bool:
        """Whether it takes an expression or numbers and calculates."""
        return bool(set(words(f"{self.name} {self.description}")) & _RECKONS) and (
            self.takes_expression or any(loaded(s).get("type") in _TYPES for _, s in self.arguments)
        )

    @property
    def takes_expression(self) -> bool:
        """Whether one of its arguments is an expression."""
        return any(set(words(name)) & _EXPRESSIONS for name, _ in self.arguments)


def tool_of(name: str, description: str, properties: Mapping[str, Any], required: Sequence[str] | None) -> Tool:
    """Return a tool.

    Args:
        properties: JSON schema by argument.
        required: the arguments it needs; None: those without a default.
    """
    schemas = {n: s if isinstance(s, dict) else {} for n, s in properties.items()}
    needed = [n for n, s in schemas.items() if "default" not in s] if required is None else required
    written = tuple((n, json.dumps(s, ensure_ascii=False, default=str)) for n, s in schemas.items())
    return Tool(name, description, written, frozenset(needed))


@lru_cache(maxsize=512)
def loaded(schema: str) -> dict[str, Any]:
    """Return a schema that a tool has as text; not to be changed."""
    return dict(json.loads(schema))


@lru_cache(maxsize=256)
def told_tools(text: str) -> tuple[Tool, ...]:
    """Return the tools that a text of DSPy's describes, one in a line."""
    found = []
    for match in _TOLD.finditer(text):
        try:
            arguments = ast.literal_eval(match["args"]) if len(match["args"]) < 20_000 else {}
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            arguments = {}
        found.append(tool_of(match["name"], match["said"] or "", arguments if isinstance(arguments, dict) else {}, None))
    return tuple(found)


def fits(tools: Sequence[Tool], request: str) -> np.ndarray:
    """Return for each tool how much of the request its description speaks about, words that few tools have counting more."""
    asked = tuple(dict.fromkeys(w for w in words(request) if w not in FUNCTION_WORDS and w not in _ASKING))
    if not asked or not tools:
        return np.zeros(len(tools))
    vocabulary = index(asked)
    own = np.array([np.where(vocabulary.coverage(features(t.text)) >= _SAME, 1.0, 0.0) for t in tools])
    rarity = np.log((len(tools) + 1.0) / (own.sum(axis=0) + 0.5))
    scores = own @ np.maximum(rarity, 0.05) / np.sqrt(len(asked))
    likeness = np.maximum(index(tuple(t.text for t in tools)).likeness(features(request)), 0.0)
    return np.asarray(scores + likeness + [_form(t, request) for t in tools])


def _form(tool: Tool, request: str) -> float:
    """Return how well the form of the request suits the arguments: an expression, numbers, or neither."""
    if tool.ends:
        return -10.0
    has_sum = expression_in(request) is not None
    if tool.reckons:
        return 1.0 if has_sum else -0.3
    missing = sum(1 for name in tool.required if value_for(tool, name, request, ()) is None)
    open_ended = any(set(words(name)) & _WHOLE for name, _ in tool.arguments)
    return -0.5 * missing - (0.5 if has_sum else 0.0) + (_OPEN if open_ended else 0.0)


def arguments_for(tool: Tool, request: str, taken: Sequence[str] = (), attempt: int = 0) -> dict[str, Any] | None:
    """Return the arguments for a call; None where one that is needed cannot be had.

    Args:
        taken: results of earlier calls, whose values may be needed.
        attempt: how often the tool was called in vain; other readings of the request are tried.
    """
    found: dict[str, Any] = {}
    numbers = quantities(request)
    for name, written in tool.arguments:
        schema = loaded(written)
        if schema.get("type") in _TYPES and not schema.get("enum"):
            value = _number_for(name, schema, request, numbers, name in tool.required)
        else:
            value = value_for(tool, name, request, taken, attempt)
        if value is None and name in tool.required:
            return None
        if value is not None:
            found[name] = value
    return found


def _number_for(name: str, schema: Mapping[str, Any], request: str, numbers: list[float], needed: bool) -> int | float | None:
    """Return the number that stands by the argument's own name, else the next one; taken out of ``numbers``."""
    spoken = re.escape(name.replace("_", " ")).removesuffix("s")
    before, after = rf"({_NUMBER})[ -]{spoken}s?\b", rf"\b{spoken}s?\b(?:\W+|\W+(?:is|of|to)\W+)({_NUMBER})"
    near = re.search(before, request, re.IGNORECASE) or re.search(after, request, re.IGNORECASE)
    kind = kind_asked(name, str(schema.get("description", "")))
    formed = [v for _, v in spans(request, "year")] if kind == "year" else []
    if near:
        value = float(near.group(1))
    elif formed:
        value = float(formed[0])
    elif needed and numbers:
        value = numbers[0]
    else:
        return None
    if value in numbers:
        numbers.remove(value)
    return int(value) if schema.get("type") == "integer" else value


def value_for(tool: Tool, name: str, request: str, taken: Sequence[str], attempt: int = 0) -> Any:
    """Return the value of one argument that is no number; None where the request has none."""
    schema = loaded(dict(tool.arguments)[name])
    said = str(schema.get("description", ""))
    kind = schema.get("type")
    if schema.get("enum"):
        return _option(schema["enum"], f"{request}", said)
    if kind in _TYPES:
        found = quantities(request)
        return (int(found[0]) if kind == "integer" else found[0]) if found else None
    if kind == "boolean":
        return True if name in tool.required else None
    if kind == "array":
        return _several(schema, request) or None
    if kind == "object":
        return {} if name in tool.required else None
    if name not in tool.required and not _asked_for(name, said, request):
        return None
    if set(words(name)) & _EXPRESSIONS and tool.reckons:
        return expression_in(request)
    candidates = list(dict.fromkeys(_candidates(tool, name, said, request, taken)))
    return candidates[min(attempt, len(candidates) - 1)] if candidates else None


def _option(options: Sequence[Any], request: str, said: str) -> Any:
    labels = tuple(map(str, options))
    chosen = choose(labels, said, features(request), np.zeros(0), (), ())
    return options[chosen.label]


def _several(schema: Mapping[str, Any], request: str) -> list[Any]:
    items = schema.get("items")
    kind = items.get("type") if isinstance(items, dict) else None
    if kind in _TYPES:
        return [_TYPES[kind](n) for n in quantities(request)]
    return [v for _, v in spans(request, "quoted")] or [v for _, v in spans(request, "name")]


def _asked_for(name: str, said: str, request: str) -> bool:
    """Whether the request speaks of an argument that need not be given: by its name, or by a value of its form."""
    kind = kind_asked(name, said)
    if kind not in (None, "name", "number") and spans(request, str(kind)):
        return True
    own = tuple(w for w in words(name) if w not in FUNCTION_WORDS)
    return bool(own) and bool((index(own).coverage(features(request)) >= _SAME).all())


def _candidates(tool: Tool, name: str, said: str, request: str, taken: Sequence[str]) -> Iterator[str]:
    """Yield the texts that may be meant by an argument, the likeliest first."""
    kind = kind_asked(name, said)
    if kind not in (None, "name", "number"):
        yield from (v for _, v in spans(request, str(kind)))
    quoted = [v for _, v in spans(request, "quoted")] + re.findall(r"(?<!\w)'([^'\n]+)'(?!\w)", request)
    yield from quoted
    left = _left_over(tool, request)
    names = [
        v
        for _, v in spans(request, "name")
        if v.split()[0].lower() not in _ASKING and set(words(v)) & set(words(" ".join(left)))
    ]
    if set(words(name)) & _WHOLE:
        topic = " ".join(t.group() for t in _WORD.finditer(request) if t.group().lower() not in FUNCTION_WORDS | _ASKING)
        yield topic
    else:
        yield from names
        yield from (v for _, v in spans(request, "code"))
    phrases = [p for phrase in left for p in _parts(phrase)]
    yield from phrases
    yield from (v.lower() for v in [*names, *phrases])
    yield from (p[:-1] for p in phrases if p.endswith("s") and len(p) > 3)
    yield from (t for t in taken if 0 < len(t.split()) <= 4 and not any(sign.isdigit() for sign in t))


def _parts(phrase: str) -> list[str]:
    """Return the runs of words of a phrase, the longest first."""
    parts = phrase.split()[:6]
    return [" ".join(parts[i : i + n]) for n in range(len(parts), 0, -1) for i in range(len(parts) - n + 1)]


def _left_over(tool: Tool, request: str) -> list[str]:
    """Return the phrases of the request that are neither the tool's own words nor words for asking, the last one first."""
    own = features(tool.text)
    phrases: list[list[str]] = [[]]
    end = 0
    for token in _WORD.finditer(request):
        word = token.group()
        plain = word.lower()
        cut = bool(re.search(r"[,;:.!?]", request[end : token.start()]))
        end = token.end()
        skipped = plain in FUNCTION_WORDS or plain in _ASKING
        skipped = skipped or bool(index((plain,)).coverage(own)[0] >= 0.8)
        if skipped or cut:
            phrases.append([])
        if not skipped:
            phrases[-1].append(word)
    return [" ".join(p) for p in reversed(phrases) if p]
