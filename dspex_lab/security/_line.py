"""Any text as one line that may be shown."""

from __future__ import annotations

import re

from dspex_lab.security._redaction import Redactor

#: Control characters restyle or erase what a terminal shows, and marks of direction turn it round.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")


def one_line(value: object, longest: int = 160, redact: Redactor | None = None) -> str:
    """Return any text as one short line that may be shown: without secrets, control characters and marks of direction.

    Args:
        longest: characters of it.
        redact: masks secrets; a new one by default.
    """
    # A text is cut before it is searched too, so that a large one costs little; nothing of what is cut off is shown.
    text = (redact or Redactor())(str(value)[: 20 * longest])
    text = " ".join(_CONTROL.sub(" ", text).split())
    return text if len(text) <= longest else text[: longest - 1] + "…"
