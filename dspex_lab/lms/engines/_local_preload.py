"""Imported by a neural pool's forkserver: what loading a model would import in every worker anew, three seconds each.

Not sentence-transformers, whose import starts a thread, which a process that is to be forked must not have.
"""

from __future__ import annotations

import importlib
import importlib.util

#: Where transformers keeps what it imports only when it is used.
_PARTS = ("transformers.modeling_utils", "transformers.generation.utils", "transformers.models.auto.modeling_auto")

if importlib.util.find_spec("torch") is not None and importlib.util.find_spec("transformers") is not None:
    for _part in (*_PARTS, "dspex_lab.lms.engines._local_worker"):
        importlib.import_module(_part)
