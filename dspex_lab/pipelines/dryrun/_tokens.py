"""How many tokens a question and its answer have, estimated from the prompt as it would be sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from dspex_lab.pipelines._fields import Shape
from dspex_lab.pipelines._module import module_of
from dspex_lab.pipelines._step import Step

#: Characters to a token, in prompts and answers.
CHARACTERS = 4
#: Tokens of a text, asked for or given, that nobody knows yet; of a number; and of what stands around a field in an answer.
TEXT, NUMBER, AROUND = 100, 3, 8
#: Items of a list that nobody knows yet.
ITEMS = 5

ASSUMED = (
    f"{CHARACTERS} characters to a token; {TEXT} tokens for each text that is not known yet, in prompts and in answers, and "
    f"{ITEMS} items for each list"
)


def rendered(item: Step, shape: Shape, known: Mapping[str, Any]) -> tuple[float, float]:
    """Return the tokens of one question of a step and of one answer to it; over all its predictors the mean.

    Args:
        known: the values of its inputs that are known.
    """
    module = module_of(item)
    if module is None:
        return _of_text(item, shape, known), _answer({n: f.type for n, f in shape.outputs.items()})
    asked = [_question(p, known) for _, p in module.named_predictors()]
    answers = [_answer({n: f.annotation for n, f in p.signature.output_fields.items()}) for _, p in module.named_predictors()]
    count = max(len(asked), 1)
    return sum(asked) / count, sum(answers) / count


def _question(predictor: Any, known: Mapping[str, Any]) -> float:
    """Return the tokens of a predictor's prompt, its demonstrations included, as the adapter in force writes it."""
    import dspy

    contract = predictor.signature
    adapter = dspy.settings.adapter or dspy.ChatAdapter()
    fields = {n: f.annotation for n, f in contract.input_fields.items() if f.annotation is not dspy.History}
    values = {n: known[n] if n in known else _stand_in(kind) for n, kind in fields.items()}
    try:
        messages = adapter.format(contract, predictor.demos, values)
    except Exception:
        # An adapter or a type of the user's own that takes no stand-in: what is sure to be sent still counts.
        return len(contract.instructions) / CHARACTERS + TEXT * len(fields)
    return sum(_length(m.get("content")) for m in messages) / CHARACTERS


def _of_text(item: Step, shape: Shape, known: Mapping[str, Any]) -> float:
    """Return the tokens of a template, or of what a kind of the user's own may send."""
    target = item.target
    texts = [t for t in (target, getattr(target, "text", None), getattr(target, "system", None)) if isinstance(t, str)]
    texts.append(getattr(target, "form", None) or "")
    given = sum(len(_shown(known[n])) if n in known else TEXT * CHARACTERS for n in shape.inputs)
    return (sum(map(len, texts)) + given) / CHARACTERS


def _length(content: Any) -> int:
    return len(content) if isinstance(content, str) else len(_shown(content))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _stand_in(kind: Any) -> Any:
    return "x" * (CHARACTERS * round(_size(kind)))


def _answer(fields: Mapping[str, Any]) -> float:
    return sum(_size(kind) + AROUND for kind in fields.values())


def _size(kind: Any) -> float:
    """Return the tokens of a value of a type."""
    if get_origin(kind) is Literal:
        return max(len(str(v)) for v in get_args(kind)) / CHARACTERS
    if kind in (int, float, bool, type(None)):
        return NUMBER
    if get_origin(kind) in (list, tuple, set, frozenset):
        return ITEMS * max((_size(k) for k in get_args(kind) if k is not ...), default=TEXT)
    return TEXT
