"""What clients are told when something is wrong: a status and a body as OpenAI's clients read it, never a stack trace."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from dspex_lab.errors import SessionError
from dspex_lab.security import redact
from dspex_lab.web._agent import Unknown
from dspex_lab.web._ask import Answer, written
from dspex_lab.web._fallbacks import Failure, failure_of, told_of
from dspex_lab.web._inputs import Unfit
from dspex_lab.web._routing import NoRoute

#: The status of a failed run by the class of its failure.
STATUS: dict[Failure, int] = {
    "budget": 429,
    "provider": 502,
    "answer": 502,
    "timeout": 504,
    "worker": 503,
    "tools": 502,
    "other": 500,
}


class Json(JSONResponse):
    """JSON in ASCII, so that no text of a model, whatever it is, fails on its way out."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return written(content).encode()


class Refused(Exception):
    """A request that gets an error.

    Args:
        status: of HTTP.
        message: for a person.
        kind: OpenAI's ``type``.
        code: OpenAI's ``code``, for programs.
        param: the field that is wrong.
        headers: of the response.
        more: beside the error in the body.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
        more: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.kind, self.code, self.param = status, message, kind, code, param
        self.headers, self.more = headers, dict(more or {})

    def body(self) -> dict[str, Any]:
        """Return what the response says."""
        error = {"message": redact(self.message), "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error, **self.more}

    def response(self) -> Json:
        """Return the response."""
        return Json(self.body(), self.status, headers=self.headers)


def problem(error: Exception) -> Refused:
    """Return what a request gets that met an error: one of its own, or one of the server."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, Unknown | NoRoute | Unfit):
        return refusal(error)
    if isinstance(error, SessionError):
        return Refused(422, error.message, code="invalid_session", param="session")
    return Refused(500, f"An error of the server: {told_of(error)}", kind="server_error", code="internal")


def refusal(error: Unknown | NoRoute | Unfit) -> Refused:
    """Return what a request gets that could not be begun."""
    if isinstance(error, Unknown):
        there = ", ".join(error.offered) or "none"
        said = f"There is no pipeline {error.name!r}; there are: {there}."
        return Refused(404, said, code="model_not_found", param="model")
    if isinstance(error, NoRoute):
        near = ", ".join(each.name for each in error.ranking[:5])
        return Refused(422, f"No pipeline is for this request; name one as the model: {near}.", code="no_route", param="model")
    first = error.misfits[0]
    details = [{"field": m.where, "message": m.why} for m in error.misfits]
    return Refused(422, str(error), code="invalid_inputs", param=first.where, more={"details": details})


def failed(answer: Answer) -> Refused:
    """Return what a request gets whose run gave no answer."""
    failure = failure_of(answer.result.error, answer.offer)
    said = f"The pipeline {answer.offer.name!r} gave no answer: {told_of(answer.result.error)}"
    headers = {"Retry-After": "1"} if STATUS[failure] == 503 else None
    code = "insufficient_quota" if failure == "budget" else failure
    return Refused(STATUS[failure], said, kind="pipeline_error", code=code, headers=headers, more={"dspex": _about(answer)})


def _about(answer: Answer) -> dict[str, Any]:
    about = answer.about()
    return {**about, "outputs": {}, "tried": [redact(each) for each in answer.tried]}
