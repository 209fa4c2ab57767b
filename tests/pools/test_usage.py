"""What a call costs its worker, and what is left of it there."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import subprocess
import sys
import threading
import time
import weakref
from typing import Any

import pytest
from host_calls import MB, SHARED, Going

from dspex_lab.pools import _usage
from dspex_lab.pools._host import Host
from dspex_lab.pools._usage import Meter
from dspex_lab.pools._wire import Pulse


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_a_call_says_what_it_cost() -> None:
    host = Host()
    usage = Going(host, burn, 0.05).reply().usage
    assert 0.05 <= usage.cpu_seconds < 5
    assert usage.gpu_memory is None
    small = Going(host, abs, 1, name="8").reply().usage
    large = Going(host, lambda: len(bytearray(200 * MB).replace(b"a", b"b")) and None, name="9").reply().usage
    assert small.peak_memory is not None
    assert large.peak_memory is not None
    if Meter()._reset is not None:
        again = Going(host, abs, 1, name="10").reply().usage
        assert again.peak_memory is not None
        assert large.peak_memory - again.peak_memory > 150 * MB
    assert large.peak_memory - small.peak_memory > 150 * MB


def test_several_calls_at_once_have_processor_times_of_their_own() -> None:
    meter = Meter(threads=2)
    one = meter.begin(None)
    seen: list[float] = []

    def other() -> None:
        reading = meter.begin(None)
        burn(0.1)
        seen.append(meter.end(reading).cpu_seconds)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen[0] >= 0.02
    assert meter.end(one).cpu_seconds < seen[0]


def test_where_the_peak_cannot_be_reset_it_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> int:
        raise PermissionError

    meter = Meter()
    monkeypatch.setattr(os, "write", refused)
    reading = meter.begin(None)
    monkeypatch.undo()
    assert meter._reset is None
    assert meter.end(reading).peak_memory
    monkeypatch.setattr(_usage, "_opened", None)
    monkeypatch.setattr(os, "open", refused)
    assert Meter()._reset is None


@pytest.mark.skipif(_usage.prepare() is None, reason="this system does not reset the peak of memory")
def test_the_file_is_opened_once_by_each_process() -> None:
    mine = _usage.prepare()
    assert Meter()._reset == mine
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            theirs = _usage.prepare()
            os.write(write, str(theirs != mine and theirs is not None).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    assert os.read(read, 10) == b"True"
    os.close(read)


def test_a_worker_says_how_it_is() -> None:
    host = Host()
    Going(host, abs, 1).reply()
    pulse = Pulse.from_wire(asyncio.run(host.ping()))
    assert pulse.calls == 1
    assert pulse.rss is not None
    assert pulse.pss is not None
    assert 0 < pulse.pss <= pulse.rss
    assert pulse.age >= 0
    assert pulse.gpu_memory is None


def test_memory_that_cannot_be_read_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_usage, "_ROLLUP", "/none")
    assert (Meter().pulse().pss, Meter().pulse().rss) == (None, None)


class Cuda:
    """What is asked of torch's CUDA."""

    reset = 0

    def is_initialized(self) -> bool:
        return True

    def reset_peak_memory_stats(self) -> None:
        self.reset += 1

    def max_memory_allocated(self) -> int:
        return 7

    def memory_reserved(self) -> int:
        return 9


def test_gpu_memory_is_told_where_torch_uses_one(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda()
    monkeypatch.setitem(sys.modules, "torch", type("Torch", (), {"cuda": cuda}))
    meter = Meter()
    assert meter.end(meter.begin(None)).gpu_memory == 7
    assert meter.pulse().gpu_memory == 9
    assert cuda.reset == 1


@pytest.mark.skipif("not __import__('torch').cuda.is_available()", reason="needs a CUDA GPU")
def test_gpu_memory_of_a_real_one() -> None:
    import torch

    meter = Meter()
    torch.ones(1, device="cuda")
    reading = meter.begin(None)
    torch.ones(10_000_000, device="cuda")
    peak = meter.end(reading).gpu_memory
    assert peak is not None
    assert peak >= 40 * MB
    assert meter.end(meter.begin(None)).gpu_memory < peak  # type: ignore[operator]
    assert meter.pulse().gpu_memory


def test_processor_time_is_limited_for_the_call_only() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_CPU)
    meter = Meter(threads=2)
    now = time.process_time()
    one = meter.begin(1000.0)
    assert 1000 <= resource.getrlimit(resource.RLIMIT_CPU)[0] - now <= 1002
    two = meter.begin(2000.0)
    three = meter.begin(10.0)
    assert 2000 <= resource.getrlimit(resource.RLIMIT_CPU)[0] - now <= 2002  # the latest holds
    for reading in (one, three, two):
        assert resource.getrlimit(resource.RLIMIT_CPU)[0] != soft
        meter.end(reading)
    assert resource.getrlimit(resource.RLIMIT_CPU)[0] == soft


def test_a_hard_limit_stays() -> None:
    code = (
        "import resource; from dspex_lab.pools._usage import Meter\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (500, 500)); m = Meter()\n"
        "r = m.begin(10_000.0); print(resource.getrlimit(resource.RLIMIT_CPU))\n"
        "m.end(r); print(resource.getrlimit(resource.RLIMIT_CPU))\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split("\n")[:2] == ["(500, 500)"] * 2


def test_a_call_that_spins_is_ended_by_the_system() -> None:
    code = "from dspex_lab.pools._usage import Meter\nMeter().begin(0.1)\nwhile True: pass\n"
    import signal

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGXCPU


def test_nothing_of_a_call_stays_behind() -> None:
    """Not even until the next collection: an array may be most of a worker's memory."""
    import numpy as np

    class Kept(list):  # type: ignore[type-arg]
        pass

    made: list[weakref.ref[Any]] = []

    def make(value: Any) -> Any:
        made.append(weakref.ref(value))
        return [value, np.zeros(100_000)]

    SHARED["make"] = make
    host = Host()
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            reply = Going(host, calls_make, Kept([np.zeros(100_000)])).reply()
            reply.wire()
            del reply
    finally:
        gc.enable()
    assert [ref() for ref in made] == [None] * 3


def calls_make(value: Any) -> Any:
    return SHARED["make"](value)
