"""The conformance suite of embedders over the one that is shipped."""

from __future__ import annotations

from typing import Any

from dspex_lab.lms.engines import HttpEmbedder
from dspex_lab.testing import EmbedderConformance, FaultyServer


class TestHttpEmbedder(EmbedderConformance):
    def make(self, server: FaultyServer, *, key: str) -> Any:
        return HttpEmbedder("any-model", server.url, api_key=key)
