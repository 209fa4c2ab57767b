"""A door for programs and people outside the notebook: pipelines as OpenAI models, runs and jobs over HTTP, a chat page.

The way of a request: :class:`~dspex_lab.web._gate.Gate` (host, origin, token, size, rate) → a route → ``Agent.begin`` (which
pipeline, do the inputs fit) → ``Agent.answer`` or ``Agent.stream`` (run it; where it fails, what fits the failure). Deciding is
in ``_routing`` and ``_fallbacks``, which are pure. FastAPI and uvicorn (extra ``web``) are imported when something is served,
Panel where there is a chat page.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dspex_lab._lazy import require
from dspex_lab.errors import ConfigurationError

if TYPE_CHECKING:
    from dspex_lab.web._agent import Agent
    from dspex_lab.web._server import Served
    from dspex_lab.workbench import Lab

__all__ = ["serve"]


def serve(
    lab: Lab,
    pipelines: Iterable[str] | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    hosts: Iterable[str] = (),
    token: str | None = None,
    descriptions: Mapping[str, str] | None = None,
    models: Sequence[Any] = (),
    fallbacks: Mapping[str, Sequence[str]] | None = None,
    embed: Any = None,
    deadline: float | None = 120.0,
    rate: str | None = "6000/minute",
    largest: int = 4 << 20,
    concurrency: int = 64,
    waiting: int = 1000,
    patience: float = 10.0,
    chat: bool = True,
) -> Served:
    """Serve pipelines of a Lab and return at once.

    Args:
        lab: runs them.
        pipelines: names of those that are offered; None for all of the Lab, also those that come later.
        host, port: to listen on; port 0 is a free one. Others than the loopback can reach it only with another ``host``.
        hosts: further ``name:port`` by which clients may call it, behind a proxy for instance.
        token: that requests must show; by default ``DSPEX_SERVE_TOKEN``, else one is made.
        descriptions: what pipelines are for, by name; by default what their signatures say. Requests are routed by it.
        models: asked in place of the one in use where that fails, in this order.
        fallbacks: for a pipeline those that are tried where it fails.
        embed: texts to unit vectors, for the routing: ``dx.lms.sentence_embedder(…)``; by default spelling is compared.
        deadline: seconds that a request may take where it does not say.
        rate: requests of a client: ``"600/minute"``; None for any.
        largest: bytes of a request.
        concurrency: requests that are answered at once; ``waiting`` so many may wait.
        patience: seconds until a request must have come whole, and within which a client must read something of its answer.
        chat: also serve a chat page, at an address of its own on the loopback, whatever ``host`` is.

    Raises:
        ConfigurationError: there is no such pipeline, a number makes no sense, the port is taken, or the extra ``web`` is not
            installed.
    """
    _check(
        {"concurrency": (concurrency, 1), "waiting": (waiting, 0), "largest": (largest, 1)},
        {"patience": patience, **({} if deadline is None else {"deadline": deadline})},
    )
    for package in ("fastapi", "uvicorn", "limits", "prometheus_client", "fastapi_offline"):
        require(package, "to serve pipelines")
    for package in ("panel", "markdown_it") if chat else ():
        require(package, "for the chat page")
    from dspex_lab.lms import embed_text
    from dspex_lab.web._agent import Agent
    from dspex_lab.web._app import make_app
    from dspex_lab.web._offers import Catalogue
    from dspex_lab.web._server import Served

    catalogue = Catalogue(lambda: lab.pipelines, pipelines, descriptions)
    catalogue.check(name for first, others in (fallbacks or {}).items() for name in (first, *others))
    agent = Agent(lab, catalogue, models=models, declared=fallbacks, embed=embed or embed_text, deadline=deadline)
    served = Served(
        lambda: make_app(agent, most=concurrency, waiting=waiting),
        host=host,
        port=port,
        hosts=hosts,
        token=token,
        rate=rate,
        largest=largest,
        patience=patience,
    )
    if chat:
        _add_chat(served, agent)
    return served


def _check(whole: Mapping[str, tuple[int, int]], seconds: Mapping[str, float]) -> None:
    for key, (value, least) in whole.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigurationError(
                f"Nothing can be served with {key}={value!r}.",
                key=key,
                expected=f"a whole number from {least} on",
                actual=value,
            )
    for key, time in seconds.items():
        if isinstance(time, bool) or not isinstance(time, int | float) or not 0 < time < math.inf:
            raise ConfigurationError(
                f"Nothing can be served with {key}={time!r}.", key=key, expected="seconds, more than none", actual=time
            )


def _add_chat(served: Served, agent: Agent) -> None:
    from dspex_lab.web._chat_page import ChatServer

    try:
        page = ChatServer(agent)
    except BaseException:
        served.stop()
        raise
    served.chat = page.url
    served.on_stop(page.stop)
