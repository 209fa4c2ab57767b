"""Putting what a job found in the place of what is in use, and taking it back: each version kept, each step told."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import DspexError, JobError
from dspex_lab.events import Bus, Event
from dspex_lab.jobs import Job, diff_programs, fingerprint_program
from dspex_lab.pipelines import Pipeline
from dspex_lab.store import ProgramRow, ProgramTable
from dspex_lab.variables import Author
from dspex_lab.workbench._adoptions import Adoption, Programs
from dspex_lab.workbench._comparing import Compared
from dspex_lab.workbench._guards import Guards, check_guard
from dspex_lab.workbench._held_out import check_comparable, compared, refuse_worse
from dspex_lab.workbench._programs import (
    VALUES,
    agree,
    as_program,
    check_shape,
    imprint,
    knob_values,
    source_of,
    state_of,
    values_of,
    with_knob_values,
    with_state,
    with_values,
)
from dspex_lab.workbench._targets import Target, Targets

if TYPE_CHECKING:
    from dspex_lab.workbench._jobs import JobDoors

log = logging.getLogger("dspex_lab")


class Adopting:
    """Adopts for a Lab: the :class:`~dspex_lab.jobs.Adopter` of its jobs. Thread-safe.

    Args:
        lab: whose.
        bus: is told.
    """

    def __init__(self, lab: JobDoors, bus: Bus) -> None:
        self._lab, self._bus = lab, bus
        self._lock = threading.RLock()  # one program takes the place of another at a time
        #: Pipelines in whose place another one came, until that was said to who runs them.
        self._replaced: weakref.WeakSet[Pipeline] = weakref.WeakSet()
        self.targets = Targets(lab)
        self.table = ProgramTable(lab.store)
        self.programs = Programs(self.table, self._use)
        self.guards = Guards(lab, self.table, self._back)
        #: The last adoption of this kernel, or way back.
        self.last: Adoption | None = None

    # ---- what jobs ask -----------------------------------------------------------------------------------------------

    def adopt(
        self,
        job_id: str,
        result: Any,
        *,
        force: bool = False,
        heldout: Any = None,
        metric: Any = None,
        into: Any = None,
        guard: str = "suggest",
        why: str | None = None,
    ) -> dict[str, Any]:
        """Put what a job found to use and return what :meth:`rollback` needs.

        Args:
            force: also where the held-out rows do not say that it is better.
            heldout: rows to compare on, in place of those that the job was started with; ``metric`` too.
            into: the module to put it in, where this kernel does not know it (after a restart).
            guard: what happens when its live score falls: ``"off"``, ``"suggest"`` (say so) or ``"auto"`` (bring back the
                version before).
            why: a sentence, for the record.

        Raises:
            JobError: it is not shown to be better, the job found nothing that could be put in, the program is gone or was
                changed meanwhile, or the rows that were held out are gone.
            ConfigurationError: ``heldout`` for a function, or rows on which nothing could be compared.
            VariableError: a variable is pinned, or leased to an optimizer that runs.
        """
        check_guard(guard)
        job = self._lab.jobs.get(job_id)
        target = self.targets.of(job, into)
        if target.kind == "function":
            check_comparable(heldout, target.kind)
            return self._adopt_values(job, result)
        live = self.targets.live(target, job)
        seen = self._state(target, live)
        found = compared(self._lab, job, self._candidate(job, result, live), live, heldout, metric, force=force)
        if not force:
            refuse_worse(job, found)
        with self._lock:
            live = self.targets.live(target, job)
            if isinstance(found, Compared) and self._state(target, live) != seen:
                raise JobError(
                    f"Job {job.number} is not adopted: {target.name!r} was changed while it was compared with it.",
                    job=job.id,
                    state=job.state,
                    hint="job.adopt() compares it with what is in use now.",
                )
            return self._put_to_use(job, target, live, self._candidate(job, result, live), found, guard, why)

    def _put_to_use(
        self, job: Job, target: Target, live: Any, new: Any, found: Compared | str, guard: str, why: str | None
    ) -> dict[str, Any]:
        before = self._baseline(target, live)
        if before.job_id == job.id and self._is(before, target, new):
            raise JobError(
                f"What job {job.number} found is in use already, as version {before.version} of {target.name!r}.",
                job=job.id,
                hint="job.rollback() brings back what was in use before.",
            )
        row = self._row(target, new, job, found, before, why)
        diff = tuple(diff_programs(as_program(live), as_program(new)))
        values = self._put(target, live, new, job, row)
        self.table.adopt(target.name, row.version, time.time(), row.reason)
        parts = ", ".join(values or [part.path for part in diff])  # variables name also what no predictor has
        changed = f"; it changed {parts}" if parts else ""
        said = f"version {row.version} of {target.name!r} is in use, in the place of version {before.version}{changed}"
        rest = f"{self._left(job, target)}: {row.reason}"
        shown = None if isinstance(found, str) else found
        self.last = Adoption(target.name, row.version, before.version, said + rest, shown, diff, values)
        said += (" (lab.adoption shows how)" if parts else "") + rest
        self.guards.begin(target.name, row, guard)
        return {"program": target.name, "version": row.version, "before": before.version, "guard": guard, "said": said}

    def rollback(self, job_id: str, receipt: Mapping[str, Any], *, into: Any = None) -> None:
        """Bring back the version that was in use before.

        Args:
            into: the module to put it in, where this kernel does not know it (after a restart).
        """
        job = self._lab.jobs.get(job_id)
        if "space" in receipt:
            author = Author("person", None, f"job {job.number} was rolled back")
            self._lab.variables.rollback(receipt["space"], receipt["names"], author=author)
            return
        self._back(receipt["program"], int(receipt["before"]), f"job {job.number} was rolled back", into)

    def _adopt_values(self, job: Job, result: Any) -> dict[str, Any]:
        """Commit the values that were found for a function: nothing of it but the variables is kept as a version."""
        values = dict(_values_of(result) or {})
        if not values:
            raise _nothing_to_adopt(job)
        space = self._lab.variables
        if "adopted" in job.settings and all(space[n].domain.equal(space[n].value, value) for n, value in values.items()):
            raise JobError(
                f"What job {job.number} found is in use already.",
                job=job.id,
                hint="job.rollback() brings back what was in use before.",
            )
        before, score = space.version, job.progress.best
        space.commit(values, author=Author("job", f"{job.kind} {job.number}", "adopted", score))
        said = f"the values that job {job.number} found are those of the variables {', '.join(values)}"
        self.last = Adoption(job.name, space.version, before, said, values=values)
        return {"space": before, "names": list(values), "said": said}

    def _left(self, job: Job, target: Target) -> str:
        """Return what is to be said of values that were found of variables that are no settings of the program."""
        exposure = next(self._lab._exposures(target.find()), None)
        others = [name for name in _values_of(job.result()) or () if exposure is None or name not in exposure.names]
        if not others:
            return ""
        which, one = ", ".join(others), len(others) == 1
        return f"; {which} {'is no setting' if one else 'are no settings'} of it and {'stays' if one else 'stay'} as before"

    # ---- the way back ------------------------------------------------------------------------------------------------

    def _use(self, row: ProgramRow, why: str, into: Any) -> Adoption:
        return self._back(row.name, row.version, why, into)

    def _back(self, name: str, version: int, why: str, into: Any = None) -> Adoption:
        """Put an earlier version to use."""
        with self._lock:
            return self._put_back(name, version, why, into)

    def _put_back(self, name: str, version: int, why: str, into: Any) -> Adoption:
        if into is not None:
            self.targets.put(f"{name}/{version}", into, name)
        row, now = self.table.get(name, version), self.table.in_use(name)
        if row.masked:
            raise JobError(
                f"Version {version} of {name!r} holds a secret and was kept masked: it is not what it was.",
                job=row.job_id,
                hint="Take the secret out of the prompt, and start the job anew.",
            )
        target = self.targets.by_name(name)
        live = self.targets.live(target)
        new = self._again(target, live, row.state)
        diff = tuple(diff_programs(as_program(live), as_program(new)))
        values = self._put(target, live, new, None, row)
        self.table.adopt(name, version, time.time(), why)
        said = f"version {version} of {name!r} is in use again: {why}"
        self.last = Adoption(name, version, None if now is None else now.version, said, None, diff, values)
        self.guards.end(name)
        if row.job_id is not None:
            receipt = self._lab.jobs.get(row.job_id).settings.get("adopted") or {}
            self.guards.begin(name, row, receipt.get("guard", "suggest"))
        self._bus.emit(Event("job.adopt", time.time(), data={"program": name, "version": version, "why": why, "back": True}))
        return self.last

    def defined(self, made: Pipeline, exposed: Collection[str | None]) -> Pipeline:
        """Return a pipeline that is defined (again) with the version that is in use under its name.

        Only where it is defined as it was at an earlier version: what was changed by hand stays as it is, and that is said.

        Args:
            exposed: the pipelines whose variables have the values of the version already.
        """
        row = self.table.in_use(made.name)
        if row is None or made.name in exposed:
            return made
        try:
            mark, own = fingerprint_program(as_program(made)), knob_values(made)

            def like(version: ProgramRow) -> bool:
                return version.fingerprint == mark and agree(own, version.state)

            if like(row):
                return made
            if not any(like(each) for each in self.table.versions(made.name)):
                why = "it is defined in another way than any version of it was"
            elif row.masked:
                why = "that holds a secret and was kept masked"
            else:
                found = with_knob_values(with_state(made, row.state), row.state)
                self._replaced.add(made)
                log.info("%s is defined as before: its version %s is in use again", made.name, row.version)
                return found
        except DspexError as error:
            why = str(error)
        hint = f"lab.programs.use({made.name!r}) puts it to use"
        log.warning("version %s of %s is not in use any more: %s; %s", row.version, made.name, why, hint)
        return made

    def say_if_replaced(self, pipeline: Pipeline) -> None:
        """Say of a pipeline that somebody runs, once, that it is not the one in use under its name."""
        if pipeline not in self._replaced:
            return
        self._replaced.discard(pipeline)
        row = self.table.in_use(pipeline.name)
        if row is not None and not self._is(row, Target(pipeline.name, "pipeline", lambda: pipeline), pipeline):
            log.warning(
                "the pipeline %r that runs here is not its version %d, which is in use: it runs as it is; "
                "lab.pipelines[%r], or its name, is that version",
                *(pipeline.name, row.version, pipeline.name),
            )

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _candidate(self, job: Job, result: Any, live: Any) -> Any:
        """Return the program that a result makes of what is in use, of the same kind."""
        program = getattr(result, "program", None)
        if program is None and hasattr(result, "named_sub_modules"):
            program = result
        if program is not None:
            check_shape(program)
            return live.with_modules(program) if isinstance(live, Pipeline) else program
        values = _values_of(result)
        if values is not None:
            exposure = next(self._lab._exposures(self.targets.of(job).find()), None)
            if exposure is None:
                raise JobError("The program whose variables these are is not exposed any more.", hint="lab.expose(program)")
            return exposure.build({name: value for name, value in values.items() if name in exposure.names})
        raise JobError(
            f"A job of kind {job.kind!r} finds nothing that could be adopted.",
            job=job.id,
            hint="job.result() is what it found.",
        )

    def _state(self, target: Target, program: Any) -> dict[str, Any]:
        """Return what makes a program what it is, with the values of all its knobs where it is exposed."""
        exposure = next(self._lab._exposures(target.find()), None)
        return state_of(as_program(program)) | ({} if exposure is None else {VALUES: values_of(exposure, program)})

    def _again(self, target: Target, live: Any, state: Mapping[str, Any]) -> Any:
        """Return a program of the shape of the one in use, with the state of another version."""
        if VALUES not in state:
            return with_state(live, state)
        found = target.find()
        exposure = next(self._lab._exposures(found), None) or self._lab.expose(found, target.name)
        return with_values(exposure, state[VALUES])

    def _baseline(self, target: Target, live: Any) -> ProgramRow:
        """Return the version that what is in use is; kept now, if it was not."""
        name, state, now = target.name, self._state(target, live), self.table.in_use(target.name)
        if now is not None and self._is(now, target, live):
            return now
        reason, mark = "as it was", fingerprint_program(as_program(live))
        if now is not None:
            alone = now.fingerprint == mark and VALUES in state and VALUES not in now.state
            reason = f"version {now.version}, with its variables" if alone else f"changed by hand since version {now.version}"
        row = ProgramRow(name, mark, state, time.time(), parent=None if now is None else now.version, reason=reason)
        kept = self.table.add(row)
        self.table.adopt(name, kept.version, time.time())
        return kept

    def _is(self, row: ProgramRow, target: Target, program: Any) -> bool:
        """Say whether a program is a version."""
        if row.fingerprint != fingerprint_program(as_program(program)):
            return False
        own = self._state(target, program).get(VALUES)
        if own is not None:
            return bool(row.state.get(VALUES) == own)
        return not isinstance(program, Pipeline) or agree(knob_values(program), row.state)

    def _row(
        self, target: Target, new: Any, job: Job, found: Compared | str, before: ProgramRow, why: str | None
    ) -> ProgramRow:
        program = as_program(new)
        score, interval = job.progress.best, None
        reason = f"job {job.number}, {found}"
        if not isinstance(found, str):
            own = found.first.interval()
            score, interval = own.value, (own.low, own.high)
            reason = f"job {job.number}, held-out rows: {found.comparison}"
        row = ProgramRow(
            target.name,
            fingerprint_program(program),
            self._state(target, new),
            time.time(),
            parent=before.version,
            source=source_of(new),
            score=score,
            interval=interval,
            reason=f"{why} ({reason})" if why else reason,
            job_id=job.id,
        )
        return self.table.add(row)

    def _put(self, target: Target, live: Any, new: Any, job: Job | None, row: ProgramRow) -> dict[str, Any] | None:
        """Put a program in the place of what is in use: as values of its variables, the pipeline of its name, or in place."""
        found = target.find()
        exposure = next(self._lab._exposures(found), None)
        if exposure is not None:
            return _commit(exposure, new, job, row)
        if isinstance(live, Pipeline):
            self._lab.pipelines.put(target.name, new)
            self._replaced.add(live)
            self._replaced.discard(new)
        else:
            imprint(live, new)
        return None


def _values_of(result: Any) -> Mapping[str, Any] | None:
    """Return the values of variables that a result is; None where it is none."""
    values = getattr(result, "values", None)
    return values if isinstance(values, Mapping) else None


def _nothing_to_adopt(job: Job) -> JobError:
    return JobError(
        f"A job of kind {job.kind!r} finds nothing that could be adopted.", job=job.id, hint="job.result() is what it found."
    )


def _commit(exposure: Any, new: Any, job: Job | None, row: ProgramRow) -> dict[str, Any]:
    """Commit what a program has to the variables of the one that is exposed; return what changed."""
    space = exposure.space
    values = {exposure.name(knob.path): knob.read(new) for knob in exposure.knobs}
    changed = {name: value for name, value in values.items() if not space[name].domain.equal(space[name].value, value)}
    if changed:
        named = None if job is None else f"{job.kind} {job.number}"
        space.commit(changed, author=Author("job", named, row.reason, row.score))
    return changed
