"""``%dspex autolog [on|off]``: record plain DSPy calls of this kernel too, or say whether they are."""

from __future__ import annotations

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.magics._base import Call, Command

_STATES = ("on", "off")


def run(call: Call) -> None:
    """Record each call of a DSPy program as a run, and each LM call outside one, until it is switched off."""
    word = call.line.strip()
    if word and word not in _STATES:
        raise ConfigurationError(
            f"{word!r} is not expected here.{did_you_mean(word, _STATES)}", key="autolog", hint=f"Write: {COMMAND.usage}"
        ).at(word, 1, 1)
    if word:
        call.lab.autolog(word == "on")
    if call.lab.autologging:
        print("autolog: on — plain DSPy calls are recorded (tag 'autolog' in the runs)")
    else:
        print("autolog: off — plain DSPy calls are not recorded")


COMMAND = Command(
    "autolog",
    "%dspex autolog [on | off]",
    "record plain DSPy calls of this notebook too, or say whether they are",
    run,
    names=lambda namespace: list(_STATES),
)
