"""The store: one DuckDB file of runs, spans, model calls, events, decisions, variables and jobs. The only room with SQL in it.

Tables (all times are ``TIMESTAMP`` in UTC): ``runs spans lm_calls events decisions checkpoints sessions session_names
variables variable_history variable_definitions jobs job_data trials programs datasets feedback labs meta``; ``variables`` is a
view: what each variable is, and its value.
"""

from __future__ import annotations

from dspex_lab.store._datasets import DatasetRow, DatasetTable
from dspex_lab.store._feedback import FeedbackRow, FeedbackTable
from dspex_lab.store._job_views import RecordedRun, feedback_overview, jobs_overview, recorded_runs, trials_of
from dspex_lab.store._jobs import JobRow, JobTable
from dspex_lab.store._maps import RecordedMap, RecordedRow
from dspex_lab.store._measured import calls_by_step, seconds_by_step
from dspex_lab.store._programs import ProgramRow, ProgramTable
from dspex_lab.store._queries import costs, errors, latency_by_step, run_tree, running, runs
from dspex_lab.store._recovery import Recovery
from dspex_lab.store._session_views import (
    frame_rows,
    session_calls,
    session_choices,
    session_durations,
    session_errors,
    session_lm_calls,
    session_runs,
    session_steps,
    session_totals,
    sessions_over_time,
    sessions_overview,
)
from dspex_lab.store._sessions import SessionRow, SessionTable
from dspex_lab.store._store import Store
from dspex_lab.store._stream import Stream
from dspex_lab.store._variable_views import (
    leases_held,
    runs_by_variables,
    variable_changes,
    variables_of_run,
    variables_over_time,
    variables_overview,
)
from dspex_lab.store._variables import DefinitionRow, VariableTable

__all__ = [
    "DatasetRow",
    "DatasetTable",
    "DefinitionRow",
    "FeedbackRow",
    "FeedbackTable",
    "JobRow",
    "JobTable",
    "ProgramRow",
    "ProgramTable",
    "RecordedMap",
    "RecordedRow",
    "RecordedRun",
    "Recovery",
    "SessionRow",
    "SessionTable",
    "Store",
    "Stream",
    "VariableTable",
    "calls_by_step",
    "costs",
    "errors",
    "feedback_overview",
    "frame_rows",
    "jobs_overview",
    "latency_by_step",
    "leases_held",
    "recorded_runs",
    "run_tree",
    "running",
    "runs",
    "runs_by_variables",
    "seconds_by_step",
    "session_calls",
    "session_choices",
    "session_durations",
    "session_errors",
    "session_lm_calls",
    "session_runs",
    "session_steps",
    "session_totals",
    "sessions_over_time",
    "sessions_overview",
    "trials_of",
    "variable_changes",
    "variables_of_run",
    "variables_over_time",
    "variables_overview",
]
