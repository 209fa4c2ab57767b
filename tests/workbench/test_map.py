"""A run per row."""

from __future__ import annotations

import threading
from pathlib import Path

import dspy
import pandas as pd
import pytest

import dspex_lab as dx


def half(n: int) -> float:
    if n % 2:
        raise ValueError(f"{n} is odd")
    return n / 2


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({"n": range(10), "kept": list("abcdefghij")})


def test_order_is_kept_and_a_failed_row_is_a_row_with_an_error(lab: dx.Lab, frame: pd.DataFrame) -> None:
    out = lab.map(half, frame, concurrency=3)
    assert list(out.columns) == ["n", "kept", "half", "status", "error", "run_id"]
    assert list(out["kept"]) == list("abcdefghij")
    assert list(out["status"]) == ["complete", "failed"] * 5
    assert out["half"][4] == 2.0
    assert out["error"][1] == "ValueError: 1 is odd"
    runs = lab.sql("SELECT * FROM runs WHERE kind = 'row' ORDER BY row_index")
    assert list(runs["row_index"]) == list(range(10))
    assert list(runs["run_id"]) == list(out["run_id"])
    whole = lab.sql("SELECT * FROM runs WHERE kind = 'map'").iloc[0]
    assert whole["status"] == "partial"
    assert set(runs["parent_id"]) == {whole["run_id"]}


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_files_are_read_by_their_ending(lab: dx.Lab, frame: pd.DataFrame, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    if suffix == "csv":
        frame.to_csv(path, index=False)
    elif suffix == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True)
    assert len(lab.map(half, path)) == 10
    assert list(lab.map(half, str(path))["kept"]) == list("abcdefghij")


def test_a_list_of_dicts_is_rows_too(lab: dx.Lab) -> None:
    assert list(lab.map(half, [{"n": 2}, {"n": 4}])["half"]) == [1.0, 2.0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("missing.csv", "There is no file missing.csv"),
        ("rows.txt", "is not a file of rows"),
        ([{"m": 1}], "needs the column 'n'; the data has 'm'"),
        ([], "no rows"),
        (42, "cannot be read as rows"),
    ],
)
def test_data_that_does_not_fit_is_refused_before_anything_runs(lab: dx.Lab, data: object, message: str) -> None:
    with pytest.raises(dx.PipelineError, match=message):
        lab.map(half, data)
    assert lab.sql("SELECT count(*) AS n FROM runs")["n"][0] == 0


def test_a_broken_file_and_a_near_miss_are_told(lab: dx.Lab, tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_text("no parquet")
    with pytest.raises(dx.PipelineError, match="cannot be read as parquet"):
        lab.map(half, "rows.parquet")
    with pytest.raises(dx.PipelineError, match=r"Did you mean 'rows\.parquet'"):
        lab.map(half, "row.parquet")


def test_no_rows_and_no_width_are_refused(lab: dx.Lab) -> None:
    with pytest.raises(dx.PipelineError, match="no rows"):
        lab.map(half, pd.DataFrame({"n": []}))
    with pytest.raises(dx.PipelineError, match="no rows"):
        lab.map(half, [])
    with pytest.raises(dx.ConfigurationError, match="concurrency=0"):
        lab.map(half, [{"n": 2}], concurrency=0)


def test_rows_without_columns_are_rows(lab: dx.Lab) -> None:
    def two(n: int = 4) -> int:
        return n // 2

    assert lab.map(two, [{}, {}])["two"].tolist() == [2, 2]


def test_a_value_of_the_wrong_type_fails_its_row_alone(lab: dx.Lab) -> None:
    out = lab.map(half, [{"n": 2}, {"n": "x"}])
    assert list(out["status"]) == ["complete", "failed"]
    assert "expected int, found 'x'" in out["error"][1]
    assert out["run_id"].notna().all()


def test_no_more_rows_run_at_once_than_allowed(lab: dx.Lab) -> None:
    lock, running, most = threading.Lock(), 0, 0
    both = threading.Barrier(2, timeout=30)

    def count(n: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        both.wait()
        with lock:
            running -= 1
        return n

    lab.map(count, [{"n": i} for i in range(8)], concurrency=2)
    assert most == 2


def test_a_program_whose_forward_an_optimizer_replaced_is_run_by_that_forward(lab: dx.Lab) -> None:
    program = dx.pipeline("p", label=dspy.Predict("text -> label: Literal['u', 'v']")).as_module(lab)
    train = [dspy.Example(text=t, label=v).with_inputs("text") for t, v in [("red apple", "u"), ("blue boat", "v")] * 4]
    embed = dspy.Embedder(lambda texts: [[float("red" in t), float("blue" in t)] for t in texts], caching=False)
    better = dspy.KNNFewShot(k=2, trainset=train, vectorizer=embed, max_bootstrapped_demos=0, max_labeled_demos=2).compile(
        program
    )
    out = lab.map(better, [{"text": "a red apple"}, {"text": "one blue boat"}])
    assert list(out["label"]) == ["u", "v"]


def test_a_map_adds_up_what_its_rows_spent(lab: dx.Lab) -> None:
    lab.map("text -> label: Literal['u', 'v']", [{"text": "a"}, {"text": "b"}])
    kinds = lab.sql("SELECT kind, sum(prompt_tokens) AS p, sum(completion_tokens) AS c FROM runs GROUP BY kind").set_index(
        "kind"
    )
    assert kinds.loc["map", "p"] == kinds.loc["row", "p"] > 0
    assert kinds.loc["map", "c"] == kinds.loc["row", "c"] > 0


def test_progress_is_shown_where_it_is_asked_for(lab: dx.Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.map(half, [{"n": 2}, {"n": 4}])
    assert not capsys.readouterr().err
    lab.map(half, [{"n": 2}, {"n": 4}], progress=True)
    told = capsys.readouterr().err
    assert "half: 100%" in told
    assert "2/2" in told


def test_nothing_of_the_data_is_lost_to_an_output_of_the_same_name(lab: dx.Lab) -> None:
    out = lab.map(dx.pipeline("p", label=lambda n: n * 2), [{"n": 1, "label": "gold", "status": "open"}])
    assert out.iloc[0][["label_given", "status_given", "label", "status"]].tolist() == ["gold", "open", 2, "complete"]


def test_an_input_that_a_step_replaces_is_there_once(lab: dx.Lab) -> None:
    tidy = dx.pipeline("p", text=dx.step(lambda text: text.strip(), replaces=True))
    out = lab.map(tidy, [{"text": " a "}])
    assert list(out.columns) == ["text", "status", "error", "run_id"]
    assert out["text"][0] == "a"


def test_names_that_a_map_needs_itself_are_refused(lab: dx.Lab) -> None:
    with pytest.raises(dx.PipelineError, match="gives a field 'status'"):
        lab.map(dx.pipeline("p", status=lambda n: n), [{"n": 1}])
    with pytest.raises(dx.PipelineError, match="two columns 'n'"):
        lab.map(half, pd.DataFrame([[1, 2]], columns=["n", "n"]))


def test_text_stays_text_and_whole_numbers_whole_in_a_csv(lab: dx.Lab, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("code,n\n00501,4\nNone,\nN/A,6\n")

    def take(code: str, n: int) -> str:
        return f"{code}:{n}"

    out = lab.map(take, "rows.csv")
    assert list(out["take"][[0, 2]]) == ["00501:4", "N/A:6"]
    assert out["status"][1] == "failed"
    assert "expected int, found None" in out["error"][1]


def test_a_gap_in_a_column_is_none_or_the_default_and_whole_numbers_stay_whole(lab: dx.Lab) -> None:
    def take(n: int | None, k: int, note: str = "none given") -> str:
        return f"{n}:{k}:{note}"

    rows = pd.DataFrame({"n": [1, None], "k": [2.0, 3.0], "note": [float("nan"), "said"]})
    out = lab.map(take, rows)
    assert list(out["status"]) == ["complete", "complete"], list(out["error"])
    assert out["take"][1] == "None:3:said"
    assert out["take"][0].endswith(":2:none given")
