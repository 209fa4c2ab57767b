"""What jobs are of, and where their results would go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import JobError
from dspex_lab.jobs import Job

if TYPE_CHECKING:
    from dspex_lab.workbench._jobs import JobDoors


@dataclass(frozen=True)
class Target:
    """What a job is of, and where its result would go.

    Args:
        name: under which its versions are kept.
        kind: ``"pipeline"``, ``"module"``, or ``"function"``, which nothing can be put in.
        find: gives the pipeline or module that is in use; None where it is gone.
    """

    name: str
    kind: str
    find: Callable[[], Any] = lambda: None

    def describe(self) -> dict[str, str]:
        """Return it as it is kept with the job."""
        return {"name": self.name, "kind": self.kind}


class Targets:
    """The targets that this kernel knows, by job.

    Args:
        lab: whose.
    """

    def __init__(self, lab: JobDoors) -> None:
        self._lab = lab
        self._known: dict[str, Target] = {}

    def note(self, job_id: str, target: Target) -> None:
        """Take note of what a job is of; the last one that is known of a name is the one meant."""
        self._known.pop(job_id, None)
        self._known[job_id] = target

    def of(self, job: Job, into: Any = None) -> Target:
        """Return what a job is of.

        Args:
            into: the module that it is of, where this kernel does not know it.
        """
        told = job.settings.get("settings", {}).get("target") or {"name": job.name, "kind": ""}
        if into is not None:
            self.put(job.id, into, told["name"])
        elif job.id not in self._known:
            self.note(job.id, self._named(told))
        return self._known[job.id]

    def put(self, job_id: str, program: Any, name: str) -> None:
        """Have a program be what a job is of."""
        self.note(job_id, replace(self._lab._program(program, None)[1], name=name))

    def by_name(self, name: str) -> Target:
        """Return the one of a name that is in use."""
        known = [target for target in self._known.values() if target.name == name and target.find() is not None]
        return known[-1] if known else self._named({"name": name, "kind": "pipeline"})

    def live(self, target: Target, job: Job | None = None) -> Any:
        """Return the program that is in use.

        Raises:
            JobError: it is gone.
        """
        found = target.find()
        if found is None:
            what = f"the {target.kind or 'program'} {target.name!r}"
            hint = (
                "Run its cell again (lab.pipelines has those that are known here)."
                if target.kind == "pipeline"
                else "Give it: job.adopt(into=program)."
            )
            raise JobError(
                f"This kernel does not know {what} that the result would go into.",
                job=None if job is None else job.id,
                hint=hint,
            )
        exposed = next(self._lab._exposures(found), None)
        return found if exposed is None else exposed.program

    def _named(self, told: Mapping[str, str]) -> Target:
        """Return the target of a job of an earlier kernel."""
        name, kind = told["name"], told["kind"]
        if kind == "pipeline":
            return Target(name, kind, lambda: self._lab.pipelines.get(name))
        return next((t for t in self._known.values() if t.name == name), Target(name, kind))
