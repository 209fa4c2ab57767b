"""The outcomes of a map that writes a file, kept beside that file until it is whole: durable, and continued after a kill.

Beside ``out.parquet`` stands the folder ``.out.parquet.map`` with

- ``manifest.json``: which pipeline runs over which data, and how the map stands;
- ``rows``: one line to an outcome, ``INDEX LETTER JSON``, in the order in which rows ended; a later line of a row replaces an
  earlier one; a line without its end was cut off by a kill and is removed;
- ``data.parquet``: the rows of a query as they were when the map began.

Once every row is complete only the manifest stays, which makes a second call with the same arguments find everything done.
Where some failed, ``rows`` stays too, so that ``retry_failed`` can replace them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dspex_lab.errors import PipelineError, did_you_mean
from dspex_lab.pipelines.maps._json import decode, encode
from dspex_lab.pipelines.maps._ledger import Ledger, in_order, read_ledger
from dspex_lab.pipelines.maps._outcome import COMPLETE, FAILED, LACKING, PARTIAL, Outcome, letter

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

OUT_SUFFIXES = (".jsonl", ".ndjson", ".parquet", ".csv")

#: The rows that a process which is killed may have to run again, beside those under way.
BATCH = 256
#: Seconds an outcome waits for company before it is flushed.
LINGER = 1.0

_FORMAT = 1
_ENDED = ("complete", "partial", "failed")


def out_file(out: str | Path) -> Path:
    """Return the path of a file that a map can write.

    Raises:
        PipelineError: its ending is unknown, its folder is not there, or it is a folder.
    """
    path = Path(out).expanduser()
    path = Path(os.path.abspath(path))
    if path.suffix.lower() not in OUT_SUFFIXES:
        raise PipelineError(f"out={str(out)!r} is no file that a map writes.", hint=f"End it in {', '.join(OUT_SUFFIXES)}.")
    if not path.parent.is_dir():
        beside = [p.name for p in path.parent.parent.iterdir() if p.is_dir()] if path.parent.parent.is_dir() else []
        raise PipelineError(
            f"There is no folder {path.parent} for out={str(out)!r}.{did_you_mean(path.parent.name, beside)}",
            hint="Make it first.",
        )
    if path.is_dir():
        raise PipelineError(f"out={str(out)!r} is a folder.", hint="Name a file in it.")
    return path


class Journal:
    """The journal of the map that writes ``out``; held by one map at a time.

    Args:
        out: the file, as :func:`out_file` gives it.
        wanted: how many fields the pipeline gives.

    Raises:
        PipelineError: another map is writing this file, or its folder cannot be written.
    """

    def __init__(self, out: Path, wanted: int) -> None:
        self.out, self.wanted = out, wanted
        self.folder = folder_of(out)
        self.ledger = Ledger()
        self.manifest: dict[str, Any] = {}
        self._rows: int | None = None
        self._end = 0
        self._new = not self.folder.exists()
        self._lock = self._take()
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    # --- how it stands ------------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """How the map stands: ``""`` for a new one, ``"running"`` also after a kill, ``"cancelled"``, ``"broken"`` (its data
        broke off), or its status at the end."""
        return str(self.manifest.get("state", ""))

    @property
    def ended(self) -> bool:
        """Say whether every row has an outcome and the file is written."""
        return self.state in _ENDED and self.out.exists()

    @property
    def spool(self) -> Path:
        """Where the rows of a query are kept."""
        return self.folder / "data.parquet"

    def counts(self) -> dict[str, int]:
        """Return how many rows ended how; those of the file where its journal is gone."""
        if not len(self.ledger) and self.ended:
            return {k: int(v) for k, v in self.manifest["counts"].items()}
        return {
            "complete": self.ledger.count(COMPLETE),
            "partial": self.ledger.count(PARTIAL + LACKING),
            "failed": self.ledger.count(FAILED),
        }

    def again(self) -> int:
        """Return how many rows ``retry_failed`` would run again."""
        return self.ledger.count(LACKING + FAILED)

    def altered(self) -> bool:
        """Say whether the file is another one than the map wrote."""
        return self.manifest.get("out") != _stamp(self.out)

    def begin(self, pipeline: dict[str, Any], data: dict[str, Any], total: int | None, overwrite: bool) -> None:
        """Make the journal that of a map of ``pipeline`` over ``data``, a new one or the one it is.

        Raises:
            PipelineError: it is another map's, or the file is somebody else's; or the disk refuses.
        """
        with self._explained():
            gone = self.state in _ENDED and not self.out.exists()
            if overwrite or gone:
                self._clear()
            elif not self.manifest and self.out.exists():
                raise PipelineError(
                    f"{self.out} is there already, and no map that could go on wrote it.",
                    hint="Give another out=, or overwrite=True to replace it.",
                )
            elif self.manifest:
                self._same(pipeline, data)
                if not self.ended and self.out.exists() and self.altered():
                    raise PipelineError(
                        f"{self.out} came to be while the map that is to write it was not running.",
                        hint="Move it away, or overwrite=True to replace it and begin anew.",
                    )
            if not self.manifest:
                self._new = True
                self.manifest = {"out": _stamp(self.out)}  # what overwrite= may replace
            if not self.ended:
                self.save(pipeline=pipeline, data=data, state=self.state or "running", rows=total)

    def _same(self, pipeline: dict[str, Any], data: dict[str, Any]) -> None:
        differs = differences("pipeline", self.manifest["pipeline"], pipeline)
        # Where its data broke off, the same file may have been mended.
        mended = ("bytes", "changed") if self.state == "broken" else ()
        differs += differences("data", self.manifest["data"], data, mended)
        if differs:
            raise PipelineError(
                f"{self.out} belongs to another map: {'; '.join(differs)}.",
                hint="Give another out=, or overwrite=True to begin anew.",
            )

    # --- writing ------------------------------------------------------------------------------------------------------

    def save(self, **changes: Any) -> None:
        """Write the manifest with ``changes``, whole or not at all."""
        self.manifest = {"format": _FORMAT, **self.manifest, **changes, "saved": time.time()}
        part = self.folder / "manifest.part"
        with part.open("wb") as file:
            file.write(json.dumps(self.manifest, indent=1).encode())
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.folder / "manifest.json")
        _sync_folder(self.folder)

    def write(self, outcomes: Sequence[Outcome], make: Any) -> None:
        """Append outcomes; when this returns they survive a kill and a loss of power.

        Args:
            make: gives the line's columns for an outcome.

        Raises:
            OSError: the disk refuses; what was written of these outcomes is taken back.
        """
        lines, places, place = [], [], self._end
        for outcome in outcomes:
            mark = letter(outcome.status, outcome.outputs, self.wanted)
            line = b"%d %s %s\n" % (outcome.row_index, mark.encode(), encode(make(outcome)))
            places.append((outcome.row_index, place, mark))
            lines.append(line)
            place += len(line)
        file = self._opened()
        rest = memoryview(b"".join(lines))
        try:
            while rest:
                rest = rest[os.write(file, rest) :]
            os.fsync(file)
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(file, self._end)
            raise
        self._end = place
        for entry in places:
            self.ledger.mark(*entry)

    def _opened(self) -> int:
        if self._rows is None:
            self._rows = os.open(self.folder / "rows", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        return self._rows

    def lines(self) -> Iterator[bytes]:
        """Give the JSON of each row's outcome, in the order of the rows."""
        return in_order(self.folder / "rows", self.ledger)

    def finish(self, status: str, whole: Path) -> None:
        """Put the finished file ``whole`` in its place and note the end; the outcomes stay where some are to be retried."""
        with self._explained():
            # Noted first, so that after a kill between the two the file is known as the map's own.
            self.save(out=_stamp(whole))
            whole.replace(self.out)
            _sync_folder(self.out.parent)
            self.save(state=status, counts=self.counts(), again=self.again(), rows=len(self.ledger))
            if not self.again():
                self._close_rows()
                for name in ("rows", "data.parquet"):
                    (self.folder / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Let others have it; of a new map that recorded nothing, nothing stays. May be repeated."""
        self._close_rows()
        if self._new and not len(self.ledger) and not self.ended and (self._lock is not None or fcntl is None):
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # --- inside -------------------------------------------------------------------------------------------------------

    def _take(self) -> int | None:
        with self._explained():
            self.folder.mkdir(exist_ok=True)
            lock = os.open(self.folder, os.O_RDONLY) if fcntl is not None else None
        if fcntl is not None and lock is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(lock)
                raise PipelineError(
                    f"Another map is writing {self.out} at this moment.", hint="Wait for it, or give another out=."
                ) from error
        return lock

    def _load(self) -> None:
        try:
            self.manifest = _manifest((self.folder / "manifest.json").read_bytes())
            if self.manifest["format"] > _FORMAT:
                raise PipelineError(
                    f"The map that writes {self.out} was begun by a newer dspex_lab.", hint="Upgrade, or give another out=."
                )
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError) as error:
            raise PipelineError(
                f"{self.folder / 'manifest.json'} is damaged: {error}.",
                hint=f"Remove the folder {self.folder.name} to begin anew, or give another out=.",
            ) from error
        rows = self.folder / "rows"
        if rows.exists():
            with self._explained():
                self._end = read_ledger(rows, self.ledger)
                # A line cut off by a kill goes, so that the next one begins where a line begins.
                if self._end < rows.stat().st_size:
                    os.truncate(rows, self._end)

    def _clear(self) -> None:
        self._close_rows()
        for name in ("rows", "data.parquet", "manifest.json"):
            (self.folder / name).unlink(missing_ok=True)
        self.manifest, self.ledger, self._end = {}, Ledger(), 0

    def _close_rows(self) -> None:
        if self._rows is not None:
            os.close(self._rows)
            self._rows = None

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise refused(self.out, error) from error


def _manifest(text: bytes) -> dict[str, Any]:
    """Return a manifest with everything in it that is relied on.

    Raises:
        ValueError, KeyError, TypeError: something is missing or of the wrong type.
    """
    found: dict[str, Any] = json.loads(text)
    kinds = {"format": int, "state": str, "pipeline": dict, "data": dict}
    if found["format"] <= _FORMAT:
        if found.get("state") in _ENDED:
            kinds["counts"] = dict
        for key, kind in kinds.items():
            if not isinstance(found[key], kind):
                raise TypeError(f"{key} is {type(found[key]).__name__}")
    return found


def folder_of(out: Path) -> Path:
    """Return the folder of the journal of the map that writes ``out``."""
    return out.with_name(f".{out.name}.map")


def kept_rows(out: Path) -> list[dict[str, Any]]:
    """Return the outcomes of a map that has not written its file ``out`` yet, in the order of the rows."""
    rows, ledger = folder_of(out) / "rows", Ledger()
    if not rows.exists():
        return []
    read_ledger(rows, ledger)
    return [decode(line) for line in in_order(rows, ledger)]


def refused(out: Path, error: OSError, kept: int | None = None) -> PipelineError:
    """Say that the disk refuses to keep a map's outcomes, and how many it has."""
    rows = "" if kept is None else f" The outcomes of {kept:,} rows are kept beside it."
    return PipelineError(
        f"{out} cannot be written: {error.strerror or error}.{rows}",
        hint="Make room or give another out=." if kept is None else "Make room and call again with the same out=: it goes on.",
    )


def differences(what: str, before: Mapping[str, Any], now: Mapping[str, Any], but: Sequence[str] = ()) -> list[str]:
    """Return in words how ``now`` differs from ``before``, apart from the keys ``but``."""
    if before.get("kind") != now.get("kind"):
        return [f"the {what} was a {before.get('kind')}, and is a {now.get('kind')} now"]
    return [
        f"{what} {key}: {_shown(before.get(key))} before, {_shown(now.get(key))} now"
        for key in dict.fromkeys((*before, *now))
        if key not in but and before.get(key) != now.get(key)
    ]


def _shown(value: Any) -> str:
    text = ", ".join(value) if isinstance(value, list) else repr(value)
    return text if len(text) <= 200 else text[:199] + "…"


def _stamp(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return [found.st_size, found.st_mtime_ns]


def _sync_folder(folder: Path) -> None:
    if fcntl is None:
        return  # Windows opens no folders
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
