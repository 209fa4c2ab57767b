"""Recording what language models answer, and playing it back exactly: notebooks of real models run without a key.

A tape is a file of JSON Lines (``.jsonl``, ``.jsonl.gz``). Each line is one call of an engine: the request (model, messages,
options, tools), what came back (for a stream its pieces and when each came), the error where it failed, and how long it took.

- **Secrets** are masked in requests, answers and errors alike, as everywhere in the Lab, also where a stream cut them in two.
  Where a provider is and who asks (keys, addresses, headers) is not kept at all; large images, sounds and files of this
  machine stand there by their digest.
- **A call is found by its request**, whatever the order and concurrency: by the digest of the masked request. Where a mask
  stands in a recorded request any word is found, for the secret may not be known where it is replayed. Sync and async, streamed
  and whole calls find the same recordings.
- **Several answers to one request** are given in the order in which they were asked for, then the last again; with
  ``exact=True`` one more is a miss. DSPy's ``rollout_id``, where the caller hands it on, keeps rollouts apart.
- **Errors** of the engine are recorded and raised again. What was given up (a cancelled call, a stream nobody read to its end)
  is not recorded.
- **A new recording on an old tape** is a new *take*: a request that is in it is answered from it, any other from the takes
  before. Nothing is ever removed.

Answers from DSPy's cache never reach an engine: while recording, the cache must be off, or the tape will lack them.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias, get_args

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.lms.tape._engine import taped, taped_embedder, taped_for
from dspex_lab.lms.tape._entry import Entry, Kind
from dspex_lab.lms.tape._errors import TapeError, TapeMiss, error_data
from dspex_lab.lms.tape._file import LONGEST_LINE, TapeWriter, read_tape, tape_path
from dspex_lab.lms.tape._match import differences, fits, nearest
from dspex_lab.lms.tape._request import Asked, Masker, secrets_of

__all__ = ["Mode", "Tape", "TapeError", "TapeMiss", "secrets_of", "taped", "taped_embedder", "taped_for"]

log = logging.getLogger("dspex_lab")

#: What a tape does: only play back; only record; play back, and ask the engine for what is missing; record where there is no
#: tape yet, else play back. VCR.py's names (none, all, new_episodes) are taken too.
Mode: TypeAlias = Literal["replay", "record", "fill", "once"]
_VCR = {"none": "replay", "all": "record", "new_episodes": "fill"}

#: Told of a miss: ``"tape.miss"`` and JSON-able data.
Told: TypeAlias = Callable[[str, dict[str, Any]], None]


class Tape:
    """A recording of calls. Thread-safe; a context manager that closes it.

    Args:
        path: the file; None keeps the recording in memory only (a worker, which sends :meth:`lines` home).
        mode: see :data:`Mode`.
        exact: a call that was recorded n times is answered n times; one more is a miss.
        speed: None answers at once; 1.0 takes as long as it took when it was recorded, 2.0 half as long.
        secrets: further values to mask, of whatever form.
        told: told of misses; called in the thread that asks.
        sleep, asleep: what waits, where ``speed`` is set.
        clock: seconds, by which calls are timed.

    Attributes:
        mode: ``"once"`` has become ``"record"`` or ``"replay"``.
        cut: bytes of a torn last line that were left out.
        recorded, replayed, missed: how many calls were, since it was opened.
        lost: answers that could not be written (the disk is full); their callers got them all the same.

    Raises:
        ConfigurationError: the mode, the speed or the path is none.
        TapeError: the file is not there, is no tape, or another is writing on it.
    """

    def __init__(
        self,
        path: str | Path | None,
        mode: str = "once",
        *,
        exact: bool = False,
        speed: float | None = None,
        secrets: Sequence[str] = (),
        told: Told | None = None,
        sleep: Callable[[float], None] = time.sleep,
        asleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.path = None if path is None else tape_path(path)
        self.exact, self.speed, self.told, self.clock = exact, _speed(speed), told, clock
        self.recorded = self.replayed = self.missed = self.lost = self.cut = 0
        self._secrets = tuple(secrets)
        self._sleep, self._asleep = sleep, asleep
        self._lock = threading.Lock()
        self._played: dict[str, int] = {}
        self._index: dict[str, list[Entry]] = {}
        self._lines: list[bytes] = []
        self._writer: TapeWriter | None = None
        self._closed = False
        self._on_close: list[Callable[[], object]] = []
        self.mode = self._mode(mode)
        entries = self._open()
        last = max((entry.take for entry in entries), default=0)
        self._take = last + 1 if self.mode == "record" else max(last, 1)
        self._number = max((entry.number for entry in entries if entry.take == self._take), default=0)
        self._fill_index(entries)

    def _mode(self, mode: str) -> Mode:
        found: Any = _VCR.get(mode, mode)
        if found not in get_args(Mode):
            raise ConfigurationError(
                f"A tape has no mode {mode!r}.{did_you_mean(str(mode), get_args(Mode))}",
                key="mode",
                expected=", ".join(get_args(Mode)),
                actual=mode,
            )
        if found == "once":
            there = self.path is not None and self.path.exists() and bool(read_tape(self.path)[0])
            found = "replay" if there else "record"
        result: Mode = found
        return result

    def _open(self) -> list[Entry]:
        if self.path is None:
            return []
        if self.mode == "replay":
            calls, _, self.cut = read_tape(self.path)
        else:
            self._writer = TapeWriter(self.path, {"made": _now(), "dspy": _dspy_version()})
            calls, self.cut = self._writer.calls, self._writer.cut
        if self.cut:
            log.warning("the last line of the tape %s was cut off (%d bytes) and is left out", self.path, self.cut)
        try:
            return [_entry(self.path, line, data) for line, data in calls]
        except BaseException:
            self.close()
            raise

    def _fill_index(self, entries: Iterable[Entry]) -> None:
        for entry in sorted(entries, key=lambda each: (each.take, each.number)):
            same = self._index.setdefault(entry.asked.digest, [])
            if same and same[-1].take != entry.take:
                same.clear()  # a later take replaces what earlier ones had of this request
            same.append(entry)

    # --- playing ------------------------------------------------------------------------------------------------------

    def asked(self, request: Mapping[str, Any], rollout: Any = None, secrets: Sequence[str] = ()) -> Asked:
        """Return a canonical request as this tape keeps it."""
        return Asked.of(request, rollout, Masker((*self._secrets, *secrets)))

    def has(self, asked: Asked) -> bool:
        """Say whether the next such call is answered from the tape."""
        with self._lock:
            return self.mode != "record" and self._next(asked, play=False) is not None

    def find(self, asked: Asked) -> Entry | None:
        """Return the recording that answers a call, None where its engine is to be asked.

        Raises:
            TapeMiss: there is none, and the tape only plays back.
        """
        with self._lock:
            if self.mode == "record":
                return None
            found = self._next(asked, play=True)
            if found is not None:
                self.replayed += 1
                return found
            self.missed += 1
            known = [each for same in self._index.values() for each in same]
        self._miss(asked, known)
        return None

    def _next(self, asked: Asked, play: bool) -> Entry | None:
        same = self._index.get(asked.digest) or next(
            (s for s in self._index.values() if s[0].asked.masked and s[0].asked.rollout == asked.rollout
             and fits(s[0].asked.request, asked.request)), None
        )  # fmt: skip
        if not same:
            return None
        digest = same[0].asked.digest
        played = self._played.get(digest, 0)
        if self.exact and played >= len(same):
            return None
        if play:
            self._played[digest] = played + 1
        return same[min(played, len(same) - 1)]

    def _miss(self, asked: Asked, known: list[Entry]) -> None:
        """Tell of a miss, and raise it where no engine may be asked."""
        near = nearest(asked.request, [entry.asked.request for entry in known])
        entry = None if near is None else known[near]
        differs = [] if entry is None else differences(entry.asked.request, asked.request)
        if entry is not None and not differs and entry.asked.rollout != asked.rollout:
            differs = [f"rollout_id is {entry.asked.rollout!r} on the tape and {asked.rollout!r} here"]
        name = "the tape in memory" if self.path is None else self.path.name
        if self.told is not None:
            about = {"tape": name, "model": asked.model, "line": entry.line if entry else None, "differs": differs}
            self.told("tape.miss", about)
        if self.mode != "replay":
            return
        if entry is None:
            why = "Nothing is recorded on it."
        elif differs:
            why = f"The nearest of {len(known)} recorded calls is line {entry.line}: {'; '.join(differs)}."
        else:
            times = sum(each.asked.digest == entry.asked.digest for each in known)
            why = f"It was recorded {times} times, and this is one more."
        raise TapeMiss(
            f"This call of {asked.model!r} is not on {name}. {why}",
            engine=asked.model,
            hint="Record it with mode='fill' and a key, or run what was recorded.",
        )

    def rewind(self) -> None:
        """Play from the start again."""
        with self._lock:
            self._played.clear()

    def pause(self, seconds: float) -> None:
        """Wait as long as the recording says, by ``speed``."""
        if self.speed is not None and seconds > 0:
            self._sleep(seconds / self.speed)

    async def apause(self, seconds: float) -> None:
        """Do as :meth:`pause`."""
        if self.speed is not None and seconds > 0:
            await self._asleep(seconds / self.speed)

    # --- recording ----------------------------------------------------------------------------------------------------

    def number(self) -> int:
        """Return the place of a call that is now asked among the calls of this take."""
        with self._lock:
            self._number += 1
            return self._number

    def add(
        self,
        kind: Kind,
        asked: Asked,
        number: int,
        seconds: float,
        *,
        answer: Callable[[], Any] = lambda: None,
        error: Exception | None = None,
        secrets: Sequence[str] = (),
    ) -> None:
        """Record a call; ``answer`` makes what came back, as data.

        Where it cannot be written that is logged and counted (``lost``): an answer that was paid for is not withheld from its
        caller.
        """

        def entry() -> Entry:
            failed = None if error is None else error_data(error)
            return Entry(kind, asked, answer(), failed, seconds, self._take, number)

        self._write(entry, Masker((*self._secrets, *secrets)))

    def _write(self, make: Callable[[], Entry], mask: Masker) -> None:
        try:
            entry = make()
            line = entry.write(mask, _now())
            if len(line) > LONGEST_LINE:
                raise ValueError(f"a call of {len(line):,} bytes is too large for a tape")
            with self._lock:
                self._append(entry, line)
        except (OSError, ValueError, TypeError, AttributeError):
            self.lost += 1
            log.exception("a call could not be written on the tape %s; who made it has its answer", self.path)

    def _append(self, entry: Entry, line: bytes) -> None:
        if self._closed:
            raise ValueError("the tape is closed")
        if self._writer is None:
            self._lines.append(line)
        at = len(self._lines) if self._writer is None else self._writer.write(line)
        self.recorded += 1
        if self.mode == "fill":  # it is found from now on, and has been given once
            self._index.setdefault(entry.asked.digest, []).append(replace(entry, line=at))
            self._played[entry.asked.digest] = self._played.get(entry.asked.digest, 0) + 1

    def lines(self) -> list[str]:
        """Return what was recorded in memory, as text; for :meth:`extend` in another process."""
        with self._lock:
            return [line.decode() for line in self._lines]

    def extend(self, lines: Iterable[str]) -> None:
        """Record what a worker has recorded in memory.

        Raises:
            TapeError: a line holds no call.
        """
        for number, line in enumerate(lines, 1):
            try:
                data = json.loads(line)
            except ValueError as error:
                raise TapeError(f"Line {number} is no JSON: {error}") from error
            entry = replace(_entry(None, number, data), take=self._take, number=self.number())
            self._write(functools.partial(_same, entry), Masker(self._secrets))

    # --- the rest -----------------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Nothing is recorded on it any more, nor played from it."""
        return self._closed

    def __len__(self) -> int:
        """How many calls it can play back."""
        with self._lock:
            return sum(map(len, self._index.values()))

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"Tape({None if self.path is None else self.path.name!r}, {self.mode!r}, {len(self)} calls)"

    def on_close(self, callback: Callable[[], object]) -> None:
        """Have ``callback`` called when the tape is closed, before it is; whoever uses it then takes it out."""
        self._on_close.append(callback)

    def close(self) -> None:
        """Let others write on it; later answers are not recorded. A second time does nothing."""
        callbacks, self._on_close = self._on_close, []
        for callback in callbacks:
            callback()
        with self._lock:
            self._closed = True
            if self._writer is not None:
                self._writer.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tape:
        return self  # a copy of a model is recorded on the same tape

    def __enter__(self) -> Tape:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.close()


def _entry(path: Path | None, line: int, data: Any) -> Entry:
    try:
        return Entry.read(data, line)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        where = f"Line {line} of the tape {path}" if path is not None else f"Line {line}"
        raise TapeError(f"{where} holds no call: {type(error).__name__}: {error}", hint="Mend or remove it.") from error


def _same(entry: Entry) -> Entry:
    return entry


def _speed(speed: float | None) -> float | None:
    if speed is None or (isinstance(speed, int | float) and not isinstance(speed, bool) and 0 < speed < float("inf")):
        return speed
    raise ConfigurationError(f"speed={speed!r} is none.", key="speed", expected="above 0, 1 as recorded, or None", actual=speed)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _dspy_version() -> str:
    from importlib.metadata import version

    return version("dspy")
