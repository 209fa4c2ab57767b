"""The doors to variables: the Lab's space, programs that are exposed in it, and what each run says it ran with."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

from dspex_lab import pipelines
from dspex_lab.events import Event
from dspex_lab.pipelines import Bound, Pipeline
from dspex_lab.store import VariableTable
from dspex_lab.variables import Journal, RemoteSpace, Snapshot, Space
from dspex_lab.variables.expose import Exposure, knobs
from dspex_lab.workbench._finding import Finding
from dspex_lab.workbench._sharing import Sharing, name_for

#: Where a program may be in a run, if it is not what a step does.
WHOLE, WITHIN = "", "within"

#: A value whose JSON is longer stands in the record of a run as the version at which it was set.
LARGEST = 1_024


@dataclass(frozen=True, slots=True)
class Exposed:
    """A program that was exposed; ``program()`` gives it, None where it is gone; ``named`` is its name in the Lab."""

    exposure: Exposure
    program: Callable[[], Any]
    named: str | None = None


class VariableDoors(Finding):
    """``variables``, ``variables_of``, ``share_variables`` and ``expose``."""

    _sharing: Sharing | None = None

    @property
    def variables(self) -> Space:
        """The space of this Lab's variables; it is kept in the store and comes back with it.

        On a cluster that was joined, other kernels see it and ask it for changes (:meth:`variables_of`).

        Raises:
            StoreError: another Lab of this process, on the same file, has them.
        """
        with self._idle:
            self._ensure_open()
            if self._space is None:
                self._space = Space("default", journal=cast(Journal, VariableTable(self.store)), emit=self._of_variables)
                self._runner.bind = self._bind
                if self.pools.joined:
                    self._share().begin(self._space)
            found: Space = self._space
            return found

    def variables_of(self, name: str, *, timeout: float = 10.0) -> RemoteSpace:
        """Return the variables of another kernel that has joined the same cluster: they are read, observed and leased as one's
        own, and changed by asking that kernel, which owns them.

        Args:
            name: what :meth:`share_variables` gives there; by default that of its store's file (``analysis`` for
                ``analysis.ipynb``).
            timeout: seconds without a word from that kernel after which it counts as gone; while they are open, the first one
                that was given holds.

        Raises:
            ConfigurationError: no cluster was joined.
            VariableError: no kernel serves variables of that name.
        """
        with self._idle:
            self._ensure_open()
            sharing = self._share()
        return sharing.of(name, timeout)

    def share_variables(self, timeout: float | None = 60.0) -> str:
        """Return the name under which other kernels on the joined cluster find this Lab's variables, once they can.

        They are served from the first use of :attr:`variables` on, in the background; this waits for it.

        Raises:
            ConfigurationError: no cluster was joined.
            TimeoutError: the cluster was not reached in so many seconds.
        """
        self.variables  # noqa: B018 - serving begins with it
        with self._idle:
            sharing = self._share()
        return sharing.served_as(timeout)

    def _share(self) -> Sharing:
        if self._sharing is None:
            self._sharing = Sharing(self.pools, name_for(self.store.path, self.id), self.id)
            self._closers.append(self._sharing.close)
        return self._sharing

    def expose(self, program: Any, prefix: str | None = None) -> Exposure:
        """Make variables of everything that can be turned in ``program``, and return what binds the two.

        From then on a run of the program, or of a pipeline with it in a step, first commits what was changed in the program,
        and has the present values until it ends; its record says which. Close the exposure to end that. A program that is
        exposed again is bound anew; its variables keep their values.

        Args:
            program: a DSPy module, or a pipeline or its name in this Lab. It is not kept alive by this.
            prefix: stands before the variables' names; by default the name of the pipeline or the class of the module, "" for
                nothing.

        Raises:
            ConfigurationError: there is no such pipeline.
            VariableError: there is nothing to turn, or variables of these names are another program's.
        """
        space = self.variables
        if isinstance(program, str):
            program = self._find(program)[0]
        self.conceal(program)
        if isinstance(program, Pipeline):
            named = program.name if prefix is None else prefix
            exposure = Exposure(space, program, pipelines.knobs(program), named, builder=pipelines.Builder())
        else:
            found = knobs(program)
            exposure = Exposure(space, program, found, type(program).__name__.lower() if prefix is None else prefix)
        with self._idle:
            self._exposed = [*self._exposed, self._held(exposure, program)]
        self._closers.append(exposure.close)
        return exposure

    def conceal(self, program: Any) -> None:
        """Let a program be exposed no more; it keeps the values that it has, and the variables stay."""
        with self._idle:
            ended = [one for one in self._exposed if one.program() is program]
            self._exposed = [one for one in self._exposed if one.program() not in (None, program)]
        for one in ended:
            one.exposure.close()

    def _held(self, exposure: Exposure, program: Any) -> Exposed:
        if isinstance(program, Pipeline) and self.pipelines.get(program.name) is program:
            # The Lab keeps it by its name; when another one takes its place, that one is exposed, and this one let go.
            return Exposed(exposure, lambda: program, program.name)
        return Exposed(exposure, weakref.ref(program))

    def _of_variables(self, record: Any) -> None:
        # The records of values are the journal's: it has written them, each commit whole.
        if isinstance(record, Event):
            self.bus.emit(record)

    @contextmanager
    def _bind(self, pipeline: Pipeline, modules: Mapping[str, Any]) -> Iterator[Bound]:
        space = self._space
        assert space is not None  # noqa: S101 - set before this is
        with ExitStack() as stack:
            found: dict[str, Any] = {}
            snapshots: list[Snapshot] = []
            chosen, put = pipeline, dict(modules)
            self._follow(pipeline)
            for one in self._exposed:
                program = one.program()
                if not one.exposure.bound or program is None or not (where := _where(program, pipeline, modules)):
                    continue
                running = stack.enter_context(one.exposure.running())
                if running.program is not program:
                    if where == [WITHIN]:
                        continue  # what is around it has the program as it is, with values that others run with
                    if program is pipeline:
                        chosen = running.program
                    elif where == [WHOLE]:
                        put |= running.program.step_modules()
                    else:
                        put |= dict.fromkeys(where, running.program)
                found |= dict.fromkeys(one.exposure.names)
                snapshots.append(running.snapshot)
            yield Bound(chosen, put, ran_with(space, found, snapshots) if len(space) else None)

    def _follow(self, pipeline: Pipeline) -> None:
        """Bind a pipeline that has taken the place of an exposed one, because its cell was run again."""
        if self.pipelines.get(pipeline.name) is not pipeline:
            return
        for one in self._exposed:
            if one.named == pipeline.name and one.program() is not pipeline and one.exposure.bound:
                one.exposure.close()
                with self._idle:
                    self._exposed = [other for other in self._exposed if other is not one]
                self.expose(pipeline, one.exposure.prefix)


def ran_with(space: Space, names: Mapping[str, Any], snapshots: list[Snapshot]) -> dict[str, Any]:
    """Return what the record of a run says of the variables ``names``, those of them that count.

    Args:
        snapshots: those that its programs have; the present one holds where there are none.
    """
    now = space.snapshot()
    had = {name: (each.values[name], each.versions[name]) for each in snapshots for name in names if name in each.values}
    same = all(now.versions.get(name) == version for name, (_, version) in had.items())
    values: dict[str, Any] = {}
    for name in names:
        if name in had and name in space:
            value, version = had[name]
            kept = space[name].domain.to_json(value)
            long = isinstance(kept, str | list | dict) and len(json.dumps(kept, default=str)) > LARGEST
            values[name] = {"version": version} if long else kept
    # A program was given its values at the last version that changed them; others have come since.
    return {"version": now.version if same else max(each.version for each in snapshots), "values": values}


def _where(program: Any, pipeline: Pipeline, modules: Mapping[str, Any]) -> list[str]:
    """Return the dotted names of the steps that ``program`` does, or that it is what is run, or is in a step's module."""
    if program is pipeline:
        return [WHOLE]
    if not hasattr(program, "named_sub_modules"):
        return []
    if hasattr(program, "step_modules"):
        own = {id(module) for module in program.step_modules().values()}
        if own and own <= {id(module) for module in modules.values()}:
            return [WHOLE]
    targets = {name: modules.get(name, step.target) for name, step in pipeline.every_step.items()}
    does = [name for name, target in targets.items() if target is program]
    if does or not any(_has(target, program) for target in targets.values()):
        return does
    return [WITHIN]


def _has(target: Any, program: Any) -> bool:
    return hasattr(target, "named_sub_modules") and any(module is program for _, module in target.named_sub_modules())
