"""What a program and a space agree on, and what goes from one to the other since."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from threading import RLock
from typing import Any

from dspex_lab.errors import VersionConflict
from dspex_lab.variables._protocols import Author, Commit, Knob, Snapshot, Who
from dspex_lab.variables._space import Space
from dspex_lab.variables.expose._bindings import Binding
from dspex_lab.variables.expose._named import Named
from dspex_lab.variables.expose._program import present
from dspex_lab.variables.expose._values import UNSET

log = logging.getLogger("dspex_lab")

#: Whose commits those of an exposure are.
WHO: Who = "program"

#: Commits that are looked at where another thread has committed in between.
LOOKED_AT = 64


def both_changed(error: VersionConflict) -> VersionConflict:
    """Return the error for a variable that was changed on both sides."""
    return VersionConflict(
        f"{error.message.rstrip('.')}; it was changed in the program too.",
        name=error.name,
        expected=error.expected,
        actual=error.actual,
        hint="exposure.pull() keeps the program's value, exposure.push() the space's.",
    )


def own(knob: Knob, program: Any) -> Any:
    """Return the value that the program itself has, ``UNSET`` where it has none."""
    return (knob.own or knob.read)(program)


def alike(knob: Knob, one: Any, other: Any) -> bool:
    """Say whether two of these are the same."""
    if one is UNSET or other is UNSET:
        return one is other
    return one is other or knob.domain.equal(one, other)


class Agreement:
    """What a program and a space last agreed on: what one side has changed since goes to the other.

    Args:
        space: where the variables are.
        named: the knobs of the program.
        binding: the program.
        lock: held by whoever puts values into the program.
        first: the values that the program had at first, by name.
        prefix: what the variables' names begin with, by which commits are known.

    Attributes:
        applied: the values of the space that were put into the program last.
    """

    def __init__(
        self, space: Space, named: Named, binding: Binding, lock: RLock, first: Mapping[str, Any], prefix: str
    ) -> None:
        self._space, self._named, self._binding, self._lock = space, named, binding, lock
        self._first, self._prefix = first, prefix
        #: What each knob was when program and space last agreed, and at which version that was for it.
        self._seen: dict[str, Any] = {}
        self._versions: dict[str, int] = {}
        #: What was changed in the program, and is being committed by some thread.
        self._committing: dict[str, Any] = {}
        self.see()
        self.take()

    def see(self) -> None:
        """Take what the program has for what was agreed on."""
        program = self._binding.program
        self._seen = {name: own(knob, program) for name, knob in self._named.by_name.items()}

    def take(self) -> None:
        """Take what the space has for what was agreed on."""
        self.applied = self._space.snapshot()
        self._versions = dict(self.applied.versions)

    def outdate(self) -> None:
        """Take all that the space has for newer than what the program has, whatever was changed there."""
        self.see()
        self.applied, self._versions = Snapshot(-1, self.applied.values), {}

    def put(self, snapshot: Snapshot) -> None:
        """Put the values of the space into the program, where they are newer."""
        self._named.renew(self._space)
        named, program, held = self._named.by_name, self._binding.program, self._committing
        changed = {n for n in named if n not in held and snapshot.versions.get(n, 0) > self._versions.get(n, 0)}
        for name in [n for n in changed if not alike(named[n], own(named[n], program), self._seen[n])]:
            log.warning("variable %r was changed in the program and in the space; the space's value holds", name)
        edited = {**{n: v for n, v in self.edited().items() if n not in changed}, **held}
        values = {n: edited.get(n, v) for n, v in self._named.among(snapshot.values).items()}
        more = self._binding.write(self._named.by_path(values), {named[n].path for n in changed})
        program = self._binding.program
        self._seen.update({n: own(named[n], program) for n in (named if more else changed) if n not in edited})
        self.applied = snapshot
        self._versions.update({n: snapshot.versions[n] for n in changed})

    def pull(self, strict: bool) -> Commit | None:
        """Commit to the space what was changed in the program; None where nothing was.

        Raises:
            VersionConflict: ``strict``, and the same variable was changed in the program and in the space.
            VariableError: a part is not there any more, or has a value that its variable cannot take; or a variable is pinned
                or leased.
        """
        while True:
            try:
                return self._pulled(strict)
            except VersionConflict as error:
                if not self._is_mine(error):
                    raise

    def _is_mine(self, conflict: VersionConflict) -> bool:
        """Say whether it was another thread of this program's that has committed in between, and take note of what it did."""
        name = str(conflict.name)
        since = [r for r in self._space.history(name, limit=LOOKED_AT) if r.version > conflict.expected]
        mine = {(r.who, r.author) for r in since} == {(WHO, self._prefix or None)} and len(since) < LOOKED_AT
        if mine:
            with self._lock:
                self._versions[name] = max(since[0].version, self._versions.get(name, 0))
        return mine

    def _pulled(self, strict: bool) -> Commit | None:
        with self._lock:
            found = self.edited()
        self._learn(found)
        with self._lock:
            edits, program = self.edited(), self._binding.program
            if edits:
                self._named.renew(self._space)
            named = self._named.by_name
            # What another thread commits at this moment is committed here too: a run that begins now has it.
            under_way = dict(self._committing)
            edited = {n: named[n].domain.cast(v, n) for n, v in edits.items()}
            before = {n: self._seen[n] for n in edited}
            expect = {n: v for n, v in self._versions.items() if n in edited or n in under_way} if strict else None
            self._seen.update({n: own(named[n], program) for n in edited})
            self._committing.update(edited)
        try:
            commit = self._commit({**under_way, **edited}, expect) if under_way or edited else None
            if commit is not None:
                self._agreed(edited, commit)
        except BaseException:
            with self._lock:
                self._seen.update(before)
            raise
        finally:
            with self._lock:
                for name, value in edited.items():
                    if self._committing.get(name) is value:
                        del self._committing[name]
        return commit if edited else None

    def _agreed(self, names: Collection[str], commit: Commit) -> None:
        """Note that the space has what the program has: also under a run, which keeps ``Exposure.settle`` waiting."""
        since = {n: commit.version if n in commit.changes else self._space.cell(n).version for n in names}
        with self._lock:
            self._versions.update({n: max(version, self._versions.get(n, 0)) for n, version in since.items()})

    def _commit(self, values: Mapping[str, Any], expect: Mapping[str, int] | None) -> Commit:
        author = self.author("changed in the program")
        try:
            return self._space.commit(values, expect=expect, author=author)
        except VersionConflict as error:
            cells = {name: self._space.cell(name) for name in expect or ()}
            named = self._named.by_name
            if any(c.version != (expect or {})[n] and not named[n].domain.equal(c.value, values[n]) for n, c in cells.items()):
                raise both_changed(error) from error
            # Both sides came to the same value, or another thread has committed what this one saw.
            return self._space.commit(values, expect={name: cell.version for name, cell in cells.items()}, author=author)

    def edited(self) -> dict[str, Any]:
        """Return what was changed in the program since it last agreed with the space."""
        program, found = self._binding.program, dict[str, Any]()
        for name, knob in self._named.by_name.items():
            if not alike(knob, own(knob, program), self._seen[name]):
                found[name] = present(knob, program)
        return {n: v for n, v in found.items() if v is not UNSET}

    def _learn(self, names: Collection[str]) -> None:
        """Let knobs know the models that somebody put into the program since."""
        for name in names:
            taught = self._named.taught(name, self._binding.program)
            if taught is not None:
                self._space.add(name, taught.domain, default=self._first[name], note=taught.note)
                with self._lock:
                    self._named.learn(name, taught)

    def author(self, why: str) -> Author:
        """Return the author of a commit."""
        return Author(WHO, self._prefix or None, why)
