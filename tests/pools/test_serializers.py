"""Types that travel in a way of their own."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import dspex_lab.pools._serializers as room
from dspex_lab.errors import ConfigurationError, Unserialisable
from dspex_lab.pools._carry import decode, pack
from dspex_lab.pools._frames import dumps, unpack
from dspex_lab.pools._frames import pack as pack_value
from dspex_lab.pools._host import Host
from dspex_lab.pools._serializers import (
    REGISTRY,
    Registry,
    Serializer,
    leave_behind,
    register_serializer,
    unregister_serializer,
)

PLACE = {"pool": "p", "worker": "p-0", "label": "f"}


class Client:
    def __init__(self, url: str) -> None:
        self.url, self.lock = url, threading.Lock()


class Special(Client):
    pass


class VerySpecial(Special):
    pass


def url_of(client: Client) -> str:
    return client.url


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is forgotten."""
    before, behind = dict(REGISTRY.serializers), dict(REGISTRY._behind)
    yield
    for kind in set(REGISTRY.serializers) - set(before):
        unregister_serializer(kind)
    REGISTRY._behind.clear()
    REGISTRY._behind.update(behind)
    REGISTRY._known.clear()


def there(value: Any) -> Any:
    return unpack(pack_value(value))


def test_a_registered_type_travels_and_its_subclasses_do() -> None:
    with pytest.raises(TypeError):
        there(Client("a"))
    register_serializer(Client, to_worker=url_of, from_worker=Client)
    assert there({"c": [Client("a")]})["c"][0].url == "a"
    assert type(there(Special("b"))) is Client
    register_serializer(Special, to_worker=url_of, from_worker=Special)
    assert type(there(VerySpecial("c"))) is Special  # the nearest
    assert type(there(Client("a"))) is Client
    unregister_serializer(Special)
    assert type(there(Special("b"))) is Client
    unregister_serializer(Client)
    with pytest.raises(TypeError):
        there(Client("a"))


def test_one_object_is_one_object_at_the_other_end() -> None:
    register_serializer(Client, to_worker=url_of, from_worker=Client)
    client = Client("a")
    one, two = there([client, client])
    assert one is two


def test_a_second_serialiser_is_refused_but_not_the_same_cell_again() -> None:
    register_serializer(Client, to_worker=url_of, from_worker=Client)
    register_serializer(Client, to_worker=url_of, from_worker=Client)
    with pytest.raises(ConfigurationError, match=r"Client has a serialiser: .*url_of") as caught:
        register_serializer(Client, to_worker=vars, from_worker=Client)
    assert "unregister_serializer" in str(caught.value)

    def cell() -> Callable[[Client], str]:
        def shorten(client: Client) -> str:
            return client.url

        return shorten

    register_serializer(Special, to_worker=cell(), from_worker=Special)
    register_serializer(Special, to_worker=cell(), from_worker=Special)


@pytest.mark.parametrize("kind", [int, str, list, dict, object, type, None, "Client", Client("a")])
def test_what_cannot_have_a_serialiser_is_refused(kind: Any) -> None:
    with pytest.raises(ConfigurationError, match="cannot have a serialiser"):
        register_serializer(kind, to_worker=str, from_worker=str)


@pytest.mark.parametrize("bad", [{"to_worker": 3, "from_worker": Client}, {"to_worker": url_of, "from_worker": "Client"}])
def test_what_is_no_function_is_refused(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"(to|from)_worker of Client is"):
        register_serializer(Client, **bad)
    assert Client not in REGISTRY.serializers


def test_a_serialiser_that_fails_is_named_with_the_part() -> None:
    def to_worker(client: Client) -> str:
        raise ValueError("no url")

    register_serializer(Client, to_worker=to_worker, from_worker=Client)
    with pytest.raises(Unserialisable, match=r"obj\['c'\] is a Client \(no url\)") as caught:
        pack(len, ({"c": Client("a")},), pool="p")
    assert caught.value.path == "obj['c']"


def test_a_worker_that_never_saw_the_type_can_send_it_back() -> None:
    """As in another process: its registry begins empty."""
    register_serializer(Client, to_worker=lambda client: client.url, from_worker=lambda url: Client(url + "!"))
    call = pack(Client, ("a",), pool="p").call("7", send=True)
    unregister_serializer(Client)
    assert call.code is not None
    assert call.code.serializers[1]
    reply = Host().work(call)
    assert decode(reply, **PLACE).url == "a!"


def test_a_change_of_serialisers_is_a_change_of_the_code() -> None:
    before = pack(abs, (1,), pool="p").digest
    assert pack(abs, (2,), pool="p").digest == before
    register_serializer(Client, to_worker=url_of, from_worker=Client)
    after = pack(abs, (1,), pool="p").digest
    assert after != before
    unregister_serializer(Client)
    assert pack(abs, (1,), pool="p").digest == before


def test_a_registry_takes_over_anothers_once() -> None:
    here, elsewhere = Registry(), Registry()
    elsewhere.register(Serializer(Client, url_of, Client))
    packed = elsewhere.packed(dumps)
    assert elsewhere.packed(dumps) is packed
    here.adopt(packed)
    assert here.serializers[Client].to_worker is url_of
    here.adopt((b"not looked at again", packed[1]))
    here.adopt((b"", ""))
    elsewhere.adopt((b"its own", packed[1]))


def test_the_ways_of_many_types_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_REMEMBERED", 10)
    registry = Registry()
    for number in range(100):
        assert registry.find(type(f"K{number}", (), {})) is None
    assert len(registry._known) <= 10


# ---- what stays behind ---------------------------------------------------------------------------------------------


class Module:
    def __init__(self) -> None:
        self.history, self.name = ["secret"], "m"


class Program(Module):
    def __init__(self) -> None:
        super().__init__()
        self.traces = ["t"]


class Slotted:
    __slots__ = ("history",)


class Itself:
    def __reduce__(self) -> Any:
        return Itself, ()


def test_attributes_stay_behind_for_a_type_that_is_named() -> None:
    name = f"{__name__}.Module"
    leave_behind(name, history=list)
    leave_behind(f"{__name__}.Program", traces=list)
    program = Program()
    back = there(program)
    assert (back.history, back.traces, back.name) == ([], [], "m")
    assert type(back) is Program
    assert (program.history, program.traces) == (["secret"], ["t"])
    assert b"secret" not in pack_value(program).head


def test_what_has_no_such_state_travels_as_it_does() -> None:
    for kind in ("Slotted", "Itself"):
        leave_behind(f"{__name__}.{kind}", history=list)
    slotted = Slotted()
    slotted.history = [1]
    assert there(slotted).history == [1]
    assert isinstance(there(Itself()), Itself)


def test_the_history_of_a_dspy_model_can_be_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    import dspy

    monkeypatch.setenv("OPENAI_API_KEY", "k")

    leave_behind("dspy.clients.base_lm.BaseLM", history=list)
    leave_behind("dspy.predict.predict.Predict", traces=list)
    lm = dspy.LM("openai/x", api_key="k")
    lm.history.append({"prompt": "what a worker saw"})
    program = dspy.ChainOfThought("question -> answer")
    program.history.append({"prompt": "what a worker saw"})
    program.predict.traces.append("what a worker saw")
    program.predict.lm = lm
    packed = pack_value(program)
    assert b"what a worker saw" not in packed.head
    back = unpack(packed)
    assert (back.history, back.predict.lm.history, back.predict.traces) == ([], [], [])
    assert back.predict.lm.model == "openai/x"
    assert lm.history


def test_a_module_that_is_imported_late_travels_by_name() -> None:
    import types

    class Late(types.ModuleType):
        pass

    late = Late("json")
    assert there(late) is pickle.sys.modules["json"]  # type: ignore[attr-defined]


def test_what_is_registered_while_the_others_are_pickled_travels_with_the_next_call() -> None:
    registry = Registry()
    registry.register(Serializer(Client, url_of, Client))

    def dumps(serializers: list[Serializer]) -> bytes:
        if len(serializers) == 1:
            registry.register(Serializer(Special, url_of, Special))
        return str(len(serializers)).encode()

    assert registry.packed(dumps)[0] == b"1"
    assert registry.packed(dumps)[0] == b"2"
    assert registry.packed(pytest.fail)[0] == b"2"
