"""``%dspex health``: how models and the Lab's parts are; circuits and the level of degradation set by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._lab import open_lab

_ALL, _AUTO = "all", "auto"


def run(call: Call) -> Any:
    """Show components, circuits and places of each model, what is left out under load, and the last changes of state.

    %dspex health reset TARGET closes a circuit by hand and forgets what it saw, reset all every one; open TARGET opens it: the
    target is not called until it is reset. level LEVEL keeps a level of degradation whatever the load, level auto lets the
    load say it again.
    """
    word, _, rest = call.line.strip().partition(" ")
    if not word:
        from dspex_lab.dashboards import standing

        return standing(call.lab)
    if word not in SUBCOMMANDS:
        raise ConfigurationError(
            f"{word!r} is not expected here.{did_you_mean(word, SUBCOMMANDS)}", key="health", hint=f"Write: {COMMAND.usage}"
        ).at(call.line, 1, 1)
    SUBCOMMANDS[word](call, rest.strip().strip("\"'"))
    return None


def _reset(call: Call, target: str) -> None:
    lab = call.lab
    if target == _ALL:
        chosen = [row.target for row in lab.gateway.guards.snapshot() if row.state is not None]
    else:
        chosen = [_known(call, target)]
    for each in chosen:
        _breaker(lab, each).close()
    lab.health.check("models")
    print("\n".join(f"{each}: its circuit is closed" for each in chosen) or "No provider was called yet: no circuit is open.")


def _open(call: Call, target: str) -> None:
    chosen = _known(call, target)
    _breaker(call.lab, chosen).open("opened by hand")
    call.lab.health.check("models")
    print(f"{chosen}: its circuit is open; it is not called until %dspex health reset {chosen}")


def _level(call: Call, word: str) -> None:
    degradation = call.lab.gateway.degradation
    if not word:
        raise ConfigurationError(
            "Which level?", key="level", hint=f"There are {', '.join(_levels())}; auto follows the load."
        ).at(call.line, 1, len(call.line))
    if word == _AUTO:
        degradation.unpin()
        call.lab.health.check("load")
        print(f"degradation: {degradation.level}, as the load says")
        return
    try:
        degradation.pin(word.replace("-", "_"))
    except ConfigurationError as error:
        raise error.at(call.line, 1, call.line.rfind(word) + 1) from error.__cause__
    print(f"degradation: {degradation.level}, whatever the load, until %dspex health level auto")
    call.lab.health.check("load")


def _known(call: Call, target: str) -> str:
    """Return the target of that name; a model of the Lab that was not called yet has one too.

    Raises:
        ConfigurationError: there is none.
    """
    lab = call.lab
    known = _targets(lab)
    if target in known:
        return target
    if target and target in lab.lms:
        lm = lab.lms[target]
        if getattr(getattr(lm, "_engine_spec", None), "in_process", False) is True:
            raise ConfigurationError(
                f"{target!r} answers in this process: nothing stands around its calls.", key="target", actual=target
            ).at(call.line, 1, call.line.rfind(target) + 1)
        return str(lab.gateway.guard(lm).target)
    near = did_you_mean(target, [*known, *(c.name for c in lab.lms)])
    hint = f"Called so far: {', '.join(known)}." if known else "No provider was called yet."
    message = f"No call went to {target!r}.{near}" if target else "Which target?"
    raise ConfigurationError(message, key="target", actual=target, hint=hint).at(
        call.line, 1, max(call.line.rfind(target), 0) + 1
    )


def _breaker(lab: Any, target: str) -> Any:
    """Return the breaker of a known target.

    Raises:
        ConfigurationError: its policy has none.
    """
    provider = next(row.provider for row in lab.gateway.guards.snapshot() if row.target == target)
    breaker = lab.gateway.guards.of(target, provider).breaker
    if breaker is None:
        raise ConfigurationError(
            f"{target!r} has no circuit breaker.", key="target", hint="Its policy has none: lab.policy(dx.Policy(), MODEL)."
        )
    return breaker


def _targets(lab: Any) -> list[str]:
    return [row.target for row in lab.gateway.guards.snapshot()]


def _levels() -> list[str]:
    from dspex_lab.resilience import Level

    return [str(level) for level in Level]


def _after(words: list[str]) -> list[str]:
    if words == ["level"]:
        return [*_levels(), _AUTO]
    lab = open_lab()
    if lab is None or len(words) != 1 or words[0] not in ("reset", "open"):
        return []
    return [*_targets(lab), *([_ALL] if words == ["reset"] else [])]


SUBCOMMANDS: dict[str, Callable[[Call, str], None]] = {"reset": _reset, "open": _open, "level": _level}

COMMAND = Command(
    "health",
    "%dspex health [reset TARGET | reset all | open TARGET | level LEVEL | level auto]",
    "how models, circuits and the Lab's parts are, what is left out under load, and the last changes; set them by hand",
    run,
    names=lambda namespace: list(SUBCOMMANDS),
    more=_after,
)
