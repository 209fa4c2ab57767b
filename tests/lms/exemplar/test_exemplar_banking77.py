"""What the offline engine gains on BANKING77, in small; ``tests/bench/exemplar_banking77.py`` measures it whole."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
DATA = ROOT.parent / "shared" / "data"
TRAIN, TEST = (DATA / f"banking77_{part}.csv" for part in ("train", "test"))

pytestmark = pytest.mark.skipif(not (TRAIN.exists() and TEST.exists()), reason=f"BANKING77 is not there: {TRAIN} and {TEST}")


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("exemplar_banking77", ROOT / "tests" / "bench" / "exemplar_banking77.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def draws(bench: ModuleType) -> Any:
    train, test = bench.read(TRAIN), bench.read(TEST)

    def made(classes: int, opaque: bool) -> list[Any]:
        return [bench.Draw(train, test, classes, 120, seed, opaque) for seed in range(3)]

    return made


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_opaque_labels_are_learnt_from_demonstrations(bench: ModuleType, draws: Any) -> None:
    by_count = {n: mean([bench.accuracy(d, n) for d in draws(8, True)]) for n in (0, 16, 40)}
    assert by_count[0] < 0.25
    assert by_count[16] > by_count[0] + 0.3
    assert by_count[40] > 0.75
    assert mean([bench.accuracy(d, 40, shuffled=True) for d in draws(8, True)]) < 0.3


def test_nearest_demonstrations_are_best(bench: ModuleType, draws: Any) -> None:
    known = mean([bench.accuracy(d) for d in draws(20, False)])
    assert known > 0.55
    assert mean([bench.accuracy(d, 8, nearest=True) for d in draws(20, False)]) > known + 0.2
    assert mean([bench.accuracy(d, 8, nearest=True, shuffled=True) for d in draws(20, False)]) < known


def test_instructions_of_its_own_help_and_those_from_shuffled_labels_do_not(bench: ModuleType, draws: Any) -> None:
    assert mean([bench.accuracy(d, instructions=d.reflected()) for d in draws(8, True)]) > 0.8
    assert mean([bench.accuracy(d, instructions=d.reflected(True)) for d in draws(8, True)]) < 0.35
    known = mean([bench.accuracy(d) for d in draws(20, False)])
    assert mean([bench.accuracy(d, instructions=d.reflected()) for d in draws(20, False)]) > known + 0.1
    assert mean([bench.accuracy(d, instructions=d.reflected(True)) for d in draws(20, False)]) < known


@pytest.mark.parametrize("name", ["gepa", "miprov2", "copro"])
def test_optimizers_gain_on_rows_they_have_not_seen(bench: ModuleType, draws: Any, name: str) -> None:
    (first, *_) = draws(8, True)
    before = bench.accuracy(first)
    assert bench.optimized(first, getattr(bench, name), False) > before + 0.4
