"""Imports go down only: the house of the architecture guide."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import dspex_lab

PACKAGE = Path(dspex_lab.__file__).parent
FLOORS = {
    0: {"errors", "events", "config", "_closing", "_lazy", "_loop", "_options", "_settings", "_shipped", "_version", "_views"},
    1: {"signatures", "native", "resilience", "security"},
    2: {"lms", "pools", "variables", "store"},
    3: {"pipelines", "jobs", "sessions"},
    4: {"router", "intelligence"},
    5: {"workbench"},
    6: {"widgets", "dashboards", "reports"},
    7: {"magics", "cli", "web", "__main__"},
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
SOURCES = sorted(p for p in PACKAGE.rglob("*.py") if "_files" not in p.parts)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[tuple[str, int]]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{a.name}" if node.module == "dspex_lab" else node.module or "" for a in node.names]
        else:
            continue
        found |= {(n.split(".")[1], node.lineno) for n in names if n.startswith("dspex_lab.")}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_only_itself_and_lower_floors(path: Path) -> None:
    room = room_of(path)
    if room in {"__init__", "testing"}:
        return
    assert room in FLOOR, f"{room} stands on no floor: add it to the house"
    for other, line in imported_rooms(path):
        if other == room:
            continue
        assert other != "testing", f"{path.name}:{line}: nothing imports testing"
        assert other in FLOOR or hasattr(dspex_lab, other), f"unknown room {other}"
        same_ground = FLOOR[room] == FLOOR.get(other) in (0, 7)
        assert FLOOR.get(other, 99) < FLOOR[room] or same_ground, (
            f"{path.name}:{line}: {room} imports {other}, which is not below it"
        )


def test_only_the_store_writes_sql() -> None:
    for path in SOURCES:
        if room_of(path) in {"store", "testing"}:
            continue
        names = {n for n, _ in _modules(path)}
        assert "duckdb" not in names, f"{path} imports duckdb; SQL belongs to the store"


def _modules(path: Path) -> set[tuple[str, int]]:
    out = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            out |= {(a.name.split(".")[0], node.lineno) for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            out.add((node.module.split(".")[0], node.lineno))
    return out
