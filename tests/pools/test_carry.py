"""What travels, and what is said of what cannot."""

from __future__ import annotations

import dataclasses
import functools
import pickle
import sys
import threading
from typing import Any

import dspy
import pytest

import dspex_lab.pipelines  # noqa: F401 - says how models travel
from dspex_lab.errors import GpuOutOfMemory, OutOfMemory, PoolError, TaskImportError, Unserialisable
from dspex_lab.pools._carry import decode, encode, encode_error, pack
from dspex_lab.pools._culprit import find_culprit, name_of
from dspex_lab.pools._host import CACHE, Host
from dspex_lab.pools._task import TaskCancelled
from dspex_lab.pools._wire import Call, Code, Packed, Reply

PLACE = {"pool": "general", "worker": "general-0", "label": "f"}


class Holder:
    def __init__(self, value: object) -> None:
        self.value = value

    def method(self) -> None: ...


class Slotted:
    __slots__ = ("inner", "unset")

    def __init__(self, inner: object) -> None:
        self.inner = inner


class OneSlot:
    __slots__ = "only"

    def __init__(self, only: object) -> None:
        self.only = only


def keyword(*, client: Any = None) -> None: ...


def positional(client: Any = None) -> None: ...


def local_function(lock: object) -> Any:
    def outer() -> Any:
        return lambda: lock

    return outer


def from_source(source: str, **names: object) -> Any:
    """As a cell would define it: in a namespace that is no module."""
    space: dict[str, Any] = {"__name__": "__main__", **names}
    exec(source, space)  # noqa: S102
    return space["f"]


LOCK = threading.Lock()


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (Holder(LOCK), "x.value"),
        (Slotted(LOCK), "x.inner"),
        (OneSlot(LOCK), "x.only"),
        ({"a": [1, (2, LOCK)]}, "x['a'][1][1]"),
        (Holder(LOCK).method, "x.__self__.value"),
        (functools.partial(print, LOCK), "x.args[0]"),
        (functools.partial(print, end=LOCK), "x.keywords['end']"),
        (functools.partial(Holder(LOCK).method), "x.func.__self__.value"),
        (local_function(LOCK), "x.<closure lock>"),
        (from_source("def f(client=client): ...", client=LOCK), "x.<default client>"),
        (from_source("def f(*, client=client): ...", client=LOCK), "x.<default client>"),
        (from_source("def f():\n def g(): return client\n return g", client=LOCK), "x.<global client>"),
        (frozenset({LOCK}), "x.<member a lock>"),
        (LOCK, "x"),
    ],
    ids=lambda value: "" if "0x" in str(value) else str(value),
)
def test_the_part_that_cannot_travel_is_found(value: object, path: str) -> None:
    found, part = find_culprit([("fine", 1), ("x", value)])
    assert found == path
    assert part is LOCK


def test_a_closure_over_a_name_not_yet_bound_does_not_stop_the_search() -> None:
    def outer() -> Any:
        def inner() -> Any:
            return early, LOCK2

        LOCK2 = threading.Lock()  # noqa: N806
        if not LOCK2:
            early = 1
        return inner

    assert find_culprit([("x", outer())])[0] == "x.<closure LOCK2>"


@dataclasses.dataclass
class Client:
    lock: Any = dataclasses.field(default_factory=threading.Lock)
    url: str = "http://x"


@dataclasses.dataclass
class Config:
    client: Client = dataclasses.field(default_factory=Client)


class Hidden:
    __slots__ = ("__inner",)

    def __init__(self) -> None:
        self.__inner = LOCK


def refused(function: Any, *args: Any) -> Unserialisable:
    with pytest.raises(Unserialisable) as caught:
        pack(function, args, pool="general")
    return caught.value


def test_a_path_begins_with_the_name_of_the_parameter() -> None:
    def find_orders(config: Config, /, limit: int, *more: Any, key: Any = None) -> None: ...

    assert refused(find_orders, Config(), 1).path == "config.client.lock"
    assert refused(find_orders, 1, Config()).path == "limit.client.lock"
    assert refused(find_orders, 1, 2, 3, Config()).path == "args[3].client.lock"
    assert refused(functools.partial(find_orders, 1), Config()).path == "limit.client.lock"
    assert refused(print, [Config()]).path == "args[0][0].client.lock"
    assert refused(max, Config()).path == "args[0].client.lock"


def test_private_slots_keys_and_classes_have_paths() -> None:
    assert refused(abs, Hidden()).path == "x._Hidden__inner"
    assert refused(abs, {LOCK: 1}).path == "x.<key a lock>"
    kind = type("Kind", (), {"__module__": "__main__", "lock": LOCK})
    assert refused(abs, kind).path == "x.lock"
    assert refused(abs, kind()).path == "x.lock" or refused(abs, kind()).path == "x"
    assert refused(abs, type("L", (list,), {"__module__": "__main__"})([LOCK])).path == "x[0]"


def test_generators_are_named_with_the_remedy() -> None:
    with pytest.raises(Unserialisable, match=r"result is a generator \(.*pool\.stream") as caught:
        decode(encode(n for n in range(3)), **PLACE)
    assert caught.value.path == "result"
    assert refused(abs, (n for n in range(3))).path == "x"
    with open(__file__, "rb") as file:
        assert refused(abs, [file]).path == "x[0]"


def test_a_duckdb_connection_is_named() -> None:
    import duckdb

    with duckdb.connect() as connection:
        assert refused(abs, {"db": connection}).path == "x['db']"
        assert "DuckDBPyConnection" in str(refused(lambda: connection))
        assert refused(lambda: connection).path == "<lambda>.<closure connection>"


def test_what_dspy_wraps_travels() -> None:
    """It holds modules that are imported when first used, which cloudpickle alone cannot carry."""
    import dspy
    from dspy.utils.lazy_import import require

    lazy = require("wave", extra="none", feature="none")
    assert type(lazy).__name__ == "_LazyModule"
    assert pack(lambda: lazy, (), pool="p")
    for wrap in (dspy.streamify, dspy.asyncify):
        packed = pack(wrap(dspy.Predict("question -> answer")), (), pool="p")
        assert callable(pickle.loads(packed.code.function))  # noqa: S301


def test_values_that_fail_only_as_a_whole_are_named_at_the_top() -> None:
    assert find_culprit([("x", 1), ("y", 2)]) == ("x", 1)


def test_the_error_says_what_where_and_what_to_do() -> None:
    with pytest.raises(Unserialisable) as caught:
        pack(len, ([LOCK],), pool="general")
    assert caught.value.path == "obj[0]"
    assert str(caught.value).startswith("len cannot be sent to pool 'general': obj[0] is a lock (")
    assert caught.value.hint
    assert isinstance(caught.value.__cause__, TypeError)


def test_callables_have_names() -> None:
    assert [name_of(f) for f in (len, functools.partial(len), Holder(1).method, Slotted)] == ["len", "len", "method", "Slotted"]
    assert name_of(type("Callable", (), {"__call__": len})()) == "Callable"


def test_equal_functions_have_one_digest_and_others_another() -> None:
    assert pack(len, (1,), pool="p").digest == pack(len, (2,), pool="p").digest != pack(max, (1,), pool="p").digest


class Fussy(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("I stay here")


class Here(Exception):
    """Rebuilt in a worker, but not in the kernel."""

    at_home = False

    def __reduce__(self) -> Any:
        return rebuild_here, (str(self),)


def rebuild_here(text: str) -> Here:
    if Here.at_home:
        raise RuntimeError("not here")
    return Here(text)


def test_an_exception_that_refuses_to_travel_goes_as_text() -> None:
    with pytest.raises(PoolError, match="raised Fussy in worker general-0 of pool 'general': no"):
        decode(encode_error(Fussy("no")), **PLACE)


def test_an_exception_that_cannot_be_rebuilt_in_the_kernel_is_a_pool_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reply = encode_error(Here("gone"))
    monkeypatch.setattr(Here, "at_home", True)
    with pytest.raises(PoolError, match=r"raised Here .*: gone"):
        decode(reply, **PLACE)


def test_a_result_that_cannot_be_loaded_is_said() -> None:
    with pytest.raises(PoolError, match=r"What f sent .* could not be loaded: ModuleNotFoundError"):
        decode(Reply("value", Packed(b"cno_such_module\nf\n.")), **PLACE)


def test_memory_has_its_own_error_and_remedy() -> None:
    with pytest.raises(OutOfMemory, match="f needed more memory") as caught:
        decode(encode_error(MemoryError()), **PLACE)
    assert "DSPEX_POOL_GENERAL_MEMORY" in str(caught.value.hint)


@pytest.mark.parametrize(
    "error",
    [
        type("OutOfMemoryError", (RuntimeError,), {"__module__": "torch"})("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
        RuntimeError("CUDA error: out of memory"),
    ],
)
def test_memory_of_a_gpu_has_its_own_error_and_remedy(error: Exception) -> None:
    with pytest.raises(GpuOutOfMemory, match="f needed more memory of its GPU than worker general-0") as caught:
        decode(encode_error(error), **PLACE)
    assert "workers_per_gpu" in str(caught.value.hint)
    assert str(error) in str(caught.value)
    assert str(error) in str(caught.value.traceback)


def test_another_runtime_error_stays_itself() -> None:
    with pytest.raises(RuntimeError, match="disk full"):
        decode(encode_error(RuntimeError("disk full")), **PLACE)


def test_a_task_that_stops_by_itself_is_said_to_have_stopped() -> None:
    with pytest.raises(PoolError, match="f was asked to stop in worker general-0"):
        decode(encode_error(TaskCancelled()), **PLACE)


def test_memory_that_runs_out_while_packing_a_call_is_not_taken_for_an_unserialisable_part() -> None:
    class Greedy:
        def __reduce__(self) -> Any:
            raise MemoryError

    with pytest.raises(MemoryError):
        pack(len, (Greedy(),), pool="p")


def test_memory_that_runs_out_while_packing_a_result_is_not_taken_for_an_unserialisable_one() -> None:
    class Greedy:
        def __reduce__(self) -> Any:
            raise MemoryError

    with pytest.raises(MemoryError):
        encode(Greedy())


# ---- the host, in this process -------------------------------------------------------------------------------------


def work(host: Host, function: Any, *args: Any, send: bool = True) -> Any:
    task = pack(function, args, pool="general")
    return host.work(task.call("1", send=send))


def raw(host: Host, digest: str, code: bytes, arguments: bytes, *folders: str) -> Reply:
    return host.work(Call("1", digest, Code(code, list(folders)), Packed(arguments)))


def test_a_host_says_when_it_has_not_got_the_function_and_keeps_it_when_sent() -> None:
    host = Host()
    assert work(host, abs, -1, send=False).kind == "missing"
    assert decode(work(host, abs, -1), **PLACE) == 1
    assert decode(work(host, abs, -2, send=False), **PLACE) == 2


def test_a_host_forgets_what_was_not_used_for_long() -> None:
    host = Host()
    work(host, abs, -1)
    for number in range(CACHE):
        work(host, functools.partial(max, number), 0)
    assert work(host, abs, -1, send=False).kind == "missing"


def test_a_module_that_a_worker_lacks_is_named_with_what_to_do() -> None:
    host = Host()
    for reply in (
        raw(host, "d", b"cno_such_module\nf\n.", pickle.dumps(())),
        raw(host, "e", pickle.dumps(abs), b"cno_such_module\nf\n."),
    ):
        with pytest.raises(TaskImportError, match=r"f needs module 'no_such_module' that worker general-0 .* cannot") as caught:
            decode(reply, **PLACE)
        assert (caught.value.pool, caught.value.worker, caught.value.task) == ("general", "general-0", "f")
        assert "sys.path" in str(caught.value.hint)
        assert "ModuleNotFoundError" in str(caught.value.traceback)


def test_what_a_worker_cannot_load_for_another_reason_is_said() -> None:
    with pytest.raises(PoolError, match=r"f could not be loaded in worker general-0 .*attribute 'gone'") as caught:
        decode(raw(Host(), "d", b"cmath\ngone\n.", pickle.dumps(())), **PLACE)
    assert not isinstance(caught.value, TaskImportError)
    assert "restart the pool" in str(caught.value.hint)


def test_a_module_missed_by_the_function_itself_is_an_import_error_of_the_pool_only_if_the_kernel_has_it() -> None:
    def missing(name: str) -> Reply:
        return encode_error(ModuleNotFoundError(f"No module named {name!r}", name=name))

    with pytest.raises(TaskImportError, match=r"f needs module 'json\.nothing'"):
        decode(missing("json.nothing"), **PLACE)
    for name in ("no_such_module_at_all", ""):
        with pytest.raises(ModuleNotFoundError, match="No module named"):
            decode(missing(name), **PLACE)


def test_memory_that_runs_out_while_loading_is_out_of_memory() -> None:
    class Greedy:
        def __reduce__(self) -> Any:
            return run_out, ()

    assert work(Host(), len, Greedy()).kind == "memory"


def run_out() -> None:
    raise MemoryError


def test_a_host_keeps_one_loop_for_its_coroutines_and_closes_it() -> None:
    import asyncio

    async def loop() -> int:
        return id(asyncio.get_running_loop())

    host = Host()
    assert decode(work(host, loop), **PLACE) == decode(work(host, loop), **PLACE)
    host.leave()
    Host().leave()


def test_the_traceback_begins_at_the_users_frame() -> None:
    def mine() -> None:
        raise ValueError("x")

    text = pickle.loads(work(Host(), mine).body.head)[-1]  # noqa: S301
    assert "in mine" in text
    assert "_host.py" not in text


def test_a_hosts_path_grows_by_the_kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    raw(Host(), "d", pickle.dumps(abs), pickle.dumps((1,)), str(tmp_path))
    assert sys.path[-1] == str(tmp_path)


def test_the_path_to_a_part_says_nothing_of_what_is_secret_in_it() -> None:
    lm = dspy.LM("openai/some-model", api_key="hunter2-and-no-known-shape")
    lm._engine_store = {(None, (("api_key", "hunter2-and-no-known-shape"),)): LOCK}
    error = refused(abs, {"lm": lm})
    assert error.path == "x['lm']", "the model alone knows why"
    assert "secrets are not sent to workers" in str(error)
    assert "hunter2" not in str(error)
    assert refused(abs, {("api_key", "hunter2"): LOCK}).path == "x[a tuple]"
    assert refused(abs, {"sk-abcdefgh12345678901234": LOCK}).path == "x['[redacted]']"
    assert len(refused(abs, {"long " * 100: LOCK}).path) < 80
