"""``retrieve``: passages for a query, from an index, a DSPy retriever, a ColBERTv2 server or a function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines._cache_key import state
from dspex_lab.pipelines._execution import StepRun
from dspex_lab.pipelines._fields import Shape, StepField
from dspex_lab.pipelines._kinds import Kind, step_kind
from dspex_lab.pipelines._modules import facts_of, is_dspy_module
from dspex_lab.pipelines._step import Step, label, step
from dspex_lab.pipelines.kinds._index import Index, check_count

#: Where a passage's text stands in what retrievers give, the first one found counts; likewise its score.
TEXTS = ("long_text", "text", "passage", "page_content", "content", "document")
SCORES = ("score", "prob", "similarity")


class Passage(NamedTuple):
    """A passage as a retriever gave it; what it does not tell is None."""

    text: str
    score: float | None = None
    row: dict[str, Any] | None = None


class Retrieval:
    """A source of passages and how it is asked; made by :func:`retrieve`."""

    def __init__(
        self,
        source: Any,
        query: str = "question",
        k: int = 3,
        output: str | None = None,
        scores: bool = False,
        longest: int | None = None,
    ) -> None:
        check_count(k)
        for field in (query, *([output] if output is not None else [])):
            if not isinstance(field, str) or not field.isidentifier():
                raise PipelineError(
                    f"retrieve: {field!r} is no name of a field.", hint='Write: dx.retrieve(index, query="question")'
                )
        if longest is not None and (isinstance(longest, bool) or not isinstance(longest, int) or longest < 1):
            raise PipelineError(f"retrieve: longest={longest!r} is not 1 or more.", hint="Give characters, or None.")
        self.source, self.query, self.k, self.output, self.scores, self.longest = source, query, k, output, scores, longest
        self.ask = _asker(source, k)

    @property
    def has_rows(self) -> bool:
        """Say whether each passage is a text of a row."""
        return isinstance(self.source, Index)

    def cache_token(self) -> tuple[Any, ...]:
        """Return what tells this from other retrievals, the state of its source included."""
        return state(self.source), self.query, self.k, self.output, self.scores, self.longest


def retrieve(
    source: Any,
    *,
    query: str = "question",
    k: int = 3,
    output: str | None = None,
    scores: bool = False,
    longest: int | None = None,
) -> Step:
    """Return a step that finds passages for the text in the field ``query``.

    It gives a list of texts, best first, in a field named like the step.

    Args:
        source: a ``dx.index(...)``; a DSPy retriever (``dspy.Retrieve``, ``dspy.Embeddings``, ``dspy.ColBERTv2``, a module of
            your own); the address of a ColBERTv2 server (``"http://…"``); or a function (sync or async) of a query, or of a
            query and ``k``, that returns texts, or dicts, tuples or objects with a text and a score.
        query: the field with the query.
        k: how many passages, at most.
        output: the name of the output field, where it is not to be the step's.
        scores: give their scores too, in a field that ends in ``_scores``; and from an index the rows, in one that ends in
            ``_rows``.
        longest: characters a passage is cut to; None leaves it whole.

    Raises:
        PipelineError: an argument is wrong, or the source cannot be asked.
    """
    return step(Retrieval(source, query, k, output, scores, longest))


@step_kind
class RetrieveKind(Kind):
    """Its input is the query, its output the passages."""

    name = "retrieve"

    def accepts(self, target: Any) -> bool:
        """Take what :func:`retrieve` made."""
        return isinstance(target, Retrieval)

    def shape(self, name: str, item: Step) -> Shape:
        """Return the query and the passages, with ``scores`` their scores and rows."""
        target = item.target
        field = _field(name, item)
        outputs = {field: StepField(field, list[str])}
        if target.scores:
            outputs[f"{field}_scores"] = StepField(f"{field}_scores", list[float])
            if target.has_rows:
                outputs[f"{field}_rows"] = StepField(f"{field}_rows", list[dict[str, Any]])
        return Shape({target.query: StepField(target.query, str)}, outputs)

    async def run(self, work: StepRun, item: Step, inputs: Mapping[str, Any]) -> Mapping[str, Any]:  # type: ignore[override]
        """Ask the source."""
        target, query = item.target, inputs[item.target.query]
        if not isinstance(query, str):
            raise PipelineError(
                f"Step {work.name!r} needs a text in {target.query!r}; it is {type(query).__name__}.",
                step=work.name,
                hint='Name the field with the query: dx.retrieve(source, query="...").',
            )
        work.implementation = self.label(item)
        found = await work.call(target.ask, {"query": query}, lm=is_dspy_module(target.source))
        passages = _passages(work.name, found)[: target.k]
        field = _field(work.field, item)
        texts = [p.text if target.longest is None else p.text[: target.longest] for p in passages]
        outputs: dict[str, Any] = {field: texts}
        if target.scores:
            if any(p.score is None for p in passages):
                raise PipelineError(
                    f"Step {work.name!r}: {self.label(item)} gave no scores.",
                    step=work.name,
                    hint="Leave out scores=True, or return (text, score) pairs.",
                )
            outputs[f"{field}_scores"] = [p.score for p in passages]
            if target.has_rows:
                outputs[f"{field}_rows"] = [p.row for p in passages]
        return outputs

    def plain(self, item: Step) -> bool:
        """An async source needs a loop."""
        return not facts_of(item.target.ask).awaited

    def repeatable(self, item: Step) -> bool:
        """Looking something up does no harm."""
        return True

    def asks(self, item: Step) -> tuple[float, float] | None:
        """A module may ask a model; all else is a search."""
        return None if is_dspy_module(item.target.source) else (0, 0)

    def label(self, item: Step) -> str:
        """Return the source's name."""
        source = item.target.source
        return source if isinstance(source, str) else getattr(source, "name", None) or label(source)


def _field(name: str, item: Step) -> str:
    return item.outputs[0] if item.outputs else item.target.output or name


# --- asking ---------------------------------------------------------------------------------------------------


def _asker(source: Any, k: int) -> Callable[..., Any]:
    """Return a function of ``query`` alone that asks ``source`` for ``k`` passages.

    Raises:
        PipelineError: it cannot be asked, or not for so many.
    """
    if isinstance(source, Index):
        return lambda query: source.search(query, k)
    if isinstance(source, str):
        return _server(source, k)
    if not callable(source) or isinstance(source, type):
        raise PipelineError(
            f"retrieve: {type(source).__name__} {source!r} cannot be asked for passages.",
            hint="Give dx.index(rows), a DSPy retriever, the address of a ColBERTv2 server, or a function of a query.",
        )
    how = _takes_k(source)
    own = getattr(source, "k", None)
    if how is None and isinstance(own, int) and own < k:
        raise PipelineError(
            f"retrieve: {type(source).__name__} was made to give {own} passages; k={k} are wanted.",
            hint=f"Make it with k={k}.",
        )
    if how is None:
        ask: Callable[..., Any] = functools.partial(_ask, source)
    else:
        ask = functools.partial(_ask_for, source, k, how)
    if not facts_of(source).awaited:
        return ask

    async def awaited(query: str) -> Any:
        return await ask(query)

    return awaited


def _ask(source: Callable[..., Any], query: str) -> Any:
    return source(query)


def _ask_for(source: Callable[..., Any], k: int, how: str, query: str) -> Any:
    return source(query, k) if how == "place" else source(query, k=k)


def _takes_k(source: Any) -> str | None:
    """Say how a source is told the number of passages: by ``"name"``, by ``"place"``, or not at all."""
    # The call of a DSPy retriever takes anything; its forward() says what.
    forward = inspect.getattr_static(source, "forward", None) or inspect.getattr_static(source, "aforward", None)
    try:
        parameters = inspect.signature(forward or source).parameters
    except (TypeError, ValueError):
        return None
    named = "k" in parameters and parameters["k"].kind is not inspect.Parameter.POSITIONAL_ONLY
    if named or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return "name"
    required = [
        p for p in parameters.values() if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return "place" if forward is None and len(required) == 2 else None


def _server(url: str, k: int) -> Callable[[str], Any]:
    """Return a function that asks a ColBERTv2 server; DSPy is loaded when it is first called."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PipelineError(
            f"retrieve: {url!r} is no address of a ColBERTv2 server.",
            hint='Write "http://host:port/api/search"; to search texts of your own: dx.retrieve(dx.index(rows)).',
        )

    def ask(query: str) -> Any:
        import dspy

        return dspy.ColBERTv2(url=url)(query, k=k)

    return ask


# --- reading what came ----------------------------------------------------------------------------------------


def _passages(name: str, found: Any) -> list[Passage]:
    """Return what a retriever gave as passages.

    Raises:
        PipelineError: it is not to be read as such.
    """
    store = getattr(found, "_store", None)
    if isinstance(store, dict):
        found = store
    if isinstance(found, Mapping):
        listed = next((found[n] for n in ("passages", "docs", "documents") if n in found), None)
        if listed is None:
            return [_passage(name, found)]
        scores = found.get("scores")
        passages = _passages(name, listed)
        if isinstance(scores, list | tuple) and len(scores) == len(passages):
            return [Passage(p.text, float(s), p.row) for p, s in zip(passages, scores, strict=True)]
        return passages
    if isinstance(found, str):
        return [Passage(found)]
    if isinstance(found, bytes) or not isinstance(found, Iterable):
        raise _unread(name, found)
    return [_passage(name, one) for one in found]


def _passage(name: str, one: Any) -> Passage:
    if isinstance(one, str):
        return Passage(one)
    if isinstance(one, tuple) and 2 <= len(one) <= 3 and isinstance(one[0], str):
        return Passage(one[0], _score(one[1]), dict(one[2]) if len(one) == 3 and isinstance(one[2], Mapping) else None)
    store = getattr(one, "_store", None)
    fields = store if isinstance(store, dict) else one if isinstance(one, Mapping) else None
    # An object of another library: a LangChain document, a LlamaIndex node.
    told = fields if fields is not None else {n: getattr(one, n, None) for n in (*TEXTS, *SCORES)}
    text = next((told[n] for n in TEXTS if isinstance(told.get(n), str)), None)
    if text is None:
        raise _unread(name, one)
    score = next((_score(told[n]) for n in SCORES if told.get(n) is not None), None)
    return Passage(text, score, dict(fields) if fields is not None else None)


def _score(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _unread(name: str, found: Any) -> PipelineError:
    shown = repr(found)
    return PipelineError(
        f"Step {name!r}: the retriever gave {type(found).__name__} {shown if len(shown) <= 80 else shown[:77] + '...'}, "
        "in which no passage is found.",
        step=name,
        hint="Return a list of texts, of (text, score) pairs, or of dicts with a 'text'.",
    )
