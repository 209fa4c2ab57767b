"""``%dspex lm [MODEL]``: choose the model, or say which one answers."""

from __future__ import annotations

from typing import Any

from dspex_lab.errors import ConfigurationError, LMError
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._line import parse


def run(call: Call) -> Any:
    """Choose the model of the Lab; without one, say which is in use."""
    from dspex_lab.lms import OFFLINE_MODEL, describe, is_listed, is_simulated

    line = parse(call.line, words=1, fields=True)
    values = line.values(call.shell.user_ns)
    if values and not line.words:
        raise ConfigurationError("Options need a model before them.", key="lm", hint=f"Write: {COMMAND.usage}")
    if line.words:
        word = line.words[0].strip("\"'")
        try:
            call.lab.use(call.shell.user_ns.get(word, word), **values)
        except LMError as error:
            raise error.at(line.text, 1, 1) from error.__cause__
    lm = call.lab.lm
    note = ""
    if describe(lm) == OFFLINE_MODEL:
        note = " — the offline engine: it answers from the prompt alone, no real model is called"
    elif is_simulated(lm):
        note = " — simulated: no real model is called"
    elif not is_listed(describe(lm)):
        note = " — DSPy's table of models does not have it: it may be new, or mistyped; the first call will tell"
    print(f"model: {describe(lm)}{note}")


COMMAND = Command(
    "lm",
    "%dspex lm [PROVIDER/MODEL | offline] [temperature=… api_base=…]",
    "choose the language model, or say which one is in use",
    run,
    names=lambda namespace: ["offline", "openai/", "anthropic/", "gemini/", "ollama_chat/"],
)
