"""Functions that are sent to a Dask cluster with their code, for this package need not be there: the scheduler loads what
passes it on the way to a worker, and a worker that is sent an object of a package which it has not got closes itself.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import cloudpickle


def by_value(function: Callable[..., Any]) -> Any:
    """Return a copy of a function of this module that every pickler of Dask's sends with its code: that of ``__main__`` is."""
    assert isinstance(function, types.FunctionType)  # noqa: S101 - all here are
    copy = types.FunctionType(function.__code__, {"__builtins__": __builtins__}, function.__name__)
    copy.__module__ = "__main__"
    return copy


def version_here():  # type: ignore[no-untyped-def]
    """Return the version of this package where this runs, None where there is none."""
    try:
        from dspex_lab._version import __version__
    except ImportError:
        return None
    return __version__


def unpacked(payload):  # type: ignore[no-untyped-def]
    """Call what is pickled in ``payload``: a function, its arguments, and those by name."""
    import pickle

    function, args, named = pickle.loads(payload)  # noqa: S301 - from the kernel, over TLS
    return function(*args, **named)


def perform(host, call_id):  # type: ignore[no-untyped-def]
    """Perform a call that lies in the host of this worker; what Dask runs as a task."""
    from distributed import get_worker

    get_worker().state.actors[host].perform(call_id)


def packed(value: Any) -> bytes:
    """Return something pickled; what was made by :func:`by_value`, with its code."""
    return cloudpickle.dumps(value)
