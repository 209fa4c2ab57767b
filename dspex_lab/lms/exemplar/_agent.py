"""Chooses the next step of an agent: which tool, with which arguments, or that enough is known.

A request that is a calculation over things that must be looked up first ("the price of tea times 3") is taken apart:
each part is looked up by the tool that fits it, then the expression is calculated. No call is made twice, a tool that
found nothing is tried with another reading of the request, and after a few calls in vain the work ends.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dspex_lab.lms.exemplar._arithmetic import evaluate, expression_in, quantities
from dspex_lab.lms.exemplar._rows import answer_in
from dspex_lab.lms.exemplar._sentences import listed
from dspex_lab.lms.exemplar._similarity import FUNCTION_WORDS, features, index, words
from dspex_lab.lms.exemplar._tools import Tool, arguments_for, fits
from dspex_lab.lms.exemplar._trajectory import Call

_JOINS = re.compile(r"\s(plus|minus|times|multiplied by|divided by|added to|less)\s|\s([-+*/×÷])\s", re.IGNORECASE)
_SIGNS = {"plus": "+", "added to": "+", "minus": "-", "less": "-", "times": "*", "multiplied by": "*", "divided by": "/"} | {
    "×": "*",
    "÷": "/",
}
_BETWEEN = re.compile(
    r"\b(sum of|total of|difference between|product of|average of)\s+(.+?)\s+and\s+(.+?)(?=[.?!]|$)", re.IGNORECASE
)
_OVER_BOTH = {
    "sum of": "{} + {}",
    "total of": "{} + {}",
    "difference between": "abs({} - {})",
    "product of": "{} * {}",
    "average of": "({} + {}) / 2",
}
#: A tool is worth calling when it fits at least this share of what the best one did.
_WORTH = 0.6
#: Calls in vain after which the work ends.
_PATIENCE = 6
_SHORT = 12
#: Characters of a request that are read; what is asked for stands in few.
_LONGEST = 2_000
#: What is answered where no call found anything.
NOTHING = "Nothing was found."
#: How much less a tool is worth for each call of it that found nothing.
_IN_VAIN = 0.3


@dataclass(frozen=True)
class Step:
    """A call to make, or none because the work is done; ``why`` says what it rests on."""

    tool: Tool | None
    arguments: dict[str, Any]
    why: str


@dataclass(frozen=True)
class Sum:
    """A calculation whose operands may have to be looked up."""

    form: str
    operands: tuple[str, ...]


def next_step(request: str, tools: Sequence[Tool], calls: Sequence[Call]) -> Step:
    """Return what to do next about ``request``.

    Args:
        tools: what there is; those that end the work may be among them.
        calls: what was done, in order.
    """
    request = request[:_LONGEST]
    working = [t for t in tools if not t.ends]
    if not working:
        return Step(None, {}, "There is no tool to call.")
    in_vain = sum(c.failed for c in calls)
    if in_vain >= _PATIENCE or len(calls) >= 2 * len(working) + _PATIENCE:
        return Step(None, {}, f"{in_vain} calls found nothing; there is no more to try.")
    planned = sum_of(request)
    if planned is not None:
        return _for_sum(planned, working, calls, request)
    return _for_one(request, working, calls)


def sum_of(request: str) -> Sum | None:
    """Return the calculation that a request asks for, where an operand of it is no number; None if there is none."""
    if expression_in(request) is not None:
        return None
    both = _BETWEEN.search(request)
    if both:
        parts = (both.group(2), both.group(3))
        return Sum(_OVER_BOTH[both.group(1).lower()], parts)
    pieces = _JOINS.split(request.rstrip(" ?.!"))
    if len(pieces) < 4:
        return None
    operands, signs = pieces[0::3], [(a or b).lower() for a, b in zip(pieces[1::3], pieces[2::3], strict=True)]
    if any(not _speaks(o) for o in operands) or (not any(_is_number(o) for o in operands[1:]) and len(operands) > 3):
        return None
    form = "{}" + "".join(f" {_SIGNS.get(s, s)} {{}}" for s in signs)
    return Sum(form, tuple(operands))


def _speaks(operand: str) -> bool:
    return _is_number(operand) or any(w not in FUNCTION_WORDS for w in words(operand))


def _is_number(operand: str) -> bool:
    return bool(re.fullmatch(r"\W*\d[\d,]*(?:\.\d+)?\W*", operand)) or (
        len(words(operand)) == 1 and len(quantities(operand)) == 1
    )


def resolved(planned: Sum, calls: Sequence[Call]) -> tuple[str | None, str | None]:
    """Return the expression with what was looked up, and the first operand that is not known yet (one of both is None)."""
    values = []
    for operand in planned.operands:
        known = quantities(operand)[0] if _is_number(operand) else _looked_up(operand, calls)
        if known is None:
            return None, operand
        values.append(f"{known:g}" if abs(known) < 1e15 else repr(known))
    return planned.form.format(*values), None


def _looked_up(operand: str, calls: Sequence[Call]) -> float | None:
    """Return the number that the call about ``operand`` gave."""
    asked = features(operand)
    best: tuple[float, float] | None = None
    for call in calls:
        found = quantities(call.result)
        said = tuple(w for w in words(call.said) if w not in FUNCTION_WORDS)
        if call.failed or not found or not said:
            continue
        share = float((index(said).coverage(asked) >= 0.6).mean())
        if share > 0 and (best is None or share > best[0]):
            best = share, found[0]
    return best[1] if best else None


def _for_sum(planned: Sum, tools: Sequence[Tool], calls: Sequence[Call], request: str) -> Step:
    expression, missing = resolved(planned, calls)
    reckoning = [t for t in tools if t.reckons]
    if expression is None:
        others = [t for t in tools if not t.reckons]
        return _for_one(str(missing), others, calls, request) if others else _for_one(request, tools, calls)
    done = [c for c in calls if not c.failed and any(c.name == t.name for t in reckoning)]
    for tool in reckoning:
        arguments = arguments_for(tool, expression)
        if not done and arguments is not None and not _made(tool, arguments, calls):
            return Step(tool, arguments, f"All parts are known; {expression} is left to calculate.")
    return Step(None, {}, f"All parts are known: {expression}.")


def _made(tool: Tool, arguments: dict[str, Any], calls: Sequence[Call]) -> bool:
    return any(c.name == tool.name and c.arguments == arguments for c in calls)


def _for_one(request: str, tools: Sequence[Tool], calls: Sequence[Call], whole: str | None = None) -> Step:
    """Return the call that answers ``request``, unless one did."""
    scores = fits(tools, request if whole is None else f"{request} {whole}")
    best = float(scores.max())
    useful = [c for c in calls if not c.failed and (whole is None or _about(c, request))]
    if useful and (whole is None or any(quantities(c.result) for c in useful)):
        more = _further(request, tools, scores, calls)
        if more is not None and whole is None:
            return more
        return Step(None, {}, "The results so far answer it.")
    failed = [sum(c.name == t.name and c.failed for c in calls) for t in tools]
    for i in sorted(range(len(tools)), key=lambda i: (_IN_VAIN * failed[i] - scores[i], i)):
        tool = tools[i]
        if calls and best > 0 and scores[i] < _WORTH * best and not all(c.failed for c in calls):
            continue
        for attempt in range(failed[i], failed[i] + 4):
            arguments = arguments_for(tool, request, [c.result for c in calls if not c.failed], attempt)
            if arguments is None:
                break
            if not _made(tool, arguments, calls):
                return Step(tool, arguments, _reason(tool, arguments))
    return Step(None, {}, "No tool that fits is left to try.")


def _about(call: Call, request: str) -> bool:
    said = tuple(w for w in words(call.said) if w not in FUNCTION_WORDS)
    return bool(said) and bool((index(said).coverage(features(request)) >= 0.6).any())


def _further(request: str, tools: Sequence[Tool], scores: Any, calls: Sequence[Call]) -> Step | None:
    """Return a call of a tool not used yet that the request asks for as much as for those used: by its very words."""
    used = {c.name for c in calls}
    spoken = features(" ".join(t.text for t in tools if t.name in used))
    fresh = tuple(w for w in dict.fromkeys(words(request)) if w not in FUNCTION_WORDS and index((w,)).coverage(spoken)[0] < 0.6)
    for i, tool in enumerate(tools):
        own = features(f"{tool.name} {tool.description}")
        if tool.name in used or not fresh or scores[i] < _WORTH * float(scores.max()):
            continue
        if int((index(fresh).coverage(own) >= 0.8).sum()) < 1:
            continue
        arguments = arguments_for(tool, request)
        if arguments is not None and not _made(tool, arguments, calls):
            return Step(tool, arguments, _reason(tool, arguments))
    return None


def _reason(tool: Tool, arguments: dict[str, Any]) -> str:
    given = ", ".join(f"{n} {v!r}" for n, v in arguments.items())
    return f"{tool.name} fits what is asked{f'; the request gives {given}' if given else ''}."


def concluded(request: str, calls: Sequence[Call]) -> str | None:
    """Return the answer that the calls lead to where it is short and plain: a calculation, or what the last one gave."""
    planned = sum_of(request)
    if planned is not None:
        expression, _ = resolved(planned, calls)
        if expression is not None:
            return f"{evaluate(expression):.12g}"
    good = [c for c in calls if not c.failed]
    if not good:
        return NOTHING if calls else None
    if len(good) == 1 or expression_in(request) is not None:
        said = good[-1].result.strip()
        read = answer_in(request, said)
        if read is not None:
            return read
        if 0 < len(said.split()) <= _SHORT:
            return (listed(said) or (said,))[0] if said.startswith("«") else said
    return None
