"""What keeps work going when something fails.

One budget of time for a whole path (`Deadline`); trying again (`Retry`); leaving alone who keeps failing (`Breaker`); no more
calls at once than a provider can take (`Bulkhead`); asking once more where an answer is late (`Hedge`); all of them around one
piece of work (`Guard`, `Guards`); alternatives (`first_of`); leaving out what is costly under load (`Degradation`); watching
components (`Health`). Nothing here knows what the work is: targets are text, failures are exceptions that a function judges.
"""

from __future__ import annotations

from dspex_lab.resilience._breaker import (
    Breaker,
    BreakerSettings,
    BreakerState,
    BreakerStatus,
    Permit,
    ailing,
    first_status,
)
from dspex_lab.resilience._bulkhead import Bulkhead, BulkheadStatus, Slot
from dspex_lab.resilience._change import Change, Observer
from dspex_lab.resilience._deadline import Deadline
from dspex_lab.resilience._degradation import (
    FEATURES,
    Degradation,
    DegradationSettings,
    Level,
    Load,
    Standing,
    decide,
    load_of,
)
from dspex_lab.resilience._fallback import Answer, Fallback, FallbackKind, Left, first_of, first_of_sync, mendable
from dspex_lab.resilience._guard import Attempt, Guard, Policy
from dspex_lab.resilience._guards import Counts, Guards, GuardStatus
from dspex_lab.resilience._health import Component, Finding, Health, HealthSettings, HealthState
from dspex_lab.resilience._hedge import Hedge, Hedger, hedged, hedged_sync
from dspex_lab.resilience._limit import BulkheadSettings, overloaded
from dspex_lab.resilience._retry import Retry, retry, retry_sync
from dspex_lab.resilience._retryable import chain, retry_after, retryable
from dspex_lab.resilience._scope import is_retrying, retrying
from dspex_lab.resilience._waiters import TaskWaiter, ThreadWaiter, Waiter

__all__ = [
    "FEATURES",
    "Answer",
    "Attempt",
    "Breaker",
    "BreakerSettings",
    "BreakerState",
    "BreakerStatus",
    "Bulkhead",
    "BulkheadSettings",
    "BulkheadStatus",
    "Change",
    "Component",
    "Counts",
    "Deadline",
    "Degradation",
    "DegradationSettings",
    "Fallback",
    "FallbackKind",
    "Finding",
    "Guard",
    "GuardStatus",
    "Guards",
    "Health",
    "HealthSettings",
    "HealthState",
    "Hedge",
    "Hedger",
    "Left",
    "Level",
    "Load",
    "Observer",
    "Permit",
    "Policy",
    "Retry",
    "Slot",
    "Standing",
    "TaskWaiter",
    "ThreadWaiter",
    "Waiter",
    "ailing",
    "chain",
    "decide",
    "first_of",
    "first_of_sync",
    "first_status",
    "hedged",
    "hedged_sync",
    "is_retrying",
    "load_of",
    "mendable",
    "overloaded",
    "retry",
    "retry_after",
    "retry_sync",
    "retryable",
    "retrying",
]
