"""Files that use other files: found beside and below, out of reach elsewhere, and not without end."""

from __future__ import annotations

from pathlib import Path

import pytest

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines import load_pipeline


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def nested(file: str) -> str:
    return f"name: outer\nsteps:\n  inner: {{type: pipeline, file: {file}}}\n"


def test_a_file_may_use_files_beside_and_below_it(tmp_path: Path) -> None:
    write(tmp_path, "parts/ask.md", "Answer {{ question }}.")
    write(
        tmp_path,
        "parts/inner.yaml",
        "name: inner\nsteps:\n  ask: {type: lm, template: [Hello, {file: ask.md}, {field: extra}]}\n",
    )
    made = load_pipeline(write(tmp_path, "outer.yaml", nested("parts/inner.yaml")))
    assert list(made.inputs) == ["question", "extra"]
    assert made.steps["inner"].target.steps["ask"].target.text == "Hello\n\nAnswer {{ question }}.\n\n{{ extra }}"


def test_an_error_in_another_file_names_it(tmp_path: Path) -> None:
    write(tmp_path, "parts/inner.yaml", "name: inner\nsteps:\n  a: {type: nativ}\n")
    with pytest.raises(PipelineError, match=r"^parts/inner\.yaml, line 3, column 13: there is no type of step 'nativ'"):
        load_pipeline(write(tmp_path, "outer.yaml", nested("parts/inner.yaml")))


@pytest.mark.parametrize("way", ["../secret.yaml", "{absolute}", "link.yaml", "parts/../../secret.yaml"])
def test_a_file_outside_the_folder_is_out_of_reach(tmp_path: Path, way: str) -> None:
    secret = write(tmp_path, "secret.yaml", "name: secret\nsteps: {a: 'Say {{ x }}'}")
    outer = write(tmp_path, "folder/outer.yaml", nested(way.format(absolute=secret)))
    (tmp_path / "folder/link.yaml").symlink_to(secret)
    with pytest.raises(PipelineError, match="is outside the folder of the file") as caught:
        load_pipeline(outer)
    assert (caught.value.line, caught.value.column) == (3, 33)
    write(
        tmp_path,
        "folder/outer.yaml",
        f"name: p\nsteps: {{a: {{type: lm, template: [{{file: {way.format(absolute=secret)}}}]}}}}",
    )
    with pytest.raises(PipelineError, match="is outside the folder"):
        load_pipeline(outer)


def test_files_in_a_circle_or_too_deep_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", nested("b.yaml"))
    write(tmp_path, "b.yaml", nested("a.yaml"))
    with pytest.raises(PipelineError, match=r"in a circle: a.yaml → b.yaml → a.yaml"):
        load_pipeline(tmp_path / "a.yaml")
    for i in range(12):
        write(tmp_path, f"d{i}.yaml", nested(f"d{i + 1}.yaml"))
    with pytest.raises(PipelineError, match="more than 10 deep"):
        load_pipeline(tmp_path / "d0.yaml")


def test_files_that_multiply_are_stopped(tmp_path: Path) -> None:
    for i in range(9):
        uses = "".join(
            f"  s{n}: {{type: parallel, steps: {{i{n}: {{type: pipeline, file: b{i + 1}.yaml}}}}}}\n" for n in range(9)
        )
        write(tmp_path, f"b{i}.yaml", f"name: b\nsteps:\n{uses}")
    write(tmp_path, "b9.yaml", "name: end\nsteps: {a: 'Say {{ x }}'}\n")
    with pytest.raises(PipelineError, match=r"more than 5,000 steps|both produce the field"):
        load_pipeline(tmp_path / "b0.yaml")


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, "inner.yaml", "name: x\nsteps: {a: 'Say {{ x }}'}")
    with pytest.raises(PipelineError, match=r"There is no file .*iner.yaml. Did you mean 'inner.yaml'"):
        load_pipeline(tmp_path / "iner.yaml")
    with pytest.raises(PipelineError, match=r"there is no file 'iner.yaml'. Did you mean 'inner.yaml'"):
        load_pipeline(write(tmp_path, "outer.yaml", nested("iner.yaml")))
    with pytest.raises(PipelineError, match=r"neither a .yaml file nor the text of one"):
        load_pipeline("support")
    with pytest.raises(PipelineError, match=r"There is no file"):
        load_pipeline(tmp_path / "nowhere" / "x.yaml")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(PipelineError, match=r"x.yaml is not UTF-8"):
        load_pipeline(tmp_path / "x.yaml")


def test_a_byte_order_mark_and_line_ends_of_windows_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xef\xbb\xbfname: p\r\nsteps:\r\n  a: 'Say {{ x }}'\r\n")
    assert load_pipeline(str(tmp_path / "x.yaml")).name == "p"
