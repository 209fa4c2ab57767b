"""What is loaded when it is first needed: the names of a room, and heavy and optional packages."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from dspex_lab.errors import ConfigurationError

#: Which extra of this distribution brings which optional package.
EXTRAS = {
    "torch": "neural",
    "transformers": "neural",
    "sentence_transformers": "neural",
    "keyring": "keys",
    "instructor": "instructor",
    "mcp": "mcp",
    "llguidance": "neural",
    "fastapi": "web",
    "fastapi_offline": "web",
    "uvicorn": "web",
    "limits": "web",
    "prometheus_client": "web",
    "markdown_it": "web",
}


def names(room: str, home: Mapping[str, str], *, keep: bool = False) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a room whose names are loaded when they are asked for (PEP 562).

    Args:
        room: the room's ``__name__``.
        home: which of its modules has which name.
        keep: whether the room itself has a name from then on.
    """

    def load(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{room}.{home[name]}"), name)
        if keep:
            setattr(sys.modules[room], name, value)
        return value

    return load


def require(name: str, purpose: str) -> ModuleType:
    """Import ``name`` or say what to install.

    Args:
        name: the module, dotted where needed.
        purpose: completes "… is needed", such as ``"for dashboards"``.

    Raises:
        ConfigurationError: the package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        root = name.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != root:
            raise
        extra = EXTRAS.get(root)
        what = f"dspex-lab[{extra}]" if extra else root
        raise ConfigurationError(
            f"The package {root!r} is needed {purpose} and is not installed.",
            key=root,
            expected="installed",
            actual="missing",
            hint=f'Install it with: pip install "{what}"',
        ) from error
