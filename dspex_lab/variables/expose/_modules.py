"""Knobs for the module that does a piece of work: a Predict becomes a ChainOfThought, and the other way round.

Exchanging happens where nothing can be lost by it: a predictor's words, demonstrations, settings and model go along, and what
the module gives besides (``reasoning``) is read by no code of the program. So not inside DSPy's own modules, whose code relies
on what they are made of, and not in a Refine, which keeps the source of its module.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dspex_lab.errors import VariableError
from dspex_lab.variables._protocols import Knob
from dspex_lab.variables.domains import ModuleChoice
from dspex_lab.variables.expose._adapter import Adapted
from dspex_lab.variables.expose._places import Place, is_predict
from dspex_lab.variables.expose._predictors import REASONING
from dspex_lab.variables.expose._walk import CHOSEN, Part, is_builtin, parts


@dataclass(frozen=True, slots=True)
class ModuleSlot:
    """Which module stands at some places; it is the same one at all of them."""

    path: str
    places: tuple[Place, ...]
    choice: ModuleChoice

    def read(self, program: Any) -> str:
        """Return the name of the module.

        Raises:
            VariableError: it is none of the options.
        """
        found = self.places[0].find(program, self.path)
        name = vars(found).get(CHOSEN) or type(found).__name__
        if name not in self.choice.names:
            raise self.places[0].vanished(self.path, found)
        return str(name)

    def write(self, program: Any, value: str) -> None:
        """Put the module of that name there; the words, demonstrations, settings and model of the one before go along."""
        if self.read(program) == value:
            return
        before = self.places[0].find(program, self.path)
        made = exchanged(before, value, self.choice)
        for place in self.places:
            place.put(program, made)


def exchanged(before: Any, name: str, choice: ModuleChoice) -> Any:
    """Return a new module of an option that does what ``before`` did.

    Raises:
        VariableError: no predictor of the new one gives the fields of the old one.
    """
    old = _main(before)
    signature = _without_reasoning(before, old.signature)
    made = choice.factory(name)(signature)
    setattr(made, CHOSEN, name)
    wanted = set(signature.output_fields)
    inner = [p.value for p in parts(made) if is_predict(p.value)]
    able = [p for p in inner if wanted <= set(p.signature.output_fields)]
    if not able:
        raise VariableError(
            f"The module {name!r} has no predictor that gives {', '.join(map(repr, wanted))}.",
            name=name,
            hint="Its factory takes the signature and returns a module that answers it.",
        )
    for predictor in able:
        predictor.demos = list(old.demos)
    for predictor in inner:
        predictor.config, predictor.lm = {**predictor.config, **old.config}, old.lm
    _main(made).traces, _main(made).train, _main(made).fields = old.traces, old.train, old.fields
    made.callbacks, made._compiled = before.callbacks, before._compiled
    for way, around in vars(before).items():
        if isinstance(around, Adapted):
            vars(made)[way] = Adapted(made, way, around.name, around.adapter, None)
    return made


def _main(module: Any) -> Any:
    """Return the predictor that gives a module's answer."""
    if is_predict(module):
        return module
    return [p.value for p in parts(module) if is_predict(p.value)][-1]


def _without_reasoning(module: Any, signature: Any) -> Any:
    import dspy

    if isinstance(module, dspy.ChainOfThought) and REASONING in signature.output_fields:
        return signature.delete(REASONING)
    return signature


def module_knobs(found: list[Part], options: Mapping[str, Mapping[str, Any]]) -> Iterator[Knob]:
    """Return a knob for each module that can be exchanged.

    Args:
        options: further modules by the path of the place: names and what makes one from a signature.
    """
    import dspy

    reads = any(_reads_reasoning(type(p.value)) for p in found)
    for part in found:
        path = f"{part.place.name}.module" if part.place.legs else "module"
        given = options.get(part.place.name, {})
        if type(part.value) not in (dspy.Predict, dspy.ChainOfThought) or _is_inner(part) or _is_overridden(part.value):
            continue
        names: dict[str, Any] = dict.fromkeys(_built_in(part.value, reads))
        slot = ModuleSlot(path, tuple(part.places), ModuleChoice({**names, **given}))
        if len(slot.choice.names) > 1:
            note = "the module that does the work" + (" (it was compiled before)" if part.frozen else "")
            yield Knob(path, slot.choice, slot.read, slot.write, True, note, part.frozen, rank=2)


def _built_in(module: Any, reads: bool) -> list[str]:
    import dspy

    if isinstance(module, dspy.Predict):
        plain = REASONING not in module.signature.fields and not module.fields
        return ["Predict", "ChainOfThought"] if plain else ["Predict"]
    outputs = module.predict.signature.output_fields
    first = next(iter(outputs), None)
    bare = first == REASONING and len(outputs) > 1 and not reads
    return ["Predict", "ChainOfThought"] if bare else ["ChainOfThought"]


def _is_inner(part: Part) -> bool:
    """Say whether a part belongs to a module of DSPy's that relies on it; BestOfN and ensembles take any module."""
    import dspy

    owner = part.owner
    if owner is None or not is_builtin(owner.value) or isinstance(owner.value, dspy.BestOfN):
        return False
    return type(owner.value).__name__ != "EnsembledProgram"


def _is_overridden(module: Any) -> bool:
    """Say whether an object has a ``forward`` of its own, as KNNFewShot gives it, which another module would not have."""
    found = vars(module).get("forward")
    return found is not None and not isinstance(found, Adapted)


def _reads_reasoning(kind: type) -> bool:
    """Say whether code of a user's class names ``reasoning``."""
    for base in kind.__mro__:
        if base.__module__.startswith("dspy.") or base is object:
            continue
        for member in vars(base).values():
            code = getattr(getattr(member, "__func__", member), "__code__", None)
            if code is not None and _names(code, REASONING):
                return True
    return False


def _names(code: types.CodeType, name: str) -> bool:
    if name in code.co_names or name in code.co_consts:
        return True
    return any(isinstance(c, types.CodeType) and _names(c, name) for c in code.co_consts)
