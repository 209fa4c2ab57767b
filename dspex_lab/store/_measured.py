"""What the steps of a pipeline have cost until now, for the estimate of its next run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from dspex_lab.store._store import Store


def calls_by_step(store: Store, name: str) -> pd.DataFrame:
    """Return what each step of the pipeline ``name`` asked of each model, over all its runs and rows.

    A call that a cache answered counts as a call, but not in the averages of tokens and cost; one that failed not at all.

    Columns: ``step`` (dotted where it is in another), ``model, simulated, executions`` (of the step in which it asked this
    model), ``least, most`` (calls per such execution), ``calls``, ``prompt_tokens, completion_tokens, cost`` (averages per
    call; NULL where nothing was told; cost in US dollars).
    """
    return store.query(
        """
        WITH called AS (
            SELECT c.span_id, c.step, c.model, count(*) AS calls, coalesce(bool_or(c.simulated), false) AS simulated,
                   count(*) FILTER (NOT c.cache_hit) AS paid,
                   sum(c.prompt_tokens) FILTER (NOT c.cache_hit) AS prompt_tokens,
                   sum(c.completion_tokens) FILTER (NOT c.cache_hit) AS completion_tokens,
                   sum(c.cost) FILTER (NOT c.cache_hit) AS cost,
                   count(c.prompt_tokens) FILTER (NOT c.cache_hit) AS told,
                   count(c.cost) FILTER (NOT c.cache_hit) AS priced
            FROM lm_calls c JOIN runs r ON r.run_id = c.run_id
            WHERE r.name = $name AND c.error IS NULL AND c.step IS NOT NULL
            GROUP BY c.span_id, c.step, c.model
        )
        SELECT step, model, bool_or(simulated) AS simulated, count(*) AS executions, min(calls) AS least, max(calls) AS most,
               sum(calls)::BIGINT AS calls, sum(prompt_tokens) / nullif(sum(told), 0) AS prompt_tokens,
               sum(completion_tokens) / nullif(sum(told), 0) AS completion_tokens, sum(cost) / nullif(sum(priced), 0) AS cost
        FROM called GROUP BY step, model ORDER BY step, calls DESC, model
        """,
        {"name": name},
    )


def seconds_by_step(store: Store, name: str) -> pd.DataFrame:
    """Return how long the steps of the pipeline ``name`` take: columns ``step`` and ``seconds`` (the median).

    Executions that failed, were skipped or cancelled, and those served from a checkpoint, are left out.
    """
    return store.query(
        """
        SELECT s.name AS step, quantile_cont(s.seconds, 0.5) AS seconds
        FROM spans s JOIN runs r ON r.run_id = s.run_id
        WHERE r.name = $name AND s.kind = 'step' AND s.status IN ('complete', 'partial')
          AND coalesce(s.implementation, '') <> 'checkpoint'
        GROUP BY s.name ORDER BY step
        """,
        {"name": name},
    )
