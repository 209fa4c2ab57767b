"""Answers of a local model that are held to a schema."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest

torch = pytest.importorskip("torch", reason="local models need torch (extra neural)")
pytest.importorskip("transformers", reason="local models need transformers (extra neural)")

from dspy.lm15 import InvalidRequestError, Request  # noqa: E402
from local_checkpoints import make_checkpoint  # noqa: E402
from local_engine_helpers import CPU, ask  # noqa: E402

from dspex_lab.lms.engines import LocalEngine, local_lm  # noqa: E402
from dspex_lab.lms.engines import _local_grammar as grammars  # noqa: E402
from dspex_lab.lms.engines._local_errors import GarbledAnswer  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_torch_thread")

SCHEMA = {
    "type": "object",
    "properties": {"label": {"enum": ["billing", "card"]}, "sure": {"type": "boolean"}},
    "required": ["label", "sure"],
    "additionalProperties": False,
}


def structured(schema: dict[str, Any] | None = SCHEMA, **config: Any) -> Request:
    kind = {"type": "json_object"} if schema is None else {"type": "json_schema", "schema": schema, "name": "a", "strict": True}
    return ask(response_format=kind, **{"max_tokens": 60, **config})


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_an_answer_is_held_to_its_schema(engine: LocalEngine, temperature: float) -> None:
    pytest.importorskip("llguidance", reason="answers are held to a schema by llguidance (extra neural)")
    response = engine.complete(structured(temperature=temperature, seed=5))
    value = json.loads(response.text)
    assert value["label"] in ("billing", "card")
    assert isinstance(value["sure"], bool)
    assert response.finish_reason == "stop"
    assert "".join(e.delta.text for e in engine.stream(structured(temperature=temperature, seed=5)) if e.type == "delta") == (
        response.text
    )


def test_a_dspy_program_gets_typed_answers_from_a_model_that_knows_nothing(tmp_path: Path) -> None:
    pytest.importorskip("llguidance", reason="answers are held to a schema by llguidance (extra neural)")
    lm = local_lm(make_checkpoint(tmp_path / "long", context=4096), **CPU, cache=False, max_tokens=100, temperature=0)
    assert lm.supports_response_schema
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
        got = dspy.Predict("question -> sure: bool, kind: Literal['a', 'b']")(question="Is it?")
    assert isinstance(got.sure, bool)
    assert got.kind in ("a", "b")
    assert lm.history[-1]["usage"]["completion_tokens"] > 0


@pytest.fixture
def unconstrained(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    grammars.can_constrain.cache_clear()
    yield
    grammars.can_constrain.cache_clear()


@pytest.mark.usefixtures("unconstrained")
def test_without_llguidance_an_answer_that_is_no_json_is_an_error_that_keeps_it(engine: LocalEngine) -> None:
    assert not engine.supports_response_schema
    assert "response_format" not in engine.supported_params
    text = engine.complete(ask(stop=("{",), max_tokens=12)).text
    ends = engine.complete(ask(max_tokens=12)).text[3:6]
    with pytest.raises(GarbledAnswer, match="no JSON") as caught:
        engine.complete(structured(None, stop=(ends,)))
    assert caught.value.partial.text in text
    assert caught.value.provider_code == "garbled_answer"
    events = engine.stream(structured(None, stop=(ends,)))
    with pytest.raises(GarbledAnswer):
        list(events)


@pytest.mark.usefixtures("unconstrained")
def test_json_that_does_not_fit_its_schema_is_an_error_that_says_where(engine: LocalEngine) -> None:
    from dspex_lab.lms.engines._local_request import Answer, response_of

    with pytest.raises(GarbledAnswer, match=r"at \$\.label: 'x' is not one of") as caught:
        response_of(structured(), Answer('{"label": "x", "sure": true}', "stop", 1, 1))
    assert caught.value.partial.text.startswith("{")
    assert response_of(structured(None), Answer("{}", "stop", 1, 1)).text == "{}"
    with pytest.raises(GarbledAnswer, match="does not fit"):
        response_of(structured(None), Answer("[1]", "stop", 1, 1))
    with pytest.raises(InvalidRequestError, match="no JSON schema"):
        response_of(structured({"type": "nothing"}), Answer("1", "stop", 1, 1))
    with pytest.raises(InvalidRequestError, match="cannot be followed"):
        response_of(structured({"$ref": "http://127.0.0.1:9/schema"}), Answer("1", "stop", 1, 1))


def test_json_that_was_cut_is_an_error_that_keeps_it(engine: LocalEngine) -> None:
    with pytest.raises(GarbledAnswer, match=r"cut after 2 tokens \(max_tokens\)") as caught:
        engine.complete(structured(max_tokens=2))
    assert caught.value.partial.usage.output_tokens == 2


def test_a_schema_that_cannot_be_held_to_is_refused(engine: LocalEngine) -> None:
    pytest.importorskip("llguidance", reason="answers are held to a schema by llguidance (extra neural)")
    with pytest.raises(InvalidRequestError, match="JSON schema"):
        engine.complete(structured({"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}, "required": ["a"]}))


def test_a_grammar_says_which_tokens_may_come(engine: LocalEngine) -> None:
    pytest.importorskip("llguidance", reason="answers are held to a schema by llguidance (extra neural)")
    tokenizer = engine.load().tokenizer
    size = len(tokenizer)
    made = grammars.grammar_tokenizer(tokenizer, size)
    grammar = grammars.Grammar(made, {"const": True})
    # More logits than tokens, as models with a rounded vocabulary give: the rest may not come.
    masked = grammar.mask(torch.zeros(size + 3))
    allowed = [tokenizer.decode([n]) for n in range(size + 3) if masked[n] == 0]
    assert allowed
    assert all("true".startswith(text) for text in allowed)
    with pytest.raises(GarbledAnswer, match="left its JSON schema"):
        grammar.take(tokenizer("false")["input_ids"][0])
    with pytest.raises(GarbledAnswer):
        grammar.mask(torch.zeros(size))
    assert grammars.grammar_tokenizer(object(), size) is None


def test_a_row_that_cannot_be_gone_on_with_fails_alone(engine: LocalEngine) -> None:
    from dspex_lab.lms.engines._local_rows import Choosing

    row = engine.load().row(engine._job(structured(), print, streams=False))
    row._grammar._matcher.consume_token(0)  # it has left its schema
    forced = Choosing([row])(None, torch.zeros(1, len(engine.load().tokenizer)))
    assert (forced == 0).sum() == 1
    assert isinstance(row.problem, GarbledAnswer)
