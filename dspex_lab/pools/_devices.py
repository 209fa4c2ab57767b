"""The GPUs of this machine, and which worker gets which.

Nothing here imports torch or makes a CUDA context: the kernel only asks the driver, and the workers are told which device is
theirs by ``CUDA_VISIBLE_DEVICES`` before they touch it.
"""

from __future__ import annotations

import csv
import ctypes
import functools
import importlib.metadata
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

#: Seconds that ``nvidia-smi`` may take; on a machine whose driver hangs it never ends.
_PATIENCE = 20
_LIBRARY = "libnvidia-ml.so.1"
_TEXT = 96
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU, or a part of one (MIG).

    Args:
        id: what ``CUDA_VISIBLE_DEVICES`` takes: a number, ``GPU-…`` or ``MIG-…``.
        name: what its maker calls it.
        memory: bytes; None where the driver does not say.
        uuid: its name for good, ``GPU-…`` or ``MIG-…``.
        of: the uuid of the GPU that it is a part of.
    """

    id: str
    name: str
    memory: int | None = None
    uuid: str = ""
    of: str = ""


def devices() -> tuple[Device, ...]:
    """Return the GPUs that this process may use, in CUDA's order; ``CUDA_VISIBLE_DEVICES`` is respected.

    Asked are NVIDIA's management library, ``nvidia-smi`` and ``/proc/driver/nvidia``, the first that answers (once a process).
    Where ``CUDA_VISIBLE_DEVICES`` names devices, their ids are as it names them.
    """
    return visible(_installed(), os.environ)


def visible(installed: Sequence[Device], environment: Mapping[str, str]) -> tuple[Device, ...]:
    """Return those of the ``installed`` devices that CUDA shows in this ``environment``.

    As CUDA reads it (CUDA C++ Programming Guide, "CUDA Environment Variables"): numbers, or uuids that may be shortened; what
    stands behind the first one that does not exist is not seen, and a device that is named twice hides all.
    """
    asked = environment.get("CUDA_VISIBLE_DEVICES")
    if asked is None:
        return _unasked(installed, environment)
    whole = [device for device in installed if not device.of]
    chosen: list[Device] = []
    for word in (part.strip() for part in asked.split(",")):
        found = _named(word, installed, whole)
        if found is None:
            break
        chosen.append(replace(found, id=word))
    return tuple(chosen) if len({d.uuid or d.id for d in chosen}) == len(chosen) else ()


def _unasked(installed: Sequence[Device], environment: Mapping[str, str]) -> tuple[Device, ...]:
    divided = {device.of for device in installed if device.of}
    usable = [device for device in installed if not device.uuid or device.uuid not in divided]
    # CUDA numbers GPUs by speed unless told otherwise, the driver by their slots: of different ones only the uuid is sure.
    sure = len({d.name for d in usable}) <= 1 or environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    return tuple(d if not d.uuid or (sure and not divided) else replace(d, id=d.uuid) for d in usable)


def _named(word: str, installed: Sequence[Device], whole: Sequence[Device]) -> Device | None:
    if word.isdecimal():
        return next((device for device in whole if device.id == str(int(word))), None)
    if not word.startswith(("GPU-", "MIG-")):
        return None
    alike = [device for device in installed if device.uuid.startswith(word)]
    return alike[0] if len(alike) == 1 else None


def device_of(index: int, gpus: Sequence[str], per_gpu: int = 1) -> str | None:
    """Return the id of the device that a pool's ``index``-th worker computes on; None is the CPU.

    Each GPU gets one worker before any gets a second one, and ``per_gpu`` at most. A worker that takes another's place has its
    index, and so its device.
    """
    return gpus[index % len(gpus)] if 0 <= index < len(gpus) * per_gpu else None


def environment_of(device: str | None) -> dict[str, str]:
    """Return what a worker's environment must hold, before it loads CUDA, to see this device alone; None shows it no GPU."""
    return {"CUDA_VISIBLE_DEVICES": device or ""}


def cpu_sentence(pool: str, workers: int, gpus: Sequence[str], per_gpu: int = 1) -> str | None:
    """Return what to say, once for a pool that was made for GPUs, of its workers that have none; None where all have one."""
    left = sum(device_of(index, gpus, per_gpu) is None for index in range(workers))
    build = _torch()
    if gpus and build.endswith("+cpu"):
        return f"pool {pool!r} computes on the CPU: there is a GPU, but the torch that is installed ({build}) cannot use it"
    if not left:
        return None
    if not gpus:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        shown = hidden is None or not _installed()
        why = "no NVIDIA GPU was found" if shown else f"CUDA_VISIBLE_DEVICES={hidden!r} shows no GPU"
        return f"pool {pool!r} computes on the CPU: {why}"
    each = f"{len(gpus)} GPU{'s' if len(gpus) > 1 else ''} with {per_gpu} worker{'s' if per_gpu > 1 else ''} each"
    return (
        f"{left} of the {workers} workers of pool {pool!r} compute on the CPU: there {'are' if len(gpus) > 1 else 'is'} {each} "
        "(workers_per_gpu)"
    )


def _torch() -> str:
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return ""


# ---- asking the driver ---------------------------------------------------------------------------------------------


@functools.cache
def _installed() -> tuple[Device, ...]:
    return next((found for ask in (_ask_library, _ask_tool, _ask_proc) if (found := tuple(ask()))), ())


def _ask_library(name: str = _LIBRARY) -> Iterator[Device]:
    """Yield what NVIDIA's management library knows (NVML; https://docs.nvidia.com/deploy/nvml-api)."""
    try:
        library: Any = ctypes.CDLL(name)
        if library.nvmlInit_v2() != 0:
            return
    except (OSError, AttributeError):  # it is not installed, or older than the functions used here
        return
    try:
        yield from _Library(library).devices()
    finally:
        library.nvmlShutdown()


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Library:
    """NVML, which gives every answer by a pointer and returns 0 when there is one."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def devices(self) -> Iterator[Device]:
        for number in range(self._count("nvmlDeviceGetCount_v2")):
            handle = ctypes.c_void_p()
            if self._said(self._library.nvmlDeviceGetHandleByIndex_v2, ctypes.c_uint(number), ctypes.byref(handle)):
                found = self._device(str(number), handle)
                yield found
                yield from self._parts(found.uuid, handle)

    def _parts(self, of: str, handle: ctypes.c_void_p) -> Iterator[Device]:
        for number in range(self._count("nvmlDeviceGetMaxMigDeviceCount", handle)):
            part = ctypes.c_void_p()
            ask = self._library.nvmlDeviceGetMigDeviceHandleByIndex
            if self._said(ask, handle, ctypes.c_uint(number), ctypes.byref(part)):
                found = self._device("", part)
                yield replace(found, id=found.uuid, of=of)

    def _device(self, number: str, handle: ctypes.c_void_p) -> Device:
        memory = _Memory()
        known = self._said(self._library.nvmlDeviceGetMemoryInfo, handle, ctypes.byref(memory))
        name, uuid = self._text("nvmlDeviceGetName", handle), self._text("nvmlDeviceGetUUID", handle)
        return Device(number, name, int(memory.total) if known else None, uuid)

    def _count(self, name: str, *handle: Any) -> int:
        count = ctypes.c_uint()
        # A driver from before MIG has no such function, and a GPU without it says that it does not support it.
        ask = getattr(self._library, name, None)
        return int(count.value) if ask is not None and self._said(ask, *handle, ctypes.byref(count)) else 0

    def _text(self, name: str, handle: ctypes.c_void_p) -> str:
        text = ctypes.create_string_buffer(_TEXT)
        return text.value.decode(errors="replace") if self._said(getattr(self._library, name), handle, text, _TEXT) else ""

    @staticmethod
    def _said(ask: Callable[..., int], *arguments: Any) -> bool:
        return ask(*arguments) == 0


def _ask_tool() -> Iterator[Device]:
    """Yield what ``nvidia-smi`` says."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return
    table = _output(tool, "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits")
    whole = {}
    for row in csv.reader(table.splitlines(), skipinitialspace=True):
        if len(row) == 4 and row[0].isdecimal():
            memory = int(row[3]) * _MIB if row[3].isdecimal() else None
            whole[row[1]] = Device(row[0], row[2], memory, row[1])
    parts: dict[str, list[Device]] = {}
    of = ""
    for line in _output(tool, "-L").splitlines():
        if found := re.fullmatch(r"GPU \d+: .*\(UUID: (GPU-\S+)\)", line.strip()):
            of = found[1]
        elif (found := re.fullmatch(r"(MIG \S+)\s+Device\s+\d+: \(UUID: (MIG-\S+)\)", line.strip())) and of in whole:
            part = Device(found[2], f"{whole[of].name} {found[1]}", None, found[2], of)
            parts.setdefault(of, []).append(part)
    for uuid, device in whole.items():
        yield device
        yield from parts.get(uuid, ())


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=True).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ""  # it is there and does not work: no driver, or one that does not answer


def _ask_proc(folder: Path = Path("/proc/driver/nvidia/gpus"), nodes: Path = Path("/dev")) -> Iterator[Device]:
    """Yield what the driver lists; a container may see this list and be given none of the devices."""
    for number, file in enumerate(sorted(folder.glob("*/information"))):
        known = dict(re.findall(r"^(.+?):\s*(.*?)\s*$", file.read_text(), re.MULTILINE))
        if (nodes / f"nvidia{known.get('Device Minor', number)}").exists():
            yield Device(str(number), known.get("Model", "NVIDIA GPU"), None, known.get("GPU UUID", ""))
