"""What defines the variables of a space, what they depend on, and what holds of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from dspex_lab.errors import VariableError
from dspex_lab.variables._constraints import Constraint
from dspex_lab.variables._core import LISTED, Core
from dspex_lab.variables._entry import UNSET, Entry, New
from dspex_lab.variables._formula import Source, formula
from dspex_lab.variables._kinds import Kinds
from dspex_lab.variables._loading import constraint_definition, constraint_key
from dspex_lab.variables._names import checked
from dspex_lab.variables._protocols import Author, Domain
from dspex_lab.variables._variable import Home, Variable
from dspex_lab.variables.domains import Plain


class Defining(Core, Kinds):
    """A space as far as it is defined; see :class:`~dspex_lab.variables.Space`."""

    def __getitem__(self, name: str) -> Variable:
        found = self._variables.get(name)
        if found is None:
            self._values.entry(name)
            found = self._variables.setdefault(name, Variable(cast(Home, self), name))
        return found

    def add(
        self,
        name: str,
        domain: Domain,
        *,
        default: Any = UNSET,
        note: str | None = None,
        when: Source | None = None,
        reads: Sequence[str] | None = None,
    ) -> Variable:
        """Define a variable.

        Args:
            name: a text without line breaks; paths such as ``triage.predict.temperature`` can be read in expressions too.
            domain: what it may be.
            default: its first value; the domain's own where none is given.
            note: what it is, for people.
            when: an expression, or a function, over other variables: it counts only where that holds. What reads a variable
                that does not count does not count either.
            reads: the variables that ``when`` reads, where it is a function of a dict.

        Raises:
            VariableError: the default is none of the domain's, ``when`` reads what is no variable, or a cycle would come about.
        """
        return self.add_all([New(name, domain, default, note, when, reads)])[0]

    def add_all(self, variables: Iterable[New], *, author: Author | None = None) -> list[Variable]:
        """Define variables in one commit, all of them or none; the conditions of later ones may read earlier ones.

        Args:
            author: who defines them, and why; a person where None.

        Raises:
            VariableError: as :meth:`add` does for one of them, or two have one name.
        """
        wanted = [(new, _first(new)) for new in variables]
        names = [new.name for new, _ in wanted]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise VariableError(f"Variable {twice!r} is to be defined twice at once.", name=twice)
        with self._alone():
            self._define((self._entry(new, first) for new, first in wanted), author)
        return [self[name] for name in names]

    def derive(
        self,
        name: str,
        source: Source,
        *,
        domain: Domain | None = None,
        note: str | None = None,
        reads: Sequence[str] | None = None,
    ) -> Variable:
        """Define a variable that is computed from others, anew at each commit that changes them.

        Args:
            source: an expression (``"demos_k * 40 + 200"``), or a function whose parameters are called like variables. It has
                no effects: it is called under the lock, also for values that are refused in the end.
            domain: what it may be; a commit that would bring it elsewhere is refused. Anything that JSON has where None.
            reads: the variables that a function of one dict reads.

        Raises:
            VariableError: it reads what is no variable, it cannot be computed, or a cycle would come about, which is named:
                ``a → b → a``.
        """
        checked(name)
        with self._alone():
            derive = formula(source, self._others(name, derived=True), f"Variable {name!r}", reads)
            self._define([Entry(name, Plain() if domain is None else domain, derive=derive, note=note)])
        return self[name]

    def constrain(self, source: Source, *, name: str | None = None, reads: Sequence[str] | None = None) -> str:
        """Let nothing be committed that breaks a condition over several variables, and return the constraint's name.

        The present values may break it; the next commit that touches it may not.

        Args:
            source: an expression (``"low < high"``), or a function whose parameters are called like variables. It counts where
                all that it reads counts.
            name: its own; the expression, or the function's name, where None. One of the same name is replaced.
            reads: the variables that a function of one dict reads.
        """
        own = name if name is not None else source.strip() if isinstance(source, str) else getattr(source, "__name__", "")
        with self._alone():
            if not own or own == "<lambda>" or own in self._values.entries:
                raise VariableError(f"A constraint needs a name that no variable has, and {own!r} is none.", hint="Say name=….")
            found = Constraint(own, formula(source, self._values.entries, f"The constraint {own!r}", reads))
            self._journal.define(self.name, constraint_definition(found))
            self._values.constraints.put(found)
            self.damaged.pop(own, None)
        return own

    @property
    def constraints(self) -> dict[str, str]:
        """The constraints: their names, and their expressions or functions."""
        with self._lock:
            return {each.name: each.formula.text for each in self._values.constraints}

    def drop(self, name: str) -> None:
        """Forget a variable, whose history stays, or a constraint; also one that was damaged.

        Raises:
            VariableError: others read it, it is leased, or there is none.
        """
        with self._alone():
            if self.damaged.pop(name, None) is None or name in self._values.entries:
                if name not in self._values.constraints:
                    self._values.entry(name)
                    self._leases.check([name], None)
                self._values.drop(name)
            self._journal.drop(self.name, name)
            self._journal.drop(self.name, constraint_key(name))
            self._variables.pop(name, None)
            self._snapshot = None

    def pin(self, *names: str) -> None:
        """Let variables keep their values: whoever writes another one is refused."""
        self._pin(names, True)

    def unpin(self, *names: str) -> None:
        """Let variables change again."""
        self._pin(names, False)

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _entry(self, new: New, first: Any) -> Entry:
        what = f"The condition of {new.name!r}"
        condition = None if new.when is None else formula(new.when, self._others(new.name), what, new.reads)
        return Entry(new.name, new.domain, first, when=condition, pinned=new.pinned, note=new.note)

    def _define(self, entries: Iterable[Entry], author: Author | None = None) -> None:
        """Define variables in one commit; each is put before the next one is asked for, which may read it."""
        before: dict[str, Entry | None] = {}
        undo: list[Callable[[], None]] = []
        try:
            for entry in entries:
                self._put(entry, before, undo)
            why = "defined" if None in before.values() or not before else "defined anew"
            plan = self._values.plan_defined(before, author=author or Author(why=why), time=self._clock())
            self._leases.check([name for name, old in before.items() if old is not None and name in plan.commit.changes], None)
            for name in before:
                self._journal.define(self.name, self._values.entries[name].definition())
            self._do(plan)
        except BaseException:
            for back in reversed(undo):
                back()
            raise
        for name in before:
            self.damaged.pop(name, None)
            kind = self._values.entries[name].domain.kind
            self._say("variable.define", {"name": name, "kind": kind, "version": self._values.version})

    def _put(self, entry: Entry, before: dict[str, Entry | None], undo: list[Callable[[], None]]) -> None:
        name, old = entry.name, self._values.entries.get(entry.name)
        if name in self._values.constraints:
            raise VariableError(f"There is a constraint of the name {name!r}.", name=name)
        if old is not None:
            entry = replace(entry, pinned=old.pinned)
            if old.same(entry):
                self._values.entries[name] = entry  # what its names stand for may have come anew
                return
        undo.append(self._values.define(entry))
        before[name] = old

    def _pin(self, names: Sequence[str], pinned: bool) -> None:
        with self._alone():
            for name in self._names(names):
                entry = self._values.entries[name]
                if entry.pinned != pinned:
                    entry = replace(entry, pinned=pinned)
                    self._journal.define(self.name, entry.definition())
                    self._values.entries[name] = entry
            self._say("variable.pin", {"names": list(names)[:LISTED], "pinned": pinned})

    def _others(self, name: str, derived: bool = False) -> Mapping[str, Any]:
        """Return the variables that ``name`` may read; itself among them, so that a cycle is called one."""
        known = self._values.entries
        return known if name in known else {**known, name: None} if derived else known


def _first(new: New) -> Any:
    """Return the first value of a variable that is to be defined."""
    checked(new.name)
    if isinstance(new.domain, type) or not hasattr(new.domain, "cast"):
        raise VariableError(f"{new.domain!r:.80} is no domain.", name=new.name, hint="As in: space.add(name, Float(0, 2)).")
    return new.domain.first() if new.default is UNSET else new.domain.cast(new.default, new.name)
