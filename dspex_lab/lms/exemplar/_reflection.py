"""Writes instructions as an optimizer's proposer is asked to: from the current one, examples, feedback and scores.

What it puts in is what the prompt shows: the words that tell labels apart, as lines that its own classifier reads;
demands that the feedback repeats; the length that right answers have. Where only earlier attempts with their scores are
shown, it keeps the words that attempts with good scores have and others lack. A draw (see ``_draws``) varies how many
words are taken and how the instruction is put.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dspex_lab.lms.exemplar._lessons import (
    Words,
    joined,
    learned,
    lines_in,
    lines_of,
    telling,
    usual_length,
    without_lines,
)
from dspex_lab.lms.exemplar._records import (
    Record,
    reflective_records,
    row_records,
    rule_records,
    told_records,
    trial_records,
    without_told,
)
from dspex_lab.lms.exemplar._sentences import listed
from dspex_lab.lms.exemplar._verdict import demands

#: How many words a label gets at most; the first is the best guess.
_SIZES = (24, 16, 32, 12, 8)
_DEMANDS = 4
_ATTEMPT = re.compile(r"^(Instruction|Prefix|Resulting Score) #(\d+): ?(.*)$", re.DOTALL)
_SCORED = re.compile(r" \| Score: (-?\d+(?:\.\d+)?)\s*(?:\n\n|\Z)")
_MODULE = re.compile(r"\w+\((.*?)\) -> (.*)")
_LIMIT = re.compile(r"(\d[\d,]*)\s*(?:unicode )?(characters|words)", re.IGNORECASE)
_MANNERS = (
    "",
    "Read the whole input before you answer.",
    "Compare the input with what each answer stands for.",
    "Weigh the words of the input; the most specific ones decide.",
    "Decide by what the input is about, not by how it is put.",
    "Give the one answer that fits best.",
)
_CONDITION = re.compile(r"[<>=!]=|[<>]|\bin\b|with\(|\bis(?:lower|upper)\(")
_COMPARISON = re.compile(r"\s+(not in|in|<=|>=|==|!=|<|>)\s+")
_OPPOSITE = {"not in": "in", "in": "not in", "<=": ">", ">": "<=", ">=": "<", "<": ">=", "==": "!=", "!=": "=="}
_NOTHING = re.compile(r"return (?:0(?:\.0*)?|False|None|-\d.*)\s*(?:#.*)?$")
_PERSONA = "You are an expert who does this every day."
_STAKES = "Much depends on the right answer."


@dataclass(frozen=True)
class Attempt:
    """An instruction that was tried, and its score."""

    instruction: str
    score: float


def writes_instructions(inputs: Sequence[str], outputs: Sequence[str]) -> str | None:
    """Return which kind of reflection a task with these fields is; None if it is none.

    ``"propose"`` an instruction, ``"shorten"`` one, state ``"rules"``, make ``"observations"`` on rows, sum up a
    ``"summary"`` of them, or give ``"advice"`` to the modules of a program.
    """
    given, wanted = set(inputs), set(outputs)
    if (
        wanted & {"module_advice", "advice"}
        and "module_names" in given
        and {"program_trajectory", "worse_program_trajectory"} & given
    ):
        return "advice"
    if "observations" in wanted and "examples" in given:
        return "observations"
    if "summary" in wanted and "observations" in given:
        return "summary"
    if "natural_language_rules" in wanted and "examples_text" in given:
        return "rules"
    if "shortened_instruction" in wanted and "length_limit" in given:
        return "shorten"
    if any(n.endswith("instruction") for n in wanted) and any(n.endswith(("instruction", "instructions")) for n in given):
        return "propose"
    return None


def reflect(kind: str, inputs: Mapping[str, str], outputs: Sequence[str], draw: int) -> dict[str, Any]:
    """Return the value of each output that the reflection is about.

    Args:
        kind: what :func:`writes_instructions` said.
        inputs: the fields of the question.
        draw: which of several proposals; 0 is the best guess.
    """
    if kind == "advice":
        return _advice(inputs, outputs)
    if kind == "shorten":
        return {"shortened_instruction": shortened(inputs.get("instruction", ""), inputs.get("length_limit", ""))}
    if kind == "rules":
        return {"natural_language_rules": _rules(rule_records(inputs["examples_text"]), draw)}
    if kind == "observations":
        return {"observations": _observed(row_records(inputs["examples"]))}
    if kind == "summary":
        return {"summary": _summed(inputs["observations"])}
    name = next(n for n in outputs if n.endswith("instruction"))
    return {name: _proposed(inputs, draw), **{n: "Answer:" for n in outputs if n.startswith("proposed_prefix")}}


def _proposed(inputs: Mapping[str, str], draw: int) -> str:
    attempts = _attempts(inputs)
    if "attempted_instructions" in inputs:
        return from_attempts(attempts, draw)
    current = next((v for n, v in inputs.items() if n in ("current_instruction", "basic_instruction")), None)
    if current is None:
        current = next(v for n, v in inputs.items() if n.endswith(("instruction", "instructions")))
    records = [r for n, v in inputs.items() if n.startswith("examples") for r in reflective_records(v)]
    records += told_records(inputs.get("task_demos", ""), _outputs_of(inputs.get("module", "")))
    if attempts and not records:
        current = max(attempts, key=lambda a: a.score).instruction
    summary = lines_in(inputs.get("dataset_description", ""))
    return improved(current, records, draw, known=summary, tip=inputs.get("tip", ""))


def _outputs_of(module: str) -> list[str]:
    found = _MODULE.match(module.strip())
    return [n.strip() for n in found.group(2).split(",")] if found else []


def _attempts(inputs: Mapping[str, str]) -> list[Attempt]:
    """Return the attempts that COPRO or MIPROv2 shows with their scores."""
    if "previous_instructions" in inputs:
        *parts, _ = _SCORED.split(inputs["previous_instructions"])
        return [Attempt(text.strip(), float(score)) for text, score in zip(parts[::2], parts[1::2], strict=True)]
    tried: dict[str, dict[str, str]] = {}
    for item in listed(inputs.get("attempted_instructions", "")) or ():
        if match := _ATTEMPT.match(item):
            tried.setdefault(match.group(2), {})[match.group(1)] = match.group(3)
    found = []
    for part in tried.values():
        try:
            found.append(Attempt(part["Instruction"], float(part["Resulting Score"])))
        except (KeyError, ValueError):
            continue
    return found


def improved(
    current: str, records: Sequence[Record], draw: int = 0, *, known: Mapping[str, Counter[str]] | None = None, tip: str = ""
) -> str:
    """Return a better instruction than ``current``.

    Args:
        current: the instruction so far; all of it is kept but its own lines of words, which grow.
        records: examples with what is known about them.
        draw: which of several; 0 is the best guess.
        known: words by label that a summary of the data gives.
        tip: how the instruction should be put.
    """
    chance = random.Random(f"{draw}|{current}")  # noqa: S311 - a choice of words, no secret
    own = lines_in(current)
    told = told_records(current) if not own else []
    body = without_lines(current)
    if learned(told):
        body = without_told(body)  # their words come in their place
    most, shared = _SIZES[0], 1.0
    if draw:
        most, shared = chance.choice(_SIZES), chance.choice((1.0, 1.0, 0.5, 2.0))
    if "concise" in tip:
        most = min(most, 12)
    elif "descriptive" in tip:
        most = max(most, 32)
    counted = [_grown(own), learned([*records, *told]), known or {}]
    words = telling(joined(counted), max(most, *(len(w) for w in own.values())) if own and not draw else most, shared)
    parts = [_put(body, tip, chance.choice(_MANNERS) if draw else "")]
    parts += _demanded(records, parts[0])
    return "\n".join([*parts, *filter(None, [lines_of(words)])])


def _grown(own: Mapping[str, Counter[str]]) -> Words:
    """Return words already in the instruction with more weight: those that came first were the most telling."""
    return {label: Counter({w: 1.5 + 1.0 / (1 + i) for i, w in enumerate(found)}) for label, found in own.items()}


def _put(text: str, tip: str, manner: str) -> str:
    opening = _PERSONA if "persona" in tip.lower() else _STAKES if "high stakes" in tip else ""
    lines = [line for line in text.splitlines() if line not in (*_MANNERS[1:], _PERSONA, _STAKES)]
    body = "\n".join(lines).strip()
    return "\n".join(filter(None, [body, opening, manner]))


def _demanded(records: Sequence[Record], body: str) -> list[str]:
    found: Counter[str] = Counter()
    for record in records:
        values = [*record.right.values(), *record.given.values()]
        found.update(set(demands(record.feedback, values)))
    lines = [_general(sentence) for sentence, _ in sorted(found.items(), key=lambda one: (-one[1], one[0]))[:_DEMANDS]]
    length = usual_length(records)
    if length is not None and not any("at most" in line for line in lines):
        lines.append(f"Answer in at most {length} words.")
    return [line for line in dict.fromkeys(lines) if line not in body]


def _general(sentence: str) -> str:
    """Return a demand without the measure of the one answer it was made of: "It has 12 words, and may have at most 10."."""
    return re.sub(r"^It has \d+ (\w+), and (may have at most|needs at least) (\d+)\.?$", _as_rule, sentence.strip())


def _as_rule(match: re.Match[str]) -> str:
    return f"Answer with {'at most' if 'most' in match.group(2) else 'at least'} {match.group(3)} {match.group(1)}."


def from_attempts(attempts: Sequence[Attempt], draw: int) -> str:
    """Return an instruction made of the best attempts: words that go with good scores stay, words that go with bad ones go."""
    if not attempts:
        return _MANNERS[1 + draw % (len(_MANNERS) - 1)]
    best = max(attempts, key=lambda a: a.score)
    chance = random.Random(f"{draw}|{best.instruction}")  # noqa: S311 - a choice of words, no secret
    tried = [(lines_in(a.instruction), a.score) for a in attempts]
    base = lines_in(best.instruction)
    if not base:
        return improved(best.instruction, (), draw)
    worth = _worth(tried)
    words: dict[str, list[str]] = {}
    for label in dict.fromkeys(name for own, _ in tried for name in own):
        kept = [w for w in base.get(label, ()) if worth.get((label, w), 0.0) > -1e-9 or chance.random() < 0.5]
        added = [w for own, _ in tried for w in own.get(label, ()) if w not in kept and worth.get((label, w), 0.0) > 0]
        words[label] = [w for w in dict.fromkeys([*kept, *added]) if not draw or chance.random() > 0.08]
    return "\n".join([_put(without_lines(best.instruction), "", chance.choice(_MANNERS)), lines_of(words)])


def _worth(tried: Sequence[tuple[Words, float]]) -> dict[tuple[str, str], float]:
    """Return for each word of a label by how much the attempts that have it score above those that have not."""
    held: dict[tuple[str, str], list[float]] = {}
    for own, score in tried:
        for label, found in own.items():
            for word in found:
                held.setdefault((label, word), []).append(score)
    total, count = sum(score for _, score in tried), len(tried)
    return {
        key: sum(with_it) / len(with_it) - (total - sum(with_it)) / (count - len(with_it))
        for key, with_it in held.items()
        if len(with_it) < count
    }


def _rules(records: Sequence[Record], draw: int) -> str:
    return improved("Answer as the examples were answered.", records, draw)


def _observed(records: Sequence[Record]) -> str:
    """Return what rows have in common: their fields, and for each label the words of its rows."""
    if not records:
        return "COMPLETE"
    names = ", ".join([*records[0].inputs, *records[0].right])
    words = telling(learned(records), 40, 0.0)
    counted = lines_of(words)
    length = usual_length(records)
    about = f" Right answers have at most {length} words." if length is not None else ""
    # Observations are joined without a break, so that each begins and ends with a sentence.
    return "\n".join(
        filter(None, [f"Every one of these rows has the fields {names}.{about}", counted, "That is what these rows show.\n"])
    )


def _summed(observations: str) -> str:
    """Return the observations in short: words that several batches give for a label come first."""
    words = telling(lines_in(observations), 32)
    first = re.search(r"Every one of these rows has the fields [^\n]*?\.", observations)
    opening = first.group() if first else " ".join(observations.split()[:40])
    return "\n".join(filter(None, [opening, lines_of(words)]))


def _advice(inputs: Mapping[str, str], outputs: Sequence[str]) -> dict[str, Any]:
    try:
        names = [str(n) for n in json.loads(inputs["module_names"])]
    except (ValueError, TypeError):
        names = list(listed(inputs["module_names"]) or (inputs["module_names"],))
    records = trial_records(inputs)
    words = telling(learned(records), _SIZES[0])
    told = [lines_of(words), *_conditions(inputs.get("reward_code", "")), *_refusals(inputs)]
    text = "\n".join(filter(None, told)) or "N/A"
    field = "module_advice" if "module_advice" in outputs else "advice"
    wrong = ", ".join(f"{n} was {v!r}" for r in records for n, v in r.given.items() if r.right.get(n) not in (None, v))
    discussion = f"What was answered: {wrong}." if wrong else "The advice says what the answers should be like."
    return {field: dict.fromkeys(names, text), **({"discussion": discussion} if "discussion" in outputs else {})}


def _conditions(code: str) -> list[str]:
    """Return the conditions that a reward's code puts, one in a line; those that lead to a reward of nothing reversed."""
    found = []
    lines = [re.sub(r"^def \w+\(.*?\)(?: -> [^:]+)?:", "", line.strip()).strip() for line in code.splitlines()]
    for line, after in zip(lines, [*lines[1:], ""], strict=False):
        said = re.sub(r"^(?:return|if|elif|assert)\b|\s+#.*$", "", line).strip()
        said, _, then = said.partition(": ")
        said = said.removesuffix(":").strip()
        if _CONDITION.search(said):
            lost = line.startswith(("if ", "elif ")) and _NOTHING.match(then or after)
            found.append(f"It must hold that {_reversed(said) if lost else said}")
    return found


def _reversed(condition: str) -> str:
    """Return the opposite of a condition of one comparison."""
    if condition.startswith("not "):
        return condition.removeprefix("not ")
    match = _COMPARISON.search(condition)
    if match is None:
        return f"not {condition}"
    return f"{condition[: match.start()]} {_OPPOSITE[match.group(1)]} {condition[match.end() :]}"


def _refusals(inputs: Mapping[str, str]) -> list[str]:
    try:
        given = json.loads(inputs.get("program_outputs", ""))
    except ValueError:
        return []
    short = (
        [v for v in given.values() if isinstance(v, str) and 0 < len(v) < 200 and not set(v) & set("«»\n")]
        if isinstance(given, dict)
        else []
    )
    return [f"«{value}» is not accepted." for value in short]


def shortened(instruction: str, limit: str) -> str:
    """Return ``instruction`` within ``limit``: with fewer words for each label, then with fewer lines."""
    found = _LIMIT.search(limit)
    if found is None:
        return instruction
    most, unit = int(found.group(1).replace(",", "")), found.group(2).lower()

    def size(text: str) -> int:
        return len(text) if unit == "characters" else len(text.split())

    words, body = lines_in(instruction), without_lines(instruction)
    for count in range(max(map(len, words.values()), default=0), 0, -1):
        text = "\n".join(filter(None, [body, lines_of({label: list(own)[:count] for label, own in words.items()})]))
        if size(text) <= most:
            return text
    lines = body.splitlines()
    while len(lines) > 1 and size("\n".join(lines)) > most:
        lines.pop()
    text = "\n".join(lines)
    return text if size(text) <= most else text[:most].rstrip() if unit == "characters" else " ".join(text.split()[:most])


def proposal_for(text: str, draw: int) -> str | None:
    """Return the answer to a free prompt of GEPA's own proposer, in fences as it asks; None if the prompt is none."""
    fenced = re.findall(r"^```[^\n`]*\n(.*?)\n```", text, re.DOTALL | re.MULTILINE)
    if len(fenced) < 2 or "instruction" not in text:
        return None
    records = reflective_records(fenced[1])
    return f"```\n{improved(fenced[0].strip(), records, draw)}\n```" if records else None
