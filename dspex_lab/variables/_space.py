"""A space: the variables of a system, coordinated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from dspex_lab.errors import VariableError
from dspex_lab.variables._defining import Defining
from dspex_lab.variables._feasible import Feasibility, feasible
from dspex_lab.variables._following import follow
from dspex_lab.variables._history import checked_version, unmasked, values_at
from dspex_lab.variables._lease import Lease
from dspex_lab.variables._lease_table import Ended, LeaseStatus
from dspex_lab.variables._leases import TTL, Asked
from dspex_lab.variables._protocols import Author, Commit, CommitObserver, Snapshot
from dspex_lab.variables._show import History, Table, space_table
from dspex_lab.variables._values import Expected
from dspex_lab.variables._variable import Variable
from dspex_lab.variables._watch import Watch


class Space(Defining):
    """Typed, observed, versioned variables with what depends on what, which hold together, and who may write.

    Commits are linear: each makes the next version of the space, whole or not at all. Any thread may read and write.

    Args:
        name: its own; a journal may hold several spaces.
        journal: where it is kept, and taken from; in memory where None.
        clock: seconds since the epoch.
        emit: told of ``variable.*`` events.

    Attributes:
        name: its own.
        damaged: what the journal has and could not be read, by name, and why.
    """

    # ---- reading ----------------------------------------------------------------------------------------------------

    def __contains__(self, name: object) -> bool:
        return name in self._values.entries

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._values.entries))

    def __len__(self) -> int:
        return len(self._values.entries)

    def __bool__(self) -> bool:
        return True

    def get(self, name: str) -> Any:
        """Return a variable's value, whether it counts or not.

        Raises:
            VariableError: there is no such variable.
        """
        return self.cell(name).value

    @property
    def version(self) -> int:
        """How many commits there were."""
        return self._values.version

    def values(self) -> dict[str, Any]:
        """Return the values of the variables that count, all of one version."""
        return dict(self.snapshot().values)

    def snapshot(self) -> Snapshot:
        """Return the values that count and their versions, as they are now; it does not change."""
        found = self._snapshot
        if found is None:
            with self._lock:
                found = self._snapshot = self._values.snapshot()
        return found

    def as_json(self, snapshot: Snapshot | None = None) -> dict[str, Any]:
        """Return a snapshot (the present one where None) as a run's record has it: ``{"version": …, "values": {…}}``."""
        found = snapshot or self.snapshot()
        entries = self._values.entries
        values = {name: entries[name].domain.to_json(value) for name, value in found.values.items() if name in entries}
        return {"version": found.version, "values": values}

    def history(self, name: str | None = None, limit: int | None = None) -> History:
        """Return who wrote what, when, why and with which score, the newest first.

        Args:
            name: of one variable, which may have been dropped; all where None.
            limit: values at most.
        """
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise VariableError(f"limit={limit!r} is no number of values.")
        found = self._journal.history(self.name, name, limit=limit)
        if name is not None and not found:
            self._values.entry(name)
        return History(found)

    def at(self, version: int) -> Snapshot:
        """Return the values as they were at a version, of the variables that there are today."""
        with self._lock:
            checked_version(version, self.version)
            values = self._values.copy()
        return values.then(version, values_at(values, self._journal, self.name, version))

    # ---- writing ----------------------------------------------------------------------------------------------------

    def commit(
        self,
        values: Mapping[str, Any],
        *,
        expect: Expected = None,
        author: Author | None = None,
        lease: Lease | None = None,
    ) -> Commit:
        """Write variables, all together or none.

        Args:
            expect: the version at which the space was read, or at which each variable got the value that was read.
            author: who, why, and what was measured; a person where None.
            lease: what it is written under.

        Returns:
            What was changed, derived variables included; with the present version and no changes where all is as it was.

        Raises:
            VersionConflict: somebody has written since ``expect``.
            LeaseError: a variable is leased to somebody else, or the lease is over.
            ConstraintError: a constraint would not hold.
            VariableError: no such variable, or it cannot take the value, or is derived or pinned.
        """
        return self._commit(values, expect, Author() if author is None else author, lease)

    def rollback(
        self,
        version: int,
        names: str | Iterable[str] | None = None,
        *,
        author: Author | None = None,
        lease: Lease | None = None,
    ) -> Commit:
        """Bring values back as they were at a version, as a new commit: history stays as it is.

        Args:
            names: of the variables to bring back; all that are not derived where None. What was defined later keeps its value.

        Raises:
            VariableError: no such version, or a variable had no value then; and as :meth:`commit` does.
        """
        with self._lock:
            checked_version(version, self.version)
            wanted = None if names is None else self._names(names)
            values = self._values.copy()
        found = values_at(values, self._journal, self.name, version, wanted)
        back = {name: value for name, (value, _) in found.items() if wanted or values.entries[name].derive is None}
        unmasked(values, back)
        who = author or Author(why=f"back to version {version}")
        return self._commit(back, None, who, lease, undone=version)

    def check(self, values: Mapping[str, Any]) -> Snapshot:
        """Return the values that would count if ``values`` were committed; nothing is written or spent.

        Raises:
            ConstraintError: a constraint would not hold.
            VariableError: as :meth:`commit` does.
        """
        with self._lock:
            copy = self._values.copy()
        plan = copy.plan(values, author=Author())
        copy.check_all(plan)
        return copy.snapshot(plan)

    def feasible(self, names: str | Iterable[str] | None = None, *, trials: int = 1_000, seed: int = 0) -> Feasibility:
        """Look for values of ``names`` (all where None) that meet all constraints, while the others keep theirs.

        Few combinations are all tried, and then "impossible" is certain; else ``trials`` draws, and then it is not.
        """
        with self._lock:
            copy = self._values.copy()
            wanted = None if names is None else self._names(names)
        return feasible(copy, wanted, trials, seed)

    # ---- observers and leases ---------------------------------------------------------------------------------------

    def observe(self, observer: CommitObserver | Variable, names: str | Iterable[str] | None = None) -> Callable[[], None]:
        """Tell ``observer`` of each commit once, in order, after it was made; return what ends this.

        Args:
            observer: a function of the commit, such as a widget's. One that raises is logged, once, and breaks nothing. Or
                another variable, of any space: it takes the value of the one in ``names`` now and at each commit.
            names: of the variables whose commits it is told of; all where None.
        """
        wanted = None if names is None else self._names(names)
        if isinstance(observer, Variable):
            return follow(self, wanted, observer, self._observers.add)
        if not callable(observer):
            raise VariableError(f"An observer is a function of a commit or a variable, found {type(observer).__name__}.")
        return self._observers.add(observer, wanted)

    def watch(self, names: str | Iterable[str] | None = None) -> Watch:
        """Return commits as an async iterator, from now on until it is closed: ``async for commit in space.watch()``."""
        wanted = None if names is None else self._names(names)
        return Watch(lambda tell: self._observers.add(tell, wanted))

    def lease(self, *names: str, owner: str, ttl: float = TTL, patience: float | None = None) -> Lease:
        """Wait for the right to write variables, all of them at once; first in, first out among those that overlap.

        Args:
            owner: who will write.
            ttl: seconds for which it lasts without a renewal; in a ``with`` block a heartbeat renews it.
            patience: seconds to wait at most; None for as long as it takes.

        Raises:
            LeaseError: no patience is left, or the owner would wait while it holds another lease.
        """
        return self._leases.take(self._leasable(names), owner=owner, ttl=ttl, patience=patience)

    def alease(self, *names: str, owner: str, ttl: float = TTL, patience: float | None = None) -> Asked:
        """Return what can be awaited, or be used in ``async with``, for a lease; see :meth:`lease`."""
        return self._leases.ask(self._leasable(names), owner=owner, ttl=ttl, patience=patience)

    def leases(self) -> tuple[LeaseStatus, ...]:
        """Return who holds leases, and who waits for one."""
        return self._leases.status()

    def break_lease(self, name: str, why: str | None = None) -> Ended:
        """End the lease that a variable is in; its owner finds the next commit refused."""
        return self._leases.break_lease(name, why)

    # ---- showing ----------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return repr(self._table())

    def _repr_html_(self) -> str:
        return self._table()._repr_html_()

    def _table(self) -> Table:
        holders = {name: lease.owner for lease in self.leases() if lease.state == "held" for name in lease.names}
        with self._lock:
            copy = self._values.copy()
        return space_table(self.name, copy, holders)

    def _leasable(self, names: Sequence[str]) -> tuple[str, ...]:
        found = self._names(names)
        for name in found:
            if (derive := self._values.entry(name).derive) is not None:
                raise VariableError(
                    f"Variable {name!r} is derived and nobody writes it.", name=name, hint=f"Lease {', '.join(derive.reads)}."
                )
        return found
