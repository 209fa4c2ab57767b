"""A variable that follows another one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from dspex_lab.errors import VariableError
from dspex_lab.variables._protocols import Author, Commit, CommitObserver
from dspex_lab.variables._variable import Home, Variable

Subscribe = Callable[[CommitObserver, Sequence[str]], Callable[[], None]]


def follow(space: Home, names: Sequence[str] | None, follower: Variable, subscribe: Subscribe) -> Callable[[], None]:
    """Let ``follower`` take the value of the one variable in ``names``, cast to its domain, now and at each commit.

    A value that it cannot take is logged as an observer's error, and the follower keeps its own.

    Raises:
        VariableError: not one variable is named, or it is the follower; or the follower cannot take its present value.
    """
    if names is None or len(names) != 1:
        raise VariableError(f"{follower.name!r} follows one variable.", hint=f"space.observe(variable, [{follower.name!r}])")
    (leader,) = names
    if follower.space is space and follower.name == leader:
        raise VariableError(f"{leader!r} cannot follow itself.", name=leader)

    lock, told = threading.RLock(), False

    def take(value: Any, author: Author) -> None:
        because = Author(author.who, author.name, f"follows {leader!r}")
        follower.space.commit({follower.name: value}, author=because)

    def tell(commit: Commit) -> None:
        nonlocal told
        with lock:
            told = True
            take(commit.changes[leader].value, commit.author)

    unsubscribe = subscribe(tell, names)  # first, so that no commit falls between
    try:
        with lock:
            if not told:  # what was told meanwhile is newer
                take(space.cell(leader).value, Author())
    except BaseException:
        unsubscribe()
        raise
    return unsubscribe
