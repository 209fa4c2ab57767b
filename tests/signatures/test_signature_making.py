"""Signatures from functions, classes and the names a caller sees; and what is kept."""

from __future__ import annotations

import builtins
import dataclasses
import functools
import pickle
import subprocess
import sys
import types
from collections import namedtuple
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, NotRequired, TypedDict

import cloudpickle
import dspy
import pydantic
import pytest

from dspex_lab.errors import SignatureError
from dspex_lab.signatures import MISSING, Field, Signature, _build, input_field, output_field, signature
from dspex_lab.signatures._namespace import FrameNamespace, MappingNamespace


class Item(pydantic.BaseModel):
    n: int


class Out(TypedDict):
    label: str
    score: Annotated[float, pydantic.Field(ge=0, le=1, description="how sure")]
    note: NotRequired[str]


@dataclasses.dataclass
class Data:
    label: str
    tags: list[str] = dataclasses.field(default_factory=list)
    score: float = 0.5


class Model(pydantic.BaseModel):
    label: str = pydantic.Field(description="the label")
    score: float = pydantic.Field(0.5, ge=0, le=1)


class Tup(NamedTuple):
    a: int
    b: str = "x"


# -- functions --------------------------------------------------------------------------------------------------------
def classify(text: str, k: int = 3, *, item: Annotated[Item, "what it is about"]) -> Out:
    """Say what a text is.

    At length.
    """
    raise NotImplementedError


def test_a_function_gives_inputs_outputs_and_instructions() -> None:
    sig = signature(classify)
    assert (sig.name, sig.instructions) == ("classify", "Say what a text is.\n\nAt length.")
    assert {n: (f.type, f.default) for n, f in sig.inputs.items()} == {
        "text": (str, MISSING),
        "k": (int, 3),
        "item": (Item, MISSING),
    }
    assert sig.inputs["item"].description == "what it is about"
    assert {n: f.type for n, f in sig.outputs.items()} == {"label": str, "score": float, "note": str | None}
    assert sig.outputs["score"].constraints == {"ge": 0, "le": 1}
    assert sig.outputs["score"].description == "how sure"
    assert sig.outputs["note"].default is None


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        (Data, {"label": (str, MISSING), "tags": (list[str], []), "score": (float, 0.5)}),
        (Model, {"label": (str, MISSING), "score": (float, 0.5)}),
        (Tup, {"a": (int, MISSING), "b": (str, "x")}),
        (Annotated[Data, "of it"], {"label": (str, MISSING), "tags": (list[str], []), "score": (float, 0.5)}),
        (int, {"step": (int, MISSING)}),
        (dict[str, int], {"step": (dict[str, int], MISSING)}),
        (Item | None, {"step": (Item | None, MISSING)}),
        (dspy.Image, {"step": (dspy.Image, MISSING)}),
    ],
)
def test_what_a_function_returns_gives_the_outputs(returned: Any, expected: dict[str, Any]) -> None:
    def step(x: str) -> Any: ...

    step.__annotations__ = {"x": str, "return": returned}
    assert {n: (f.type, f.default) for n, f in signature(step).outputs.items()} == expected


def test_a_model_s_descriptions_and_constraints_come_along() -> None:
    def step(x: str) -> Model: ...  # type: ignore[empty-body]

    sig = signature(step)
    assert sig.outputs["label"].description == "the label"
    assert sig.outputs["score"].constraints == {"ge": 0, "le": 1}


def test_functions_of_all_kinds() -> None:
    async def later(x: int) -> str: ...  # type: ignore[empty-body]

    class Callme:
        def __call__(self, x: int) -> str: ...  # type: ignore[empty-body]

        def method(self, x: int) -> str: ...  # type: ignore[empty-body]

    @functools.wraps(classify)
    def wrapped(*args: Any, **kwargs: Any) -> Any: ...

    assert list(signature(later).fields) == ["x", "later"]
    assert list(signature(Callme()).fields) == ["x", "Callme"]
    assert list(signature(Callme().method).fields) == ["x", "method"]
    assert list(signature(wrapped).inputs) == ["text", "k", "item"]
    assert list(signature(functools.partial(classify, k=4)).inputs) == ["text", "k", "item"]
    assert list(signature(lambda x: x).outputs) == ["result"]
    assert signature(later, name="Other").name == "Other"


def test_parameters_without_annotations_take_anything() -> None:
    def step(x, y=3):  # type: ignore[no-untyped-def]
        ...

    sig = signature(step)
    assert sig.inputs["x"].takes_any
    assert sig.validate_inputs({"x": object}) == {"x": object, "y": 3}
    assert sig.validate_outputs({"step": object}) == {"step": object}


def test_a_default_of_none_makes_the_type_optional() -> None:
    def step(x: int = None) -> int: ...  # type: ignore[assignment,empty-body]  # noqa: RUF013

    assert signature(step).inputs["x"].type == int | None


def test_functions_that_cannot_be_signatures_say_why() -> None:
    def loose(*args: int) -> int: ...  # type: ignore[empty-body]

    def wrong(x: int = "3") -> int: ...  # type: ignore[assignment,empty-body]

    def unknown(x: NotThere) -> int: ...  # type: ignore[name-defined,empty-body]  # noqa: F821

    def twice(twice: int) -> int: ...  # type: ignore[empty-body]

    with pytest.raises(SignatureError, match=r"the fields behind \*args are not known"):
        signature(loose)
    with pytest.raises(SignatureError, match="default of 'x' does not fit: expected int, found '3'"):
        signature(wrong)
    with pytest.raises(SignatureError, match=r"unknown: an annotation cannot be read: .*NotThere"):
        signature(unknown)
    with pytest.raises(SignatureError, match="'twice' is given twice"):
        signature(twice)
    with pytest.raises(SignatureError, match="does not say which parameters"):
        signature(max)
    with pytest.raises(SignatureError, match="Expected a text, a function or a class, found int"):
        signature(3)  # type: ignore[arg-type]


def test_quoted_annotations_see_the_caller_and_types() -> None:
    class Local(pydantic.BaseModel): ...

    def step(x: Local) -> Elsewhere: ...  # type: ignore[name-defined,empty-body]

    assert signature(step, types={"Local": Local, "Elsewhere": Data}).inputs["x"].type is Local
    Elsewhere = Model  # noqa: N806
    assert list(signature(step).outputs) == ["label", "score"]


# -- classes ----------------------------------------------------------------------------------------------------------
def test_a_class_with_marks() -> None:
    class Triage:
        """Route it."""

        message: str = input_field("what was written")
        k: int = input_field(default=3, ge=1)
        context = input_field()
        intent: str = output_field(pattern="^[a-z]+$")
        helper = 3

    class Further(Triage):
        """Further."""

        urgency: Annotated[float, pydantic.Field(ge=0, le=1)] = output_field("how urgent")

    sig = signature(Further)
    assert (sig.name, sig.instructions) == ("Further", "Further.")
    assert list(sig.inputs) == ["message", "k", "context"]
    assert list(sig.outputs) == ["intent", "urgency"]
    assert sig.inputs["k"].default == 3
    assert sig.inputs["context"].takes_any
    assert sig.outputs["intent"].constraints == {"pattern": "^[a-z]+$"}
    assert sig.outputs["urgency"].constraints == {"ge": 0, "le": 1}
    assert signature(Further, name="Other").name == "Other"


def test_a_pydantic_model_with_dspys_marks() -> None:
    class Marked(pydantic.BaseModel):
        text: str = dspy.InputField(desc="the text")
        label: int = dspy.OutputField(ge=1)

    class Bare:
        text: str = dspy.InputField(desc="the text")
        label: int = dspy.OutputField(ge=1)
        other: int = pydantic.Field(3)

    for cls in (Marked, Bare):
        sig = signature(cls)
        assert sig.inputs["text"].description == "the text"
        assert sig.outputs["label"].type is int
        assert sig.outputs["label"].constraints == {"ge": 1}
        assert list(sig.fields) == ["text", "label"]


def test_a_class_without_marks_says_what_to_do() -> None:
    with pytest.raises(SignatureError, match="no fields that are marked as inputs or outputs") as caught:
        signature(Item)
    assert "input_field()" in (caught.value.hint or "")


def test_wrong_constraints_are_named() -> None:
    class Wrong:
        x: int = input_field(gee=3)

    with pytest.raises(SignatureError, match=r"unknown constraint 'gee'. Did you mean 'ge'"):
        signature(Wrong)


def test_a_signature_and_a_class_of_dspys_pass_through() -> None:
    class Qa(dspy.Signature):
        """Answer."""

        question: str = dspy.InputField()
        answer: str = dspy.OutputField()

    sig = signature(Qa)
    assert (sig.name, sig.instructions) == ("Qa", "Answer.")
    assert signature(sig) is sig
    assert signature(sig, name="Other").name == "Other"
    assert signature(sig, name="Other") == sig
    assert signature(Qa, name="Other").name == "Other"


# -- names ------------------------------------------------------------------------------------------------------------
Global = Data


def test_names_come_from_the_callers_locals_then_globals_then_its_callers() -> None:
    class Local(pydantic.BaseModel): ...

    Tuple = Model  # noqa: N806 (goes before typing.Tuple, as names do)

    assert signature("x: Local -> y: list[Global]").inputs["x"].type is Local
    assert signature("x: Global -> y").inputs["x"].type is Data
    assert signature("x: Tuple -> y").inputs["x"].type is Tuple

    def inner() -> Signature:
        return signature("x: dict[str, Local] -> y")

    assert inner().inputs["x"].type == dict[str, Local]


def test_a_variable_that_is_no_type_does_not_hide_one() -> None:
    str = "text"  # noqa: A001, F841
    date = "today"  # noqa: F841
    assert signature("x: str -> y").inputs["x"].type is builtins.str
    with pytest.raises(SignatureError, match="date is a str value, not a type"):
        signature("x: date -> y")


def test_a_method_of_a_class_does_not_hide_the_module_of_its_name() -> None:
    import datetime

    assert signature("x: datetime.date -> y", types={"datetime": datetime.datetime}).inputs["x"].type is datetime.date


def test_given_types_are_all_there_are() -> None:
    with pytest.raises(SignatureError, match="unknown type 'Item'"):
        signature("x: Item -> y", types={})
    assert signature("x: Thing -> y", types={"Thing": Item}).inputs["x"].type is Item


def test_looking_stops_at_the_module_that_called() -> None:
    code = "from dspex_lab.signatures import signature\nsig = signature('x: Odd -> y')"
    Odd = Item  # noqa: F841, N806 (is on the stack, but above a module)
    with pytest.raises(SignatureError, match="unknown type 'Odd'"):
        exec(code, {"__name__": "cell"})  # noqa: S102


def test_a_namespace_lists_its_types_for_suggestions_and_for_annotations() -> None:
    view = _build._View(MappingNamespace({"Item": Item, "n": 3}))
    assert (list(view), len(view), view["n"]) == (["Item"], 1, 3)
    with pytest.raises(KeyError):
        view["other"]


def test_frames_of_this_package_are_passed_over() -> None:
    names: dict[str, Any] = {"__name__": "dspex_lab.pipelines._graph", "Item": Data}
    exec("from dspex_lab.signatures import signature\ndef make(): return signature('x: Item -> y')", names)  # noqa: S102
    assert names["make"]().inputs["x"].type is Item


def test_without_frames_only_known_names_are_known() -> None:
    nowhere = FrameNamespace(None)
    assert nowhere.near("int") is nowhere.get("int")
    assert list(nowhere.names()) == []
    assert _build.from_text("x: int -> y", nowhere, "N").inputs["x"].type is int


def test_nothing_unknown_is_imported() -> None:
    sys.modules.pop("antigravity", None)
    for text in ("x: antigravity -> y", "x: antigravity.Fly -> y", "x: this.That -> y = antigravity.fly"):
        with pytest.raises(SignatureError):
            signature(text)
    assert "antigravity" not in sys.modules
    assert "this" not in sys.modules


# -- what is kept -----------------------------------------------------------------------------------------------------
def test_the_same_text_with_the_same_types_is_the_same_signature() -> None:
    assert signature("q: str, i: Item -> a") is signature("q: str, i: Item -> a")
    assert signature("q -> a", name="One") is not signature("q -> a", name="Two")


def test_redefining_a_type_makes_another_signature() -> None:
    def define() -> type:
        class Thing(pydantic.BaseModel): ...

        return Thing

    namespace: dict[str, Any] = {"Thing": define()}
    first = signature("x: list[Thing] -> y", types=namespace)
    assert signature("x: list[Thing] -> y", types=namespace) is first
    namespace["Thing"] = define()
    second = signature("x: list[Thing] -> y", types=namespace)
    assert second is not first
    assert second.inputs["x"].type == types.GenericAlias(list, (namespace["Thing"],))
    assert second != first
    del namespace["Thing"]
    with pytest.raises(SignatureError):
        signature("x: list[Thing] -> y", types=namespace)


def test_shadowing_a_builtin_later_is_seen() -> None:
    namespace: dict[str, Any] = {}
    assert signature("x: List[int] -> y: float", types=namespace).outputs["y"].type is float
    namespace["float"] = Item
    assert signature("x: List[int] -> y: float", types=namespace).outputs["y"].type is Item


def test_the_cache_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_build, "CACHE_SIZE", 10)
    for number in range(40):
        signature(f"bound{number} -> b")
    assert len(_build._cache) <= 10
    first = signature("bound39 -> b")
    assert signature("bound39 -> b") is first


def test_signatures_and_fields_are_immutable() -> None:
    sig = signature("q -> a")
    for thing, name in ((sig, "name"), (sig.inputs["q"], "type")):
        with pytest.raises(AttributeError, match="immutable"):
            setattr(thing, name, "x")
        with pytest.raises(AttributeError, match="immutable"):
            delattr(thing, name)
    with pytest.raises(TypeError):
        sig.inputs["z"] = sig.inputs["q"]  # type: ignore[index]
    with pytest.raises(TypeError):
        sig.inputs["q"].constraints["ge"] = 3  # type: ignore[index]


def test_replace_changes_only_what_is_said() -> None:
    sig = signature("q: int[1..5] -> a")
    longer = sig.replace(fields=[*sig.fields.values(), Field("b", bool, role="output")])
    assert longer.instructions == "Given the fields `q`, produce the fields `a`, `b`."
    assert sig.replace(instructions="Do.").replace(fields=longer.fields.values()).instructions == "Do."
    assert sig.replace(name="N").name == "N"


def test_a_field_needs_a_name_that_can_be_one() -> None:
    with pytest.raises(SignatureError, match="'a b' is not a valid name") as caught:
        Field("a b")
    assert caught.value.hint == "Choose another name."
    with pytest.raises(SignatureError, match="given twice"):
        Signature([Field("a"), Field("a", role="output")])


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
def test_signatures_travel(dumps: Callable[[Any], bytes]) -> None:
    sig = signature('"""Do.\n  So."""\nx: list[Item][1..3], k: int = 3 # how many\n -> y: Data, s: str[/a/]', name="N")
    sig.validate_inputs({"x": [Item(n=1)]})
    sig.to_dspy()
    back = pickle.loads(dumps(sig))  # noqa: S301
    assert back == sig
    assert (back.name, str(back), hash(back)) == ("N", str(sig), hash(sig))
    assert back.validate_inputs({"x": [{"n": 1}]}) == {"x": [Item(n=1)], "k": 3}
    assert pickle.loads(dumps(MISSING)) is MISSING  # noqa: S301


def test_types_found_in_a_module_travel_too() -> None:
    sig = signature("x: other.Item -> y: functools.partial", types={"other": sys.modules[__name__], "functools": functools})
    back = pickle.loads(pickle.dumps(sig))  # noqa: S301
    assert back == sig
    assert str(back) == "x: other.Item -> y: functools.partial"
    assert signature(str(back), types=back.types) == sig


def test_importing_the_room_is_cheap() -> None:
    code = """
import sys
import types
from dspex_lab.signatures import signature
signature("question: str, n: int[1..5], c: list[datetime.date] -> answer: Literal['a', 'b'] # hm")
heavy = {"dspy", "pydantic", "pandas", "panel"} & sys.modules.keys()
assert not heavy, heavy
signature("a: int = 3, b: list[int] = [3] -> c").validate_inputs({"a": 1})
assert "dspy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


Pair = namedtuple("Pair", "left right")


def test_an_old_named_tuple_has_members_of_any_type() -> None:
    def step(x: int) -> Pair: ...  # type: ignore[empty-body]

    assert {name: field.type for name, field in signature(step).outputs.items()} == {"left": Any, "right": Any}
