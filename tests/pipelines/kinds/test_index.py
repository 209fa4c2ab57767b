"""Indexes over the user's rows: what is found, what is refused, and how they are kept."""

from __future__ import annotations

import copy
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrieve_helpers import ROWS, letters

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines.kinds._index import Hit, Index, index, nearest

# --- the index ------------------------------------------------------------------------------------------------


def test_the_nearest_rows_come_first_with_score_and_row() -> None:
    found = Index(ROWS, "body").search("stolen card", 2)
    assert [type(h) for h in found] == [Hit, Hit]
    assert found[0].text == "My card was stolen"
    assert found[0].row == ROWS[0]
    assert 1 >= found[0].score > found[1].score > 0
    assert found[1].row["team"] == "delivery"


def test_the_score_is_the_cosine() -> None:
    made = Index(["ab", "aab"], embedder=letters)
    assert made.search("ab") == [
        Hit("ab", 1.0, {"text": "ab"}),
        Hit("aab", pytest.approx(3 / 10**0.5, abs=1e-6), {"text": "aab"}),
    ]


def test_rows_without_a_text_are_kept_and_never_found() -> None:
    made = Index(ROWS, "body")
    assert len(made) == 5
    assert {h.row["n"] for h in made.search("card", 50)} == {1, 2, 5}


@pytest.mark.parametrize("query", ["", "  \n"])
def test_a_blank_query_is_like_nothing(query: str) -> None:
    assert Index(ROWS, "body").search(query) == []


def test_an_empty_index_finds_nothing_and_can_be_filled() -> None:
    made = Index([])
    assert (len(made), made.search("card")) == (0, [])
    assert Index(["", None] and [""]).search("card") == []
    assert made.add(["a card"]) == 1
    assert [h.text for h in made.search("card", 9)] == ["a card"]


@pytest.mark.parametrize(
    "rows",
    [
        pd.DataFrame(ROWS),
        tuple(ROWS),
        iter(ROWS),
        Index(ROWS, "body"),
    ],
    ids=["frame", "tuple", "iterator", "index"],
)
def test_rows_are_read_from_what_maps_read(rows: Any) -> None:
    assert [h.row["n"] for h in Index(rows, "body").search("stolen card", 1)] == [1]


def test_rows_are_read_from_a_file(tmp_path: Path) -> None:
    pd.DataFrame(ROWS).to_parquet(tmp_path / "rows.parquet")
    pd.DataFrame(ROWS).to_csv(tmp_path / "rows.csv", index=False)
    for name in ("rows.parquet", "rows.csv"):
        found = index(tmp_path / name, text="body", name="mails").search("stolen card", 1)
        assert found[0].row == ROWS[0]


def test_an_index_travels_and_a_copy_goes_its_own_way() -> None:
    made = Index(ROWS, "body", name="mails")
    other = pickle.loads(cloudpickle.dumps(made))  # noqa: S301 - our own
    assert repr(other) == repr(made)
    assert other.search("stolen card", 2) == made.search("stolen card", 2)
    assert other.cache_token() == made.cache_token()
    for each in (made, other):
        each.add([{"body": f"added to {id(each)}"}])
    assert len(made) == len(other) == len(ROWS) + 1
    assert other.cache_token() != made.cache_token(), "what they hold differs"


def test_a_deep_copy_shares_what_never_changes() -> None:
    """Optimizers copy programs at each step, and an index may be large."""
    made = Index(ROWS, "body")
    other = copy.deepcopy(made)
    assert other._held is made._held
    other.add([{"body": "stolen card stolen card", "n": 6}])
    assert [one.search("stolen card", 1)[0].row["n"] for one in (made, other)] == [1, 6]


def test_rows_added_and_removed_count_at_once() -> None:
    made = Index(ROWS, "body")
    token = made.cache_token()
    made.add([{"body": "stolen card stolen card", "n": 6}, {"body": None, "n": 7}])
    assert made.cache_token() != token
    assert made.search("stolen card", 1)[0].row["n"] == 6
    assert made.remove(lambda row: row["n"] in (1, 6)) == 2
    assert [h.row["n"] for h in made.search("stolen card", 9)] == [5, 2]
    assert made.remove(lambda row: True) == 5
    assert made.search("card") == []
    assert repr(made) == "<Index 'body': 0 rows>"


def test_a_text_after_blank_ones_has_its_own_vector() -> None:
    made = Index([""])
    made.add(["", "card"])
    made.add([" "])
    assert [h.text for h in made.search("card", 9)] == ["card"]


def test_changes_of_a_found_row_do_not_reach_the_index() -> None:
    made = Index(ROWS, "body")
    made.search("stolen card")[0].row["team"] = "poison"
    assert made.search("stolen card")[0].row["team"] == "cards"


def test_a_dspy_embedder_can_be_used() -> None:
    import dspy

    made = Index(["ab", "xyz"], embedder=dspy.Embedder(letters, caching=False))
    assert made.search("zyx", 1)[0].text == "xyz"


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (ROWS, {"text": "bodi"}, r"Row 0 has no column 'bodi'; it has 'body', 'team', 'n'\. Did you mean 'body'\?"),
        (ROWS, {"text": "n"}, r"Row 0: 'n' is int, not a text"),
        ([1, 2], {}, r"made of texts or of rows, not of int"),
        (7, {}, r"int cannot be read as rows"),
        (["a"], {"embedder": 7}, r"embedder=7 cannot be called"),
        (["a"], {"embedder": lambda texts: [1.0]}, r"given 1 texts and gave an array of shape \(1,\)"),
        (["a"], {"embedder": lambda texts: [["x"]]}, r"gave no numbers"),
        (["a"], {"embedder": lambda texts: [[float("nan")]]}, r"not finite"),
        (
            ["a"] * 600,
            {"embedder": lambda texts: np.ones((len(texts), len(texts)))},
            r"gave vectors of 88 numbers; .* have 512",
        ),
    ],
)
def test_rows_and_embedders_that_will_not_do_are_named(rows: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        Index(rows, **options)


def test_an_embedder_that_changes_its_mind_is_named() -> None:
    width = [3]
    made = Index(["a"], embedder=lambda texts: np.ones((len(texts), width[0])))
    width[0] = 4
    with pytest.raises(PipelineError, match=r"gave vectors of 4 numbers; those of the index have 3"):
        made.search("a")
    with pytest.raises(PipelineError, match=r"gave vectors of 4 numbers; those of the index have 3"):
        made.add(["b"])
    assert len(made) == 1


@pytest.mark.parametrize(("query", "k"), [(None, 3), (7, 3), ("a", 0), ("a", True), ("a", 1.5)])
def test_a_wrong_query_is_refused(query: Any, k: Any) -> None:
    with pytest.raises(PipelineError, match=r"A query is a text|is not 1 or more"):
        Index(["a"]).search(query, k)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.integers(1, 35))
def test_the_nearest_are_those_of_a_whole_sort(scores: list[int], k: int) -> None:
    expected = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]
    assert nearest(np.array(scores, np.float32), k).tolist() == expected


# --- keeping it -----------------------------------------------------------------------------------------------


def test_an_index_can_be_saved_and_loaded(tmp_path: Path) -> None:
    made = Index(ROWS, "body", name="mails")
    path = made.save(tmp_path / "mails")
    assert path == tmp_path / "mails.npz"
    again = Index.load(path)
    assert (again.name, again.text, again.rows) == ("mails", "body", ROWS)
    assert again.search("stolen card", 2) == made.search("stolen card", 2)
    assert Index.load(Index([]).save(tmp_path / "empty.npz")).search("a") == []
    assert len(Index.load(Index([""]).save(tmp_path / "blank.npz"))) == 1


def test_an_index_of_another_embedder_is_refused(tmp_path: Path) -> None:
    path = Index(["abc", "def"], embedder=letters).save(tmp_path / "a.npz")
    with pytest.raises(PipelineError, match=r"made with the embedder 'letters'; 'embed_text' gives other vectors"):
        Index.load(path)
    with pytest.raises(PipelineError, match=r"gives other vectors"):
        Index.load(path, embedder=lambda texts: letters([t[::-1] + "q" for t in texts]))
    assert Index.load(path, embedder=letters).search("fed", 1)[0].text == "def"


def test_a_row_that_json_does_not_know_cannot_be_saved(tmp_path: Path) -> None:
    made = Index([{"text": "a", "when": pd.Timestamp("2026-01-01")}])
    with pytest.raises(PipelineError, match=r"cannot be saved: .*Timestamp"):
        made.save(tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []


def write(path: Path, about: Any, vectors: Any = None, save: Any = np.savez) -> Path:
    told = about if isinstance(about, bytes) else json.dumps(about).encode()
    with path.open("wb") as file:
        save(
            file,
            vectors=np.zeros((1, 2), np.float32) if vectors is None else vectors,
            about=np.frombuffer(told, np.uint8),
        )
    return path


GOOD = {"format": "dspex-index-1", "text": "text", "name": None, "embedder": "embed_text", "rows": [{"text": ""}]}


class Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("bomb"),))


@pytest.mark.parametrize(
    ("about", "vectors", "message"),
    [
        ([], None, "rows are missing"),
        ({**GOOD, "format": "x"}, None, "rows are missing or of another version"),
        ({**GOOD, "rows": "x"}, None, "rows are missing"),
        ({**GOOD, "rows": [1]}, None, "rows are not as they should be"),
        ({**GOOD, "rows": [{"text": 1}]}, None, "rows are not as they should be"),
        ({**GOOD, "name": 1}, None, "rows are not as they should be"),
        (GOOD, np.zeros((2, 2), np.float32), "vectors are not as they should be"),
        (GOOD, np.zeros((1, 2)), "vectors are not as they should be"),
        (GOOD, np.full((1, 2), np.nan, np.float32), "vectors are not as they should be"),
        (GOOD, np.ones((1, 2), np.float32), "a row without a text has a vector"),
        (GOOD, np.array([Bomb()], dtype=object), "ValueError"),
        (b"{", None, "JSONDecodeError"),
        (b"[" * 100_000, None, "RecursionError"),
    ],
)
def test_a_file_that_is_no_index_is_refused_and_nothing_in_it_is_run(
    tmp_path: Path, about: Any, vectors: Any, message: str
) -> None:
    path = write(tmp_path / "a.npz", about, vectors)
    with pytest.raises(PipelineError, match=rf"a\.npz is no index: .*{message}"):
        Index.load(path)
    assert not Path("bomb").exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="there is no such file"):
        Index.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(PipelineError, match="BadZipFile"):
        Index.load(tmp_path / "text.npz")
    with pytest.raises(PipelineError, match="it is compressed"):
        Index.load(write(tmp_path / "packed.npz", GOOD, save=np.savez_compressed))
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(PipelineError, match="KeyError"):
        Index.load(tmp_path / "other.npz")
