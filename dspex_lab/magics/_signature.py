"""``%%dspex signature NAME``: the cell's text as a signature."""

from __future__ import annotations

from typing import Any

from dspex_lab.errors import ConfigurationError
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._line import parse


def run(call: Call) -> Any:
    """Bind NAME to the ``dspy.Signature`` class and show the signature."""
    from dspex_lab.signatures import signature

    words = parse(call.line, words=1).words
    if not words or not words[0].isidentifier():
        raise ConfigurationError("A signature needs a name.", key="signature", hint=f"Write: {COMMAND.usage}")
    name = words[0]
    made = signature(call.cell or "", types=call.shell.user_ns, name=name)
    call.lab.signatures[name] = made
    # DSPy's own modules take the class; from_dspy() finds our signature again behind it.
    call.shell.user_ns[name] = made.to_dspy()
    return made


COMMAND = Command(
    "signature",
    "%%dspex signature NAME",
    "define a signature: inputs -> outputs, with types, ranges and # descriptions",
    run,
    cell=True,
    line=False,
)
