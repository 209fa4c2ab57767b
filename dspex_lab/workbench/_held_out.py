"""Rows that a job does not see: what it found is compared with what is in use on them, before it takes its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import ConfigurationError, JobError
from dspex_lab.jobs import Job, check_rows, rows_of
from dspex_lab.workbench._comparing import Compared

if TYPE_CHECKING:
    from dspex_lab.workbench._jobs import JobDoors

#: Under which a job has them, with its metric.
HELD_OUT = "heldout"

_FORCE = "job.adopt(force=True) puts it to use all the same."


def held_out(data: Any, inputs: Sequence[str], metric: Callable[..., Any], like: Sequence[Mapping[str, Any]], kind: str) -> Any:
    """Return held-out rows as they are kept; None where there are none.

    Args:
        like: the rows that the job sees.
        kind: of its target.

    Raises:
        ConfigurationError: nothing could be compared on them.
    """
    if data is None:
        return None
    check_comparable(data, kind)
    rows = rows_of(data)
    check_rows(rows, inputs, metric, HELD_OUT, like)
    return rows if isinstance(data, str | Path | Iterator) else data  # a file may be another one by then


def check_comparable(data: Any, kind: str) -> None:
    """Refuse held-out rows for what is not compared.

    Args:
        kind: of the job's target.

    Raises:
        ConfigurationError: there are some, and it is a function.
    """
    if data is not None and kind == "function":
        raise ConfigurationError(
            "Of a function only the values of variables are adopted: nothing is compared on held-out rows.",
            key=HELD_OUT,
            expected="None",
            hint="Give a pipeline with the function as its step, or compare by lab.compare(…).",
        )


def compared(lab: JobDoors, job: Job, new: Any, live: Any, heldout: Any, metric: Any, *, force: bool = False) -> Compared | str:
    """Return the comparison on held-out rows; where there is none, why.

    Args:
        heldout, metric: in place of those that the job was started with.
        force: it can be done without.

    Raises:
        JobError: it was started with rows that are not here any more, nobody knows its metric, or one of both programs
            failed on all rows.
    """
    shelf = lab.jobs.around.shelf
    if heldout is None:
        if not shelf.has(job.id, HELD_OUT):
            if not force:
                _check_none_held(job)
            return "without held-out rows to compare on"
        heldout, known = shelf.get(job.id, HELD_OUT)
        metric = metric or known
    metric = metric if metric is not None else _metric(lab, job)
    name = f"{job.name}: held out"
    comparison = lab.compare(new, live, data=heldout, metric=metric, name=name, seed=0, parent=job.id)
    try:
        found: Compared = comparison.result()
    except JobError as error:
        if force:
            return f"not compared on the held-out rows: job {comparison.number}, which was to, {_became(comparison)}"
        raise JobError(
            f"Job {job.number} is not adopted: it was not compared on the held-out rows. {error.message}",
            job=job.id,
            state=job.state,
            hint=f"lab.jobs[{comparison.number}] has what went wrong; {_FORCE}",
        ) from error
    return found


def refuse_worse(job: Job, found: Compared | str) -> None:
    """Refuse what is not shown to be better.

    Raises:
        JobError: it is not; it has the figures.
    """
    if isinstance(found, str) or found.comparison.verdict == "better":
        return
    said = "it is worse" if found.comparison.verdict == "worse" else "no difference is shown"
    raise JobError(
        f"Job {job.number} is not adopted: on the held-out rows {said}: {found.comparison.figures}; "
        f"{found.first.score:.4g} against {found.second.score:.4g}.",
        job=job.id,
        state=job.state,
        hint=_FORCE,
    )


def _became(comparison: Job) -> str:
    return "failed" if comparison.state == "failed" else f"was {comparison.state}"


def _check_none_held(job: Job) -> None:
    asked, why = job.settings.get("settings", {}).get(HELD_OUT), job.settings.get("unkept", {}).get(HELD_OUT)
    if asked or why:
        raise JobError(
            f"Job {job.number} is not adopted: the rows that were held out for it are not kept{f': {why}' if why else ''}.",
            job=job.id,
            state=job.state,
            hint="Give them: job.adopt(heldout=…, metric=…); or job.adopt(force=True) without a comparison.",
        )


def _metric(lab: JobDoors, job: Job) -> Any:
    """Return the metric by which a job found what it did.

    Raises:
        JobError: nobody knows it.
    """
    try:
        work = lab.jobs.work_of(job)
    except JobError as error:
        raise JobError(
            f"There are held-out rows and no metric: {error}", job=job.id, hint="job.adopt(heldout=…, metric=…)"
        ) from error
    found = getattr(getattr(work, "tune", work), "metric", None)
    if found is None:
        raise JobError("There are held-out rows and no metric.", job=job.id, hint="job.adopt(heldout=…, metric=…)")
    return found
