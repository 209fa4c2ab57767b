"""The Lab: the one object that owns store, pools, router and models, and through which everything runs."""

from __future__ import annotations

from dspex_lab.workbench._examples import ExampleDoors
from dspex_lab.workbench._guarding import Guarding
from dspex_lab.workbench._maps import MapDoors
from dspex_lab.workbench._models import ModelDoors
from dspex_lab.workbench._plain import PlainCalls
from dspex_lab.workbench._reading import Reading
from dspex_lab.workbench._runs import RunDoors


class Lab(ModelDoors, RunDoors, MapDoors, Guarding, PlainCalls, Reading, ExampleDoors):
    """A workbench: a store, worker pools, a router, a model, and the pipelines and signatures made in it.

    Args:
        path: the DuckDB file of the store, ``":memory:"``, or None for the notebook's own (``.dspex/NOTEBOOK.duckdb``).
        config: settings.

    Raises:
        StoreError: the store cannot be opened, for instance because another process holds it.

    Use it as a context manager, or call :meth:`close`. Methods may be called from any thread.
    """
