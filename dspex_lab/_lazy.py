"""Heavy and optional packages, imported when first needed and named with their extra when missing."""

from __future__ import annotations

import importlib
from types import ModuleType

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
}


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
