"""What the page on variables shows, read from the store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from dspex_lab.store import leases_held, runs_by_variables, variable_changes, variables_over_time, variables_overview

if TYPE_CHECKING:
    import pandas as pd

    from dspex_lab.store import Store


@dataclass(frozen=True)
class VariableFacts:
    """The variables, who leases them, what changed in a window, and how runs did by their values."""

    overview: pd.DataFrame
    leases: pd.DataFrame
    over_time: pd.DataFrame
    changes: pd.DataFrame
    runs: pd.DataFrame


def variable_facts(store: Store, since: datetime | None) -> VariableFacts:
    """Read it; ``since`` is naive UTC, None for always."""
    return VariableFacts(
        variables_overview(store, since=since),
        leases_held(store),
        variables_over_time(store, since=since),
        variable_changes(store, since=since, limit=100),
        runs_by_variables(store, since=since, limit=20),
    )
