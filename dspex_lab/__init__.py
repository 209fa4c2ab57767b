"""dspex_lab."""

from dspex_lab._version import __version__

__all__ = ["__version__"]
