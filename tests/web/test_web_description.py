"""The OpenAPI description is true: schemathesis asks all that it allows, and what it does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.openapi import from_url
from schemathesis.specs.openapi import checks
from steady import STEADY
from web_helpers import LONG, ask, chat, same

import dspex_lab as dx
from dspex_lab.web import _replies as replies
from dspex_lab.web import serve
from dspex_lab.web._server import Served

#: Whether a value that its schema allows fits is for the pipeline to say, so what is refused all the same is no finding.
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.missing_required_header,
    checks.ignored_auth,
    checks.unsupported_method,
]

OPERATIONS = [
    "get /api/jobs",
    "get /api/jobs/{id}",
    "get /api/runs/{id}",
    "get /api/runs/{id}/events",
    "get /healthz",
    "get /metrics",
    "get /readyz",
    "get /v1/models",
    "get /v1/models/{name}",
    "post /api/jobs/{id}/cancel",
    "post /api/runs",
    "post /api/runs/{id}/cancel",
    "post /api/runs/{id}/feedback",
    "post /v1/chat/completions",
]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with dx.Lab(":memory:") as lab:
        lab.pipelines["echo"] = dx.pipeline("echo", out=dx.step(same))
        with serve(lab, chat=False, rate=None, patience=60.0) as served:
            yield served


@pytest.fixture(scope="module")
def described(served: Served) -> Any:
    return from_url(f"{served.url}/openapi.json")


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("name", OPERATIONS)
def test_what_the_description_says_holds(described: Any, served: Served, name: str, mode: GenerationMode) -> None:
    method, path = name.split(" ")
    operation = described[path][method]
    if mode is GenerationMode.NEGATIVE and not list(operation.iter_parameters()) and not operation.body:
        return  # there is nothing that could be wrong

    @settings(STEADY, max_examples=12)
    @given(case=operation.as_strategy(generation_mode=mode))
    def holds(case: schemathesis.Case) -> None:
        case.call_and_validate(headers={"Authorization": f"Bearer {served.token}"}, checks=CHECKS, timeout=LONG)

    holds()


def test_every_operation_says_what_the_gate_may_say(served: Served) -> None:
    _, _, found = ask(served, "GET", "/openapi.json", token="")
    operations = {f"{method} {path}": operation for path, of in found["paths"].items() for method, operation in of.items()}
    assert sorted(operations) == OPERATIONS
    for name, operation in operations.items():
        said = {int(status) for status in operation["responses"]}
        guarded = not name.endswith("z")
        assert {400, 403, 408, 413} <= said
        assert ({401, 429, 500} <= said) == guarded
        assert bool(operation["security"]) == guarded
        assert operation["summary"]
        assert operation["description"]
    answers = operations["post /v1/chat/completions"]["responses"]
    assert {"404", "415", "422", "502", "503", "504"} <= set(answers)
    assert sorted(answers["200"]["content"]) == ["application/json", "text/event-stream"]
    assert answers["429"]["headers"] == {"Retry-After": {"schema": {"type": "string"}}}


def test_answers_are_as_described(served: Served) -> None:
    replies.Completion.model_validate(chat(served, "x", model="echo")[2])
    replies.Models.model_validate(ask(served, "GET", "/v1/models")[2])
    replies.Failure.model_validate(chat(served, "x", model="eco")[2])
    _, _, run = ask(served, "POST", "/api/runs", {"text": "x"})
    replies.Run.model_validate(run)
    ask(served, "GET", f"/api/runs/{run['id']}/events")
    replies.Run.model_validate(ask(served, "GET", f"/api/runs/{run['id']}")[2])
