"""``%dspex dashboard``: the dashboard in the cell, or served."""

from __future__ import annotations

from typing import Any

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._line import parse


def run(call: Call) -> Any:
    """Show the dashboard here, or with the word ``serve`` at a loopback address."""
    line = parse(call.line, words=1, flags=("port",))
    if line.words not in ([], ["serve"]):
        raise ConfigurationError(
            f"{line.words[0]!r} is not expected here.{did_you_mean(line.words[0], ['serve'])}",
            key="dashboard",
            hint=f"Write: {COMMAND.usage}",
        ).at(line.text, 1, 1)
    if line.words == ["serve"] or "port" in line.flags:
        served = call.lab.dashboard(serve=True, port=line.flag("port", int, 0))
        print(f"dashboard: {served.url}")
        return served
    return call.lab.dashboard()


COMMAND = Command(
    "dashboard",
    "%dspex dashboard [serve] [--port N]",
    "runs, latency by step, errors and cost, live",
    run,
    flags=("port",),
    names=lambda namespace: ["serve"],
)
