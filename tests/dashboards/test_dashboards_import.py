"""The room costs nothing until it is used, and says what is wrong with what it is given."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dspex_lab import dashboards
from dspex_lab.errors import ConfigurationError


def test_importing_the_room_loads_neither_panel_nor_altair_nor_bokeh() -> None:
    code = "import sys, dspex_lab.dashboards; print(sorted({'panel', 'altair', 'bokeh', 'dspy', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_room_offers_what_it_documents() -> None:
    assert sorted(dashboards.__all__) == ["Source", "account", "build", "serve", "standing"]
    assert all(hasattr(dashboards, name) for name in dashboards.__all__)


@pytest.mark.parametrize("refresh", [0, -1, float("nan"), float("inf"), "1", True, None])
def test_a_refresh_that_is_no_time_is_refused(lab, refresh: object) -> None:
    for make in (dashboards.build, dashboards.serve):
        with pytest.raises(ConfigurationError, match="refresh") as caught:
            make(lab, refresh=refresh)
        assert caught.value.key == "refresh"
