"""``%dspex replay FILE``: answers from a recording, without a key."""

from __future__ import annotations

from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._line import parse
from dspex_lab.magics._tape import insert

FLAGS = ("fill", "exact")


def run(call: Call) -> None:
    """Answer from what %dspex record wrote until %dspex tape stop: no model is called, and no key is needed.

    --fill asks the model for what is not there and records it; --exact answers a call that was recorded n times n times.
    """
    line = parse(call.line, words=1, flags=FLAGS, switches=FLAGS)
    mode = "fill" if "fill" in line.flags else "replay"
    insert(call, line, lambda lab, path: lab.replay(path, mode, exact="exact" in line.flags))


COMMAND = Command(
    "replay", "%dspex replay FILE.jsonl [--fill] [--exact]", "answer from a recording instead of a model", run, flags=FLAGS
)
