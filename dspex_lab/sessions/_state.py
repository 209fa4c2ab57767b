"""The state of a session as a mapping: what is set is in the store when the assignment returns."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from dspex_lab.errors import SessionError
from dspex_lab.sessions._values import changeable, decode
from dspex_lab.sessions._worker import checked_key, texts_of

#: What changed: the new text of each key, None where it was deleted.
Changes = dict[str, str | None]


class Keeper(Protocol):
    """Where the entries of a state are; see :class:`~dspex_lab.sessions.Session`."""

    @property
    def name(self) -> str:
        """The session's name."""

    @property
    def closed(self) -> bool:
        """Whether it has no entries any more."""

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """Held while entries or values change; may be taken again by who holds it."""

    def entries(self, what: str) -> dict[str, str]:
        """Return the entries of a namespace, read from the store where they are not here; not to be changed."""
        ...

    def write(self, what: str, changes: Changes) -> None:
        """Take over changes; they are in the store when this returns, or nothing of them is and it raises."""
        ...


class State(MutableMapping[str, Any]):
    """Named values that outlive the kernel. Thread-safe.

    Setting and deleting a key is saved at once. What is changed *inside* a value (``state["seen"].append(x)``) is found by
    comparing, at the next assignment, call or run of the session, and by ``session.save()``. A value that was set anew
    since, or changed by a call, is another one: get it again.

    Raises:
        SessionError: a value cannot be kept (the error names the part), or the state would be too large; it is as before then.
    """

    def __init__(self, what: str, keeper: Keeper) -> None:
        self._what, self._keeper = what, keeper
        self._values: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        while True:
            with self._keeper.lock:
                if key in self._values:
                    return self._values[key]
                text = self._keeper.entries(self._what)[key]
            value = decode(text, self._path(key))
            with self._keeper.lock:
                # Else it was set meanwhile, and this value is an old one.
                if self._keeper.entries(self._what).get(key) == text:
                    return self._values.setdefault(key, value)

    def __setitem__(self, key: str, value: Any) -> None:
        self._set({key: value})

    def __delitem__(self, key: str) -> None:
        if key not in self._keeper.entries(self._what):
            raise KeyError(key)
        self._keeper.write(self._what, {key: None})

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._keeper.entries(self._what)))

    def __len__(self) -> int:
        return len(self._keeper.entries(self._what))

    def __contains__(self, key: object) -> bool:
        return key in self._keeper.entries(self._what)

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Set several keys: all of them or, where one cannot be kept, none."""
        self._set({**dict(other), **more})

    def clear(self) -> None:
        """Delete all keys."""
        self._keeper.write(self._what, dict.fromkeys(self))

    def __repr__(self) -> str:
        inside = ", ".join(f"{key!r}: {_brief(text)}" for key, text in self._keeper.entries(self._what).items())
        return f"<{self._what} of session {self._keeper.name!r}: {{{inside}}}>"

    def _set(self, values: Mapping[str, Any]) -> None:
        for key in values:
            checked_key(key, self._what)
        texts: Changes = dict(texts_of(values, self._keeper.name, self._what))
        self._keeper.write(self._what, texts)
        with self._keeper.lock:
            if self._keeper.closed:
                return
            now = self._keeper.entries(self._what)
            # What the caller goes on changing is looked at too, unless another has set it since.
            self._values.update({k: v for k, v in values.items() if now.get(k) == texts[k]})

    def _path(self, key: str) -> str:
        return f"{self._what}[{key!r}] of session {self._keeper.name!r}"

    def altered(self, entries: Mapping[str, str], among: Container[str] | None = None) -> Changes:
        """Return what changed inside values that were handed out, of all keys or ``among`` some."""
        looked = entries if among is None else among
        lent = {k: v for k, v in list(self._values.items()) if k in entries and k in looked and changeable(v)}
        found = texts_of(lent, self._keeper.name, self._what)
        return {key: text for key, text in found.items() if text != entries[key]}

    @property
    def lent(self) -> bool:
        """Whether something was handed out that may change in itself."""
        return any(map(changeable, list(self._values.values())))

    def taken(self, changes: Changes) -> None:
        """Forget the values of changed keys that were handed out: the entries have others now."""
        for key in changes:
            self._values.pop(key, None)

    def forget(self) -> None:
        """Forget every value that was handed out."""
        self._values.clear()


def _brief(text: str) -> str:
    return text if len(text) <= 40 else f"… {len(text):,} bytes"


class Optimization(State):
    """What an optimizer keeps in a session: any keys, and these, which have names: the best score, after how many iterations,
    and the candidates that were tried. Higher scores are better."""

    @property
    def best_score(self) -> float | None:
        """The best score so far, None before the first."""
        return self.get("best_score")

    @best_score.setter
    def best_score(self, value: float | None) -> None:
        self["best_score"] = value

    @property
    def iteration(self) -> int:
        """How many candidates were scored."""
        return int(self.get("iteration", 0))

    @iteration.setter
    def iteration(self, value: int) -> None:
        self["iteration"] = value

    @property
    def candidates(self) -> list[dict[str, Any]]:
        """What was scored, in order: ``candidate, score, iteration``."""
        found: list[dict[str, Any]] = self.get("candidates", [])
        return found

    @property
    def best(self) -> Any:
        """The candidate with the best score, None before the first."""
        return self.get("best")

    def record(self, candidate: Any, score: float, *, keep: int = 100) -> bool:
        """Take note of a candidate and return whether it is the best so far; one write.

        Args:
            candidate: anything the state can keep.
            score: higher is better.
            keep: how many candidates are kept; the oldest go first, the best one stays in ``best``.

        Raises:
            SessionError: the score is no number, or the candidate cannot be kept.
        """
        if isinstance(score, bool) or not isinstance(score, int | float) or score != score:
            raise SessionError(f"{score!r} is no score.", session=self._keeper.name, hint="Give a number; higher is better.")
        number = self.iteration + 1
        listed = [*self.candidates, {"candidate": candidate, "score": float(score), "iteration": number}][-keep:]
        changes: dict[str, Any] = {"iteration": number, "candidates": listed}
        better = self.best_score is None or score > self.best_score
        if better:
            changes |= {"best_score": float(score), "best": candidate}
        if self.get("first_score") is None:
            changes["first_score"] = float(score)
        self.update(changes)
        return better
