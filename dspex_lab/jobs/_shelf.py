"""What a job needs beyond its process: its work, what it kept, its result. As pickles, of which only this user's own are read.

A pickle runs code when it is read. So each is sealed (HMAC-SHA256) with a key that lies in the user's home and not beside the
notebook: what is in a store that came from somebody else is never unpickled.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import pickle
import re
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dspex_lab.errors import JobError
from dspex_lab.jobs._book import JobBook
from dspex_lab.jobs._checks import packed
from dspex_lab.security import holds_secret

log = logging.getLogger("dspex_lab")

_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_MARK = b"dspex1\n"
#: Stands in the book for what is in a file of the job's folder.
_IN_FILE = b"dspex1 in a file\n"
#: Bytes from which something is. DuckDB writes all that jobs keep anew when a part of it has changed, in memory that it has not
#: got: a few hundred megabytes end the store.
LARGE = 16 * 1024
_DIGEST = hashlib.sha256
_HEAD = len(_MARK) + _DIGEST().digest_size


class Unkept(Exception):
    """Something cannot be kept; its text says why."""


def user_key(path: Path | None = None) -> bytes:
    """Return the key with which what this user keeps is sealed; it is made where there is none.

    Where it cannot be kept (a home that cannot be written) it is one of this process alone: what it seals is not read after a
    restart.

    Args:
        path: the file; by default ``dspex_lab/jobs.key`` in ``$XDG_STATE_HOME`` or ``~/.local/state``.
    """
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    file = path or Path(state).expanduser() / "dspex_lab" / "jobs.key"
    try:
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            _make_key(file)
        return file.read_bytes()
    except OSError as error:
        log.warning("jobs cannot be resumed after this process: %s cannot be had (%s)", file, error.strerror)
        return secrets.token_bytes(32)


def _write(file: Path, data: bytes) -> None:
    """Put a file in the place of an earlier one, whole: a process may end at any moment."""
    handle, name = tempfile.mkstemp(dir=file.parent)  # only its owner may read it
    with _gone_after(Path(name)):
        with os.fdopen(handle, "wb") as out:
            out.write(data)
        os.replace(name, file)


def _make_key(file: Path) -> None:
    handle, name = tempfile.mkstemp(dir=file.parent)  # only its owner may read it
    with _gone_after(Path(name)):
        with os.fdopen(handle, "wb") as out:
            out.write(secrets.token_bytes(32))
        try:
            os.link(name, file)
        except FileExistsError:
            log.debug("another process has made %s", file)  # of several that begin at once, one makes it and all read it


@contextmanager
def _gone_after(path: Path) -> Iterator[None]:
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


class Shelf:
    """Keeps the things of jobs, sealed: small ones in the book, large ones in the folder of their job. Thread-safe.

    Args:
        book: the book.
        folder: where each job has a folder of its own, for files that its work goes on from; None is one that vanishes with
            this object. Workers that should write there need it as ``writable=`` of their pool.
        key: what is sealed with; None is :func:`user_key`.
    """

    def __init__(self, book: JobBook, folder: str | Path | None = None, key: bytes | None = None) -> None:
        self._book, self._key = book, key
        self.folder = Path(tempfile.mkdtemp(prefix="dspex-jobs-") if folder is None else folder).absolute()
        if folder is None:
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def home(self, job_id: str) -> Path:
        """Return the folder of a job, made where it is missing.

        Raises:
            JobError: it cannot be made.
        """
        home = self.folder / job_id
        if not _ID.fullmatch(job_id):  # a store that came from somebody else may say anything
            raise JobError(f"{job_id!r} is no id of a job.", job=job_id)
        try:
            home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise JobError(
                f"The folder {home} of the job cannot be made: {error.strerror or error}.",
                job=job_id,
                hint="Jobs keep their files beside the store: it must be possible to write there.",
            ) from error
        return home

    def put(self, job_id: str, what: str, value: Any) -> None:
        """Keep a value in the place of an earlier one.

        Raises:
            Unkept: it cannot be pickled, or holds a secret.
        """
        try:
            data = packed(value, what)
        except Exception as error:
            raise Unkept(f"it cannot be pickled ({type(error).__name__}: {error})") from error
        if holds_secret(data):
            raise Unkept("it holds a secret")
        raw = _MARK + self._seal(job_id, what, data) + data
        if len(raw) >= LARGE:
            try:
                _write(self._file(job_id, what), raw)
            except (OSError, JobError) as error:
                raise Unkept(f"it cannot be written ({error})") from error
            raw = _IN_FILE
        self._book.keep(job_id, what, raw)

    def get(self, job_id: str, what: str) -> Any:
        """Return what was kept.

        Raises:
            JobError: there is nothing, it was not sealed by this user, or it cannot be read any more.
        """
        raw = self._raw(job_id, what)
        if raw is None:
            raise JobError(f"The {what} of job {job_id} is not kept.", job=job_id)
        data = raw[_HEAD:]
        if not raw.startswith(_MARK) or not hmac.compare_digest(raw[len(_MARK) : _HEAD], self._seal(job_id, what, data)):
            raise JobError(
                f"The {what} of job {job_id} was not read: this user did not seal it on this machine, and a pickle can run "
                "anything.",
                job=job_id,
                hint="Start the job anew with the same arguments.",
            )
        try:
            return pickle.loads(data)  # noqa: S301 - sealed by this user
        except Exception as error:
            raise JobError(
                f"The {what} of job {job_id} cannot be read any more: {type(error).__name__}: {error}.",
                job=job_id,
                hint="What it was made of has changed or is not installed; start the job anew.",
            ) from error

    def has(self, job_id: str, what: str) -> bool:
        """Say whether something is kept."""
        raw = self._book.kept(job_id, what)
        return raw is not None and (raw != _IN_FILE or self._file(job_id, what).is_file())

    def _raw(self, job_id: str, what: str) -> bytes | None:
        raw = self._book.kept(job_id, what)
        if raw != _IN_FILE:
            return raw
        try:
            return self._file(job_id, what).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise JobError(f"The {what} of job {job_id} cannot be read: {error}.", job=job_id) from error

    def _file(self, job_id: str, what: str) -> Path:
        return self.home(job_id) / f"{what}.kept"

    def _seal(self, job_id: str, what: str, data: bytes) -> bytes:
        if self._key is None:
            self._key = user_key()
        return hmac.new(self._key, f"{job_id}/{what}\n".encode() + data, _DIGEST).digest()
