"""Responses that go out piece by piece."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from dspex_lab.web._metrics import Metrics


class Stream(StreamingResponse):
    """Server-sent events. Where the client goes, what makes them is ended before the response is over.

    Args:
        pieces: the events, as bytes; closed in any case.
        place: entered before the first byte goes out, so that what it raises is answered with a status of its own.
        metrics: count the stream as open.
    """

    media_type = "text/event-stream"

    def __init__(self, pieces: AsyncGenerator[bytes, None], place: AbstractAsyncContextManager[None], metrics: Metrics) -> None:
        super().__init__(pieces, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._pieces, self._place, self._open = pieces, place, metrics.streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; return when it was sent, or its client has gone."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._pieces.aclose()

    async def stream_response(self, send: Send) -> None:
        """Send it from its place."""
        async with self._place:
            with self._open.track_inprogress():
                await super().stream_response(send)
