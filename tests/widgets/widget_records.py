"""Records of a pipeline, as the engine emits them."""

from __future__ import annotations

from typing import Any

from dspex_lab.events import Event, LMCall, Record, RunRecord, Span, new_id


def node(name: str, kind: str, inputs: list[str], outputs: list[str], pool: str | None = None) -> dict[str, Any]:
    return {"name": name, "kind": kind, "inputs": inputs, "outputs": outputs, "pool": pool}


def edge(start: str, end: str, name: str) -> dict[str, str]:
    return {"from": start, "to": end, "field": name}


class Emits:
    """Makes records of one run or row; times are given, in seconds since the start at 1,000."""

    def __init__(self, run_id: str = "r1", name: str = "demo") -> None:
        self.run_id, self.name = run_id, name

    def start(self, at: float = 0, kind: str = "run", **data: Any) -> Event:
        return Event("run.start", 1000 + at, self.run_id, data={"kind": kind, "name": self.name, **data})

    def step(self, name: str, at: float = 0) -> Event:
        return Event("step.start", 1000 + at, self.run_id, step=name)

    def stop(self, name: str, at: float = 0, seconds: float | None = None) -> Event:
        data = None if seconds is None else {"seconds": seconds}
        return Event("step.stop", 1000 + at, self.run_id, step=name, data=data)

    def error(self, name: str, error: str, at: float = 0, seconds: float | None = 0.1) -> Event:
        return Event("step.error", 1000 + at, self.run_id, step=name, data={"seconds": seconds, "error": error})

    def span(self, name: str, seconds: float = 0.1, status: str = "complete", error: str | None = None, **more: Any) -> Span:
        return Span(new_id(), None, self.run_id, "step", name, 1000, seconds, status, error=error, **more)

    def call(
        self,
        step: str | None,
        prompt: int | None = 10,
        completion: int | None = 2,
        cost: float | None = None,
        *,
        hit: bool = False,
        simulated: bool = True,
    ) -> LMCall:
        return LMCall(
            new_id(),
            None,
            self.run_id,
            step,
            "maker/model",
            1000,
            0.1,
            prompt,
            completion,
            cost,
            cache_hit=hit,
            simulated=simulated,
        )

    def event(self, name: str, target: str = "maker/model", **data: Any) -> Event:
        return Event(name, 1000, self.run_id, data={"target": target, **data})

    def end(self, status: str = "complete", seconds: float = 2, kind: str = "run", **more: Any) -> RunRecord:
        return RunRecord(self.run_id, None, kind, self.name, status, 1000, seconds, **more)

    def row(self, parent: str, status: str = "complete", at: float = 0, index: int = 0) -> RunRecord:
        return RunRecord(self.run_id, parent, "row", self.name, status, 1000 + at, 0.0, row_index=index)


def whole_run() -> list[Record]:
    """A run that ends ``partial``: ``look`` fails, so ``answer`` is not reached."""
    run = Emits()
    error = "KeyError: '<script>alert(1)</script>'"
    return [
        run.start(),
        run.step("clean"),
        run.span("clean", 0.003),
        run.stop("clean", 0.003, 0.003),
        run.step("label"),
        run.step("look"),
        run.call("label", 280, 32),
        run.span("label", 0.4, implementation="dspy"),
        run.span("look", 0.1, "failed", error, worker="general-0"),
        run.error("look", error),
        run.end("partial", 0.6, error=error, error_step="look"),
    ]
