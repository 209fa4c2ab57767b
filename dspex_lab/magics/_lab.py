"""The kernel's Lab, as the magics open it."""

from __future__ import annotations

import sys
from typing import Any

_said: set[str] = set()


def kernel_lab(shell: Any) -> Any:
    """Return the kernel's Lab; the first time, say what its store found and which model answers."""
    from dspex_lab.workbench import lab

    found = lab()
    if found.id not in _said:
        _said.add(found.id)
        if found.store.recovery is not None:
            print(f"dspex_lab: {found.store.recovery}")
    return found


def open_lab() -> Any:
    """Return the kernel's Lab, or None where none is open."""
    workbench = sys.modules.get("dspex_lab.workbench")
    return workbench.current_lab() if workbench is not None else None


def open_space() -> Any:
    """Return the variables of the kernel's Lab, or None where none is open."""
    current = open_lab()
    return None if current is None or current.closed else current.variables


def known_pipelines(namespace: Any) -> list[str]:
    """Return the names of the pipelines of the kernel's Lab, without opening one."""
    current = open_lab()
    return list(current.pipelines) if current is not None else []
