"""How property tests run: on the same examples each time, and however slow the machine is."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

# Hypothesis also draws constants of the modules that are loaded: which these are depends on the tests before it. It has no
# setting for that.
if hasattr(providers, "_get_local_constants"):
    _NONE = providers.Constants()
    providers._get_local_constants = lambda: _NONE

STEADY = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
