"""The notebooks and data that come with the package."""

from __future__ import annotations

from pathlib import Path

from dspex_lab.errors import ConfigurationError

_PACKAGE = Path(__file__).parent


def shipped(name: str) -> Path:
    """Return the path of a file that comes with the package, such as ``"data/support_messages.csv"``.

    Raises:
        ConfigurationError: there is no such file.
    """
    # In a wheel the files lie inside the package; in a checkout beside it.
    for root in (_PACKAGE / "_files", _PACKAGE.parent):
        if (root / name).is_file():
            return root / name
    raise ConfigurationError(
        f"The file {name!r} does not come with this installation.",
        key=name,
        hint="Install dspex-lab again: pip install --force-reinstall dspex-lab.",
    )
