"""What a signature costs: from text to compiled, from the cache, and checking a record.

    python tests/bench/signatures.py [rounds]

Beside it, in the same run: ``dspy.Signature`` of the same text, and a bare pydantic-core ``SchemaValidator`` whose schema
says the same. "First record" is parsing and the first check of inputs and outputs, which is when validators are compiled.
"""

from __future__ import annotations

import statistics
import sys
import time
import typing
from collections.abc import Callable
from typing import Any

import dspy
import pydantic
from pydantic_core import SchemaValidator, core_schema

from dspex_lab.signatures import Signature, signature
from dspex_lab.signatures import _build as build


class Contact(pydantic.BaseModel):
    """A type of the notebook, for a signature that needs Pydantic's own generator."""

    name: str
    age: int = 0


TEXTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "plain": ("question -> answer", {"question": "Is it?"}, {"answer": "yes"}),
    "typed": (
        "question: str, context: list[str] -> answer: str, confidence: float",
        {"question": "Is it?", "context": ["It is."]},
        {"answer": "yes", "confidence": 0.5},
    ),
    "literals": (
        'message: str -> intent: Literal["billing", "card", "transfer"], urgency: float, tags: dict[str, int] | None',
        {"message": "My card"},
        {"intent": "card", "urgency": 0.9, "tags": None},
    ),
    "a model": (
        "text: str -> contact: Contact, others: list[Contact]",
        {"text": "Ann"},
        {"contact": Contact(name="A"), "others": []},
    ),
}


def once_us(work: Callable[[], object], rounds: int, before: Callable[[], object] | None = None) -> float:
    """Return the median of single calls in µs; ``before`` is not counted."""
    times = []
    for _ in range(rounds):
        if before is not None:
            before()
        clock = time.perf_counter()
        work()
        times.append(time.perf_counter() - clock)
    return 1e6 * statistics.median(times)


def many_us(work: Callable[[], object], rounds: int, batch: int = 500) -> float:
    """Return the median over batches of the time of one call in µs, so that the clock's own cost does not count."""
    times = []
    for _ in range(max(rounds // 10, 5)):
        clock = time.perf_counter()
        for _ in range(batch):
            work()
        times.append((time.perf_counter() - clock) / batch)
    return 1e6 * statistics.median(times)


def bare_validator(sig: Signature) -> Callable[..., object]:
    """Return a validator that says what the inputs of the typed signature say, written by hand."""
    assert list(sig.inputs) == ["question", "context"]
    schema = core_schema.typed_dict_schema(
        {
            "question": core_schema.typed_dict_field(core_schema.str_schema(), required=True),
            "context": core_schema.typed_dict_field(core_schema.list_schema(core_schema.str_schema()), required=True),
        },
        extra_behavior="forbid",
    )
    return SchemaValidator(schema).validate_python


def compiled(rounds: int) -> None:
    heads = f"{'dspy.Signature':>16}{'parsed':>10}{'×':>7}{'first record':>14}{'×':>7}{'cached':>9}{'×':>7}"
    print(f"{'text → compiled, µs':34}{heads}")
    for name, (text, inputs, outputs) in TEXTS.items():

        def first(text: str = text, inputs: Any = inputs, outputs: Any = outputs) -> None:
            sig = signature(text)
            sig.validate_inputs(inputs)
            sig.validate_outputs(outputs)

        theirs, parsed, first_record, cached = [], [], [], []
        for _ in range(5):  # interleaved, so that a slow moment of the machine meets all
            theirs.append(once_us(lambda text=text: dspy.Signature(text, custom_types={"Contact": Contact}), rounds // 5))
            parsed.append(once_us(lambda text=text: signature(text), rounds // 5, build._cache.clear))
            first_record.append(once_us(first, rounds // 5, build._cache.clear))
            cached.append(many_us(lambda text=text: signature(text), rounds // 5))
        base, p, f, c = (statistics.median(values) for values in (theirs, parsed, first_record, cached))
        print(f"{name:34}{base:16.0f}{p:10.1f}{base / p:7.1f}{f:14.1f}{base / f:7.1f}{c:9.2f}{base / c:7.0f}")


def checked(rounds: int) -> None:
    text, inputs, _ = TEXTS["typed"]
    sig = signature(text)
    sig.validate_inputs(inputs)
    bare = bare_validator(sig)
    adapter = pydantic.TypeAdapter(pydantic.create_model("Record", question=(str, ...), context=(list[str], ...)))
    wide = {**inputs, "context": ["It is."] * 100}
    print(f"\n{'one record checked, µs':34}{'bare validator':>16}{'ours':>10}{'×':>7}{'a model':>14}{'×':>7}")
    for name, record in (("two fields", inputs), ("a list of 100", wide)):
        works: dict[str, Callable[[], object]] = {
            "bare": lambda record=record: bare(record, strict=True),
            "ours": lambda record=record: sig.validate_inputs(record),
            "model": lambda record=record: adapter.validate_python(record),
        }
        samples: dict[str, list[float]] = {key: [] for key in works}
        for _ in range(5):
            for key, work in works.items():
                samples[key].append(many_us(work, rounds))
        base, ours, model = (statistics.median(values) for values in samples.values())
        print(f"{name:34}{base:16.2f}{ours:10.2f}{ours / base:7.2f}{model:14.2f}{model / base:7.2f}")


def main(rounds: int = 500) -> None:
    compiled(rounds)
    checked(rounds)


if __name__ == "__main__":
    typing.cast(Any, main)(*map(int, sys.argv[1:2]))
