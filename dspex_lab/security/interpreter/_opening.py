"""Which sandbox model-written code gets on this machine."""

from __future__ import annotations

import functools
import logging
import threading

from dspex_lab.errors import SandboxUnavailable
from dspex_lab.security._protection import protection
from dspex_lab.security.interpreter._own import OwnSession
from dspex_lab.security.interpreter._session import Session
from dspex_lab.security.sandbox import Limits

log = logging.getLogger("dspex_lab")

_said = threading.Event()


def level_here() -> str:
    """Return what would hold code on this machine: the layers of our sandbox, ``"deno …"``, or ``"none"``."""
    found = protection()
    if found.level == "full":
        return str(found)
    version = _deno()
    return "none" if version is None else f"deno {version}"


def open_session(limits: Limits, importable: tuple[str, ...] = ()) -> Session:
    """Return a session in our sandbox; where this kernel gives too little for it, in DSPy's on Deno.

    Raises:
        SandboxUnavailable: there is neither; it says what is missing.
    """
    found = protection()
    if found.level == "full":
        return OwnSession(limits, importable)
    missing = "; ".join(found.missing)
    version = _deno()
    if version is None:
        raise SandboxUnavailable(
            f"Code that a model wrote is not run here: this machine gives too little to hold it ({missing}), and Deno, on "
            "which DSPy has a sandbox of its own, is not installed.",
            level="none",
            hint='Use Linux 5.13 or later with Landlock and seccomp, or: pip install "dspy[deno]"',
        )
    from dspex_lab.security.interpreter._deno import DenoSession

    if not _said.is_set():
        _said.set()
        log.warning(
            "Code that a model wrote runs in DSPy's sandbox on Deno %s, with a limit of time and none of memory: this machine "
            "gives too little for our own (%s).",
            version,
            missing,
        )
    return DenoSession(timeout=limits.seconds, output=limits.output)


@functools.cache
def _deno() -> str | None:
    from dspex_lab.security.interpreter._deno import deno_version

    return deno_version()
