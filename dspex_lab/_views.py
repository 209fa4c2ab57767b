"""Views register under an entry-point group; whoever needs one looks it up here, so that no lower room imports a view."""

from __future__ import annotations

from typing import Any

from dspex_lab.errors import ConfigurationError


def view(name: str) -> Any:
    """Return the view registered under ``name`` in the entry-point group ``dspex_lab.views``.

    Raises:
        ConfigurationError: none is.
    """
    from importlib.metadata import entry_points

    for point in entry_points(group="dspex_lab.views", name=name):
        return point.load()
    raise ConfigurationError(
        f"No view is registered as {name!r}.", key=name, hint="Install dspex-lab again: pip install dspex-lab."
    )
