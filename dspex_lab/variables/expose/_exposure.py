"""A program whose knobs are variables of a space, bound both ways."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from dspex_lab.errors import DspexError, VariableError
from dspex_lab.variables._entry import New
from dspex_lab.variables._protocols import Author, Commit, Knob, Snapshot
from dspex_lab.variables._space import Space
from dspex_lab.variables.expose._agreement import WHO, Agreement
from dspex_lab.variables.expose._bindings import Binding, Builder, HeldProgram, LiveProgram
from dspex_lab.variables.expose._gate import gate_of, leave, listen
from dspex_lab.variables.expose._named import Named, claim
from dspex_lab.variables.expose._program import present
from dspex_lab.variables.expose._values import UNSET

log = logging.getLogger("dspex_lab")


class Running(NamedTuple):
    """A run under way.

    Args:
        program: what to run.
        snapshot: the values it has, until the run ends.
    """

    program: Any
    snapshot: Snapshot


class Exposure:
    """The knobs of a program as variables: a commit goes into the program, a change of the program into the space.

    A commit goes in whole, when no call of the program is under way; a call that begins meanwhile has the values of before.
    Any thread may use it. The program is not kept alive by it.

    Args:
        space: where the variables are. One that is there already (after a restart) keeps its value, unless the program has
            another one now than when it was first exposed.
        program: a DSPy program, or what ``builder`` makes.
        knobs: of the program, from ``knobs(program)``.
        prefix: what the variables' names begin with, before a dot; "" for nothing.
        builder: makes programs that are not changed themselves, such as pipelines.

    Attributes:
        refused: why the last direct call of the program began without program and space agreeing; None where they did.

    Raises:
        VariableError: a variable of that name is another exposure's, or cannot be defined.
    """

    def __init__(
        self, space: Space, program: Any, knobs: Sequence[Knob], prefix: str = "", *, builder: Builder | None = None
    ) -> None:
        self.space, self.prefix = space, prefix
        self._named = Named(knobs, prefix)
        self._binding: Binding = (
            LiveProgram(program, self._named.knobs) if builder is None else HeldProgram(program, self._named.knobs, builder)
        )
        self._closed = False
        self.refused: DspexError | None = None
        claim(self)
        self._first = {name: present(knob, program) for name, knob in self._named.by_name.items()}
        earlier = self._define()
        self._gate = gate_of(program, self)
        self._agreement = Agreement(space, self._named, self._binding, self._gate.lock, self._first, prefix)
        self._waiting = False
        self._fresh: Running | None = None
        self._unsubscribe = listen(space, self.names, self)
        self._agree(earlier)

    # --- what it is -------------------------------------------------------------------------------------------

    @property
    def program(self) -> Any:
        """The program as it is now; of a pipeline the one that has the present values.

        Raises:
            VariableError: nobody has it any more.
        """
        return self._binding.program

    @property
    def knobs(self) -> list[Knob]:
        """The knobs; one that learns of another model, or whose variable was defined anew, is replaced."""
        self._named.renew(self.space)
        return self._named.knobs

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the variables."""
        return tuple(self._named.by_name)

    @property
    def bound(self) -> bool:
        """Whether it binds a program still: it was not closed, and somebody has the program."""
        return not self._closed and not self._binding.gone

    def name(self, path: str) -> str:
        """Return the name of the variable of a knob.

        Raises:
            VariableError: there is no such knob.
        """
        return self._named.name(path)

    @property
    def values(self) -> dict[str, Any]:
        """The values that the program has, by name; without those of fields that no module has at present."""
        found = {name: present(knob, self.program) for name, knob in self._named.by_name.items()}
        return {name: value for name, value in found.items() if value is not UNSET}

    # --- both ways --------------------------------------------------------------------------------------------

    def pull(self) -> Commit | None:
        """Commit to the space what was changed in the program, whatever the space says; None where nothing was.

        Raises:
            VariableError: a part is not there any more, or has a value that its variable cannot take; or a variable is pinned
                or leased.
        """
        self._open()
        return self._agreement.pull(strict=False)

    def push(self) -> None:
        """Put the space's values into the program, whatever was changed there; after the calls that are under way."""
        self._open()
        with self._gate.lock:
            self._agreement.outdate()
            self.settle()

    def sync(self) -> Commit | None:
        """Commit what was changed in the program, as every run does before it begins; None where nothing was.

        Raises:
            VersionConflict: the same variable was changed in the program and in the space.
            VariableError: as :meth:`pull`.
        """
        if self._closed:
            return None
        commit = self._agreement.pull(strict=True)
        # The thread that tells of commits may be busy with another observer: a run has what was committed before it.
        self.settle()
        return commit

    def begin(self) -> None:
        """Sync before a direct call of the program. DSPy lets the call go on whatever happens here, so an error is said.

        It is said once, until program and space agree again, and is in ``refused``: the call has the program's values, and the
        space does not.
        """
        try:
            self.sync()
        except DspexError as error:
            if str(error) != str(self.refused):
                log.warning("the program %r runs, and the space has other values: %s", self.prefix, error)
            self.refused = error
        else:
            self.refused = None

    def settle(self) -> None:
        """Put the space's values into the program if no call of it is under way; else they wait until none is."""
        with self._gate.lock:
            if not self.bound:
                return
            snapshot = self.space.snapshot()
            if snapshot.version == self._agreement.applied.version:
                self._waiting = False
                return
            self._waiting = not self._gate.idle
            if self._waiting:
                return
            self._agreement.put(snapshot)

    # --- programs ---------------------------------------------------------------------------------------------

    def build(self, values: Mapping[str, Any] | Snapshot | None = None) -> Any:
        """Return a program of its own with these values; those not given are the program's. The program is left as it is.

        Args:
            values: by the variables' names or the knobs' paths, or a snapshot of the space.

        Raises:
            VariableError: a name is none, a value is none that the variable can take, or a part is not there any more.
        """
        self._named.renew(self.space)
        given = self._named.given(values)
        with self._gate.lock:
            named, program = self._named.by_name, self.program
            applied = self._agreement.applied.values
            if self._binding.anew:
                have = {**self._named.among(applied), **self._agreement.edited()}
            else:
                have = {n: applied[n] for n in self._named.after_others if n in applied}
            changed = {named[n].path for n, v in given.items() if not named[n].domain.equal(present(named[n], program), v)}
            return self._binding.build(self._named.by_path({**have, **given}), changed)

    @contextmanager
    def running(self) -> Iterator[Running]:
        """Stand around a run: it gives the program to run and the values that this has until the run ends.

        Where values wait for other runs to end, it is another program that has them already, so none waits for ever.
        """
        self.sync()
        with self._gate.lock:
            waiting = self._waiting
            if waiting:
                found = self._ahead()
            else:
                entered = self._gate.open()
                entered.__enter__()
                found = Running(self.program, self._agreement.applied)
        try:
            yield found
        finally:
            if not waiting:
                entered.__exit__(None, None, None)

    def _ahead(self) -> Running:
        snapshot = self.space.snapshot()
        if self._fresh is None or self._fresh.snapshot.version != snapshot.version:
            self._fresh = Running(self.build(snapshot), snapshot)
        return self._fresh

    def restore(self) -> None:
        """Put the program back exactly as it was when it was exposed: the same objects, with the same contents.

        What that changes is committed to the space first. A call that would begin meanwhile waits.

        Raises:
            VariableError: a call of the program is under way; or a variable is pinned or leased. Nothing was changed.
        """
        with self._gate.lock:
            if not self._gate.idle:
                raise VariableError(
                    "The program cannot be put back while a call of it is under way.", hint="Wait until it ended."
                )
            if not self._closed:
                named, now = self._named.by_name, self._named.among(self.space.snapshot().values)
                back = {n: v for n, v in self._first.items() if n in now and not named[n].domain.equal(now[n], v)}
                if back:
                    self.space.commit(back, author=self._agreement.author("put back as it was when it was exposed"))
            self._binding.restore()
            self._agreement.see()
            if not self._closed:
                self._agreement.take()

    def close(self) -> None:
        """Bind them no more. The program and the variables keep their values."""
        if self._closed:
            return
        self._closed = True
        self._unsubscribe()
        if not self._binding.gone:
            leave(self.program, self._gate, self)

    def __enter__(self) -> Exposure:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "gone" if self._binding.gone else f"{len(self.names)} variables"
        return f"Exposure({self.prefix!r}: {state})"

    # --- inside -----------------------------------------------------------------------------------------------

    def _define(self) -> dict[str, Any]:
        """Define the variables; return those that were there, with the value that the program had at first."""
        named = self._named.by_name
        earlier = {name: self.space[name].default for name in named if name in self.space}
        self._named.keep(self.space, self._first)
        news = (New(n, k.domain, self._first[n], k.note, pinned=k.pinned) for n, k in self._named.by_name.items())
        self.space.add_all(news, author=Author(WHO, self.prefix or None, "exposed"))
        return earlier

    def _agree(self, earlier: Mapping[str, Any]) -> None:
        """Let program and space agree on variables that were there before."""
        domains = {name: self._named.by_name[name].domain for name in earlier}
        changed = {
            name: self._first[name]
            for name, default in earlier.items()
            if not domains[name].equal(self._first[name], default)
            and not domains[name].equal(self._first[name], self.space[name].value)
        }
        if changed:
            self.space.commit(changed, author=self._agreement.author("the program has changed since it was exposed"))
        if earlier:
            self.push()

    def _open(self) -> None:
        if self._closed:
            raise VariableError("This exposure is closed.", hint="Expose the program again.")
