"""Sessions: state and history that span runs and outlive the kernel, with a worker where the state lives between calls.

``lab.sessions`` is a :class:`Sessions`. The way of a call:

    _session.Session.call → _calls.call_on_worker → Pool.call → (worker) _worker.OnState → _keeping.Keeping.take_home → store

What a session keeps is JSON, and bytes of arrays and frames in it (``_values``): what the store holds is never unpickled.
"""

from dspex_lab.sessions._around import Pool, Runs
from dspex_lab.sessions._checkout import CheckedOut, Checkout
from dspex_lab.sessions._insights import Insight, Insights
from dspex_lab.sessions._limits import SessionLimits
from dspex_lab.sessions._list import SessionList
from dspex_lab.sessions._metrics import SessionMetrics
from dspex_lab.sessions._seats import Affinity
from dspex_lab.sessions._session import Session, current_session
from dspex_lab.sessions._sessions import Sessions
from dspex_lab.sessions._state import Optimization, State
from dspex_lab.sessions._trend import Change, Trend, change_point, trend

__all__ = [
    "Affinity",
    "Change",
    "CheckedOut",
    "Checkout",
    "Insight",
    "Insights",
    "Optimization",
    "Pool",
    "Runs",
    "Session",
    "SessionLimits",
    "SessionList",
    "SessionMetrics",
    "Sessions",
    "State",
    "Trend",
    "change_point",
    "current_session",
    "trend",
]
