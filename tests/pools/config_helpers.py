"""Settings of pools as they are settled, for a large machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dspex_lab._settings import SettingsFile, find_settings
from dspex_lab.pools import Machine, PoolSpec, settle
from dspex_lab.pools._config import PoolSettings

GB, MB = 10**9, 10**6
LARGE = Machine(64, 512 * GB)
NO_FILE = SettingsFile()


def settled(code: Any = None, environment: dict[str, str] | None = None, file: str = "") -> PoolSettings:
    if file:
        Path("dspex.toml").write_text(file)
    return settle(code, environment=environment or {}, file=find_settings() if file else NO_FILE)


def spec(code: Any = None, environment: dict[str, str] | None = None, file: str = "", name: str = "general") -> PoolSpec:
    return settled(code, environment, file).spec(name, LARGE)


def every(found: PoolSettings) -> list[PoolSpec]:
    return [found.spec(name, LARGE) for name in found.names]
