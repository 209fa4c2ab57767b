"""What the page on sessions shows, read from the store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from dspex_lab.store import sessions_over_time, sessions_overview

if TYPE_CHECKING:
    import pandas as pd

    from dspex_lab.store import Store


@dataclass(frozen=True)
class SessionFacts:
    """Sessions that were used in a window, and the runs of those that ran most."""

    overview: pd.DataFrame
    over_time: pd.DataFrame


def session_facts(store: Store, since: datetime | None) -> SessionFacts:
    """Read it; ``since`` is naive UTC, None for always."""
    return SessionFacts(sessions_overview(store, since=since), sessions_over_time(store, since=since))
