"""Opening a store's file: locked against other processes, shared within this one, closed to the outside, repaired.

A file is opened once per process. A second store on the same file in the same process shares the connection's database,
so a notebook cell that makes a Lab can be run again while the first Lab still lives.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dspex_lab.errors import StoreError
from dspex_lab.security import redact
from dspex_lab.store._guard import Guard, Held
from dspex_lab.store._recovery import Recovery, interrupt_unfinished
from dspex_lab.store._schema import migrate

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

log = logging.getLogger("dspex_lab")

#: The folder beside the store from which SQL may read files and into which tables may be exported.
EXPORTS = "exports"

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
#: Megabytes that DuckDB may use for a file, at least, and for each processor. Without a bound its cache of the file grows
#: with the file, up to four fifths of the machine. What a query needs beyond goes to ``NAME.duckdb.tmp`` beside the file.
_MEMORY, _MEMORY_EACH = 512, 64

# How a write-ahead log of DuckDB begins. One that does not is taken by DuckDB for an empty one, without a word.
_WAL_HEAD = bytes.fromhex("640062")
# How DuckDB refuses one: garbled, of another database, or of an earlier state of this one.
_WAL_REFUSED = re.compile("while replaying WAL|WAL was created for")

_lock = threading.RLock()
_open: dict[str, Database] = {}


@dataclass(eq=False)
class Database:
    """An open database: its root connection (for cursors), how many stores use it and what opening it found."""

    path: str
    con: DuckDBPyConnection
    guard: Guard | None = None
    recovery: Recovery | None = None
    users: int = 1
    pid: int = field(default_factory=os.getpid)


def acquire(path: str | Path, memory: int | None = None) -> Database:
    """Open the store at ``path``, or join the stores of this process that have it open.

    Args:
        memory: megabytes that DuckDB may use for the file, where it is not open already; see :class:`Store`.

    Raises:
        StoreError: the file cannot be opened, or belongs to something else; nothing was overwritten.
    """
    if str(path) == ":memory:":
        return _prepared(Database(":memory:", _connect(":memory:")))
    # Links are followed: under two names DuckDB would open one file twice, and its lock does not hold within a process.
    real = Path(os.path.realpath(Path(path).expanduser()))
    with _lock:
        found = _opened(real)
        if found is None:
            _open[str(real)] = found = _opened_anew(real, memory)
            return found
        if found.pid != os.getpid():
            raise StoreError(
                f"{real} is open in process {found.pid}, from which this process was forked.",
                path=real,
                hint="Open the store in one process, or use another path here.",
            )
        found.users += 1
        # Recovery is for a file nobody has open: the unfinished runs of a living lab are not interrupted.
        return found


def release(database: Database) -> None:
    """Leave the database; the last to leave writes the log into the file and closes it."""
    with _lock:
        database.users -= 1
        if database.users:
            return
        _open.pop(database.path, None)
        _close(database)


def in_child_after_fork() -> None:
    """Make the child let go of what it inherited without closing it, since closing would write into the parent's file."""
    global _lock
    _lock = threading.RLock()
    for database in _open.values():
        if database.guard is not None:
            database.guard.forget()
        leak(database.con)


def leak(con: DuckDBPyConnection) -> None:
    """Keep a connection from ever being freed, and with it the database from being checkpointed at the child's exit."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(con))


def _opened(real: Path) -> Database | None:
    found = _open.get(str(real))
    if found is None and real.exists():
        found = next((d for d in _open.values() if os.path.exists(d.path) and os.path.samefile(d.path, real)), None)
    return found


def _opened_anew(real: Path, memory: int | None) -> Database:
    if real.is_dir():
        raise StoreError(f"{real} is a folder, not a file.", path=real, hint=f"Name a file in it: {real / 'lab.duckdb'}")
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
        guard = Guard(real)
    except Held as held:
        raise _held(real, held.pid) from None
    except OSError as error:
        raise _cannot_open(real, str(error)) from error
    try:
        con, damaged, salvaged = _connected(real, memory or max(_MEMORY, _MEMORY_EACH * (os.cpu_count() or 1)))
        database = Database(str(real), con, guard)
        if damaged:
            database.recovery = Recovery(damaged_wal=damaged, salvaged=salvaged)
        return _prepared(database)
    except BaseException:
        guard.release()
        raise


def _connect(path: str, memory: int | None = None) -> DuckDBPyConnection:
    import duckdb

    # A store in memory has no bound: what it holds is all there is of it.
    return duckdb.connect(path, config=_CONFIG if memory is None else {**_CONFIG, "memory_limit": f"{memory}MB"})


def _connected(real: Path, memory: int) -> tuple[DuckDBPyConnection, str | None, bool]:
    """Return a connection, where a damaged log was set aside if one was, and whether its sound part was read."""
    import duckdb

    if real.exists() and real.stat().st_size == 0 and not _wal(real).exists():
        real.unlink()  # made by touch or tempfile, it holds nothing, and DuckDB refuses it
    saved = _save_unreadable_log(real)
    try:
        return _connect(str(real), memory), saved, False
    except duckdb.Error as error:
        if saved and _wal(real).exists():
            os.unlink(saved)
        if not _WAL_REFUSED.search(str(error)):
            raise explained(real, error) from error
        return _connected_past_damage(real, memory, error)


def _wal(real: Path) -> Path:
    return real.with_name(real.name + ".wal")


def _aside(real: Path) -> Path:
    wal = _wal(real)
    name = f"{wal.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    candidates = (wal.with_name(name if not n else f"{name}-{n}") for n in range(1000))
    return next(c for c in candidates if not c.exists())


def _save_unreadable_log(real: Path) -> str | None:
    """Put aside a log that DuckDB would take for an empty one: it is not in its format, or its database is gone."""
    wal = _wal(real)
    if not wal.exists() or wal.stat().st_size == 0:
        return None
    if not real.exists():
        return str(wal.rename(_aside(real)))
    with wal.open("rb") as file:
        if file.read(len(_WAL_HEAD)) == _WAL_HEAD:
            return None
    # A copy, since nobody has yet made sure that no other program holds the file.
    return str(shutil.copy2(wal, _aside(real)))


def _connected_past_damage(real: Path, memory: int, error: Exception) -> tuple[DuckDBPyConnection, str | None, bool]:
    """Set the damaged log aside, read it up to the damage where DuckDB says where that is, else open without it."""
    import duckdb

    wal, aside = _wal(real), _aside(real)
    os.replace(wal, aside)
    position = re.search(r"byte position (\d+)", str(error))
    if position and int(position[1]):
        with aside.open("rb") as damaged, wal.open("wb") as sound:
            sound.write(damaged.read(int(position[1])))
        try:
            return _connect(str(real), memory), str(aside), True
        except duckdb.Error as again:
            log.warning("the part of %s before its damage could not be read either: %s", aside, again)
            wal.unlink(missing_ok=True)
    try:
        return _connect(str(real), memory), str(aside), False
    except duckdb.Error as without:
        os.replace(aside, wal)  # the log was not the trouble, so it stays where it was
        raise explained(real, without) from without


def _prepared(database: Database) -> Database:
    """Close the database to the outside, bring its tables up to date and mend what an earlier process left."""
    import duckdb

    con = database.con
    try:
        con.execute("SET enable_progress_bar = false")
        con.execute("SET GLOBAL TimeZone = 'UTC'")  # now() beside a TIMESTAMP column must mean the same clock
        con.execute("SET GLOBAL python_enable_replacements = false")
        if database.path != ":memory:":
            folder = str(Path(database.path).parent / EXPORTS).replace("'", "''")
            con.execute(f"SET allowed_directories = ['{folder}']")  # before external access goes, or never
        con.execute("SET enable_external_access = false")
        con.execute("SET lock_configuration = true")
        before = migrate(con, database.path)
        run_ids, names = interrupt_unfinished(con) if before else ((), ())
    except BaseException as error:
        con.close()
        if isinstance(error, duckdb.Error):
            raise explained(Path(database.path), error) from error
        raise
    if run_ids or database.recovery:
        found = database.recovery or Recovery()
        database.recovery = Recovery(run_ids, names, found.damaged_wal, found.salvaged)
        log.warning("%s: %s", database.path, database.recovery)
    return database


def _close(database: Database) -> None:
    import duckdb

    try:
        if database.path != ":memory:":
            database.con.execute("CHECKPOINT")
    except duckdb.Error as error:
        log.warning("%s: its log could not be written into it and stays beside it: %s", database.path, error)
    finally:
        database.con.close()
        if database.guard is not None:
            database.guard.release()


def _held(real: Path, pid: int | None) -> StoreError:
    who = "another process"
    if pid is not None:
        command = _command_of(pid)
        who = f"process {pid}" + (f" ({command})" if command else "")
    return StoreError(
        f"{real} is in use by {who}; only one process at a time can open a store.",
        path=real,
        hint='Close that notebook or call lab.close() in it, or use another path here, such as dx.Lab(":memory:").',
    )


def _command_of(pid: int) -> str:
    import psutil

    try:
        command = redact(" ".join(psutil.Process(pid).cmdline()))
    except psutil.Error:
        return ""
    return command if len(command) <= 160 else command[:160] + "…"


def _cannot_open(real: Path, reason: str) -> StoreError:
    return StoreError(
        f"{real} cannot be opened for writing: {reason}.",
        path=real,
        hint='Give the lab a path in a folder you may write to, or work without a file: dx.Lab(":memory:").',
    )


def explained(real: Path, error: Exception) -> StoreError:
    """Say what DuckDB's error on opening means and what to do."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "Could not set lock" in text:
        pid = re.search(r"PID (\d+)", text)
        return _held(real, int(pid[1]) if pid else None)
    if "different configuration" in text:
        return StoreError(
            f"{real} is already open in this process by a duckdb.connect() of its own.",
            path=real,
            hint="Close that connection first; lab.sql() reads the store without one.",
        )
    if "not a valid DuckDB database file" in text:
        return StoreError(
            f"{real} is not a DuckDB file, or its beginning is damaged.",
            path=real,
            hint="It was not touched. Move it elsewhere, or choose another path for the lab.",
        )
    if "orrupt" in text or "checksum" in text:
        return StoreError(
            f"{real} is damaged: {text}",
            path=real,
            hint="It was not changed. Move it (and its .wal, if there is one) elsewhere; the lab then begins a new file.",
        )
    return _cannot_open(real, text.removesuffix("."))
