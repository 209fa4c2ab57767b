"""Guarding: secrets are masked before a record leaves the process."""

from __future__ import annotations

from dspex_lab.security._redaction import MASK, Redactor, may_hold_secret, redact

__all__ = ["MASK", "Redactor", "may_hold_secret", "redact"]
