"""``%dspex pools``: the worker processes of the Lab: seen, warmed, resized, restarted and stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._lab import open_lab


def run(call: Call) -> Any:
    """Show each pool: how many of its workers are up, what they do, what they may have, and how the numbers came about.

    %dspex pools warm [NAME …] starts pools in the background, all of them without a name, so that the first call does not
    wait. resize NAME N gives a pool N workers; idle ones leave first, busy ones when they are free. restart NAME [WORKER] ends
    its workers, or one, and starts them anew; what they run fails with WorkerKilled, and idempotent work runs again. stop
    [NAME] ends a pool's workers; its next call starts them again.
    """
    words = call.line.split()
    if not words:
        return call.lab.pools.table()
    word, *rest = words
    if word not in SUBCOMMANDS:
        raise ConfigurationError(
            f"{word!r} is not expected here.{did_you_mean(word, SUBCOMMANDS)}", key="pools", hint=f"Write: {COMMAND.usage}"
        ).at(call.line, 1, call.line.find(word) + 1)
    SUBCOMMANDS[word](call, rest)
    return None


def _warm(call: Call, names: list[str]) -> None:
    pools = call.lab.pools
    chosen = [_known(call, name) for name in names] or list(pools.names)
    waiting = [name for name in chosen if not pools.get(name).started]
    for name in chosen:
        if name not in waiting:
            print(f"pool {name} is up already")
    if waiting:
        pools.warm(*waiting, wait=False)
    for name in waiting:
        print(f"pool {name} starts in the background: {pools.get(name).spec.scaling}")


def _resize(call: Call, words: list[str]) -> None:
    _no_more(call, words, 2)
    name, number = _known(call, _word(call, words, 0, "Which pool?")), _word(call, words, 1, "How many workers?")
    if not (number.isascii() and number.isdecimal() and len(number) <= 9):
        raise ConfigurationError(
            f"{number!r} is no number of workers.",
            key="workers",
            expected="a whole number",
            actual=number,
            hint="Give a whole number.",
        ).at(call.line, 1, call.line.rfind(number) + 1)
    pools = call.lab.pools
    before, started = pools.get(name).spec.workers, pools.get(name).started
    try:
        pools.resize(name, int(number), wait=False)
    except ConfigurationError as error:
        raise error.at(call.line, 1, call.line.rfind(number) + 1) from error.__cause__
    when = "in the background" if started else "when it is started"
    print(f"pool {name}: {before} → {int(number)} workers, {when}")


def _restart(call: Call, words: list[str]) -> None:
    _no_more(call, words, 2)
    pool = call.lab.pools.get(_known(call, _word(call, words, 0, "Which pool?")))
    if not pool.started:
        print(f"pool {pool.name} is not up; its first call starts it")
        return
    worker = words[1] if len(words) > 1 else None
    workers = _workers(pool)
    if worker is not None and worker not in workers:
        raise ConfigurationError(
            f"Pool {pool.name!r} has no worker {worker!r}.{did_you_mean(worker, workers)}",
            key="worker",
            expected=workers,
            actual=worker,
            hint=f"Its workers: {', '.join(workers)}.",
        ).at(call.line, 1, call.line.rfind(worker) + 1)
    pool.restart(worker)
    what = f"worker {worker} of pool {pool.name} is" if worker else f"the workers of pool {pool.name} are"
    print(f"{what} ended and started anew, in the background")


def _stop(call: Call, words: list[str]) -> None:
    _no_more(call, words, 1)
    pools = call.lab.pools
    names = [_known(call, name) for name in words] or list(pools.names)
    stopped = [name for name in names if pools.get(name).started]
    for name in stopped:
        pools.stop(name)
        print(f"pool {name} is stopped; its next call starts it again")
    if not stopped:
        print(f"{'no pool is' if len(names) > 1 else f'pool {names[0]} is not'} up")


def _known(call: Call, name: str) -> str:
    """Return the name of a pool that there is.

    Raises:
        ConfigurationError: there is none of that name.
    """
    try:
        return str(call.lab.pools.get(name).name)
    except ConfigurationError as error:
        raise error.at(call.line, 1, max(call.line.find(name), 0) + 1) from error.__cause__


def _word(call: Call, words: list[str], at: int, question: str) -> str:
    if len(words) <= at:
        names = ", ".join(call.lab.pools.names)
        hint = f"Pools here: {names}." if at == 0 else f"Write: {COMMAND.usage}"
        raise ConfigurationError(question, key="pools", hint=hint).at(call.line, 1, max(len(call.line), 1))
    return words[at]


def _no_more(call: Call, words: list[str], most: int) -> None:
    if len(words) > most:
        raise ConfigurationError(f"{words[most]!r} is not expected here.", key="pools", hint=f"Write: {COMMAND.usage}").at(
            call.line, 1, call.line.rfind(words[most]) + 1
        )


def _workers(pool: Any) -> list[str]:
    return [str(worker["name"]) for worker in pool.status()]


def _after(words: list[str]) -> list[str]:
    """Return what may follow the words behind ``pools``; no Lab is opened and no pool is started for it."""
    lab = open_lab()
    if lab is None or not words:
        return []
    names = list(lab.pools.names)
    if words[0] == "warm":
        return [name for name in names if name not in words[1:]]
    if len(words) == 1 and words[0] in SUBCOMMANDS:
        return names
    if len(words) == 2 and words[0] == "restart" and words[1] in names:
        return _workers(lab.pools.get(words[1]))
    return []


SUBCOMMANDS: dict[str, Callable[[Call, list[str]], None]] = {
    "warm": _warm,
    "resize": _resize,
    "restart": _restart,
    "stop": _stop,
}

COMMAND = Command(
    "pools",
    "%dspex pools [warm [NAME …] | resize NAME N | restart NAME [WORKER] | stop [NAME]]",
    "the worker processes: how many are up, what they do and may have, and why so many; warm, resize, restart or stop them",
    run,
    names=lambda namespace: list(SUBCOMMANDS),
    more=_after,
)
