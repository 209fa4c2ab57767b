"""The Lab of this kernel."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from dspex_lab.workbench._lab import Lab

_current: Lab | None = None
_current_pid = 0
_current_lock = threading.Lock()


def _absolute(path: str | Path) -> str:
    return str(path) if str(path) == ":memory:" else str(Path(path).resolve())


def lab(path: str | Path | None = None) -> Lab:
    """Return the kernel's Lab, made on first use.

    Args:
        path: the store's file; where the kernel's Lab has another one, it is closed and a new one is made.

    Raises:
        StoreError: the store cannot be opened.
    """
    global _current, _current_pid
    with _current_lock:
        wanted = None if path is None else _absolute(path)
        if _current is not None and _current_pid == os.getpid() and not _current.closed:
            if wanted is None or wanted == _absolute(_current.store.path):
                return _current
            _current.close()
        _current, _current_pid = Lab(path), os.getpid()
        return _current


def current_lab() -> Lab | None:
    """Return the kernel's Lab, None as long as none was made."""
    return _current


def autolog(on: bool = True) -> None:
    """Record plain DSPy calls of this kernel in its Lab too, or stop doing so; see :meth:`Lab.autolog`."""
    lab().autolog(on)
