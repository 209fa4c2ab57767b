"""Programs of every class that DSPy 3.4 exports, and of users' own; and a space that one is exposed to."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from typing import Any

import cloudpickle
import dspy
import numpy as np

from dspex_lab.variables import Bool, Choice, Demos, Exposure, Float, Int, Knob, Space, Text, knobs
from dspex_lab.variables.expose._walk import is_module, parts


def search(query: str) -> str:
    """Find something."""
    return query


def look(query: str) -> str:
    """Look it up."""
    return query


def reward(args: dict, pred: Any) -> float:
    return 1.0


def embed(texts: list[str]) -> np.ndarray:
    return np.array([[len(t), t.count("a"), 1.0] for t in texts], dtype=np.float32)


def examples() -> list[dspy.Example]:
    return [dspy.Example(question=q, answer=q.upper()).with_inputs("question") for q in ("aa", "b", "cc", "d")]


class Inner(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.say = dspy.Predict("fact -> answer")
        self.strict = True

    def forward(self, fact: str) -> Any:
        return self.say(fact=fact)


class Nested(dspy.Module):
    """Modules in attributes, lists and dicts, one of them twice; settings, and attributes that are none."""

    def __init__(self, k: int = 3, share: float = 0.25) -> None:
        super().__init__()
        self.k, self.share, self.mode = k, share, "short"
        self.calls = 0
        self.found: Any = None
        self.draft = dspy.Predict("question -> answer: str", temperature=0.5)
        self.stages = [dspy.ChainOfThought("question -> fact"), (dspy.Predict("fact -> note"),)]
        self.routes = {"a b": Inner(), 2: dspy.Predict("question -> answer")}
        self.again = self.draft
        self.knn = dspy.KNN(2, examples(), dspy.Embedder(embed))
        self._hidden = 7

    def forward(self, question: str) -> Any:
        self.calls += 1
        self.found = self.draft(question=question).answer
        return self.routes[2](question=self.found)

    @property
    def size(self) -> int:
        return self.k


def _compiled() -> dspy.Module:
    made = Nested()
    made.routes["a b"]._compiled = True
    return made


def _neighbours() -> dspy.Module:
    return dspy.KNNFewShot(3, examples(), dspy.Embedder(embed)).compile(dspy.Predict("question -> answer"))


def _flex() -> dspy.Module:
    return dspy.Flex("question -> answer")


MAKERS: dict[str, Callable[[], Any]] = {
    "Predict": lambda: dspy.Predict("question, hint: list[str] -> answer, sure: float", temperature=0.2, seed=3),
    "ChainOfThought": lambda: dspy.ChainOfThought("question -> answer"),
    "ReAct": lambda: dspy.ReAct("question -> answer", tools=[search, look], max_iters=4),
    "ReActV2": lambda: dspy.ReActV2("question -> answer", tools=[search, look]),
    "CodeAct": lambda: dspy.CodeAct("question -> answer", tools=[search]),
    "ProgramOfThought": lambda: dspy.ProgramOfThought("question -> answer"),
    "RLM": lambda: dspy.RLM("question -> answer", max_llm_calls=7),
    "BestOfN": lambda: dspy.BestOfN(dspy.ChainOfThought("question -> answer"), N=3, reward_fn=reward, threshold=0.5),
    "Refine": lambda: dspy.Refine(dspy.Predict("question -> answer"), N=3, reward_fn=reward, threshold=2.0),
    "MultiChainComparison": lambda: dspy.MultiChainComparison("question -> answer", M=2),
    "Ensemble": lambda: dspy.Ensemble().compile([dspy.Predict("question -> answer") for _ in range(2)]),
    "KNNFewShot": _neighbours,
    "Flex": _flex,
    "KNN": lambda: dspy.KNN(2, examples(), dspy.Embedder(embed)),
    "Embeddings": lambda: dspy.Embeddings(["aa", "b", "cc"], embed, k=2),
    "Retrieve": lambda: dspy.Retrieve(k=4),
    "Nested": Nested,
    "compiled": _compiled,
}


def make(name: str) -> Any:
    """Make a program; what DSPy says of its age is not of interest here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MAKERS[name]()


def another(knob: Knob, program: Any) -> Any:
    """Return another value that a knob may have than the one it has; None where there is none."""
    value, domain = knob.read(program), knob.domain
    if knob.path.endswith("module_src"):
        return value.replace("forward(self, ", "forward(self,  ") + "\n# another\n"
    if isinstance(domain, Bool):
        return not value
    if isinstance(domain, Text):
        return f"{value} and more"
    if isinstance(domain, Demos):
        return [{"question": "q", "answer": "a"}]
    if isinstance(domain, Int):
        return value - 1 if value > domain.low else value + 1
    if isinstance(domain, Float):
        return (domain.low + domain.high) / 2 if value != (domain.low + domain.high) / 2 else domain.low
    options = domain.options if isinstance(domain, Choice) else domain.names
    return next((o for o in options if o != value), None)


def travelled(value: Any) -> Any:
    """Return what another process would get."""
    return pickle.loads(cloudpickle.dumps(value))  # noqa: S301 - packed here


def state(program: Any) -> Any:
    """Return what a program is, down to the objects: classes, attributes and the contents of its containers."""
    found: dict[str, Any] = {}
    for part in parts(program):
        held = {n: v for n, v in vars(part.value).items() if n not in ("callbacks", "history", "found", "calls")}
        told = {n: (id(v) if not callable(v) else repr(v), _content(v)) for n, v in held.items()}
        words = None
        if hasattr(part.value, "demos"):
            s = part.value.signature
            words = (s.__doc__, {n: dict(f.json_schema_extra) for n, f in s.model_fields.items()})
        found[part.place.name] = (id(part.value), type(part.value), told, words)
    return found, program.dump_state() if is_module(program) else None


def _content(value: Any) -> Any:
    if isinstance(value, dict):
        return [(k, id(v)) for k, v in value.items()]
    return [id(v) for v in value] if isinstance(value, list | tuple) else None


def exposed(program: Any, prefix: str = "p", space: Space | None = None) -> tuple[Space, Exposure]:
    space = Space() if space is None else space
    return space, Exposure(space, program, knobs(program), prefix)
