"""Knobs of predictors: what each says to the model, what it shows, how it asks, and whom."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dspex_lab.errors import VariableError
from dspex_lab.variables._protocols import Knob
from dspex_lab.variables.domains import Demos, LMChoice, Text
from dspex_lab.variables.expose._places import Place, dspy_class, is_predict
from dspex_lab.variables.expose._signatures import instructions, with_instructions, with_word, word
from dspex_lab.variables.expose._values import UNSET, call_domain, is_plain
from dspex_lab.variables.expose._walk import CHOSEN, Part, parts

#: The output field that a ChainOfThought adds.
REASONING = "reasoning"

#: The name of the model in use, whichever that is, among those that a predictor may ask.
IN_USE = "in use"

_ANY = Demos()

#: What a call is made with where neither program nor model say: what providers do; and a number for the limit that each
#: provider sets in its own way, which is only ever written where somebody chooses another.
_UNSAID: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "n": 1, "max_tokens": 4096}

_SAID = {
    "temperature": "how freely the model answers",
    "top_p": "the share of likely words that the model chooses from",
    "n": "answers asked for at once",
    "max_tokens": "the longest answer, in tokens",
}


@dataclass(frozen=True, slots=True)
class Predictor:
    """A setting of the predictor at a place.

    Args:
        path: the knob's.
        gives: output fields of its signature, by which it is found where another module does its work.
    """

    path: str
    place: Place
    gives: tuple[str, ...]

    def find(self, program: Any) -> Any:
        """Return the predictor: what is there, or in the module that was put there what gives the same fields.

        Raises:
            VariableError: there is none any more.
        """
        found = self.place.find(program, self.path)
        if is_predict(found):
            return found
        known = CHOSEN in vars(found) or type(found) is dspy_class("ChainOfThought")
        inner = [p.value for p in parts(found) if is_predict(p.value)] if known else []
        able = [p for p in inner if set(self.gives) <= set(p.signature.output_fields)]
        if not able:
            raise self.place.vanished(self.path, found)
        return able[-1]

    def own(self, program: Any) -> Any:
        """Return the value that the program has, ``UNSET`` where it has none."""
        raise NotImplementedError

    def read(self, program: Any) -> Any:
        """Return the value that holds."""
        return self.own(program)

    def write(self, program: Any, value: Any) -> None:
        """Put ``value`` in."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Instructions(Predictor):
    """The instructions of a signature."""

    def own(self, program: Any) -> Any:
        """Return them."""
        return instructions(self.find(program).signature)

    def write(self, program: Any, value: Any) -> None:
        """Give the predictor a signature with these."""
        found = self.find(program)
        found.signature = with_instructions(found.signature, value)


@dataclass(frozen=True, slots=True)
class FieldWord(Predictor):
    """The description (``"desc"``) or the prefix of a field of a signature."""

    field: str
    key: str

    def own(self, program: Any) -> Any:
        """Return it; ``UNSET`` where the module that is there now has no such field."""
        signature = self.find(program).signature
        return word(signature, self.field, self.key) if self.field in signature.model_fields else UNSET

    def write(self, program: Any, value: Any) -> None:
        """Give the predictor a signature with this."""
        found = self.find(program)
        if self.field in found.signature.model_fields:
            found.signature = with_word(found.signature, self.field, self.key, value)


@dataclass(frozen=True, slots=True)
class Shown(Predictor):
    """The demonstrations."""

    def own(self, program: Any) -> Any:
        """Return them as dicts."""
        return _ANY.cast(self.find(program).demos, self.path)

    def write(self, program: Any, value: Any) -> None:
        """Show these."""
        found = self.find(program)
        found.demos = examples(value, found.demos, found.signature.input_fields)


def examples(value: Iterable[Mapping[str, Any]], there: Iterable[Any], inputs: Iterable[str]) -> list[Any]:
    """Return demonstrations as examples; one that is ``there`` already is that very object, with what JSON does not have."""
    import dspy

    have, named = {_told(demo): demo for demo in reversed(list(there))}, tuple(inputs)
    made: list[Any] = []
    for demo in value:
        old = have.get(_told(demo))
        made.append(dspy.Example(**demo).with_inputs(*(i for i in named if i in demo)) if old is None else old)
    return made


def _told(demo: Any) -> str:
    (one,) = _ANY.cast([demo], "demos")
    return json.dumps(one, sort_keys=True)


def as_demos(demos: Any) -> tuple[Any, ...] | None:
    """Return demonstrations as values of a variable, None where JSON has not what is in them."""
    try:
        return _ANY.cast(demos, "demos")
    except VariableError:
        return None


def call_settings(config: Mapping[str, Any], lm: Any) -> Iterator[tuple[str, Any, Any, str]]:
    """Return the settings of LM calls that can be turned: their names, the values that hold, their domains and what they are.

    Args:
        config: those that are set.
        lm: the model that is asked, where there is one of one's own.
    """
    for key in dict.fromkeys([*_UNSAID, *config]):
        if key in _UNSAID or is_plain(config[key]):
            value = _in_effect(config, lm, key)
            yield key, value, call_domain(key, value), _SAID.get(key, "of the LM calls")


@dataclass(frozen=True, slots=True)
class CallSetting(Predictor):
    """A setting of LM calls in a predictor's ``config``."""

    key: str
    default: Any

    def own(self, program: Any) -> Any:
        """Return it, ``UNSET`` where the model's own holds."""
        found = self.find(program).config.get(self.key)
        return UNSET if found is None else found

    def read(self, program: Any) -> Any:
        """Return it, or what the model says, or what providers do."""
        found = self.own(program)
        return self.default if found is UNSET else found

    def write(self, program: Any, value: Any) -> None:
        """Give the predictor a config with it."""
        found = self.find(program)
        found.config = {**found.config, self.key: value}


@dataclass(frozen=True, slots=True)
class Model:
    """The model that a predictor, or another part with an attribute for one, asks.

    Args:
        choice: names and what they stand for.
        at: gives the part.
        attribute: the part's.
    """

    path: str
    choice: LMChoice
    at: Callable[[Any], Any]
    attribute: str = "lm"

    def own(self, program: Any) -> Any:
        """Return the name of the model, ``UNSET`` for the one in use; a model that no name is known for as it is."""
        found = getattr(self.at(program), self.attribute)
        if found is None:
            return UNSET
        return next((n for n, lm in self.choice.objects.items() if lm is found or same_model(lm, found)), found)

    def read(self, program: Any) -> Any:
        """Return the name of the model."""
        found = self.own(program)
        return IN_USE if found is UNSET else found

    def taught(self, knob: Knob, program: Any) -> Knob | None:
        """Return ``knob`` with the model that is there now among its options; None where it is."""
        found = self.own(program)
        if found is UNSET or isinstance(found, str):
            return None
        made = replace(self, choice=LMChoice(named_models([found], self.choice.objects)))
        return replace(knob, domain=made.choice, read=made.read, write=made.write, own=made.own)

    def write(self, program: Any, value: Any) -> None:
        """Let the part ask the model of that name; where the name alone is known, DSPy makes the model."""
        import dspy

        lm = None if value == IN_USE else self.choice.given(value)
        if lm is None and value != IN_USE:
            lm = dspy.LM(value)
        setattr(self.at(program), self.attribute, lm)


def with_model(knob: Knob, program: Any) -> Knob | None:
    """Return the knob of a model that knows the one that is in the program too; None where it does, or is no such knob."""
    taught = getattr(getattr(knob.read, "__self__", None), "taught", None)
    found: Knob | None = None if taught is None else taught(knob, program)
    return found


def named_models(found: Iterable[Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return models by name, each under one of its own, after those that are known already."""
    named = dict(known)
    for lm in found:
        if any(other is lm or same_model(other, lm) for other in named.values()):
            continue
        base = str(getattr(lm, "model", type(lm).__name__))
        name, number = base, 1
        while name in named:
            number += 1
            name = f"{base} ({number})"
        named[name] = lm
    return named


def same_model(one: Any, other: Any) -> bool:
    """Say whether two models are copies of one: the same class, name and settings (one of them may have travelled)."""
    if one is None or type(one) is not type(other):
        return False
    told = [(getattr(m, "model", None), getattr(m, "model_type", None), getattr(m, "kwargs", None)) for m in (one, other)]
    return bool(told[0] == told[1])


def model_choice(found: Mapping[str, Any]) -> LMChoice:
    """Return the domain of models: the one in use, and those of ``found`` by name."""
    return LMChoice({IN_USE: None, **found})


def predictor_knobs(part: Part, models: Mapping[str, Any]) -> Iterator[Knob]:
    """Return all knobs of a predictor."""
    base, signature = part.place.name, part.value.signature
    start = f"{base}." if base else ""
    # Another module that does the work may reason in its own way.
    gives = tuple(f for f in signature.output_fields if f != REASONING)
    frozen = "in a module that was compiled before; DSPy's optimizers leave it as it is" if part.frozen else None

    def knob(setting: Predictor, domain: Any, note: str, owned: bool = True, pinned: bool = False) -> Knob:
        told = note if frozen is None else f"{note} ({frozen})"
        held = pinned or part.frozen
        return Knob(setting.path, domain, setting.read, setting.write, owned, told, held, setting.own)

    path = f"{start}instructions"
    yield knob(Instructions(path, part.place, gives), Text(), "what the model is told to do")
    path = f"{start}demos"
    if as_demos(part.value.demos) is not None:
        yield knob(Shown(path, part.place, gives), Demos(), "what the model is shown")
    for field in signature.fields:
        path = f"{start}{field}.desc"
        yield knob(FieldWord(path, part.place, gives, field, "desc"), Text(), f"what {field!r} is said to be")
        path = f"{start}{field}.prefix"
        note = f"the label of {field!r}; DSPy 3.4 keeps it and shows it to no model"
        yield knob(FieldWord(path, part.place, gives, field, "prefix"), Text(), note, pinned=True)
    config = part.value.config
    for key, value, domain, said in call_settings(config, part.value.lm):
        yield knob(CallSetting(f"{start}{key}", part.place, gives, key, value), domain, said, config.get(key) is not None)
    model = Model(f"{start}lm", model_choice(models), Predictor(f"{start}lm", part.place, gives).find)
    owned = part.value.lm is not None
    note = "which model answers" if frozen is None else f"which model answers ({frozen})"
    yield Knob(model.path, model.choice, model.read, model.write, owned, note, part.frozen, model.own)


def _in_effect(config: Mapping[str, Any], lm: Any, key: str) -> Any:
    """Return the value of a setting: the predictor's, the model's, or what providers do."""
    import dspy

    asked = lm or dspy.settings.lm
    for found in (config.get(key), (getattr(asked, "kwargs", None) or {}).get(key)):
        if found is not None and is_plain(found):
            return found
    return _UNSAID[key]
