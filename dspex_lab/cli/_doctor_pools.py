"""What ``dspex-lab doctor`` says of the pools: their size, GPUs, protection, and the cluster that is to be joined. No worker is
started for it."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from dspex_lab.errors import DspexError

OK, MISSING, NOTE = "ok", "missing", "note"

#: (state, what was found, what to do)
Finding: TypeAlias = tuple[str, str, str | None]

#: Seconds that a cluster has to answer.
_PATIENCE = 3.0
#: Bytes of shared memory with which large values still travel well; containers are given 64 MB unless told.
_SHARED = 256_000_000


def findings() -> Iterator[Finding]:
    """Yield what was found."""
    from dspex_lab.pools import settle

    try:
        settings = settle()
    except DspexError as error:
        yield MISSING, str(error), None
        return
    for name in settings.names:
        try:
            yield OK, f"pool {name}: {settings.spec(name).scaling}", None
        except DspexError as error:
            yield MISSING, str(error), None
    yield gpus()
    yield from guarded()
    yield deno()
    yield from shared()
    if settings.address is not None:
        yield answers(settings)


def gpus() -> Finding:
    """Return which GPUs there are."""
    from dspex_lab.pools import devices

    found = devices()
    if not found:
        return NOTE, "no NVIDIA GPU was found: the pool neural computes on the CPU", None
    said = ", ".join(f"{d.id}: {d.name}" + (f" ({d.memory / 1e9:.0f} GB)" if d.memory else "") for d in found)
    return OK, f"GPUs: {said}", None


def guarded() -> Iterator[Finding]:
    """Yield what this kernel can hold a worker, and code that a model wrote, to."""
    from dspex_lab.security import protection

    found = protection()
    hint = "; ".join(found.missing) or None
    yield (OK if found.level == "full" else NOTE), f"protection of workers and of model-written code: {found}", hint
    if not sys.platform.startswith("linux"):
        return
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        yield NOTE, "libseccomp is not installed: model-written code runs in Deno, or not at all", "apt install libseccomp2"
    else:
        yield OK, "libseccomp is installed", None


def deno() -> Finding:
    """Return whether there is a Deno, which runs model-written code where the kernel gives too little."""
    found = shutil.which("deno") or ("the package deno" if importlib.util.find_spec("deno") is not None else None)
    if found is None:
        return NOTE, "Deno is not installed; it is needed only where the protection above is not full", "pip install deno"
    return OK, f"Deno: {found}", None


def shared(place: Path = Path("/dev/shm")) -> Iterator[Finding]:  # noqa: S108 - the system's shared memory, which is only looked at
    """Yield how much shared memory there is for large values."""
    if not place.is_dir():
        yield NOTE, f"there is no {place}: large values travel through files", None
        return
    size = shutil.disk_usage(place).total
    if size < _SHARED:
        yield NOTE, f"{place} has {size / 1e6:.0f} MB: larger values travel through files", "docker run --shm-size=1g"
    else:
        yield OK, f"{place} has {size / 1e6:,.0f} MB for large values", None


def answers(settings: Any) -> Finding:
    """Return whether the cluster that is to be joined answers, and takes this side's certificate."""
    parts = urlsplit(settings.address)
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca)
        context.check_hostname = False  # as Dask does: whom to trust is said by the authority alone
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
        with (
            socket.create_connection((parts.hostname or "", parts.port or 0), timeout=_PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname=parts.hostname) as wire,
        ):
            # A scheduler speaks first; only then is it known that it has taken the certificate.
            if not wire.recv(1):
                return MISSING, f"the cluster at {settings.address} closed the connection", "Is it a Dask scheduler?"
    except OSError as error:
        said = str(error) or type(error).__name__
        return (
            MISSING,
            f"the cluster at {settings.address} does not answer: {said}",
            "Is it up, and are the certificates its own?",
        )
    return OK, f"the cluster at {settings.address} answers", None
