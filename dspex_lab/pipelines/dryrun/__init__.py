"""The dry run: what can be told of a run before anything is run."""

from dspex_lab.pipelines.dryrun._check import Surroundings, check
from dspex_lab.pipelines.dryrun._report import CheckReport, Connection, Finding, StepCost
from dspex_lab.pipelines.dryrun._spend import Bounds, Spend

__all__ = ["Bounds", "CheckReport", "Connection", "Finding", "Spend", "StepCost", "Surroundings", "check"]
