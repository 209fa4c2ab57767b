"""Which GPUs there are, and which worker gets which. The driver is played by foreign functions, scripts and files."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.pools import _devices
from dspex_lab.pools._devices import Device, cpu_sentence, device_of, devices, environment_of, visible

GB = 10**9
A = Device("0", "H100", 80 * GB, "GPU-aaaa1111")
B = Device("1", "H100", 80 * GB, "GPU-aabb2222")
C = Device("2", "T4", 16 * GB, "GPU-cccc3333")
PART = Device("MIG-p1", "H100 MIG 1g.10gb", 10 * GB, "MIG-p1", of=B.uuid)
OTHER = Device("MIG-p2", "H100 MIG 1g.10gb", 10 * GB, "MIG-p2", of=B.uuid)


# --- what CUDA shows ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        ("0,1", ["0", "1"]),
        ("1, 0", ["1", "0"]),
        ("2", ["2"]),
        ("", []),
        ("-1", []),
        ("0,-1,1", ["0"]),
        ("0,7,1", ["0"]),
        ("NoDevFiles", []),
        ("GPU-aabb2222", ["GPU-aabb2222"]),
        ("GPU-aab", ["GPU-aab"]),
        ("GPU-aa", []),  # two begin so
        ("MIG-p1,MIG-p2", ["MIG-p1", "MIG-p2"]),
        ("0,0", []),
        ("0,GPU-aaaa1111", []),
    ],
)
def test_the_variable_is_read_as_cuda_reads_it_and_ids_stay_as_given(asked: str, ids: list[str]) -> None:
    shown = visible([A, B, PART, OTHER, C], {"CUDA_VISIBLE_DEVICES": asked})
    assert [device.id for device in shown] == ids


def test_a_device_that_is_named_is_that_device() -> None:
    by_number, by_name = visible([A, B, C], {"CUDA_VISIBLE_DEVICES": "2,GPU-aab"})
    assert (by_number.name, by_number.memory) == ("T4", 16 * GB)
    assert (by_name.uuid, by_name.memory) == (B.uuid, 80 * GB)


def test_without_the_variable_all_are_shown_by_number_where_numbers_are_sure() -> None:
    assert [d.id for d in visible([A, B], {})] == ["0", "1"]
    assert [d.id for d in visible([A, B, C], {})] == [A.uuid, B.uuid, C.uuid]
    assert [d.id for d in visible([A, B, C], {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"})] == ["0", "1", "2"]
    assert [d.id for d in visible([Device("0", "NVIDIA GPU"), Device("1", "another")], {})] == ["0", "1"]
    assert visible([], {}) == ()


def test_a_gpu_in_parts_is_its_parts() -> None:
    assert [d.id for d in visible([A, B, PART, OTHER], {})] == [A.uuid, "MIG-p1", "MIG-p2"]


def test_this_machines_devices_are_found_without_torch_and_without_cuda() -> None:
    code = "import sys, dspex_lab.pools._devices as d; found = d.devices();assert 'torch' not in sys.modules; print(len(found))"
    environment = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert int(done.stdout) == len(visible(_devices._installed(), {}))


def test_the_environment_decides_at_each_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_devices, "_installed", lambda: (A, B))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [d.id for d in devices()] == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [d.name for d in devices()] == ["H100"]


# --- which worker gets which --------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from("abcdef"), unique=True, max_size=5), st.integers(1, 4), st.integers(1, 30))
def test_every_gpu_has_its_workers_before_the_cpu_has_one(gpus: list[str], per_gpu: int, workers: int) -> None:
    given_ = [device_of(index, gpus, per_gpu) for index in range(workers)]
    counts = [given_.count(gpu) for gpu in gpus]
    assert all(count <= per_gpu for count in counts)
    assert not counts or max(counts) - min(counts) <= 1
    assert given_.count(None) == max(0, workers - len(gpus) * per_gpu)
    assert given_ == [device_of(index, gpus, per_gpu) for index in range(workers)]


def test_a_worker_sees_its_device_alone() -> None:
    assert environment_of("MIG-p1") == {"CUDA_VISIBLE_DEVICES": "MIG-p1"}
    assert environment_of(None) == {"CUDA_VISIBLE_DEVICES": ""}
    assert visible([A, B], environment_of("1"))[0].uuid == B.uuid
    assert visible([A, B], environment_of(None)) == ()


def test_the_cpu_is_said_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_devices, "_torch", lambda: "2.13.0")
    monkeypatch.setattr(_devices, "_installed", lambda: ())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert cpu_sentence("neural", 4, ()) == "pool 'neural' computes on the CPU: no NVIDIA GPU was found"
    monkeypatch.setattr(_devices, "_installed", lambda: (A,))
    assert cpu_sentence("neural", 4, ()) == "pool 'neural' computes on the CPU: CUDA_VISIBLE_DEVICES='' shows no GPU"
    assert cpu_sentence("neural", 2, ("0",), 2) is None
    assert cpu_sentence("neural", 4, ("0",), 2) == (
        "2 of the 4 workers of pool 'neural' compute on the CPU: there is 1 GPU with 2 workers each (workers_per_gpu)"
    )
    assert "there are 2 GPUs with 1 worker each" in str(cpu_sentence("neural", 3, ("0", "1")))
    monkeypatch.setattr(_devices, "_torch", lambda: "2.13.0+cpu")
    assert "the torch that is installed (2.13.0+cpu) cannot use it" in str(cpu_sentence("neural", 1, ("0",)))


def test_where_torch_is_not_installed_its_build_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise _devices.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(_devices.importlib.metadata, "version", missing)
    assert cpu_sentence("neural", 1, ("0",)) is None


# --- asking the driver --------------------------------------------------------------------------------------------


def nvml(parts: bool = True, works: bool = True) -> Any:
    """Return NVIDIA's library as foreign functions: a GPU in two parts, and one that cannot be divided and tells no memory."""
    names = {1: b"H100", 2: b"T4", 11: b"H100 MIG 1g.10gb", 12: b"H100 MIG 1g.10gb"}
    number, pointer = ctypes.c_uint, ctypes.c_void_p

    def foreign(*kinds: Any) -> Any:
        return lambda function: ctypes.CFUNCTYPE(ctypes.c_int, *kinds)(function)

    @foreign(ctypes.POINTER(number))
    def count(out: Any) -> int:
        out[0] = 2
        return 0 if works else 999

    @foreign(number, ctypes.POINTER(pointer))
    def handle(index: int, out: Any) -> int:
        out[0] = index + 1
        return 0

    @foreign(pointer, ctypes.POINTER(number))
    def most_parts(of: int, out: Any) -> int:
        out[0] = 7
        return 0 if of == 1 else 3

    @foreign(pointer, number, ctypes.POINTER(pointer))
    def part(of: int, index: int, out: Any) -> int:
        out[0] = 11 + index
        return 0 if index < 2 else 6

    @foreign(pointer, ctypes.POINTER(_devices._Memory))
    def memory(of: int, out: Any) -> int:
        out[0].total = 80 * GB if of == 1 else 10 * GB
        return 3 if of == 2 else 0

    def text(of_: Any) -> Any:
        @foreign(pointer, pointer, number)
        def told(of: int, out: int, size: int) -> int:
            said = of_(of) + b"\0"
            assert len(said) <= size
            ctypes.memmove(out, said, len(said))
            return 0

        return told

    made = {
        "nvmlDeviceGetCount_v2": count,
        "nvmlDeviceGetHandleByIndex_v2": handle,
        "nvmlDeviceGetMemoryInfo": memory,
        "nvmlDeviceGetName": text(names.__getitem__),
        "nvmlDeviceGetUUID": text(lambda of: (b"MIG-%d" if of > 10 else b"GPU-%d") % of),
    }
    if parts:
        made |= {"nvmlDeviceGetMaxMigDeviceCount": most_parts, "nvmlDeviceGetMigDeviceHandleByIndex": part}
    return SimpleNamespace(**made)


def test_nvidias_library_tells_devices_and_their_parts() -> None:
    h100, t4 = Device("0", "H100", 80 * GB, "GPU-1"), Device("1", "T4", None, "GPU-2")
    small = [Device(f"MIG-{n}", "H100 MIG 1g.10gb", 10 * GB, f"MIG-{n}", "GPU-1") for n in (11, 12)]
    assert list(_devices._Library(nvml()).devices()) == [h100, *small, t4]
    assert list(_devices._Library(nvml(parts=False)).devices()) == [h100, t4]
    assert list(_devices._Library(nvml(works=False)).devices()) == []


def test_nvidias_library_is_opened_and_closed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    works = SimpleNamespace(
        **vars(nvml()), nvmlInit_v2=lambda: calls.append("init") or 0, nvmlShutdown=lambda: calls.append("end")
    )
    monkeypatch.setattr(_devices.ctypes, "CDLL", lambda name: works)
    assert len(list(_devices._ask_library())) == 4
    assert calls == ["init", "end"]
    works.nvmlInit_v2 = lambda: 9  # the driver is not loaded
    assert list(_devices._ask_library()) == []


def test_where_the_library_is_not_there_or_another_one_nothing_is_found() -> None:
    assert list(_devices._ask_library("libdspex-nowhere.so.1")) == []
    assert list(_devices._ask_library(ctypes.util.find_library("c") or "libc.so.6")) == []


SMI = """#!/bin/sh
case "$1" in
--query*) printf '0, GPU-1, NVIDIA H100, 81559\\n1, GPU-2, "T4, old", [N/A]\\nsome warning\\n' ;;
-L) printf 'GPU 0: NVIDIA H100 (UUID: GPU-1)\\n  MIG 1g.10gb     Device  0: (UUID: MIG-11)\\nGPU 1: T4, old (UUID: GPU-2)\\n' ;;
esac
"""


def tool(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "nvidia-smi").write_text(text)
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_nvidia_smi_tells_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool(tmp_path, SMI, monkeypatch)
    assert list(_devices._ask_tool()) == [
        Device("0", "NVIDIA H100", 81559 * 2**20, "GPU-1"),
        Device("MIG-11", "NVIDIA H100 MIG 1g.10gb", None, "MIG-11", "GPU-1"),
        Device("1", "T4, old", None, "GPU-2"),
    ]


def test_an_nvidia_smi_that_does_not_work_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool(tmp_path, "#!/bin/sh\necho 'has failed because it could not communicate with the driver'; exit 9\n", monkeypatch)
    assert list(_devices._ask_tool()) == []
    monkeypatch.setenv("PATH", "/nowhere")
    assert list(_devices._ask_tool()) == []


def test_the_drivers_list_counts_what_there_is_a_device_file_for(tmp_path: Path) -> None:
    for bus, minor in (("0000:01:00.0", 0), ("0000:02:00.0", 1)):
        (tmp_path / "gpus" / bus).mkdir(parents=True)
        text = f"Model: \t\t NVIDIA T4\nIRQ:   \t\t 35\nGPU UUID: \t GPU-{minor}\nDevice Minor: \t {minor}\n"
        (tmp_path / "gpus" / bus / "information").write_text(text)
    (tmp_path / "nvidia1").touch()
    assert list(_devices._ask_proc(tmp_path / "gpus", tmp_path)) == [Device("1", "NVIDIA T4", None, "GPU-1")]
    assert list(_devices._ask_proc(tmp_path / "nothing")) == []


def test_the_first_that_answers_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_devices, "_ask_library", lambda: iter(()))
    monkeypatch.setattr(_devices, "_ask_tool", lambda: iter([A]))
    monkeypatch.setattr(_devices, "_ask_proc", lambda: iter([B]))
    assert _devices._installed.__wrapped__() == (A,)
    monkeypatch.setattr(_devices, "_ask_tool", lambda: iter(()))
    monkeypatch.setattr(_devices, "_ask_proc", lambda: iter(()))
    assert _devices._installed.__wrapped__() == ()


@pytest.mark.skipif(not devices(), reason="no NVIDIA GPU on this machine")
def test_a_gpu_of_this_machine_has_a_name_and_memory() -> None:
    for device in devices():
        assert device.name
        assert device.memory is None or device.memory > GB
