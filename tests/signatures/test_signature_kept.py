"""Which names the text of a signature may use, and what is kept of a signature."""

from __future__ import annotations

import builtins
import functools
import pickle
import subprocess
import sys
import types
from collections.abc import Callable
from typing import Any

import cloudpickle
import pydantic
import pytest
from signature_types import Data, Item, Model

from dspex_lab.errors import SignatureError
from dspex_lab.signatures import MISSING, Field, Signature, _build, signature
from dspex_lab.signatures._namespace import FrameNamespace, MappingNamespace

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
