"""The step that asks an index, DSPy's retrievers, a ColBERTv2 server or a function for passages."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from retrieve_helpers import ROWS, letters

import dspex_lab as dx
from dspex_lab.errors import PipelineError
from dspex_lab.pipelines._step import step
from dspex_lab.pipelines.kinds._index import Hit, Index, index
from dspex_lab.pipelines.kinds._retrieve import retrieve

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
