"""The error of a template that fails, for the tests of templates."""

from __future__ import annotations

from typing import Any

import pytest

from dspex_lab.errors import PipelineError
from dspex_lab.native import Template


def error_of(text: str, values: dict[str, Any] | None = None, name: str | None = None) -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        Template(text, name=name).render(values or {})
    return caught.value
