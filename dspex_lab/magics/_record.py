"""``%dspex record FILE``: what models answer, on a file from which it can be replayed."""

from __future__ import annotations

from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._line import parse
from dspex_lab.magics._tape import insert


def run(call: Call) -> None:
    """Record what models answer from now on, secrets masked, until %dspex tape stop; no cache answers meanwhile.

    FILE is a .jsonl or .jsonl.gz; an old recording there is kept, and answers what this one lacks.
    """
    insert(call, parse(call.line, words=1), lambda lab, path: lab.record(path))


COMMAND = Command("record", "%dspex record FILE.jsonl", "record what models answer, to replay it without a key", run)
