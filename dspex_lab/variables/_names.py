"""Names of variables."""

from __future__ import annotations

from collections.abc import Iterable

from dspex_lab.errors import VariableError

#: How no variable's name begins: constraints are kept beside variables.
RESERVED = "constraint: "

#: Characters of a name.
LONGEST = 300


def checked(name: str) -> None:
    """Refuse what is no name of a variable.

    Raises:
        VariableError: it is empty or too long, or has line breaks, other control characters, or spaces around it.
    """
    text = name if isinstance(name, str) and name.isprintable() else ""
    if not text or text != text.strip() or len(text) > LONGEST or text.startswith(RESERVED):
        shown = repr(name)
        raise VariableError(
            f"{shown if len(shown) <= 80 else shown[:79] + '…'} is no name of a variable.",
            hint=f"A name is a text of up to {LONGEST} characters on one line, such as 'temperature' or 'triage.demos'.",
        )


def listed(names: str | Iterable[str]) -> tuple[str, ...]:
    """Return names, each once; one text is one name."""
    return (names,) if isinstance(names, str) else tuple(dict.fromkeys(names))
