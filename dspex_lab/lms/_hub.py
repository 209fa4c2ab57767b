"""How models are fetched and loaded: whether the hub may be asked, and whether progress is drawn."""

from __future__ import annotations

import os

_YES = frozenset(["1", "on", "yes", "true"])


def is_offline() -> bool:
    """Say whether ``HF_HUB_OFFLINE`` wants nothing asked of the hub now.

    The hub's own library reads the variable once, when it is imported, and a worker has the environment of its start.
    """
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in _YES


def hush() -> None:
    """Draw no progress bars while models load: a worker's end up in the terminal that the kernel was started from."""
    from transformers.utils import logging

    logging.disable_progress_bar()
