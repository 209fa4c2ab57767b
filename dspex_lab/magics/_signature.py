"""``%%dspex signature NAME``: the cell's text as a signature."""

from __future__ import annotations

from typing import Any

from dspex_lab.errors import ConfigurationError
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._line import parse
from dspex_lab.magics._pipeline import below, changes


def run(call: Call) -> Any:
    """Bind NAME to the ``dspy.Signature`` class and show the signature; where there was one, what changed."""
    from dspex_lab.signatures import diff, signature

    words = parse(call.line, words=1).words
    if not words or not words[0].isidentifier():
        raise ConfigurationError("A signature needs a name.", key="signature", hint=f"Write: {COMMAND.usage}")
    name = words[0]
    made = signature(call.cell or "", types=call.shell.user_ns, name=name)
    before = call.lab.signatures.get(name)
    call.lab.signatures[name] = made
    if before is not None:
        below(call.shell, lambda: print(changes(name, map(str, diff(before, made)))))
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
