"""How the wanted pools are made to fit machines of any size: pure functions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab._settings import SettingsFile
from dspex_lab.pools._config import settle
from dspex_lab.pools._machine import Machine
from dspex_lab.pools._scaling import SHARE, WANTED, Asked, plan

GB, MB = 10**9, 10**6
NO_FILE = SettingsFile()


def sentences(machine: Machine, **asked: object) -> dict[str, str]:
    settings = settle(asked, environment={}, file=NO_FILE)
    return {name: settings.spec(name, machine).scaling for name in settings.names}


def numbers(machine: Machine) -> dict[str, tuple[int, int]]:
    return {name: (share.workers, share.memory // MB) for name, share in plan(machine, {}).items()}


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (Machine(64, 512 * GB, tuple("01234567")), {"general": (8, 512), "optimizer": (2, 4000), "neural": (4, 8000)}),
        (Machine(16, 64 * GB, ("0",)), {"general": (8, 512), "optimizer": (2, 4000), "neural": (1, 8000)}),
        (Machine(16, 64 * GB), {"general": (8, 512), "optimizer": (2, 4000), "neural": (4, 8000)}),
        (Machine(8, 16 * GB), {"general": (8, 512), "optimizer": (1, 3952), "neural": (1, 3952)}),
        (Machine(2, 4 * GB), {"general": (2, 512), "optimizer": (1, 976), "neural": (1, 1000)}),
        (Machine(2, 2 * GB), {"general": (1, 384), "optimizer": (1, 384), "neural": (1, 1000)}),
        (Machine(1, GB // 2), {"general": (1, 384), "optimizer": (1, 384), "neural": (1, 1000)}),
    ],
)
def test_the_pools_are_scaled_to_cores_memory_and_gpus(machine: Machine, expected: dict[str, tuple[int, int]]) -> None:
    assert numbers(machine) == expected


def test_each_pool_says_in_one_sentence_how_it_was_scaled() -> None:
    assert sentences(Machine(16, 64 * GB, ("0", "1"))) == {
        "general": "8 workers of 512 MB: as wanted; all pools together take 28 GB of 64 GB.",
        "optimizer": "2 workers of 4 GB: as wanted; all pools together take 28 GB of 64 GB.",
        "neural": "2 of 4 wanted workers of 8 GB on GPU 0, 1: there are 2 places on GPUs; "
        "all pools together take 28 GB of 64 GB.",
    }
    assert sentences(Machine(2, 4 * GB)) == {
        "general": "2 of 8 wanted workers of 512 MB: this machine has 2 cores and 4 GB of memory hold no more; "
        "all pools together take 3 GB of 4 GB.",
        "optimizer": "1 of 2 wanted workers of 976 MB (4 GB wanted): 4 GB of memory hold no more; "
        "all pools together take 3 GB of 4 GB.",
        "neural": "1 of 4 wanted workers of 1 GB (8 GB wanted) on the CPU: this machine has 2 cores and no GPU "
        "and 4 GB of memory hold no more; all pools together take 3 GB of 4 GB.",
    }


def test_pools_that_do_not_fit_a_tiny_machine_say_so() -> None:
    for sentence in sentences(Machine(1, GB // 2)).values():
        assert sentence.endswith("all pools together take 1.7 GB, more than this machine's 500 MB.")
    assert "this machine has 1 core and 500 MB" in sentences(Machine(1, GB // 2))["general"]


def test_what_a_person_set_is_kept_and_leaves_less_for_the_others() -> None:
    machine = Machine(8, 16 * GB)
    more = sentences(machine, optimizer={"workers": 2, "memory": "4GB"})
    assert more["optimizer"].startswith("2 workers of 4 GB: workers and memory from code; ")
    assert more["general"].startswith("3 of 8 wanted workers of 512 MB: 16 GB of memory hold no more")
    assert sentences(machine, optimizer={"workers": 4})["optimizer"].startswith(
        "4 workers of 988 MB (4 GB wanted): workers from code"
    )
    assert sentences(machine, optimizer={"memory": "1GB"})["optimizer"].startswith("2 workers of 1 GB: memory from code; ")
    assert "more than this machine's 16 GB" in sentences(machine, general={"workers": 100, "memory": "4GB"})["general"]


def test_a_pool_of_ones_own_is_counted_too() -> None:
    found = sentences(Machine(8, 16 * GB), mine={"workers": 2, "memory": "4GB"})
    assert found["mine"] == "2 workers of 4 GB: workers and memory from code; all pools together take 12 GB of 16 GB."
    assert list(found) == ["general", "optimizer", "neural", "mine"]


def test_several_workers_share_a_gpu_when_told() -> None:
    machine = Machine(16, 64 * GB, ("0",))
    assert "3 of 4 wanted workers of 8 GB on GPU 0" in sentences(machine, neural={"workers_per_gpu": 3})["neural"]
    assert "2 of them on the CPU" in sentences(machine, neural={"workers": 3})["neural"]
    assert "on the CPU" in sentences(machine, neural={"gpus": []})["neural"]


machines = st.builds(
    Machine,
    st.integers(1, 512),
    st.integers(GB // 4, 2000 * GB),
    st.lists(st.just("0"), max_size=9).map(lambda g: tuple(map(str, range(len(g))))),
)


@given(machines)
def test_all_pools_fit_any_machine_that_can_hold_the_least_of_each(machine: Machine) -> None:
    shares = plan(machine, {})
    total = sum(share.bytes for share in shares.values())
    least = sum(wanted.least for wanted in WANTED.values())
    assert total <= max(int(machine.memory * SHARE), least)
    for name, share in shares.items():
        assert 1 <= share.workers <= WANTED[name].workers
        assert WANTED[name].least <= share.memory <= WANTED[name].memory
        assert bool(share.why) == ((share.workers, share.memory) != (WANTED[name].workers, WANTED[name].memory))
    if machine.gpus:
        assert shares["neural"].workers <= len(machine.gpus)


@given(machines, st.integers(1, 64), st.integers(384 * MB, 64 * GB))
def test_what_was_asked_is_what_is_given(machine: Machine, workers: int, memory: int) -> None:
    for name in WANTED:
        assert plan(machine, {name: Asked(workers, memory)})[name].bytes == workers * memory
        assert plan(machine, {name: Asked(workers)})[name].workers == workers
        assert plan(machine, {name: Asked(None, memory)})[name].memory == memory
