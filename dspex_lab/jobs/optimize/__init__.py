"""Optimizers of programs as jobs: every one of DSPy's, and any other with ``compile``.

The way of a run: :class:`Optimize` (a job's work) → ``_course.Course`` → a driver (``_driver.Driver``, one file for each
family; ``_table`` has them by name) → the optimizer itself. ``_watch.Watch`` looks on, ``_judge.Judge`` is the metric,
``_tried.Tried`` makes trials of what was evaluated. A new optimizer is one driver and its line in the table; without, it runs
all the same.
"""

from __future__ import annotations

from dspex_lab.jobs.optimize._optimize import Optimize, optimize, remembered, shape_of
from dspex_lab.jobs.optimize._optimized import Optimized, Rejected, rejected_in
from dspex_lab.jobs.optimize._table import names

__all__ = ["Optimize", "Optimized", "Rejected", "names", "optimize", "rejected_in", "remembered", "shape_of"]
