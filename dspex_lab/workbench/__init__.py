"""The Lab, which wires the rooms: one file for each kind of door, on what all of them share (``_base.py``)."""

from dspex_lab.native.metrics import combine, metric, register_metric
from dspex_lab.workbench import _wiring
from dspex_lab.workbench._kernel import autolog, current_lab, lab
from dspex_lab.workbench._lab import Lab

#: The metrics are those of native/; here, where they are wired to a judge and an embedder, is where users find them.
__all__ = ["Lab", "autolog", "combine", "current_lab", "lab", "metric", "register_metric"]

del _wiring
