"""What keeps work going when something fails: when to try again, and one budget of time for a whole path."""

from __future__ import annotations

from dspex_lab.resilience._deadline import Deadline
from dspex_lab.resilience._retry import Retry, retry, retry_sync
from dspex_lab.resilience._retryable import retry_after, retryable

__all__ = ["Deadline", "Retry", "retry", "retry_after", "retry_sync", "retryable"]
