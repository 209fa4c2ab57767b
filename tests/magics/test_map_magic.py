"""``%dspex map``: data of every kind, files, going on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import dspex_lab as dx
from dspex_lab.errors import ConfigurationError
from dspex_lab.magics import COMMANDS, _complete
from dspex_lab.magics._line import parse
from dspex_lab.magics._map import as_flags
from dspex_lab.pipelines import MapResult


def run_cell(shell: Any, line: str) -> Any:
    return shell.run_line_magic("dspex", line)


@pytest.fixture
def made(shell: Any) -> Any:
    shell.user_ns["double"] = dx.pipeline("double", twice=lambda n: 2 * n)
    shell.user_ns["rows"] = pd.DataFrame({"n": range(5)})
    return shell


def test_a_file_is_written_and_bound(made: Any) -> None:
    result = run_cell(made, "map double rows --out out.jsonl --into done")
    assert isinstance(result, MapResult)
    assert made.user_ns["done"] is result
    assert result.frame()["twice"].tolist() == [0, 2, 4, 6, 8]
    assert run_cell(made, "map double rows --out out.jsonl").ran == 0
    assert run_cell(made, "map double rows --out out.jsonl --overwrite").ran == 5
    assert run_cell(made, "map double rows --retry-failed --out out.jsonl").ran == 0


def test_a_query_in_quotes_and_an_iterable_are_data(made: Any) -> None:
    assert run_cell(made, 'map double "SELECT range::INT AS n FROM range(3)"')["twice"].tolist() == [0, 2, 4]
    assert run_cell(made, "map double 'FROM range(3) SELECT range::INT AS n' --out q.csv").rows == 3
    made.user_ns["given"] = ({"n": n} for n in range(4))
    assert run_cell(made, "map double given --out g.parquet").rows == 4
    Path("with space.csv").write_text("n\n1\n")
    assert run_cell(made, 'map double "with space.csv"')["twice"].tolist() == [2]


def test_a_map_is_resumed(made: Any) -> None:
    run_cell(made, "map double rows")
    last = dx.lab().last_map
    assert last is not None
    assert run_cell(made, f"map double rows --resume {last.run_id}")["twice"].tolist() == [0, 2, 4, 6, 8]
    with pytest.raises(dx.PipelineError, match="No map of 'double' was interrupted"):
        run_cell(made, "map double rows --resume")


def test_flags_that_need_no_value() -> None:
    known = {"flags": ("resume", "overwrite", "out"), "switches": ("overwrite",), "optional": ("resume",)}
    assert parse("a b --overwrite --resume", words=2, **known).flags == {"overwrite": "", "resume": ""}
    assert parse("a --overwrite b --resume x1", words=2, **known).words == ["a", "b"]
    assert parse('a "b c" --resume x1 --overwrite', words=2, **known).flags == {"overwrite": "", "resume": "x1"}
    with pytest.raises(ConfigurationError, match="--overwrite takes no value"):
        parse('a "b" --overwrite=yes', words=2, **known)
    with pytest.raises(ConfigurationError, match="--out needs a value"):
        parse("a b --out", words=2, **known)


def test_help_and_completion_know_the_flags(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run_cell(made, "help map")
    told = capsys.readouterr().out
    assert "--resume [RUN_ID]" in told
    assert "--retry-failed runs the rows again" in told
    found = _complete.candidates("%dspex map double rows --", COMMANDS, made.user_ns)
    assert found is not None
    assert {"--out", "--resume", "--retry-failed", "--overwrite"} <= set(found[1])


def test_advice_is_in_the_words_of_the_line(made: Any) -> None:
    made.user_ns["picky"] = dx.pipeline("picky", whole=lambda n: 1 // n)
    result = run_cell(made, "map picky rows --out out.jsonl")
    assert result.hint == "1 row failed or lack an output: the same line with --retry-failed runs them again."
    with pytest.raises(ConfigurationError) as told:
        run_cell(made, "map picky rows --retry-failed")
    assert told.value.hint == "Add --resume RUN_ID, or --out."
    assert "--overwrite" in as_flags("Move it away; overwrite=True begins anew.")
