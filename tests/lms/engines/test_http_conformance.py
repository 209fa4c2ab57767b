"""The HTTP engines pass the shipped conformance suite."""

from __future__ import annotations

from typing import Any

from dspex_lab.lms.engines import http_lm, instructor_lm
from dspex_lab.testing import Declared, ProviderConformance


class TestHttpEngine(ProviderConformance):
    declared = Declared()

    def make_lm(self, server: Any, *, key: str, timeout: float | None = None) -> Any:
        given = {"api_base": server.url, "api_key": key, "total_timeout": timeout, "tools": True, "structured": True}
        return http_lm("any-model", cache=False, num_retries=0, **given)


class TestInstructorEngine(ProviderConformance):
    declared = Declared()

    def make_lm(self, server: Any, *, key: str, timeout: float | None = None) -> Any:
        given = {"api_base": server.url, "api_key": key, "total_timeout": timeout, "tools": True, "mode": "json_schema"}
        return instructor_lm("any-model", cache=False, num_retries=0, **given)
