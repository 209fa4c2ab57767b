"""What the server does, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from dspex_lab.web._ask import Answer

#: Upper bounds of the buckets of durations, in seconds.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("dspex_requests", "Responses by route and status.", ["route", "status"], registry=self.registry)
        self.answers = Counter(
            "dspex_answers",
            "Answers by pipeline, status of the run and failure.",
            ["pipeline", "status"],
            registry=self.registry,
        )
        self.fallbacks = Counter(
            "dspex_fallbacks",
            "Fallbacks by pipeline that answered and class of failure.",
            ["pipeline", "failure"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "dspex_answer_seconds",
            "Seconds from a request to its answer.",
            ["pipeline"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.streams = Gauge("dspex_open_streams", "Streams that are open.", registry=self.registry)
        self.waiting = Gauge("dspex_waiting", "Requests that wait for a place.", registry=self.registry)
        self.running = Gauge("dspex_running", "Requests that are being answered.", registry=self.registry)

    def responded(self, scope: Mapping[str, Any], status: int) -> None:
        """Count a response to a request."""
        self.requests.labels(getattr(scope.get("route"), "path", "none"), str(status)).inc()

    def answered(self, answer: Answer) -> None:
        """Count an answer."""
        name = answer.offer.name
        self.answers.labels(name, answer.result.status if answer.ok else "failed").inc()
        self.seconds.labels(name).observe(answer.seconds)
        if answer.fallback is not None:
            self.fallbacks.labels(name, answer.fallback.failure).inc()

    def text(self) -> bytes:
        """Return all of it in Prometheus's text format."""
        return generate_latest(self.registry)
