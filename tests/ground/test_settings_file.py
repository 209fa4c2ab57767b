"""The file of settings: where it is found, and that a hostile one does no harm."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_lab._settings import LARGEST, LONGEST, find_settings
from dspex_lab.errors import ConfigurationError


def test_without_a_file_nothing_is_said(tmp_path: Path) -> None:
    found = find_settings(tmp_path)
    assert (found.path, found.table, found.name) == (None, {}, "no file")
    assert found.line(["lm"]) is None


def test_the_nearest_file_upwards_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "dspex.toml").write_text('lm = "far"')
    monkeypatch.chdir(inner)
    assert find_settings().table == {"lm": "far"}
    (tmp_path / "a" / "pyproject.toml").write_text("[tool.dspex]\nconcurrency = 3\n")
    found = find_settings()
    assert found.table == {"concurrency": 3}
    assert found.folder == tmp_path / "a"
    (inner / "pyproject.toml").write_text("[project]\nname = 'other'\n[tool.ruff]\n")
    assert find_settings().table == {"concurrency": 3}, "a project that says nothing of this package"
    (inner / "pyproject.toml").write_text("[project]\ndependencies = ['dspex-lab']\n[tool.ruff]\n")
    assert find_settings().table == {"concurrency": 3}
    (inner / "pyproject.toml").write_text("tool = 3 # dspex")
    assert find_settings().table == {"concurrency": 3}
    (inner / "dspex.toml").write_text("")
    assert find_settings().table == {}, "an empty file of its own says that there is nothing to say"


def test_its_own_file_goes_before_the_project(tmp_path: Path) -> None:
    (tmp_path / "dspex.toml").write_text('lm = "own"')
    (tmp_path / "pyproject.toml").write_text('[tool.dspex]\nlm = "project"')
    assert find_settings(tmp_path).table == {"lm": "own"}


def test_a_file_above_that_belongs_to_another_user_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "a"
    inner.mkdir()
    (tmp_path / "dspex.toml").write_text('lm = "theirs"')
    owner = (tmp_path / "dspex.toml").stat().st_uid
    if owner == 0:
        os.chown(tmp_path / "dspex.toml", 4711, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    assert find_settings(inner).table == {}
    assert find_settings(tmp_path).table == {"lm": "theirs"}, "where a person works they have looked"


@pytest.mark.parametrize("name", ["dspex.toml", "pyproject.toml"])
def test_what_is_no_file_is_not_read(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)  # reading it would wait for ever
    assert find_settings(tmp_path).path is None
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    assert find_settings(tmp_path).path is None


def test_a_folder_that_is_gone_has_no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert find_settings().path is None


@pytest.mark.parametrize(
    ("content", "said", "line"),
    [
        (b"lm = ", "line 1 is not a file of settings: Invalid value", 1),
        (b'a = 1\nlm = "x\n', "line 2", 2),
        (b"a = 1\na = 2", "Cannot overwrite a value", 2),
        (b"a = " + b"[" * 4000 + b"\n" + b"]" * 4000, "nested too deeply", None),
        (b"a = 1\nb = '" + b"x" * LONGEST + b"'", "a line is longer than 4,096 letters", None),
        (b"a = 1\n" * LARGEST, "larger than 262,144 bytes", None),
        (b"a = 1\nb = '\xff\xfe'", "not in UTF-8", None),
        (b"a = 1\x00", "is not a file of settings", None),
        (b"[x]\nwhen = 2026-01-01", "when is a date", 2),
        (b"x = [[12:00:00]]", "x is a time", 1),
    ],
)
def test_a_file_that_is_broken_is_refused_with_its_name(tmp_path: Path, content: bytes, said: str, line: int | None) -> None:
    (tmp_path / "dspex.toml").write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        find_settings(tmp_path)
    assert said in str(caught.value)
    assert "dspex.toml" in str(caught.value)
    assert caught.value.hint
    if line is not None:
        assert caught.value.line == line
        assert caught.value.excerpt()


def test_a_number_that_python_will_not_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dspex.toml").write_text("a = " + "9" * 4000)
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(1000)
    try:
        with pytest.raises(ConfigurationError, match="a number has too many digits"):
            find_settings(tmp_path)
    finally:
        sys.set_int_max_str_digits(before)


def test_tool_dspex_must_be_a_table(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool]\ndspex = 3")
    with pytest.raises(ConfigurationError, match=r"tool\.dspex is no table"):
        find_settings(tmp_path)


def test_a_file_that_cannot_be_read_is_named_and_a_projects_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "pyproject.toml").write_text("[tool.dspex]")
    monkeypatch.setattr(Path, "open", refuse)
    assert find_settings(tmp_path).path is None
    (tmp_path / "dspex.toml").touch()
    with pytest.raises(ConfigurationError, match=r"dspex\.toml cannot be read: Permission denied"):
        find_settings(tmp_path)


def test_an_error_points_at_the_line_of_its_setting(tmp_path: Path) -> None:
    text = 'lm = "x"\n\n[pools]\naddress = 3\n\n[pools.general] # the first\nworkers = 2\n"memory" = "1GB"\n\n'
    text += '[pools."my-own"]\nthreads = 1\n'
    (tmp_path / "dspex.toml").write_text(text)
    found = find_settings(tmp_path)
    assert found.line(["lm"]) == 1
    assert found.line(["pools", "address"]) == 4
    assert found.line(["pools", "general", "memory"]) == 8
    assert found.line(["pools", "my-own", "threads"]) == 11
    assert found.line(["pools", "general", "queue"]) == 6, "its table, where it is written in another way"
    assert found.line(["other"]) is None
    error = found.error(["pools", "general", "workers"], "workers is 2.", hint="Give 3.")
    assert str(error) == f"{tmp_path}/dspex.toml, line 7, [pools.general]: workers is 2. Give 3."
    assert error.excerpt()[0] == "line 7 | workers = 2"
    unknown = found.unknown(["pools", "general", "worker"], ["workers", "memory"])
    assert "'worker' is no setting. Did you mean 'workers'?" in str(unknown)


def test_in_a_project_the_table_is_named_in_full(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.dspex.pools.general]\r\nworkers = 'x'\r\n")
    error = find_settings(tmp_path).error(["pools", "general", "workers"], "no.", hint="Yes.")
    assert "line 2, [tool.dspex.pools.general]" in str(error)


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda t: t.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_a_table_or_a_named_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "dspex.toml").write_bytes(content)
    refused: ConfigurationError | None = None
    try:
        assert isinstance(find_settings(tmp_path).table, dict)
    except ConfigurationError as error:
        refused = error
    if refused is not None:
        assert "dspex.toml" in str(refused)
        assert refused.excerpt() is not None
