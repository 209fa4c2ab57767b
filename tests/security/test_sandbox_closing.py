"""A sandbox that is closed at the moment in which its process begins."""

from __future__ import annotations

from typing import Any

import pytest
from sandbox_helpers import needs_sandbox

from dspex_lab.errors import SandboxDied
from dspex_lab.security.sandbox import Sandbox


@needs_sandbox
def test_a_process_that_begins_while_its_sandbox_is_closed_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = Sandbox()
    real = sandbox._hold.start

    def late(policy: Any) -> Any:
        sandbox.close()  # there is no process yet
        return real(policy)

    monkeypatch.setattr(type(sandbox._hold), "start", lambda hold, policy: late(policy))
    with pytest.raises(SandboxDied):
        sandbox.run("while True: pass", timeout=30)
    assert not sandbox.alive
