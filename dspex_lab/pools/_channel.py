"""Messages between the kernels that are joined to one cluster: published to topics of Dask's scheduler.

A message is JSON, as text, and no larger than :data:`LARGEST`. The scheduler hands it on to who has subscribed, and keeps the
last ones of each topic (``distributed.admin.low-level-log-length``: a thousand). Whoever is on the cluster can publish
anything: what is none of our messages is left, counted and said once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import PoolError, Unserialisable

if TYPE_CHECKING:
    from dspex_lab.pools._runtime import Runtime

log = logging.getLogger("dspex_lab")

Handler = Callable[[Mapping[str, Any]], None]

#: Letters of one message.
LARGEST = 4_000_000

#: Messages, and their letters, that may wait for the scheduler.
_WAITING, _WAITING_LETTERS = 20_000, 64_000_000

#: Seconds between two looks at whether the connection is another one; until a lost one is looked for again, at most.
_GLANCE, _LOOK = 0.5, 5.0

#: Seconds until the scheduler must have taken a message.
_SENDING = 15.0


class ClusterChannel:
    """Publishes and hears messages on the cluster of a Lab's pools. Thread-safe; nothing waits but :meth:`close`.

    Messages of one channel arrive in their order, each once; while the connection is lost, none is taken, and those on their
    way are lost. When the cluster is back, so are the subscriptions. Handlers are called on the pools' thread, one at a time:
    they must not block it. A runtime has one channel (:func:`channel_of`), as Dask has one handler for each topic.

    Args:
        runtime: the pools' thread and cluster; both are started when first needed.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = threading.Lock()
        self._handlers: dict[str, list[Handler]] = {}
        self._outbox: deque[tuple[str, str]] = deque()
        self._letters = 0
        self._serving: Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken: asyncio.Event | None = None
        self._lost: Exception | None = None
        self._closed = False
        #: The connection that the topics are subscribed on, and which ones.
        self._connection: Any = None
        self._subscribed: set[str] = set()
        #: How much came that was no message.
        self.refused = 0

    def __repr__(self) -> str:
        state = "closed" if self._closed else "lost" if self._lost is not None else "open"
        return f"<ClusterChannel {state}, {len(self._handlers)} topic{'' if len(self._handlers) == 1 else 's'}>"

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def publish(self, topic: str, message: Mapping[str, Any]) -> None:
        """Send a message; returns at once.

        Raises:
            Unserialisable: it is no JSON, or larger than a message may be.
            PoolError: the cluster cannot be reached now, too much waits already, or the channel is closed.
        """
        text = _packed(message)
        with self._lock:
            if self._closed:
                raise PoolError("The channel to other kernels is closed.")
            if self._lost is not None:
                raise PoolError(f"Other kernels cannot be reached: {self._lost}") from self._lost
            if len(self._outbox) >= _WAITING or self._letters + len(text) > _WAITING_LETTERS:
                raise PoolError(f"{len(self._outbox)} messages to other kernels wait already: the scheduler does not keep up.")
            self._outbox.append((topic, text))
            self._letters += len(text)
        self._wake()

    def subscribe(self, topic: str, handler: Handler) -> Callable[[], None]:
        """Have ``handler`` called for each message of a topic; return what ends that."""
        with self._lock:
            self._handlers.setdefault(topic, []).append(handler)
        self._wake()

        def unsubscribe() -> None:
            with self._lock:
                handlers = self._handlers.get(topic, [])
                if handler in handlers:
                    handlers.remove(handler)
                if not handlers:
                    self._handlers.pop(topic, None)
            self._wake()

        return unsubscribe

    def close(self) -> None:
        """Send and hear nothing any more. Idempotent."""
        with self._lock:
            self._closed = True
            serving, self._serving = self._serving, None
            self._outbox.clear()
            self._handlers.clear()
        if serving is not None:
            serving.cancel()

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        with self._lock:
            if self._closed:
                return
            if self._serving is None:
                self._runtime.closers.add(self)
                self._serving = self._runtime.submit(self._serve())
            elif self._loop is not None and self._woken is not None:
                self._loop.call_soon_threadsafe(self._woken.set)

    async def _serve(self) -> None:
        """Keep the subscriptions and empty the outbox, for ever."""
        with self._lock:
            self._loop, self._woken = asyncio.get_running_loop(), asyncio.Event()
        cluster: Any = self._runtime.cluster()
        pause = _GLANCE
        try:
            while True:
                try:
                    await cluster.start()
                    while True:
                        await self._attend(cluster.client, self._woken)
                        pause = _GLANCE
                except Exception as error:
                    self._lose(error)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LOOK)
        finally:
            self._part(cluster.client)

    async def _attend(self, client: Any, woken: asyncio.Event) -> None:
        """Subscribe to what is wanted and send what is next; where nothing is, wait a while for it.

        Raises:
            OSError: the scheduler is not there.
        """
        if client is None or client.status != "running":
            raise ConnectionError("the scheduler is not connected")
        woken.clear()
        self._subscribe(client)
        self._lost = None
        batch = self._batch()
        if batch is not None:
            async with asyncio.timeout(_SENDING):
                await client.log_event(*batch)
            return
        # No longer than this: the connection may be another one by then.
        await asyncio.wait({waits := asyncio.ensure_future(woken.wait())}, timeout=_GLANCE)
        waits.cancel()

    def _subscribe(self, client: Any) -> None:
        """Bring the subscriptions of this connection up to what is wanted."""
        if self._connection is not client.scheduler_comm:
            # Dask does not subscribe anew where it has connected anew.
            self._connection, self._subscribed = client.scheduler_comm, set()
        with self._lock:
            wanted = set(self._handlers)
        for topic in wanted - self._subscribed:
            client.subscribe_topic(topic, lambda event, topic=topic: self._hear(topic, event))
        for topic in self._subscribed - wanted:
            client.unsubscribe_topic(topic)
        self._subscribed = wanted

    def _batch(self) -> tuple[str, str] | None:
        """Return the next messages that go to one topic, as one text."""
        with self._lock:
            if not self._outbox:
                return None
            topic, text = self._outbox.popleft()
            texts, room = [text], LARGEST - len(text)
            while self._outbox and self._outbox[0][0] == topic and len(self._outbox[0][1]) < room:
                texts.append(self._outbox.popleft()[1])
                room -= len(texts[-1]) + 1
            self._letters -= sum(map(len, texts))
        return topic, f"[{','.join(texts)}]"

    def _lose(self, error: Exception) -> None:
        with self._lock:
            if self._lost is None:
                log.warning("other kernels on the cluster cannot be reached, which is tried again: %s", error)
            self._lost = error
            self._outbox.clear()
            self._letters = 0

    def _part(self, client: Any) -> None:
        """Unsubscribe: the cluster may stay."""
        if client is not None and client.status == "running" and client.scheduler_comm is self._connection:
            for topic in self._subscribed:
                client.unsubscribe_topic(topic)

    def _hear(self, topic: str, event: Any) -> None:
        try:
            messages = _unpacked(event)
        except (ValueError, RecursionError) as error:
            self.refused += 1
            say = log.warning if self.refused == 1 else log.debug
            say("something on topic %s is no message of ours and was left: %s", topic, error)
            return
        for message in messages:
            for handler in list(self._handlers.get(topic, ())):
                try:
                    handler(message)
                except Exception:
                    log.exception("what hears topic %s raised", topic)


def channel_of(runtime: Runtime) -> ClusterChannel:
    """Return the channel of a runtime; a new one where there is none, or it was closed."""
    with _channels_lock:
        found = _channels.get(runtime)
        if found is None or found.closed:
            found = _channels[runtime] = ClusterChannel(runtime)
        return found


_channels: weakref.WeakKeyDictionary[Runtime, ClusterChannel] = weakref.WeakKeyDictionary()
_channels_lock = threading.Lock()


def _packed(message: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(message, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise Unserialisable(f"A message to other kernels is JSON, and this one cannot be: {error}") from error
    if len(text) > LARGEST:
        raise Unserialisable(f"A message to other kernels has at most {LARGEST:,} letters, and this one has {len(text):,}.")
    return text


def _unpacked(event: Any) -> list[dict[str, Any]]:
    """Return the messages of an event of Dask's.

    Raises:
        ValueError: it has none.
    """
    text = event[1] if isinstance(event, tuple | list) and len(event) == 2 else None
    if not isinstance(text, str):
        raise ValueError("it is no text")
    if len(text) > LARGEST + 2:
        raise ValueError(f"it has {len(text):,} letters")
    found = json.loads(text, parse_constant=_no_number)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ValueError("it is no list of messages")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")
