"""The short way to a worker on this machine, without a worker."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pool_links import on_loop

from dspex_lab.pools._direct import Door, Lines, _Line, _parts
from dspex_lab.pools._wire import Frames, Wire


@pytest.fixture
def doors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Doors in a folder whose path is short."""
    monkeypatch.chdir(tmp_path)
    made: list[Door] = []

    def door(answer: Callable[[bytes], Wire]) -> Door:
        made.append(Door(answer, "."))
        return made[-1]

    yield door
    for each in made:
        each.close()


async def ask(lines: Lines, call: bytes) -> Wire:
    answer = lines.ask(call)
    assert answer is not None
    return await answer


def plain(wire: Wire) -> list[bytes]:
    return [bytes(part) for part in ([wire.head, *wire.buffers] if isinstance(wire, Frames) else [wire])]


@on_loop
async def test_a_call_is_answered_in_the_thread_that_read_it(doors: Any) -> None:
    door = doors(lambda call: f"{call.decode()} {threading.current_thread().name}".encode())
    lines = await Lines.open(door.path, door.secret, 1)
    for n in range(3):
        assert await ask(lines, b"%d" % n) == b"%d dspex-task" % n
    lines.close()


@on_loop
async def test_each_line_has_one_call_at_once_and_none_is_lent_twice(doors: Any) -> None:
    gate = threading.Event()
    door = doors(lambda call: gate.wait() and call)
    lines = await Lines.open(door.path, door.secret, 2)
    first, second = lines.ask(b"1"), lines.ask(b"2")
    assert first is not None
    assert second is not None
    assert lines.ask(b"3") is None
    first.cancel()
    assert lines.ask(b"3") is None  # its line is busy until the answer has come
    gate.set()
    assert await second == b"2"
    while (third := lines.ask(b"3")) is None:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert await third == b"3"
    lines.close()


@on_loop
async def test_large_answers_come_in_their_parts(doors: Any) -> None:
    large = os.urandom(3_000_000)
    door = doors(lambda call: Frames(call, large, memoryview(b"")))
    lines = await Lines.open(door.path, door.secret, 1)
    for _ in range(2):
        assert plain(await ask(lines, b"head")) == [b"head", large, b""]
    assert plain(await ask(lines, large)) == [large, large, b""]
    lines.close()


@on_loop
async def test_who_does_not_know_the_secret_is_not_heard(doors: Any) -> None:
    door = doors(lambda call: call)
    lines = await Lines.open(door.path, b"0" * 32, 1)
    with pytest.raises(OSError, match=r"hung up|reset|Broken"):
        await ask(lines, b"call")
    assert lines.ask(b"again") is None
    with pytest.raises(FileNotFoundError):
        await Lines.open("nowhere", door.secret, 1)


@on_loop
async def test_lines_of_which_one_cannot_be_opened_leave_none_open(monkeypatch: pytest.MonkeyPatch) -> None:
    hung_up: list[int] = []

    class Opened:
        transport = type("T", (), {"write": lambda self, data: None, "close": lambda self: hung_up.append(1)})()

    async def connect(*_: Any) -> Any:
        if left.pop():
            return None, Opened()
        raise OSError("too many open files")

    left = [False, True, True]
    monkeypatch.setattr(asyncio.get_running_loop(), "create_unix_connection", connect)
    with pytest.raises(OSError, match="too many"):
        await Lines.open("there", b"", 3)
    assert len(hung_up) == 2


@on_loop
async def test_a_line_that_breaks_says_so_to_who_waits(doors: Any) -> None:
    began = threading.Event()

    def die(call: bytes) -> Wire:
        began.set()
        raise ConnectionAbortedError

    door = doors(die)
    lines = await Lines.open(door.path, door.secret, 1)
    with pytest.raises(OSError, match="hung up"):
        await ask(lines, b"call")
    assert began.is_set()
    assert lines.ask(b"again") is None


@on_loop
async def test_a_kernel_that_hangs_up_in_the_middle_of_a_call_ends_the_line(doors: Any) -> None:
    door = doors(lambda call: call)
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(door.path)
        line.sendall(door.secret + b"\0\0")
    lines = await Lines.open(door.path, door.secret, 1)
    assert await ask(lines, b"still there") == b"still there"
    lines.close()


def test_a_folder_whose_path_is_too_long_has_no_door(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        Door(lambda call: call, str(tmp_path / ("x" * 120)))


@settings(deadline=None)
@given(st.lists(st.binary(max_size=50), min_size=1, max_size=4), st.data())
def test_an_answer_is_whole_however_it_arrives(parts: list[bytes], data: st.DataObject) -> None:
    @on_loop
    async def check() -> None:
        line = _Line()
        line.transport = type("T", (), {"write": lambda self, data: None})()
        answer = line.ask(b"call")
        wire: Wire = Frames(parts[0], *parts[1:]) if len(parts) > 1 else parts[0]
        message = b"".join(_parts(wire))
        while message:
            cut = data.draw(st.integers(1, len(message)))
            assert not answer.done()
            line.data_received(message[:cut])
            message = message[cut:]
        assert plain(await answer) == parts
        assert line.free

    check()
