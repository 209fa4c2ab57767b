"""Large values by a file in memory: mapped, writable, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dspex_lab.errors import PoolError
from dspex_lab.pools import _shared
from dspex_lab.pools._carry import decode, pack
from dspex_lab.pools._frames import pack as pack_value
from dspex_lab.pools._frames import unpack
from dspex_lab.pools._host import Host
from dspex_lab.pools._shared import Share, SharedFolder, home, sweep
from dspex_lab.pools._wire import Call, Packed, Reply

ABOVE = 100_000
PLACE = {"pool": "p", "worker": "p-0", "label": "f"}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[SharedFolder]:
    folder = SharedFolder(ABOVE, str(tmp_path))
    yield folder
    folder.close()


def lying(share: Share) -> list[str]:
    return sorted(os.listdir(share.folder))


def test_a_large_value_is_mapped_by_the_other_side_and_its_file_is_gone(folder: SharedFolder) -> None:
    arrays = [np.arange(ABOVE), np.arange(3 * ABOVE, dtype="f4")]
    packed = folder.put(pack_value(arrays), "1.call")
    assert packed.protocol == "shared"
    assert lying(folder) == ["1.call"]
    taken = folder.share.take(packed)
    assert lying(folder) == []
    back = unpack(taken)
    for one, other in zip(back, arrays, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.ctypes.data % 64 == 0
        one += 1
    np.testing.assert_array_equal(arrays[0], np.arange(ABOVE))


def test_what_is_mapped_is_let_go_with_the_arrays(folder: SharedFolder) -> None:
    def mapped() -> int:
        return sum(folder.folder in line for line in Path("/proc/self/maps").read_text().splitlines())

    back = unpack(folder.take(folder.put(pack_value([np.zeros(ABOVE), np.zeros(ABOVE)]), "1.call")))
    assert mapped() == 1
    one = back.pop()
    del back
    gc.collect()
    assert mapped() == 1
    assert one.sum() == 0
    del one
    gc.collect()
    assert mapped() == 0


def open_files(share: Share) -> list[str]:
    """The files of a share that this process holds open; other threads open and close files of their own."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(link))
    return [path for path in found if path.startswith(f"{share.folder}/")]


def test_what_is_mapped_holds_no_file_open(folder: SharedFolder) -> None:
    kept = [unpack(folder.take(folder.put(pack_value(np.full(ABOVE, n)), f"{n}.call"))) for n in range(5)]
    assert open_files(folder) == []
    with open(os.path.join(folder.folder, "6.call"), "wb"):
        assert len(open_files(folder)) == 1
    assert [array[-1] for array in kept] == list(range(5))


def test_what_is_mapped_can_be_written_to_shared_again_and_outlives_its_folder(folder: SharedFolder) -> None:
    back = unpack(folder.take(folder.put(pack_value(np.zeros(ABOVE)), "1.call")))
    back += 1
    again = unpack(folder.take(folder.put(pack_value(back[1:]), "2.call")))
    folder.close()
    assert (back.sum(), again.sum()) == (ABOVE, ABOVE - 1)


def test_a_file_that_cannot_be_mapped_is_an_error_and_gone(folder: SharedFolder) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        folder.read(*(folder.write("1.reply", []) or ("", ())))
    assert lying(folder) == []


def test_a_large_pickle_without_arrays_is_shared_too(folder: SharedFolder) -> None:
    text = ["word"] * 3 + ["x" * ABOVE]
    packed = folder.put(pack_value(text), "1.call")
    assert packed.protocol == "shared"
    assert unpack(folder.take(packed)) == text


def test_small_values_are_not(folder: SharedFolder) -> None:
    packed = pack_value(np.zeros(10))
    assert folder.put(packed, "1.call") is packed
    assert folder.take(packed) is packed
    assert lying(folder) == []


def through(share: Share | None, call: Call, host: Host) -> Reply:
    """Send a call to a host that is the other side."""
    with contextlib.nullcontext(call) if share is None else share.lend(call) as lent:
        wire = lent.wire()
        reply = host.work(Call.from_wire(wire if isinstance(wire, bytes) else wire.data))
        reply = Reply.from_wire(reply.wire())
        if share is not None:
            reply.body = share.take(reply.body)
        return reply


def test_a_call_says_how_it_travelled_and_can_be_sent_again(folder: SharedFolder) -> None:
    host = Host(share=folder.share)
    task = pack(lambda a: a * 2, (np.arange(ABOVE),), pool="p")
    assert task.arguments.protocol == "buffers"
    for _ in range(2):
        reply = through(folder, task.call("7", send=True), host)
        assert (task.arguments.protocol, reply.body.protocol) == ("shared", "shared")
        assert lying(folder) == []
        back = decode(reply, **PLACE)
        assert back[-1] == 2 * ABOVE - 2
        back[0] = 1


def test_without_a_share_it_travels_in_frames(folder: SharedFolder) -> None:
    task = pack(lambda a: a * 2, (np.arange(ABOVE),), pool="p")
    reply = through(None, task.call("7", send=True), Host())
    assert (task.arguments.protocol, reply.body.protocol) == ("buffers", "buffers")
    small = through(folder, pack(abs, (-1,), pool="p").call("8", send=True), Host(share=folder.share))
    assert (decode(small, **PLACE), small.body.protocol) == (1, "inline")


def test_nothing_is_left_of_a_call_however_it_ends(folder: SharedFolder) -> None:
    task = pack(len, (np.zeros(ABOVE),), pool="p")

    with pytest.raises(OSError, match="lost"), folder.lend(task.call("7", send=True)):  # noqa: PT012
        assert lying(folder) == ["7.call"]
        folder.write("7.reply", [b"x"])  # the worker was about to answer
        raise OSError("lost")
    assert lying(folder) == []
    reply = through(folder, task.call("7", send=False), Host())  # it did not even look
    assert reply.kind == "missing"
    assert lying(folder) == []


def test_where_there_is_no_room_it_travels_otherwise(folder: SharedFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack_value(np.zeros(ABOVE))
    missing = Share(folder.folder + "/none", ABOVE)
    assert missing.put(packed, "1.call") is packed
    assert packed.protocol == "buffers"

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    assert folder.put(packed, "1.call") is packed
    assert packed.protocol == "buffers"
    assert lying(folder) == []


def test_an_interrupt_while_writing_leaves_no_file(folder: SharedFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "pwrite", interrupted)
    with pytest.raises(KeyboardInterrupt):
        folder.put(pack_value(np.zeros(ABOVE)), "1.call")
    assert lying(folder) == []


def test_only_what_was_announced_is_mapped(folder: SharedFolder) -> None:
    folder.write("1.reply", [b"x" * 10])
    for name in ("../secret", "a/b", "", "none"):
        with pytest.raises(OSError, match=r"not the name|No such file|directory"):
            folder.read(name, (10,))
    with pytest.raises(OSError, match="not the file that was announced"):
        folder.read("1.reply", (10_000,))
    os.symlink(__file__, os.path.join(folder.folder, "2.reply"))
    with pytest.raises(OSError, match="symbolic"):
        folder.read("2.reply", (10,))
    os.mkfifo(os.path.join(folder.folder, "3.reply"))
    with pytest.raises(OSError, match="not the file"):
        folder.read("3.reply", (10,))


def test_a_mapping_counts_against_the_memory_of_its_process(folder: SharedFolder) -> None:
    packed = folder.put(pack_value(np.zeros(10 * ABOVE)), "1.call")
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    lines = Path("/proc/self/status").read_text().splitlines()
    used = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:"))
    resource.setrlimit(resource.RLIMIT_DATA, (used + 40 * ABOVE, hard))  # room for the threads, and half of the array
    try:
        with pytest.raises(MemoryError, match="does not fit"):
            folder.take(packed)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    assert lying(folder) == []
    folder.take(folder.put(pack_value(np.zeros(ABOVE)), "2.call"))


# ---- a host --------------------------------------------------------------------------------------------------------


def test_a_host_shares_nothing_for_a_call_that_was_cancelled_and_removes_what_it_shared(folder: SharedFolder) -> None:
    host = Host(share=folder.share)
    running, go = threading.Event(), threading.Event()
    here: dict[str, Any] = {"running": running, "go": go}
    _HERE.update(here)
    task = pack(stubborn, (), pool="p")
    answers: list[Reply] = []
    thread = threading.Thread(target=lambda: answers.append(host.work(task.call("7", send=True))))
    thread.start()
    running.wait()
    asyncio.run(host.cancel("7"))
    go.set()
    thread.join()
    assert lying(folder) == []
    host.work(pack(np.zeros, (ABOVE,), pool="p").call("8", send=True))
    assert lying(folder) == ["8.reply"]
    asyncio.run(host.cancel("8"))
    assert lying(folder) == []


def test_arguments_whose_file_is_gone_are_named(folder: SharedFolder) -> None:
    with folder.lend(pack(len, (np.zeros(ABOVE),), pool="p").call("7", send=True)) as lent:
        os.unlink(os.path.join(folder.folder, "7.call"))
        with pytest.raises(PoolError, match=r"f could not be loaded in worker p-0 .*FileNotFoundError"):
            decode(Host(share=folder.share).work(lent), **PLACE)


_HERE: dict[str, Any] = {}


def stubborn() -> Any:
    _HERE["running"].set()
    while not _HERE["go"].is_set():
        try:
            while not _HERE["go"].is_set():
                pass
        except BaseException:  # noqa: S112 - that is what stubborn is
            continue
    return np.zeros(ABOVE)


# ---- the folder ----------------------------------------------------------------------------------------------------


def test_a_folder_is_private_and_goes_with_its_owner(tmp_path: Path) -> None:
    folder = SharedFolder(ABOVE, str(tmp_path))
    assert os.stat(folder.folder).st_mode & 0o777 == 0o700
    folder.write("1.call", [b"x"])
    assert os.stat(os.path.join(folder.folder, "1.call")).st_mode & 0o777 == 0o600
    folder.close()
    folder.close()
    assert os.listdir(tmp_path) == []


def test_what_a_killed_kernel_left_is_swept_and_a_living_ones_is_not(tmp_path: Path, folder: SharedFolder) -> None:
    code = (
        "import sys; from dspex_lab.pools._shared import SharedFolder\n"
        "folder = SharedFolder(1, sys.argv[1]); folder.write('1.call', [b'x' * 100])\n"
        "print(folder.folder, flush=True); sys.stdin.read()"
    )
    kernel = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert kernel.stdout is not None
    left = Path(kernel.stdout.readline().strip())
    sweep(str(tmp_path))
    assert left.exists()
    assert os.path.exists(folder.folder)
    kernel.send_signal(signal.SIGKILL)
    kernel.communicate()
    assert list(left.iterdir())
    another = SharedFolder(ABOVE, str(tmp_path))  # whoever comes next
    assert not left.exists()
    assert os.path.exists(folder.folder)
    another.close()


def test_a_folder_that_is_swept_before_it_is_locked_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    make, lock = tempfile.mkdtemp, _shared.fcntl.flock

    def mkdtemp(**options: Any) -> str:
        made.append(make(**options))
        if len(made) == 1:
            os.rmdir(made[0])
        return made[-1]

    def flock(file: int, how: int) -> None:
        lock(file, how)
        if len(made) == 2:
            os.rmdir(made[1])

    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    monkeypatch.setattr(_shared.fcntl, "flock", flock)
    folder = SharedFolder(ABOVE, str(tmp_path))
    assert len(made) == 3
    assert os.listdir(tmp_path) == [os.path.basename(folder.folder)]
    folder.close()


def test_home_is_in_memory_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        f_bavail, f_frsize = 64 * 1024 * 1024 // 4096, 4096

    def gone(_: str) -> Any:
        raise FileNotFoundError

    assert home() in ("/dev/shm", tempfile.gettempdir())  # noqa: S108
    monkeypatch.setattr(os, "statvfs", lambda path: Full())
    assert home() == tempfile.gettempdir()
    monkeypatch.setattr(os, "statvfs", gone)
    assert home() == tempfile.gettempdir()


def test_a_share_travels_and_its_owner_is_no_part_of_it(folder: SharedFolder) -> None:
    assert unpack(pack_value(folder.share)) == Share(folder.folder, ABOVE)
    assert Packed(b"", shared=None).shared is None
