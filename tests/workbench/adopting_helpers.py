"""A Lab with a pipeline that a job may improve."""

from __future__ import annotations

from pathlib import Path

import pytest
from job_helpers import model, support

from dspex_lab import Lab


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def opened(lab: Lab) -> Lab:
    lab.use(model())
    lab.pipelines["support"] = support()
    return lab


@pytest.fixture
def ready(lab: Lab) -> Lab:
    return opened(lab)


def says(lab: Lab) -> str:
    return str(lab.run("support", message="a")["label"])
