"""The OpenAPI description: what FastAPI sees of the routes, and what the gate and the errors add to each of them."""

from __future__ import annotations

from typing import Any, TypeAlias

from fastapi import FastAPI

from dspex_lab.web._gate import OPEN
from dspex_lab.web._replies import Failure

Responses: TypeAlias = dict[int | str, dict[str, Any]]

_BODY = {413: "the body is too large", 415: "the body is not said to be JSON"}
_ANSWER = {
    404: "there is no such pipeline",
    502: "a model or a tool failed",
    503: "too many requests wait, or a worker was lost",
    504: "it took too long",
}


def _said(*of: dict[int, str]) -> Responses:
    return {status: {"description": text} for each in of for status, text in each.items()}


ANSWERED: Responses = {
    **_said(_BODY, _ANSWER, {400: "no JSON, or something that is not supported", 422: "the pipeline cannot start on this"}),
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
}
STARTED = _said(_BODY, {status: _ANSWER[status] for status in (404, 503)})
NO_MODEL = _said({404: "there is no such pipeline"})
NO_RUN = _said({404: "there is no such run"})
JUDGED = _said(_BODY, {404: "there is no such run", 409: "it has not ended"})
NO_JOB = _said({404: "there is no such job"})
STOPPED = _said({404: "there is no such job", 409: "it goes on in another process"})
NOT_READY = _said({503: "there is no pipeline to serve"})

#: What the gate and the server may say to any request, and to one that needs a token.
_ANY = {400: "no JSON, or no HTTP", 403: "wrong host or origin", 408: "it did not come in time", 413: "it is too large"}
_GUARDED = {401: "no token, or a wrong one", 429: "too many requests, or the budget is spent", 500: "an error of the server"}
_HEADERS = {401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}


def describe(app: FastAPI) -> None:
    """Have the application describe all that its clients may be told."""
    routes = app.openapi

    def whole() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = routes()
            found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            found["components"]["schemas"] |= _schemas()
            for path, operations in found["paths"].items():
                for operation in operations.values():
                    _complete(operation, path)
        return app.openapi_schema or {}

    app.openapi = whole  # type: ignore[method-assign]


def _schemas() -> dict[str, Any]:
    schema = Failure.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs"), "Failure": schema}


def _complete(operation: dict[str, Any], path: str) -> None:
    guarded = path not in OPEN
    operation["security"] = [{"token": []}] if guarded else []
    responses = operation["responses"]
    for status, said in {**_ANY, **(_GUARDED if guarded else {})}.items():
        responses.setdefault(str(status), {"description": said})
    for status, response in responses.items():
        if int(status) >= 400:
            response["content"] = {"application/json": {"schema": {"$ref": "#/components/schemas/Failure"}}}
        if int(status) in _HEADERS:
            response["headers"] = {_HEADERS[int(status)]: {"schema": {"type": "string"}}}
