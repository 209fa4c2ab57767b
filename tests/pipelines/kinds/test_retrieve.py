"""Indexes over the user's rows, and the step that asks them, DSPy's retrievers, a ColBERTv2 server or a function."""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dspex_lab as dx
from dspex_lab.errors import PipelineError
from dspex_lab.pipelines._step import step
from dspex_lab.pipelines.kinds._index import Hit, Index, index, nearest
from dspex_lab.pipelines.kinds._retrieve import retrieve

ROWS = [
    {"body": "My card was stolen", "team": "cards", "n": 1},
    {"body": "The transfer is late", "team": "transfers", "n": 2},
    {"body": None, "team": "none", "n": 3},
    {"body": "   ", "team": "blank", "n": 4},
    {"body": "A card that never came", "team": "delivery", "n": 5},
]


@pytest.fixture
def lab() -> Iterator[dx.Lab]:
    with dx.Lab(":memory:") as made:
        yield made


def letters(texts: Sequence[str]) -> Any:
    """A tiny embedder: how often each letter occurs."""
    return np.array([[text.lower().count(c) for c in "abcdefghijklmnopqrstuvwxyz"] for text in texts], float)


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


# --- the step -------------------------------------------------------------------------------------------------


def test_a_step_gives_the_passages(lab: dx.Lab) -> None:
    found = lab.run(dx.pipeline("p", passages=retrieve(Index(ROWS, "body"), k=2)), question="stolen card")
    assert found.status == "complete"
    assert found.outputs == {"passages": ["My card was stolen", "A card that never came"]}
    assert found.steps["passages"].implementation == "Index"


def test_scores_and_rows_come_where_they_are_wanted(lab: dx.Lab) -> None:
    made = retrieve(index(ROWS, "body", name="mails"), query="mail", k=1, scores=True, output="near", longest=7)
    p = dx.pipeline("p", found=made)
    assert {n: f.type for n, f in p.outputs.items()} == {
        "near": list[str],
        "near_scores": list[float],
        "near_rows": list[dict[str, Any]],
    }
    found = lab.run(p, mail="stolen card")
    assert found.outputs == {"near": ["My card"], "near_scores": [pytest.approx(0.6, abs=0.3)], "near_rows": [ROWS[0]]}
    assert found.steps["found"].implementation == "mails"
    named = lab.run(dx.pipeline("p", found=step(made, outputs=["passages"])), mail="stolen card")
    assert list(named.outputs) == ["passages", "passages_scores", "passages_rows"]


def by_two(query: str, count: int) -> list[str]:
    return [f"{query} {i}" for i in range(count + 5)]


def by_name(query: str, k: int = 10) -> list[tuple[str, float]]:
    return [(f"{query} {i}", 1.0 / (i + 1)) for i in range(k)]


async def by_await(query: str, *, k: int) -> list[dict[str, Any]]:
    return [{"text": f"{query} {i}", "score": "0.5", "id": i} for i in range(k)]


def by_query(query: str) -> Any:
    return {"passages": [query, "b", "c", "d"], "scores": np.array([3, 2, 1, 0]).tolist()}


class Searcher:
    def forward(self, query: str, **options: Any) -> Any:
        return [SimpleNamespace(page_content=f"{query} {i}", score=0.1) for i in range(options["k"])]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)


@pytest.mark.parametrize("source", [by_two, by_name, by_await, Searcher(), lambda q, /, n: by_two(q, n)])
def test_functions_are_told_how_many(lab: dx.Lab, source: Any) -> None:
    found = lab.run(dx.pipeline("p", passages=retrieve(source, k=2)), question="a")
    assert found.outputs == {"passages": ["a 0", "a 1"]}


@pytest.mark.parametrize(
    ("answer", "texts", "scores"),
    [
        (["a", "b", "c", "d"], ["a", "b", "c"], None),
        ("a", ["a"], None),
        ([], [], []),
        ({"passages": ["a"], "scores": [1]}, ["a"], [1.0]),
        ({"docs": [{"content": "a", "prob": 0.5}]}, ["a"], [0.5]),
        ({"long_text": "a", "text": "b", "similarity": 0.1}, ["a"], [0.1]),
        ([("a", 1, {"id": 1}), ("b", 0.5)], ["a", "b"], [1.0, 0.5]),
        ([("a", "no number")], ["a"], None),
        ([Hit("a", 1.0, {})], ["a"], [1.0]),
        ([SimpleNamespace(text="a", score=2)], ["a"], [2.0]),
    ],
)
def test_what_retrievers_give_is_read(lab: dx.Lab, answer: Any, texts: list[str], scores: list[float] | None) -> None:
    def source(query: str) -> Any:
        return answer

    assert lab.run(dx.pipeline("p", passages=retrieve(source)), question="a").outputs == {"passages": texts}
    found = lab.run(dx.pipeline("p", passages=retrieve(source, scores=True)), question="a")
    if scores is None:
        with pytest.raises(PipelineError, match=r"'passages': source gave no scores"):
            found.raise_for_status()
    else:
        assert found.outputs == {"passages": texts, "passages_scores": scores}


def test_passages_of_a_generator_are_read(lab: dx.Lab) -> None:
    assert lab.run(dx.pipeline("p", x=retrieve(lambda query: iter("abcd"))), question="a").outputs == {"x": ["a", "b", "c"]}


@pytest.mark.parametrize("answer", [None, 7, b"a", [7], [{"title": "a"}], [("a",)]])
def test_what_holds_no_passage_is_named(lab: dx.Lab, answer: Any) -> None:
    found = lab.run(dx.pipeline("p", passages=retrieve(lambda query: answer)), question="a")
    with pytest.raises(PipelineError, match=r"'passages': the retriever gave .* in which no passage is found"):
        found.raise_for_status()


def test_a_query_that_is_no_text_is_named(lab: dx.Lab) -> None:
    p = dx.pipeline("p", question=step(lambda n: n, replaces=False), passages=retrieve(Index(ROWS, "body")))
    with pytest.raises(PipelineError, match=r"'passages' needs a text in 'question'; it is int"):
        lab.run(p, n=7).raise_for_status()


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (7, {}, r"int 7 cannot be asked for passages"),
        (str, {}, r"cannot be asked for passages"),
        ("ftp://x", {}, r"no address of a ColBERTv2 server"),
        ("http://", {}, r"no address of a ColBERTv2 server"),
        (by_name, {"k": 0}, r"k=0 is not 1 or more"),
        (by_name, {"query": "a b"}, r"'a b' is no name of a field"),
        (by_name, {"output": 7}, r"7 is no name of a field"),
        (by_name, {"longest": 0}, r"longest=0 is not 1 or more"),
    ],
)
def test_wrong_arguments_are_refused_at_once(source: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        retrieve(source, **options)


def test_a_function_whose_parameters_cannot_be_read_is_asked_with_the_query(lab: dx.Lab) -> None:
    class Opaque:
        __signature__ = "nothing to read"

        def __call__(self, *args: Any) -> Any:
            return list(args)

    assert lab.run(dx.pipeline("p", x=retrieve(Opaque())), question="ab").outputs["x"] == ["ab"]


def test_retrieving_may_be_repeated_and_asks_no_model() -> None:
    item = retrieve(by_query, k=2)
    assert step(item, retries=2).retries == 2
    assert item.how.asks(item) == (0, 0)
    assert item.how.label(item) == "by_query"
    assert item.plain
    assert not retrieve(by_await).plain
    assert item.target.cache_token() == retrieve(by_query, k=2).target.cache_token()
    assert item.target.cache_token() != retrieve(by_query, k=3).target.cache_token()


# --- DSPy's retrievers ----------------------------------------------------------------------------------------


def test_dspys_embeddings_are_asked(lab: dx.Lab) -> None:
    import dspy

    made = dspy.Embeddings(["abc", "xyz", "mno"], embedder=dspy.Embedder(letters, caching=False), k=2)
    found = lab.run(dx.pipeline("p", passages=retrieve(made, k=1)), question="zyx")
    assert found.outputs == {"passages": ["xyz"]}
    with pytest.raises(PipelineError, match=r"Embeddings was made to give 2 passages; k=3 are wanted"):
        retrieve(made, k=3)


def test_dspys_retrieve_uses_the_retriever_in_force(lab: dx.Lab) -> None:
    import dspy

    asked: list[Any] = []

    def rm(query: str, k: int) -> list[Any]:
        asked.append((query, k))
        return [SimpleNamespace(long_text=f"{query} {i}") for i in range(k)]

    with dspy.context(rm=rm):
        found = lab.run(dx.pipeline("p", passages=retrieve(dspy.Retrieve(k=7), k=2)), question="a")
    assert found.outputs == {"passages": ["a 0", "a 1"]}
    assert asked == [("a", 2)]


def test_a_module_that_retrieves_may_ask_a_model(lab: dx.Lab) -> None:
    import dspy

    class Search(dspy.Module):
        def forward(self, query: str) -> Any:
            assert dspy.settings.lm is not None
            return dspy.Prediction(passages=[query, "b"])

    item = retrieve(Search())
    assert item.how.asks(item) is None
    assert lab.run(dx.pipeline("p", passages=item), question="a").outputs == {"passages": ["a", "b"]}


class _ColBERT(BaseHTTPRequestHandler):
    """Answers as the server of ColBERTv2 does."""

    asked: list[dict[str, list[str]]] = []  # noqa: RUF012

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        self.asked.append(query)
        k = int(query["k"][0])
        topk = [
            {"text": f"{query['query'][0]} {i}", "pid": i, "rank": i + 1, "score": 20.0 - i, "prob": 0.5} for i in range(k + 2)
        ]
        body = (
            {"error": True, "message": "broken"} if query["query"] == ["break"] else {"query": query["query"][0], "topk": topk}
        )
        told = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def colbert(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    _ColBERT.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _ColBERT)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api/search"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_colbert_server_is_asked_by_its_address_or_by_dspys_object(lab: dx.Lab, colbert: str) -> None:
    import dspy

    for source, text in ((colbert, "address"), (dspy.ColBERTv2(url=colbert), "object")):
        found = lab.run(dx.pipeline("p", passages=retrieve(source, k=2, scores=True)), question=text)
        assert found.outputs == {"passages": [f"{text} 0", f"{text} 1"], "passages_scores": [20.0, 19.0]}
    assert [a["query"] for a in _ColBERT.asked] == [["address"], ["object"]]
    broken = lab.run(dx.pipeline("p", passages=retrieve(colbert)), question="break")
    assert broken.status == "failed"
    assert "broken" in str(broken.error)
    assert retrieve(colbert).how.label(retrieve(colbert)) == colbert
