"""Knobs of modules and retrievers: limits and numbers that they were made with, and plain settings of users' own modules."""

from __future__ import annotations

import copy
import dis
import functools
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dspex_lab.variables._protocols import Domain, Knob
from dspex_lab.variables.domains import Float, Int, Text
from dspex_lab.variables.expose._adapter import Adapted, replaced
from dspex_lab.variables.expose._places import Place
from dspex_lab.variables.expose._predictors import Model, model_choice
from dspex_lab.variables.expose._values import domain_of, is_plain, widened
from dspex_lab.variables.expose._walk import Part, is_builtin, is_module, is_retriever


@dataclass(frozen=True, slots=True)
class Known:
    """A setting that a class of DSPy has: what it may be, and what it is for."""

    attribute: str
    domain: Domain
    note: str


_ROUNDS = Known("max_iters", Int(1, 100), "rounds at most")

#: Settings of DSPy's classes, by the classes' names; those of a class hold for what derives from it.
KNOWN: Mapping[str, tuple[Known, ...]] = {
    "ReAct": (_ROUNDS,),
    "ReActV2": (_ROUNDS,),
    "ProgramOfThought": (_ROUNDS,),
    "RLM": (
        _ROUNDS,
        Known("max_llm_calls", Int(1, 10_000), "calls of the model for sub-queries, at most"),
        Known("max_output_chars", Int(100, 1_000_000, log=True), "characters of what the code prints that are shown"),
    ),
    "BestOfN": (
        Known("N", Int(1, 64), "attempts at most"),
        Known("threshold", Float(0.0, 1.0), "the reward that is good enough"),
    ),
    "Refine": (
        Known("N", Int(1, 64), "attempts at most"),
        Known("threshold", Float(0.0, 1.0), "the reward that is good enough"),
    ),
    "KNN": (Known("k", Int(1, 100), "nearest examples"),),
    "Embeddings": (Known("k", Int(1, 100), "passages"),),
    "Retrieve": (Known("k", Int(1, 100), "passages"),),
}


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute of the part at a place."""

    path: str
    place: Place
    attribute: str

    def find(self, program: Any) -> Any:
        """Return the part.

        Raises:
            VariableError: there is none any more that has the attribute.
        """
        found = self.place.find(program, self.path)
        if not hasattr(found, self.attribute):
            raise self.place.vanished(self.path, found)
        return found

    def read(self, program: Any) -> Any:
        """Return its value."""
        return getattr(self.find(program), self.attribute)

    def write(self, program: Any, value: Any) -> None:
        """Set it."""
        setattr(self.find(program), self.attribute, value)


@dataclass(frozen=True, slots=True)
class RetrieverSetting(Attribute):
    """An attribute of a retriever, which copies of a program share: another one that holds the same is put in its place."""

    places: tuple[Place, ...] = ()

    def write(self, program: Any, value: Any) -> None:
        """Put a retriever with the value in."""
        import dspy

        made = copy.copy(self.find(program))
        setattr(made, self.attribute, value)
        if isinstance(made, dspy.Embeddings):
            made.search_fn = _Search(made)
        for place in self.places:
            place.put(program, made)


class _Search:
    """Searches one query of an Embeddings at once; DSPy's own waits in a thread of the first one's for a batch."""

    def __init__(self, retriever: Any) -> None:
        self.retriever = retriever

    def __call__(self, query: str) -> Any:
        return self.retriever._batch_forward([query])[0]


@dataclass(frozen=True, slots=True)
class Attempts(Attribute):
    """How many answers a MultiChainComparison compares: its signature has a field for each."""

    def write(self, program: Any, value: Any) -> None:
        """Set it, and give the signature as many fields."""
        import dspy

        found = self.find(program)
        signature = found.predict.signature
        for index in range(value, found.M):
            signature = signature.delete(f"reasoning_attempt_{index + 1}")
        for index in range(found.M, value):
            words = {"prefix": f"Student Attempt #{index + 1}:", "desc": "${reasoning attempt}"}
            signature = signature.append(f"reasoning_attempt_{index + 1}", dspy.InputField())
            signature = signature.with_updated_fields(f"reasoning_attempt_{index + 1}", **words)
        found.predict.signature, found.M = signature, value


@dataclass(frozen=True, slots=True)
class PredictorCalls(Attribute):
    """How many calls the code of a Flex may make; its interpreter is told anew."""

    def write(self, program: Any, value: Any) -> None:
        """Set it."""
        found = self.find(program)
        found._max_predictor_calls = value
        found._rebuild_bridge()
        found._bind_code(found.module_src)


@dataclass(frozen=True, slots=True)
class Source(Attribute):
    """The code of a Flex, which runs in its sandbox."""

    def write(self, program: Any, value: Any) -> None:
        """Let it run this code."""
        self.find(program)._bind_code(value)


@dataclass(frozen=True, slots=True)
class Neighbours(Attribute):
    """How many examples a program that KNNFewShot made shows; they are held by its ``forward`` alone."""

    def read(self, program: Any) -> Any:
        """Return it.

        Raises:
            VariableError: the program has another ``forward`` now.
        """
        return self._made(program)[2].KNN.k

    def _made(self, program: Any) -> tuple[Any, int, Any]:
        """Return the program, which cell of its ``forward`` holds the KNNFewShot, and that."""
        found = self.place.find(program, self.path)
        made = knn_few_shot(found)
        if made is None:
            raise self.place.vanished(self.path, found)
        return found, *made

    def write(self, program: Any, value: Any) -> None:
        """Give the program a ``forward`` that looks for so many."""
        found, index, optimizer = self._made(program)
        forward = _forward(found).__func__
        changed = copy.copy(optimizer)
        changed.KNN = copy.copy(optimizer.KNN)
        changed.KNN.k = value
        cells = list(forward.__closure__)
        cells[index] = types.CellType(changed)
        made = types.FunctionType(forward.__code__, forward.__globals__, forward.__name__, forward.__defaults__, tuple(cells))
        method, around = types.MethodType(made, found), vars(found)["forward"]
        found.forward = replaced(around, method) if isinstance(around, Adapted) else method


def _forward(module: Any) -> Any:
    """Return the ``forward`` that a module itself has, without an adapter around it."""
    found = vars(module).get("forward")
    return found.before if isinstance(found, Adapted) else found


def knn_few_shot(module: Any) -> tuple[int, Any] | None:
    """Return the KNNFewShot that gave a program its ``forward``, and which of that function's cells holds it."""
    import dspy

    forward = getattr(_forward(module), "__func__", None)
    for index, cell in enumerate(getattr(forward, "__closure__", None) or ()):
        if isinstance(cell.cell_contents, dspy.KNNFewShot):
            return index, cell.cell_contents
    return None


def setting_knobs(part: Part, models: Mapping[str, Any]) -> Iterator[Knob]:
    """Return the knobs of a module or retriever that are none of a predictor's."""
    start = f"{part.place.name}." if part.place.legs else ""
    found = [*_known(part, start), *_special(part, start)]
    if is_module(part.value) and not is_builtin(part.value):
        taken = {knob.path for knob in found}
        found.extend(k for k in _own(part, start) if k.path not in taken)
    yield from found
    if is_module(part.value) and hasattr(part.value, "sub_lm"):
        choice, at = model_choice(models), At(f"{start}sub_lm", part.place)
        model = Model(at.path, choice, at, "sub_lm")
        owned = part.value.sub_lm is not None
        note = "which model answers sub-queries"
        yield Knob(at.path, choice, model.read, model.write, owned, note, part.frozen, model.own)


@dataclass(frozen=True, slots=True)
class At:
    """Gives the part at a place."""

    path: str
    place: Place

    def __call__(self, program: Any) -> Any:
        return self.place.find(program, self.path)


def _knob(part: Part, setting: Attribute, domain: Domain, note: str, pinned: bool = False) -> Knob:
    told = f"{note} (in a module that was compiled before)" if part.frozen else note
    return Knob(setting.path, domain, setting.read, setting.write, True, told, pinned or part.frozen)


def _known(part: Part, start: str) -> Iterator[Knob]:
    import dspy

    kind: Callable[..., Attribute] = Attribute
    if is_retriever(part.value):
        kind = functools.partial(RetrieverSetting, places=tuple(part.places))
    taken = set[str]()
    for name, settings in KNOWN.items():
        if not isinstance(part.value, getattr(dspy, name)):
            continue
        for known in settings:
            if known.attribute in taken:
                continue  # a CodeAct is a ReAct and a ProgramOfThought
            taken.add(known.attribute)
            value = getattr(part.value, known.attribute, None)
            if is_plain(value):
                domain = widened(_bounded(known.domain, part.value), value, known.attribute)
                yield _knob(part, kind(f"{start}{known.attribute}", part.place, known.attribute), domain, known.note)


def _bounded(domain: Domain, value: Any) -> Domain:
    """Return the domain no wider than there is something to find."""
    held = getattr(value, "trainset", None) or getattr(value, "corpus", None)
    return Int(1, len(held)) if held else domain


def _special(part: Part, start: str) -> Iterator[Knob]:
    import dspy

    value, place = part.value, part.place
    if isinstance(value, dspy.MultiChainComparison):
        note = "answers that are compared; the caller must bring as many"
        yield _knob(part, Attempts(f"{start}M", place, "M"), Int(1, max(10, value.M)), note, pinned=True)
    if isinstance(value, dspy.Flex):
        calls = value._max_predictor_calls
        if calls is not None:
            setting = PredictorCalls(f"{start}max_predictor_calls", place, "_max_predictor_calls")
            yield _knob(part, setting, widened(Int(1, 1_000), calls, "calls"), "calls of predictors by its code, at most")
        yield _knob(part, Source(f"{start}module_src", place, "module_src"), Text(), "its code", pinned=True)
        choice = model_choice({} if value.lm is None else {str(value.lm.model): value.lm})
        model = Model(f"{start}lm", choice, At(f"{start}lm", place))
        yield Knob(model.path, choice, model.read, model.write, value.lm is not None, "which model answers", own=model.own)
    made = knn_few_shot(value) if is_module(value) else None
    if made is not None:
        most = len(made[1].KNN.trainset)
        yield _knob(part, Neighbours(f"{start}knn.k", place, "forward"), Int(1, most), "nearest examples that are shown")


def _own(part: Part, start: str) -> Iterator[Knob]:
    module = part.value
    for name, value in given_settings(module).items():
        note = f"set in {type(module).__name__}.__init__"
        yield _knob(part, Attribute(f"{start}{name}", part.place, name), domain_of(value), note)


def given_settings(module: Any) -> dict[str, Any]:
    """Return the plain settings of a user's own module: public, given in ``__init__``, and never written anywhere else."""
    kind: Any = type(module)
    given, changed = _written(kind)
    return {
        name: value
        for name, value in vars(module).items()
        if name in given and name not in changed and not name.startswith("_") and is_plain(value)
    }


@functools.lru_cache(maxsize=256)
def _written(kind: type) -> tuple[frozenset[str], frozenset[str]]:
    """Return the attributes that a class's own code writes in ``__init__``, and those that it writes elsewhere."""
    given, changed = set[str](), set[str]()
    for base in kind.__mro__:
        if base.__module__.startswith("dspy.") or base is object:
            continue
        for name, member in vars(base).items():
            function = getattr(member, "__func__", member)
            function = function.fset if isinstance(function, property) else function
            code = getattr(function, "__code__", None)
            if code is not None:
                (given if name == "__init__" else changed).update(_stored(code))
    return frozenset(given), frozenset(changed)


def _stored(code: types.CodeType) -> set[str]:
    found = {str(i.argval) for i in dis.get_instructions(code) if i.opname == "STORE_ATTR"}
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            found |= _stored(const)
    return found
