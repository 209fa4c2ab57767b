"""A server that speaks OpenAI's API over real sockets, and fails when and how a test says.

::

    from dspex_lab.testing import Fault, FaultyServer

    with FaultyServer({"label": "billing"}, faults={2: Fault.rate_limit(retry_after=3)}) as server:
        lm = dspy.LM("openai/any-model", api_base=server.url, api_key="sk-test", cache=False)
        ...
        assert server.counts.arrived == 2
        print(server.requests[0].body["messages"])

The answers are those of a :class:`ScriptedEngine`; the faults are :class:`Fault` values. Nothing is slept for: what hangs
hangs until the server is closed or :meth:`FaultyServer.release` is called, and ``gate`` (pieces of streams) and ``hold``
(whole answers) wait for the test. It listens on 127.0.0.1 alone, in a thread of its own.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from dspex_lab.testing._faulty_fault import Fault, Faults, Plan
from dspex_lab.testing._faulty_http import Connection, Exchange, Head
from dspex_lab.testing._faulty_log import Arrival, Counts, Log
from dspex_lab.testing._faulty_serve import REDIRECTED, Served, complaint, read_body
from dspex_lab.testing._reply import Answer, Reply, answer_from, check_script, pieces_of

if TYPE_CHECKING:
    from types import TracebackType

    from dspex_lab.testing._gate import Gate

#: All answers: the same to every request, one after the other in a circle, or computed from the request.
Script: TypeAlias = Answer | Sequence[Answer] | Callable[[Arrival], Answer]
_START_TIMEOUT = 30.0


class FaultyServer:
    """A server that speaks OpenAI's API and fails as planned. A context manager; starts when it is entered or by :meth:`start`.

    Served are ``/v1/chat/completions``, ``/v1/completions``, ``/v1/embeddings`` and ``/v1/models``, under any prefix.

    Args:
        script: the answers: a text, a dict of output fields (written in the form the prompt's adapter reads, as JSON where
            the request has a ``response_format``, as a call where it forces a tool), a :class:`Reply`, a sequence of these used
            in turn by the number of the request, or a function of the :class:`Arrival`. The function runs in the server's
            thread and must not wait.
        faults: which requests fail, and how: one :class:`Fault` for all, a dict by number (from 1), a sequence (None: no
            fault; after its end no more), or a function of the :class:`Arrival`.
        chances: the probability of each fault, drawn for each request from ``seed``; the same seed, the same draws.
        outages: start and end of outages in seconds on ``clock``; requests then meet ``outage_fault`` (503). By hand:
            :meth:`outage` and :meth:`recover`. The order: by hand, by the clock, ``faults``, ``chances``.
        clock: seconds, for outages and for :attr:`Arrival.at`; seconds since the start where None.
        wall: seconds since 1970, for a Retry-After that is a date.
        key: the only key that is right; any is where None.
        models: the models that exist; any does where None.
        gate: holds each piece of a stream; ``hold`` holds each answer before its first byte.
        delay: seconds before each answer, for benchmarks: a number or a function of the :class:`Arrival`.
        split: cuts a completion into the pieces of its stream; at the ends of words by default.
        keep: how many requests are kept, the latest ones.
    """

    def __init__(
        self,
        script: Script = "Hello!",
        *,
        faults: Faults | None = None,
        chances: Mapping[Fault, float] | None = None,
        seed: int = 0,
        outages: Sequence[tuple[float, float]] = (),
        outage_fault: Fault | None = None,
        clock: Callable[[], float] | None = None,
        wall: Callable[[], float] = time.time,
        key: str | None = None,
        models: Iterable[str] | None = None,
        gate: Gate | None = None,
        hold: Gate | None = None,
        delay: float | Callable[[Arrival], float] = 0.0,
        split: Callable[[str], Sequence[str]] | None = None,
        keep: int = 10_000,
    ) -> None:
        check_script(script)
        began = time.monotonic()
        self._clock = clock or (lambda: time.monotonic() - began)
        self._plan = Plan(faults, chances or {}, seed, outages, outage_fault or Fault.unavailable(), self._clock)
        self._script, self._key, self._delay = script, key, delay
        self._models = None if models is None else list(models)
        self._served = Served(gate, hold, split or pieces_of, wall, self._models or ["any-model"])
        self._log = Log(keep)
        self._numbers = self._connection_numbers = 0
        self._open: set[Connection] = set()
        self._emptied = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None
        self._failure: BaseException | None = None
        #: What functions of the script, of the faults or of the delay raised; the client got 500 for it.
        self.errors: list[Exception] = []
        self._address = ""

    def __repr__(self) -> str:
        where = self._address or "not started"
        return f"<FaultyServer {where}: {self.counts.arrived} requests>"

    # Life.

    def start(self) -> FaultyServer:
        """Listen; return the server.

        Raises:
            OSError: it cannot.
        """
        if self._thread is not None:
            raise RuntimeError("this server has been started before; make another one")
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="dspex-faulty-server", daemon=True)
        self._thread.start()
        if not ready.wait(_START_TIMEOUT):
            raise RuntimeError("the server did not start")
        if self._failure is not None:
            raise self._failure
        return self

    def close(self) -> None:
        """Close all connections and end the thread. Idempotent."""
        thread, loop, stop = self._thread, self._loop, self._stop
        if thread is None or not thread.is_alive() or loop is None or stop is None:
            return
        loop.call_soon_threadsafe(stop.set)
        thread.join(_START_TIMEOUT)
        if thread.is_alive():
            raise RuntimeError("the server did not stop: a function of its script does not return")

    def __enter__(self) -> FaultyServer:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close; raise what a function of the test raised, which the client only saw as a 500."""
        self.close()
        if error is None and self.errors:
            raise self.errors[0]

    def _run(self, ready: threading.Event) -> None:
        try:
            asyncio.run(self._serve(ready))
        except BaseException as error:  # it is raised where the server was started
            self._failure = error
        finally:
            ready.set()

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._emptied.set()
        server = await self._loop.create_server(self._connect, "127.0.0.1", 0, backlog=1024)
        self._address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        try:
            await self._stop.wait()
        finally:
            server.close()
            for connection in list(self._open):
                connection.abort()
            await self._emptied.wait()

    def _connect(self) -> Connection:
        self._connection_numbers += 1
        return Connection(self._connection_numbers, self._answer, self._opened, self._gone)

    def _opened(self, connection: Connection) -> None:
        self._open.add(connection)
        self._emptied.clear()
        self._log.count(connections=1, open_connections=1)

    def _gone(self, connection: Connection) -> None:
        self._open.discard(connection)
        if not self._open:
            self._emptied.set()
        self._log.count(open_connections=-1)

    # Where it is, and what it saw.

    @property
    def url(self) -> str:
        """The address that clients call their base: ``http://127.0.0.1:PORT/v1``."""
        return f"{self._address}/v1"

    @property
    def port(self) -> int:
        """The port."""
        return urlsplit(self._address).port or 0

    @property
    def requests(self) -> list[Arrival]:
        """The requests that arrived, in their order."""
        return self._log.arrivals

    @property
    def counts(self) -> Counts:
        """How many requests and connections there were and are; see :class:`Counts`."""
        return self._log.counts

    @property
    def met(self) -> dict[str, int]:
        """How many requests met a fault, by its kind."""
        return self._log.faults

    def clear(self) -> None:
        """Forget the requests and set the counts to 0; numbers of requests go on."""
        self._log.clear()

    def reached(self, n: int, timeout: float = 30.0) -> bool:
        """Wait until so many requests have arrived, and say whether they have."""
        return self._log.wait(lambda counts: counts.arrived >= n, timeout)

    def abandoned(self, n: int = 1, timeout: float = 30.0) -> bool:
        """Wait until so many requests were left by their client before they were answered."""
        return self._log.wait(lambda counts: counts.abandoned >= n, timeout)

    def flying(self, n: int, timeout: float = 30.0) -> bool:
        """Wait until at least so many requests are under way at once."""
        return self._log.wait(lambda counts: counts.in_flight >= n, timeout)

    def idle(self, timeout: float = 30.0) -> bool:
        """Wait until no request is under way."""
        return self._log.wait(lambda counts: counts.in_flight == 0, timeout)

    def disconnected(self, timeout: float = 30.0) -> bool:
        """Wait until no connection is open: the clients have closed theirs."""
        return self._log.wait(lambda counts: counts.open_connections == 0, timeout)

    # By hand.

    def outage(self, fault: Fault | None = None) -> None:
        """Begin an outage: each request that arrives meets ``fault`` (503 where None)."""
        self._plan.by_hand = fault or self._plan.outage_fault

    def recover(self) -> None:
        """End the outage that :meth:`outage` began."""
        self._plan.by_hand = None

    def release(self) -> None:
        """Let all that hangs go on: it is answered as if nothing had been."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(lambda: self._served.release(self._numbers))

    def hang_up(self) -> None:
        """Close all connections that wait for a request, as servers do with idle ones."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._hang_up)

    def _hang_up(self) -> None:
        for connection in list(self._open):
            connection.hang_up()

    # One request.

    def _answer(self, exchange: Exchange, head: Head, raw: bytes) -> Coroutine[Any, Any, None] | None:
        """Answer at once where nothing is waited for: a task for each request would halve what the server can serve."""
        self._numbers += 1
        body = read_body(raw)
        arrival = Arrival(self._numbers, exchange.connection, head.method, head.path, head.headers, body, self._clock())
        self._log.arrived(arrival)
        exchange.on_over = self._over
        replies: list[Reply] = []
        delay = 0.0
        try:
            fault = self._fault(arrival)
            delay = self._delay(arrival) if callable(self._delay) else self._delay
            if fault is None or fault.answers:
                replies = self._replies(arrival)
        except Exception as error:
            self.errors.append(error)
            fault = Fault.error(500, f"A function of the test failed: {type(error).__name__}: {error}", type="test_error")
        going = self._served.answer(exchange, arrival, fault, replies, delay)
        if self._served.waits(arrival, fault, delay):
            return going
        try:
            going.send(None)
        except StopIteration:
            return None
        raise AssertionError("an answer that waits for nothing waited")

    def _fault(self, arrival: Arrival) -> Fault | None:
        fault = None if arrival.path.startswith(REDIRECTED) else self._plan.fault(arrival)
        wrong = None if fault is not None else complaint(arrival, self._key, self._models)
        if fault is not None:
            self._log.met(fault.kind if fault.kind != "status" else str(fault.status))
        if wrong is None and (fault is None or fault.paid) and not arrival.path.endswith("/models"):
            self._log.count(paid=1)
        return fault or wrong

    def _over(self, abandoned: bool) -> None:
        self._log.count(in_flight=-1, **{"abandoned" if abandoned else "answered": 1})

    def _replies(self, arrival: Arrival) -> list[Reply]:
        return [
            answer_from(self._script, arrival.number + index, arrival) for index in range((arrival.body or {}).get("n") or 1)
        ]
