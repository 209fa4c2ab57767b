"""The file of a tape: whole lines or none, one writer, and nothing in it is believed."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tape_helpers import request

from dspex_lab.errors import ConfigurationError
from dspex_lab.lms.tape import _file as _tape_file
from dspex_lab.lms.tape._engine import taped
from dspex_lab.lms.tape._file import FORMAT, read_tape
from dspex_lab.lms.tape._tape import Tape, TapeError, TapeMiss
from dspex_lab.testing import ScriptedEngine


@pytest.fixture
def tape_file(either: Path) -> Path:
    with Tape(either, "record") as tape:
        for text in "abc":
            taped(ScriptedEngine(f"answer {text}"), tape).complete(request(text))
    return either


def lines(path: Path) -> list[str]:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode().splitlines()


def rewrite(path: Path, *extra: Any) -> Path:
    """Write a tape with the head of ``path`` and the given lines."""
    made = path.with_name("made.jsonl")
    made.write_text(
        "\n".join([lines(path)[0], *(each if isinstance(each, str) else json.dumps(each) for each in extra)]) + "\n"
    )
    return made


def test_a_tape_says_what_it_is_and_each_line_is_a_call(tape_file: Path) -> None:
    head, *calls = map(json.loads, lines(tape_file))
    assert (head["format"], head["version"]) == (FORMAT, 1)
    assert {"made", "dspy"} <= set(head)
    assert [call["request"]["messages"][0]["parts"][0]["text"] for call in calls] == ["a", "b", "c"]
    assert set(calls[0]) == {"take", "number", "at", "kind", "seconds", "request", "answer"}
    assert calls[0]["answer"]["usage"]["output_tokens"] > 0


@settings(max_examples=40)
@given(st.data())
def test_wherever_a_write_was_cut_off_all_whole_lines_are_there_and_it_is_said(
    tape_file: Path, caplog: pytest.LogCaptureFixture, data: Any
) -> None:
    whole = tape_file.read_bytes()
    ends = _ends(whole, tape_file.suffix == ".gz")
    assert len(ends) == 4  # the head and three calls
    end = data.draw(st.integers(ends[0], len(whole)))
    torn = tape_file.with_name(f"torn{''.join(tape_file.suffixes)}")
    torn.write_bytes(whole[:end])
    kept = sum(each <= end for each in ends) - 1
    caplog.clear()
    with Tape(torn, "replay") as tape:
        assert len(tape) == kept
        assert (tape.cut > 0) == ("was cut off" in caplog.text)
    with Tape(torn, "fill") as tape:  # what is written on it goes on behind the last whole line
        for text in "abc":
            assert taped(ScriptedEngine(f"answer {text}"), tape).complete(request(text)).text == f"answer {text}"
        assert tape.recorded == 3 - kept
    with Tape(torn, "replay") as tape:
        assert len(tape) == 3
        assert tape.cut == 0


def _ends(whole: bytes, packed: bool) -> list[int]:
    """Return where each line of a tape ends; in a packed one each is a gzip member."""
    ends, at = [], 0
    while at < len(whole):
        if packed:
            member = zlib.decompressobj(wbits=31)
            member.decompress(whole[at:])
            at = len(whole) - len(member.unused_data)
        else:
            at = whole.index(b"\n", at) + 1
        ends.append(at)
    return ends


def test_a_recorder_that_is_killed_leaves_a_whole_tape(tmp_path: Path) -> None:
    script = """
import os, sys
from dspy.lm15 import Message, Request
from dspex_lab.lms.tape._tape import Tape
from dspex_lab.lms.tape._engine import taped
from dspex_lab.testing import ScriptedEngine
tape = Tape(sys.argv[1], "record")
for text in "ab":
    taped(ScriptedEngine("answer " + text), tape).complete(Request(model="test/model", messages=(Message.user(text),)))
os.kill(os.getpid(), 9)
"""
    path = tmp_path / "demo.jsonl.gz"
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == -9
    with Tape(path, "replay") as tape:
        assert (len(tape), tape.cut) == (2, 0)


def test_two_cannot_write_one_tape_and_many_can_read_it(tape_file: Path) -> None:
    with Tape(tape_file, "record"):
        with pytest.raises(TapeError, match="is being written by another"):
            Tape(tape_file, "fill")
        other = subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys; from dspex_lab.lms.tape._tape import Tape; Tape(sys.argv[1], 'record')",
                str(tape_file),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "is being written by another process" in other.stderr
        with Tape(tape_file, "replay") as one, Tape(tape_file, "replay") as two:
            assert len(one) == len(two) == 3
    with Tape(tape_file, "fill") as tape:
        tape.close()  # a second time does nothing


def test_without_flock_a_tape_is_written_all_the_same(tape_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tape_file, "fcntl", None)
    with Tape(tape_file, "fill") as tape:
        assert len(tape) == 3


def test_a_tape_packed_by_others_is_read(tape_file: Path) -> None:
    packed = tape_file.with_name("packed.jsonl.gz")
    packed.write_bytes(gzip.compress("\n".join(lines(tape_file)).encode() + b"\n"))
    with Tape(packed, "fill") as tape:
        taped(ScriptedEngine("answer d"), tape).complete(request("d"))
    with Tape(packed, "replay") as tape:
        assert len(tape) == 4


# --- paths ------------------------------------------------------------------------------------------------------------


def test_a_path_that_is_no_tape_is_refused(tmp_path: Path) -> None:
    for bad in ("demo.json", "demo", tmp_path / "demo.pickle"):
        with pytest.raises(ConfigurationError, match=r"End it in \.jsonl"):
            Tape(bad)
    with pytest.raises(ConfigurationError, match="There is no folder"):
        Tape(tmp_path / "missing" / "demo.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(ConfigurationError, match="is no plain file"):
        Tape(tmp_path / "folder.jsonl")
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(ConfigurationError, match="is no plain file"):
        Tape(tmp_path / "pipe.jsonl", "replay")


def test_a_tape_that_is_not_there_is_named_and_the_nearest_with_it(tape_file: Path) -> None:
    with pytest.raises(TapeError, match=r"There is no tape .*Did you mean 'demo") as caught:
        Tape(tape_file.with_name(tape_file.name.replace("demo", "dmo")), "replay")
    assert "mode='record'" in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(TapeError, match="cannot be written"):
        Tape(tmp_path / "demo.jsonl", "record")


def test_a_file_that_cannot_be_opened_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"can be no tape: .*too long"):
        Tape(tmp_path / f"{'x' * 300}.jsonl", "record")


# --- hostile files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"no tape", b"{}\n", b'{"format": "other"}\n', b"[1]\n", b"\x00\x01", b"[" * 100_000 + b"\n"]
)
def test_another_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(content)
    for mode in ("replay", "record", "fill", "once"):
        with pytest.raises(TapeError):
            Tape(path, mode)
    assert path.read_bytes() == content


def test_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "new.jsonl"
    path.write_text(json.dumps({"format": FORMAT, "version": 2}) + "\n")
    with pytest.raises(TapeError, match="version 2; 1 is understood"):
        Tape(path, "replay")


def test_what_is_no_gzip_is_said(tmp_path: Path) -> None:
    path = tmp_path / "demo.jsonl.gz"
    path.write_bytes(b"plainly not packed")
    with pytest.raises(TapeError, match="cannot be read"):
        Tape(path, "replay")


def _bad_calls(good: dict[str, Any]) -> list[Any]:
    answer = good["answer"]
    image = {"role": "assistant", "parts": [{"type": "image", "media_type": "image/png", "path": "/etc/passwd"}]}
    start = {"type": "start", "model": "m"}
    return [
        [],
        "null",
        {},
        {**good, "more": 1},
        {**good, "kind": "exec"},
        {**good, "request": "all"},
        {**good, "take": -1},
        {**good, "take": True},
        {**good, "seconds": "1"},
        {**good, "number": 1e99},
        {k: v for k, v in good.items() if k != "answer"},
        {**good, "answer": "yes"},
        {**good, "answer": {**answer, "message": image}},
        {**good, "answer": {**answer, "message": {"role": "assistant", "parts": [{"type": "code"}]}}},
        {**good, "answer": {**answer, "usage": {"input_tokens": "many"}}},
        {**good, "kind": "stream", "answer": [[0, start], ["soon", start]]},
        {**good, "kind": "stream", "answer": [[-1, start]]},
        {**good, "kind": "stream", "answer": [[0, {"type": "run"}]]},
        {**good, "kind": "stream", "answer": 3},
        {**good, "kind": "legacy", "answer": {"outputs": "x", "usage": {}}},
        {**good, "kind": "legacy", "answer": {}},
        {**good, "kind": "embed", "answer": {"vectors": [[1, "2"]]}},
        {**good, "kind": "embed", "answer": {"vectors": [[1], [1, 2]]}},
        {**good, "kind": "embed", "answer": {"vectors": 1}},
        {**good, "error": {"family": "lm15", "class": ["x"], "message": "m"}},
        {**good, "error": {"message": "m"}},
        {**good, "error": "boom"},
        {**good, "error": {"family": "lm15", "class": "StreamAssemblyError", "message": "m", "partial": {"model": 1}}},
        "[" * 50_000,
        "{",
    ]


@pytest.mark.parametrize("number", range(30))
def test_a_line_that_is_no_call_is_named(tape_file: Path, number: int) -> None:
    good = json.loads(lines(tape_file)[1])
    bad = _bad_calls(good)[number]
    with pytest.raises(TapeError, match="Line 3 of the tape"):
        Tape(rewrite(tape_file, good, bad), "replay")


def test_a_writer_that_meets_one_lets_the_file_go(tape_file: Path) -> None:
    made = rewrite(tape_file, {"kind": "none"})
    for _ in range(2):  # the second would find it locked
        with pytest.raises(TapeError, match="Line 2 of the tape"):
            Tape(made, "fill")


def test_lines_and_files_are_read_up_to_a_size(tape_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tape_file, "LONGEST_LINE", 200)
    with pytest.raises(TapeError, match="a line of it is over"):
        read_tape(tape_file)
    monkeypatch.setattr(_tape_file, "LONGEST_LINE", 10_000)
    monkeypatch.setattr(_tape_file, "LONGEST_FILE", 500)
    with pytest.raises(TapeError, match="all of it is over"):
        read_tape(tape_file)


def test_a_packed_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(gzip.compress(b"0" * (50 << 20)))
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(_tape_file, "LONGEST_LINE", 4 << 20)
    with pytest.raises(TapeError, match="a line of it is over 4 MiB"):
        Tape(path, "replay")
    many = tmp_path / "many.jsonl.gz"
    many.write_bytes(gzip.compress((b"0" * 1000 + b"\n") * 20_000))
    monkeypatch.setattr(_tape_file, "LONGEST_FILE", 8 << 20)
    with pytest.raises(TapeError, match="all of it is over 8 MiB"):
        Tape(many, "replay")


def test_a_tape_does_not_grow_beyond_what_is_read_again(tape_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Tape(tape_file, "fill") as tape:
        monkeypatch.setattr(_tape_file, "LONGEST_FILE", tape._writer._size + 10)  # type: ignore[union-attr]
        taped(ScriptedEngine("answer d"), tape).complete(request("d"))
        assert (tape.lost, tape.recorded) == (1, 0)
    with Tape(tape_file, "replay") as tape, pytest.raises(TapeMiss):
        taped(None, tape).complete(request("d"))
