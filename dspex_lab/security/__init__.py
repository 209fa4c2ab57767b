"""Guarding: secrets are masked before a record leaves the process; processes are held to what they may do.

A pool's worker calls :func:`confine` before it has threads; model-written code runs in ``security.sandbox``. What the kernel of
this machine can hold a process to is found once by :func:`protection`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex_lab import _lazy
from dspex_lab.security._line import one_line
from dspex_lab.security._redaction import MASK, Redactor, holds_secret, may_hold_secret, redact

if TYPE_CHECKING:
    from dspex_lab.security._confine import Confinement, confine, confine_thread, explain
    from dspex_lab.security._protection import Protection, protection
    from dspex_lab.security._rlimits import allow_cpu
    from dspex_lab.security.sandbox import CodeError, Limits, Ran, Sandbox, Submit, warm

#: Loaded when first asked for: they need Linux, or a Unix.
_HOME = {
    "Confinement": "_confine",
    "confine": "_confine",
    "confine_thread": "_confine",
    "explain": "_confine",
    "Protection": "_protection",
    "protection": "_protection",
    "allow_cpu": "_rlimits",
    "CodeError": "sandbox",
    "Limits": "sandbox",
    "Ran": "sandbox",
    "Sandbox": "sandbox",
    "Submit": "sandbox",
    "warm": "sandbox",
}

__all__ = [
    "MASK",
    "CodeError",
    "Confinement",
    "Limits",
    "Protection",
    "Ran",
    "Redactor",
    "Sandbox",
    "Submit",
    "allow_cpu",
    "confine",
    "confine_thread",
    "explain",
    "holds_secret",
    "may_hold_secret",
    "one_line",
    "protection",
    "redact",
    "warm",
]


__getattr__ = _lazy.names(__name__, _HOME)
