"""Putting what a job found to use, and taking it back, as its account tells it; how is for who adopts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_lab.jobs._job import Job
from dspex_lab.jobs._state import LIVE
from dspex_lab.jobs._work import Adopter


def adopt(job: Job, adopter: Adopter | None, how: Mapping[str, Any]) -> Job:
    """Put the result of a job to use; see :meth:`Job.adopt`."""
    if job.state in LIVE:
        raise job._refused(f"is {job.state}: it cannot be adopted yet", "Wait for it: job.wait().")
    result = job.result()
    if adopter is None:
        raise job._refused("cannot be adopted: nothing here takes results")
    receipt = job._account.spec["adopted"] = adopter.adopt(job.id, result, **how)
    if isinstance(receipt, Mapping) and "said" in receipt:
        job._account.say(str(receipt["said"]))
    job._account.said("job.adopt", adopted=True)
    return job


def rollback(job: Job, adopter: Adopter | None, how: Mapping[str, Any]) -> Job:
    """Bring back what was in use before a job was adopted; see :meth:`Job.rollback`."""
    if "adopted" not in job._account.spec or adopter is None:
        raise job._refused("was not adopted", "job.adopt() puts its result to use.")
    adopter.rollback(job.id, job._account.spec["adopted"], **how)
    del job._account.spec["adopted"]
    job._account.say("What it found was in use, and was taken back.")
    job._account.said("job.adopt", adopted=False)
    return job
