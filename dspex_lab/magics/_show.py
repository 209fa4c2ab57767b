"""A run's widget around the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal


@contextmanager
def watched(
    lab: Any, target: Any, rows: int | None = None, kind: Literal["run", "map"] | None = None, budget: Any = None
) -> Iterator[None]:
    """Show the run widget of ``target`` in the cell while the block runs, and its last state afterwards.

    Args:
        rows: how many rows a map will run, None where that is not known.
        kind: ``"run"`` or ``"map"``; by default a map where ``rows`` is given.
        budget: what the run itself may spend, as in its options.

    Raises:
        ConfigurationError: the budget cannot be read.
    """
    from dspex_lab.lms import Budget, describe, is_simulated
    from dspex_lab.widgets import RunWidget, show_run

    pipeline = lab.pipeline_of(target)
    lm = lab.lm if pipeline.uses_lm else None
    limits = Budget.of(budget)
    widget = RunWidget(
        graph=pipeline.graph(),
        name=pipeline.name,
        total_rows=rows,
        kind=kind,
        lm=describe(lm) if lm is not None else None,
        simulated=lm is not None and is_simulated(lm),
        limits={"cost": limits.cost, "tokens": limits.tokens, "calls": limits.calls},
        account=lambda: lab.ledger.snapshot().to_dict(),
        level=str(lab.gateway.degradation.level),
    )
    unsubscribe = lab.bus.subscribe(widget.observe_run)
    try:
        with show_run(widget):
            yield
    finally:
        unsubscribe()
