"""The figures of a session: how long its runs took and whether that changes, how many failed, what they cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dspex_lab.sessions._show import Sheet, count, dollars, duration, percent
from dspex_lab.sessions._trend import Trend, trend
from dspex_lab.store import session_calls, session_durations, session_lm_calls, session_totals

if TYPE_CHECKING:
    from dspex_lab.store import Store


@dataclass(frozen=True, slots=True)
class SessionMetrics:
    """Figures of a session; a cell shows them.

    Attributes:
        session: its name.
        runs: runs and maps that ended, of which ``complete``, ``partial``, ``failed`` (and interrupted), ``cancelled``.
        p50, p95, mean: seconds of the single runs that gave something; None without one.
        trend: whether they become slower.
        error_rate: failed runs of those that were not cancelled; None without one.
        prompt_tokens, completion_tokens: of all runs.
        cost: US dollars, None where no price is known; ``simulated``: an engine that only imitates a provider answered.
        lm_calls: calls of models, of which a cache answered ``cache_hits``.
        calls: calls on the session's worker, of which ``calls_failed``; ``call_p50``, ``call_p95`` in seconds.
    """

    session: str
    runs: int
    complete: int
    partial: int
    failed: int
    cancelled: int
    p50: float | None
    p95: float | None
    mean: float | None
    trend: Trend
    error_rate: float | None
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    simulated: bool
    lm_calls: int
    cache_hits: int
    calls: int
    calls_failed: int
    call_p50: float | None
    call_p95: float | None

    @property
    def tokens(self) -> int:
        """Tokens of prompts and answers."""
        return self.prompt_tokens + self.completion_tokens

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        return asdict(self)

    def sheet(self) -> Sheet:
        """All of it, for a cell."""
        ended = ", ".join(
            f"{count(getattr(self, each))} {each}"
            for each in ("complete", "partial", "failed", "cancelled")
            if getattr(self, each)
        )
        price = "simulated" if self.simulated and not self.cost else dollars(self.cost)
        lines = [
            f"runs: {count(self.runs)}{f' ({ended})' if ended else ''}; error rate {percent(self.error_rate)}",
            f"durations: p50 {duration(self.p50)}, p95 {duration(self.p95)}",
            f"trend: {self.trend}",
            f"tokens: {count(self.prompt_tokens)} in, {count(self.completion_tokens)} out; cost: {price}",
            f"model calls: {count(self.lm_calls)}, of which {count(self.cache_hits)} from the cache",
            f"calls on its worker: {count(self.calls)}, {count(self.calls_failed)} failed; p50 {duration(self.call_p50)}, "
            f"p95 {duration(self.call_p95)}",
        ]
        return Sheet(f"Metrics of session {self.session}", lines)

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_()

    def __repr__(self) -> str:
        return repr(self.sheet())


def metrics_of(store: Store, session_id: str, name: str) -> SessionMetrics:
    """Return the figures of a session from the store."""
    totals = session_totals(store, session_id)
    found = {} if totals.empty else totals.iloc[0].to_dict()
    asked = session_lm_calls(store, session_id)
    calls = session_calls(store, session_id).iloc[0].to_dict()
    judged = int(found.get("runs", 0)) - int(found.get("cancelled", 0))
    failed = int(found.get("failed", 0))
    return SessionMetrics(
        session=name,
        **{key: int(found.get(key, 0)) for key in ("runs", "complete", "partial", "failed", "cancelled")},
        **{key: number(found.get(key)) for key in ("p50", "p95", "mean", "cost")},  # type: ignore[arg-type]
        trend=trend(series_of(session_durations(store, session_id))),
        error_rate=failed / judged if judged else None,
        prompt_tokens=int(found.get("prompt_tokens", 0)),
        completion_tokens=int(found.get("completion_tokens", 0)),
        simulated=bool(found.get("simulated", False)),
        lm_calls=int(asked["calls"].sum()),
        cache_hits=int(asked["cache_hits"].sum()),
        calls=int(calls["calls"]),
        calls_failed=int(calls["failed"]),
        call_p50=number(calls["p50"]),
        call_p95=number(calls["p95"]),
    )


def series_of(durations: Any) -> dict[str, list[float]]:
    """Return the seconds by the name of what ran, in the order of the runs."""
    out: dict[str, list[float]] = {}
    for name, seconds in zip(durations["name"], durations["seconds"], strict=True):
        out.setdefault(str(name), []).append(float(seconds))
    return out


def number(value: Any) -> float | None:
    """Return a cell of a frame, None where it is empty."""
    return None if value is None or value != value else float(value)
