"""What the tests of spaces elsewhere share: a channel within one process, and observers that can be waited for."""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

from dspex_lab.errors import PoolError, Unserialisable
from dspex_lab.variables import Commit

log = logging.getLogger("dspex_lab")

ASK, TOLD = "dspex.space.default.ask", "dspex.space.default.told"


class Hub:
    """Channels of one process: messages travel as JSON through one thread. Some can be lost, held back or refused."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.lose: Callable[[str, dict[str, Any]], bool] = lambda topic, message: False
        self.down = False
        self.largest = 100_000
        self._handlers: dict[str, list[Callable[[Any], None]]] = {}
        self._queue: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def publish(self, topic: str, message: Mapping[str, Any]) -> None:
        if self.down:
            raise PoolError("the cluster is away")
        try:
            text = json.dumps(message, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise Unserialisable(f"it is no JSON: {error}") from error
        if len(text) > self.largest:
            raise Unserialisable(f"it has {len(text)} letters, more than {self.largest}")
        self._queue.put((topic, text))

    def subscribe(self, topic: str, handler: Callable[[Any], None]) -> Callable[[], None]:
        self._handlers.setdefault(topic, []).append(handler)
        return lambda: self._handlers[topic].remove(handler)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            topic, text = item
            message = json.loads(text)
            self.sent.append((topic, message))
            if self.lose(topic, message):
                continue
            for handler in list(self._handlers.get(topic, ())):
                try:
                    handler(message)
                except Exception:
                    log.exception("a handler of %s raised", topic)

    def settle(self) -> None:
        """Wait until all that was published has been handled."""
        done = threading.Event()
        end = self.subscribe("settle", lambda message: done.set())
        self.publish("settle", {})
        assert done.wait(30)
        end()

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join(30)


def until(holds: Callable[[], bool]) -> None:
    """Wait for what nothing tells of."""
    pause = threading.Event()
    while not holds():
        pause.wait(0.002)


class Heard:
    """An observer that can be waited for."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []
        self._more = threading.Condition()

    def __call__(self, commit: Commit) -> None:
        with self._more:
            self.commits.append(commit)
            self._more.notify_all()

    def wait(self, number: int) -> list[int]:
        with self._more:
            assert self._more.wait_for(lambda: len(self.commits) >= number, 60), [c.version for c in self.commits]
        return [commit.version for commit in self.commits]
