"""The routes."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Header, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from dspex_lab._version import __version__
from dspex_lab.errors import ConfigurationError, JobError, SessionError
from dspex_lab.jobs import ENDED
from dspex_lab.security import redact
from dspex_lab.web import _replies as replies
from dspex_lab.web._agent import Agent, Course, Unknown
from dspex_lab.web._ask import AUTO, Answer, Ask, named
from dspex_lab.web._completions import END, chunks, completion
from dspex_lab.web._description import ANSWERED, JUDGED, NO_JOB, NO_MODEL, NO_RUN, NOT_READY, STARTED, STOPPED, describe
from dspex_lab.web._errors import Json, Refused, failed, problem
from dspex_lab.web._fallbacks import told_of
from dspex_lab.web._inputs import Unfit, schema_of
from dspex_lab.web._metrics import Metrics
from dspex_lab.web._offers import Offer
from dspex_lab.web._places import Places
from dspex_lab.web._requests import ChatRequest, FeedbackRequest, RunRequest
from dspex_lab.web._routing import NoRoute
from dspex_lab.web._runs import Run, Runs
from dspex_lab.web._stream import Stream

T = TypeVar("T")

#: Ids as they stand in a path.
Id = Annotated[str, Path(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_-]+$")]


@dataclass
class Room:
    """What the routes share."""

    agent: Agent
    runs: Runs
    metrics: Metrics
    places: Places
    ready: bool = False


def make_app(agent: Agent, *, most: int = 64, waiting: int = 1000, patience: float = 30.0) -> FastAPI:
    """Return the application: what is behind the gate.

    Args:
        most: requests that are answered at once.
        waiting: requests that may wait for that, each at most ``patience`` seconds.
    """
    metrics = Metrics()
    places = Places(metrics, most, waiting, patience)
    room = Room(agent, Runs(agent, agent.lab.store, places, metrics.answered), metrics, places)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        room.ready = True
        yield
        room.ready = False
        await room.runs.close()

    app = FastAPIOffline(
        title="dspex-lab",
        version=__version__,
        description="Pipelines as models: OpenAI's chat completions, and runs, jobs and feedback of our own.",
        lifespan=life,
        default_response_class=Json,
    )
    app.state.room = room
    _errors(app)
    _openai(app, room)
    _runs(app, room)
    _jobs(app, room)
    _health(app, room)
    describe(app)
    return app


# ---- errors ----------------------------------------------------------------------------------------------------------


def _errors(app: FastAPI) -> None:
    async def refused(_: Request, error: Exception) -> Response:
        return problem(error).response()

    for kind in (Refused, Unknown, NoRoute, Unfit, SessionError, Exception):
        app.add_exception_handler(kind, refused)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        if any(each["loc"] == ("body",) for each in error.errors()) and not _is_json(request):
            return Refused(415, "The body must be JSON: Content-Type: application/json.", code="not_json").response()
        for each in error.errors():
            if each["type"] == "json_invalid":
                where = f"{each.get('ctx', {}).get('error', each['msg'])}, at character {each['loc'][-1]}"
                return Refused(400, f"The body is no JSON: {where}.", code="invalid_json", param="body").response()
        found = [
            {"field": ".".join(str(part) for part in each["loc"][1:]) or "body", "message": each["msg"]}
            for each in error.errors()
        ]
        said = "; ".join(f"{each['field']}: {each['message']}" for each in found)
        return Refused(422, said, code="invalid_request", param=found[0]["field"], more={"details": found}).response()

    @app.exception_handler(HTTPException)
    async def known(_: Request, error: HTTPException) -> Response:
        return Refused(error.status_code, str(error.detail), code="http_error", headers=dict(error.headers or {})).response()


def _is_json(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


# ---- OpenAI's --------------------------------------------------------------------------------------------------------


def _openai(app: FastAPI, room: Room) -> None:
    @app.get("/v1/models", tags=["OpenAI"], response_model=replies.Models)
    async def models() -> Response:
        """The pipelines as models."""
        return Json({"object": "list", "data": [_model(offer) for offer in room.agent.catalogue.all()]})

    @app.get("/v1/models/{name:path}", tags=["OpenAI"], response_model=replies.Model, responses=NO_MODEL)
    async def model(name: Annotated[str, Path(max_length=200)]) -> Response:
        """One of them."""
        offer = room.agent.catalogue.get(name)
        if offer is None:
            raise Unknown(name, [each.name for each in room.agent.catalogue.all()])
        return Json(_model(offer))

    @app.post("/v1/chat/completions", tags=["OpenAI"], response_model=replies.Completion, responses=ANSWERED)
    async def complete(body: ChatRequest, request: Request) -> Response:
        """Answer a conversation: by the pipeline that is named as the model, or with ``auto`` by the one that fits best."""
        course = await _begun(room, body.ask())
        if body.stream:
            usage = body.stream_options is not None and bool(body.stream_options.include_usage)
            return Stream(_streamed(room, course, usage), room.places.take(), room.metrics)
        answer = await _unless_gone(request, _answered(room, course))
        if answer is None:
            return Response(status_code=499)  # nobody reads it
        room.metrics.answered(answer)
        if not answer.ok:
            raise failed(answer)
        return Json(completion(answer), headers=_told(answer))


async def _begun(room: Room, ask: Ask) -> Course:
    """Find who answers; in a thread where texts are compared, which a model may do."""
    return room.agent.begin(ask) if ask.model != AUTO else await asyncio.to_thread(room.agent.begin, ask)


async def _answered(room: Room, course: Course) -> Answer:
    async with room.places.take():
        return await room.agent.answer(course)


async def _streamed(room: Room, course: Course, usage: bool) -> AsyncGenerator[bytes, None]:
    async with aclosing(chunks(room.agent, course, usage=usage, done=room.metrics.answered)) as pieces:
        try:
            async for piece in pieces:
                yield piece
        except Exception as error:
            refused = problem(error)
            yield b"data: " + json.dumps(refused.body()).encode() + b"\n\n" + END
            if refused.status >= 500:
                raise  # whoever runs the server finds it in its log


async def _unless_gone(request: Request, work: Awaitable[T]) -> T | None:
    """Return what some work gives; end it, and return None, where the client has gone."""
    going = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({going, gone}, return_when=asyncio.FIRST_COMPLETED)
        return await going if going.done() else None
    finally:
        for task in (going, gone):
            task.cancel()
        await asyncio.wait({going, gone})


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _model(offer: Offer) -> dict[str, Any]:
    return {
        "id": offer.name,
        "object": "model",
        "created": 0,
        "owned_by": "dspex-lab",
        "description": offer.description,
        "inputs": schema_of(offer.pipeline),
        "outputs": list(offer.pipeline.outputs),
    }


def _told(answer: Answer) -> dict[str, str]:
    """Return the headers that say who answered, for whoever does not look into the body."""
    return {
        "X-Dspex-Pipeline": answer.offer.name.encode("ascii", "backslashreplace").decode(),
        "X-Dspex-Run": answer.result.run_id,
        "X-Dspex-Seconds": f"{answer.seconds:.6f}",
        "X-Dspex-Fallback": "true" if answer.fallback is not None else "false",
    }


# ---- runs and jobs ---------------------------------------------------------------------------------------------------


def _runs(app: FastAPI, room: Room) -> None:
    @app.post("/api/runs", status_code=202, tags=["runs"], response_model=replies.Run, responses=STARTED)
    async def start(body: RunRequest) -> Response:
        """Begin a run and return at once; it goes on when the client has gone."""
        return Json(room.runs.start(await _begun(room, body.ask())).describe(), 202)

    @app.get("/api/runs/{id}", tags=["runs"], response_model=replies.Run, responses=NO_RUN)
    async def look(id: Id) -> Response:  # noqa: A002 - the word of the path
        """How a run is; also one of an earlier server."""
        run = room.runs.get(id)
        found = await room.runs.recorded(id) if run is None else run.describe()
        if found is None:
            raise _no_run(id)
        return Json(found)

    @app.post("/api/runs/{id}/cancel", tags=["runs"], response_model=replies.Run, responses=NO_RUN)
    async def cancel(id: Id) -> Response:  # noqa: A002
        """End a run; one that has ended stays as it is."""
        run = _known(room, id)
        await room.runs.cancel(run)
        return Json(run.describe())

    @app.get("/api/runs/{id}/events", tags=["runs"], status_code=200, response_class=Stream, responses=NO_RUN)
    async def events(id: Id, last_event_id: Annotated[str | None, Header()] = None) -> Response:  # noqa: A002
        """What happens in a run, as server-sent events, from its beginning or after ``Last-Event-ID``."""
        run = _known(room, id)
        said = last_event_id or ""  # of more digits than these none was given here, and Python reads no number of thousands
        after = int(said[:20]) if said.isascii() and said.isdigit() else -1
        return Stream(_followed(room.runs.follow(run, after)), nullcontext(), room.metrics)

    @app.post("/api/runs/{id}/feedback", status_code=201, tags=["runs"], response_model=replies.Feedback, responses=JUDGED)
    async def feedback(id: Id, body: FeedbackRequest) -> Response:  # noqa: A002
        """Say of a run that it was good or bad, or what would have been right; the router and ``lab.examples`` use it."""
        run = room.runs.get(id)
        if run is not None and run.state == "running":
            raise Refused(409, f"The run {id!r} has not ended.", code="run_not_ended", param="id")
        if (found := await room.runs.recorded(id)) is None:
            raise _no_run(id)
        run_id = found["run_id"]
        try:
            row = await asyncio.to_thread(
                room.agent.lab.feedback, run_id, body.verdict, body.correction, body.note, who=body.who or "web"
            )
        except ConfigurationError as error:
            raise Refused(422, error.message, code="invalid_feedback") from None
        room.agent.memory.forget()
        return Json({"id": row.feedback_id, "object": "feedback", "run_id": run_id}, 201)


def _known(room: Room, id: str) -> Run:  # noqa: A002
    run = room.runs.get(id)
    if run is None:
        raise _no_run(id)
    return run


def _no_run(id: str) -> Refused:  # noqa: A002
    return Refused(404, f"There is no run {id!r} here.", code="run_not_found", param="id")


async def _followed(events: AsyncGenerator[tuple[int, str, str] | None, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(events):
        async for event in events:
            if event is None:
                yield b": still here\n\n"
            else:
                number, name, data = event
                yield f"id: {number}\nevent: {name}\ndata: {data}\n\n".encode()


def _jobs(app: FastAPI, room: Room) -> None:
    @app.get("/api/jobs", tags=["jobs"], response_model=replies.Jobs)
    async def jobs() -> Response:
        """The jobs of the Lab, the newest first; also those of earlier processes."""
        return Json({"object": "list", "data": await asyncio.to_thread(lambda: [_job(j) for j in room.agent.lab.jobs])})

    @app.get("/api/jobs/{id}", tags=["jobs"], response_model=replies.Job, responses=NO_JOB)
    async def job(id: Id) -> Response:  # noqa: A002
        """How a job is, by its id or its number."""
        return Json(_job(await _job_of(room, id)))

    @app.post("/api/jobs/{id}/cancel", tags=["jobs"], response_model=replies.Job, responses=STOPPED)
    async def cancel(id: Id) -> Response:  # noqa: A002
        """End a job with the best that it has found so far; one that has ended stays as it is."""
        job = await _job_of(room, id)
        try:
            await asyncio.to_thread(job.stop)
        except JobError as error:
            if job.state not in ENDED:
                raise Refused(409, error.message, code="job_not_here", param="id") from None
        return Json(_job(job))


async def _job_of(room: Room, id: str) -> Any:  # noqa: A002
    try:
        return await asyncio.to_thread(lambda: room.agent.lab.jobs.get(int(id) if id.isdigit() and len(id) < 9 else id))
    except JobError as error:
        raise Refused(404, error.message, code="job_not_found", param="id") from None


def _job(job: Any) -> dict[str, Any]:
    at, error = job.progress, job.error
    why = error.message if isinstance(error, JobError) else told_of(error) if isinstance(error, BaseException) else error
    told = {
        "id": job.id,
        "object": "job",
        "number": job.number,
        "kind": job.kind,
        "name": job.name,
        "state": job.state,
        "done": at.done,
        "total": at.total,
        "best": at.best,
        "note": at.note,
        "error": None if why is None else redact(_QUOTED.sub(r"\1", why)),
    }
    return named(told)


#: The kind of an error that a job's own tells of, and its words, which are not ours.
_QUOTED = re.compile(r"\b([A-Z]\w*): .*", re.DOTALL)


# ---- health ----------------------------------------------------------------------------------------------------------


def _health(app: FastAPI, room: Room) -> None:
    @app.get("/healthz", tags=["health"], response_model=replies.Health)
    async def alive() -> Response:
        """The process is there."""
        return Json({"status": "ok"})

    @app.get("/readyz", tags=["health"], response_model=replies.Health, responses=NOT_READY)
    async def ready() -> Response:
        """It answers requests."""
        if not room.ready or room.agent.lab.closed or not room.agent.catalogue.all():
            raise Refused(503, "There is no pipeline to serve.", kind="server_error", code="not_ready")
        return Json({"status": "ready"})

    @app.get("/metrics", tags=["health"], response_class=replies.Exposition)
    async def metrics() -> Response:
        """Counters in Prometheus's text format."""
        return replies.Exposition(room.metrics.text())
