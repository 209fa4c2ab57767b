"""The words of a refusal, for the tests of domains."""

from __future__ import annotations

from typing import Any

import pytest

from dspex_lab.errors import VariableError


def refusal(domain: Any, value: Any) -> str:
    with pytest.raises(VariableError) as caught:
        domain.cast(value, "x")
    assert caught.value.name == "x"
    return str(caught.value)
