"""What of DSPy's objects does not travel between the kernel and its workers, in either direction."""

from __future__ import annotations

from typing import Any

from dspex_lab.lms import from_portable, portable
from dspex_lab.pools import leave_behind, reduces

leave_behind("dspy.clients.base_lm.BaseLM", history=list)
leave_behind("dspy.predict.predict.Predict", traces=list)


@reduces("dspy.clients.lm.LM")
def _model(lm: Any) -> Any:
    """A model travels as its settings; its key is found again where it arrives, and its calls stay where they were made.

    Raises:
        LMError: its key stands in no environment variable, or its engine cannot be rebuilt.
    """
    return from_portable, (portable(lm),)
