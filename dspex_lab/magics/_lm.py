"""``%dspex lm``: choose the model, or say which one answers, what is known of it, and which others there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dspex_lab.errors import ConfigurationError, LMError, did_you_mean
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._line import Line, parse
from dspex_lab.magics._needs import needs_of


def run(call: Call) -> Any:
    """Choose the model of the Lab; without one, say which is in use, what it costs, how it did, and which others there are.

    %dspex lm add MODEL [quality=0.8 …] and %dspex lm remove MODEL say among which models to choose;
    %dspex lm select structured tools context=32k price=1 [--use] chooses by what is needed;
    %dspex lm price MODEL IN OUT says what a model costs, in US dollars per million tokens;
    %dspex lm cache [on | off | clear] is about DSPy's cache of answers.
    """
    word, _, rest = call.line.strip().partition(" ")
    if not word:
        return _show(call)
    if word in SUBCOMMANDS:
        return SUBCOMMANDS[word](call, rest.strip())
    return _choose(call)


def _choose(call: Call) -> None:
    line = parse(call.line, words=1, fields=True)
    values = line.values(call.shell.user_ns)
    if not line.words:
        raise ConfigurationError("Options need a model before them.", key="lm", hint=f"Write: {COMMAND.usage}")
    lab, word = call.lab, line.words[0].strip("\"'")
    try:
        if word in lab.lms and not values:
            lab.use(lab.lms[word])
        else:
            lab.use(call.shell.user_ns.get(word, word), **values)
    except LMError as error:
        near = "" if "/" in word else did_you_mean(word, [*SUBCOMMANDS, "offline"])
        if near:
            error.message += near
        raise error.at(line.text, 1, 1) from error.__cause__
    print(_in_use(lab))


def _in_use(lab: Any) -> str:
    """Return which model answers, with what has to be known about it."""
    from dspex_lab.lms import OFFLINE_MODEL, describe, is_listed, is_simulated

    name, note = describe(lab.lm), ""
    if name == OFFLINE_MODEL:
        note = " — the offline engine: it answers from the prompt alone, no real model is called"
    elif is_simulated(lab.lm):
        note = " — simulated: no real model is called"
    elif not is_listed(name):
        note = " — DSPy's table of models does not have it: it may be new, or mistyped; the first call will tell"
    return f"model: {name}{note}\n  {lab.lms.facts()}"


def _show(call: Call) -> None:
    from dspex_lab.lms import describe

    lab = call.lab
    used = describe(lab.lm)
    others = [c.name + (f" ({c.unavailable})" if c.unavailable else "") for c in lab.lms if c.name != used]
    offered = "\n".join(f"  {line}" for line in repr(lab.lms.available()).splitlines())
    print(f"{_in_use(lab)}\n  measured: {lab.lms.measured()}")
    print(f"also here: {', '.join(others) or 'none; %dspex lm add MODEL adds one'}\navailable:\n{offered}\n{lab.lms.cache}")


def _select(call: Call, text: str) -> Any:
    needs, use = needs_of(text, call.shell.user_ns)
    try:
        selection = call.lab.lms.select(**needs)
    except ConfigurationError as error:
        place = text.find(f"{error.key}=") + 1 if error.key in needs else 0
        raise (error.at(text, 1, place) if place else error) from error.__cause__
    if use:
        call.lab.use(selection.lm)
        print(_in_use(call.lab))
    return selection


def _price(call: Call, text: str) -> None:
    line = parse(text, words=3)
    if len(line.words) not in (1, 3):
        raise ConfigurationError(
            "A price is two sums: of a million tokens of the prompt, and of the answer, in US dollars.",
            key="price",
            hint="Write: %dspex lm price PROVIDER/MODEL IN OUT, or the model alone to see its price.",
        ).at(text, 1, 1)
    lms, model = call.lab.lms, line.words[0]
    if len(line.words) == 3:
        lms.set_price(model, input=_sum(line, 1), output=_sum(line, 2))
    print(f"{model}: {lms.facts(model)}")


def _sum(line: Line, place: int) -> float:
    word = line.words[place]
    try:
        return float(word.removeprefix("$"))
    except ValueError:
        raise ConfigurationError(f"{word!r} is no sum.", key="price", expected="US dollars per million tokens", actual=word).at(
            line.text, 1, line.text.rfind(word) + 1
        ) from None


def _cache(call: Call, text: str) -> None:
    lms = call.lab.lms
    if text in ("on", "off"):
        print(lms.switch_cache(text == "on"))
    elif text == "clear":
        before = lms.clear_cache()
        print(f"{before}; cleared: {before.memory or 0:,} in memory, {before.disk or 0:,} on the disk" if before.on else before)
    elif text:
        raise ConfigurationError(
            f"The cache cannot be {text!r}.{did_you_mean(text, ('on', 'off', 'clear'))}", key="cache", hint="on, off or clear."
        ).at(text, 1, 1)
    else:
        print(lms.cache)


def _add(call: Call, text: str) -> None:
    line = parse(text, words=1, fields=True)
    values = line.values(call.shell.user_ns)
    if not line.words:
        raise ConfigurationError("Which model is to be added?", key="add", hint="Write: %dspex lm add PROVIDER/MODEL")
    word = line.words[0].strip("\"'")
    try:
        name = call.lab.lms.add(call.shell.user_ns.get(word, word), **values)
    except LMError as error:
        raise error.at(text, 1, 1) from error.__cause__
    print(f"{name}: {call.lab.lms.facts(name)}")


def _remove(call: Call, text: str) -> None:
    if not text:
        raise ConfigurationError("Which model is to be removed?", key="remove", hint="Write: %dspex lm remove NAME")
    try:
        call.lab.lms.remove(text)
    except ConfigurationError as error:
        raise error.at(text, 1, 1) from error.__cause__


SUBCOMMANDS: dict[str, Callable[[Call, str], Any]] = {
    "select": _select,
    "price": _price,
    "cache": _cache,
    "add": _add,
    "remove": _remove,
}

COMMAND = Command(
    "lm",
    "%dspex lm [PROVIDER/MODEL | offline] [temperature=… api_base=…] | select NEEDS [--use] | price MODEL IN OUT | "
    "add MODEL [quality=…] | remove MODEL | cache [on | off | clear]",
    "choose the language model, or say which one is in use and what is known of it; choose one by what is needed",
    run,
    flags=("use",),
    names=lambda namespace: ["offline", "openai/", "anthropic/", "gemini/", "ollama_chat/", *SUBCOMMANDS],
)
