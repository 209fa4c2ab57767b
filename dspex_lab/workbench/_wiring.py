"""Gives lower rooms what they need of one another: metrics a judge and an embedder, native predictors a model's transport."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dspex_lab.lms import DirectCalls, LMJudge, use_pools
from dspex_lab.native import use_transport
from dspex_lab.native.metrics import wire
from dspex_lab.pipelines import current_runner
from dspex_lab.pools import Placement, current_task
from dspex_lab.workbench._kernel import lab


def _embedder(model: str | Path) -> Any:
    """Load an embedding model for the metric ``similarity``; a function of the module, so that metrics travel to workers."""
    from dspex_lab.lms import sentence_embedder

    return sentence_embedder(model)


def _pool(name: str) -> Any:
    """Return a pool of the kernel's Lab for models that run on one, None in a worker, where they run in place."""
    return None if current_task().worker else lab().pools.get(name)


use_pools(_pool, lambda worker: Placement(worker=worker))
wire(judge=LMJudge(), embedder=_embedder)
use_transport(DirectCalls())
current_runner.append(lab)
