"""What travels, and what is said of what cannot."""

from __future__ import annotations

import functools
import pickle
import sys
import threading
from typing import Any

import pytest

from dspex_lab.errors import OutOfMemory, PoolError, Unserialisable
from dspex_lab.pools._carry import decode, encode, encode_error, find_culprit, name_of, pack
from dspex_lab.pools._host import CACHE, Host

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
        (Holder(LOCK), "x → attribute 'value'"),
        (Slotted(LOCK), "x → attribute 'inner'"),
        (OneSlot(LOCK), "x → attribute 'only'"),
        ({"a": [1, (2, LOCK)]}, "x → ['a'] → [1] → [1]"),
        (Holder(LOCK).method, "x → its object → attribute 'value'"),
        (functools.partial(print, LOCK), "x → the partial's argument 1"),
        (functools.partial(print, end=LOCK), "x → the partial's argument 'end'"),
        (functools.partial(Holder(LOCK).method), "x → the partial's function → its object → attribute 'value'"),
        (local_function(LOCK), "x → closure 'lock'"),
        (from_source("def f(client=client): ...", client=LOCK), "x → default 1"),
        (from_source("def f(*, client=client): ...", client=LOCK), "x → default 'client'"),
        (from_source("def f():\n def g(): return client\n return g", client=LOCK), "x → global 'client'"),
        (frozenset({LOCK}), f"x → member {LOCK!r}"),
        (LOCK, "x"),
    ],
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

    assert find_culprit([("x", outer())])[0] == "x → closure 'LOCK2'"


def test_values_that_fail_only_as_a_whole_are_named_at_the_top() -> None:
    assert find_culprit([("x", 1), ("y", 2)]) == ("x", 1)


def test_the_error_says_what_where_and_what_to_do() -> None:
    with pytest.raises(Unserialisable) as caught:
        pack(len, ([LOCK],), pool="general")
    assert caught.value.path == "argument 1 → [0]"
    assert str(caught.value).startswith("len cannot be sent to pool 'general': argument 1 → [0] is a lock (")
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
    with pytest.raises(PoolError, match=r"The result of f came back .* could not be loaded: ModuleNotFoundError"):
        decode(("value", b"cno_such_module\nf\n."), **PLACE)


def test_memory_has_its_own_error_and_remedy() -> None:
    with pytest.raises(OutOfMemory, match="f needed more memory") as caught:
        decode(encode_error(MemoryError()), **PLACE)
    assert "DSPEX_POOL_GENERAL_MEMORY" in str(caught.value.hint)


def test_memory_that_runs_out_while_packing_a_result_is_not_taken_for_an_unserialisable_one() -> None:
    class Greedy:
        def __reduce__(self) -> Any:
            raise MemoryError

    with pytest.raises(MemoryError):
        encode(Greedy())


# ---- the host, in this process -------------------------------------------------------------------------------------


def work(host: Host, function: Any, *args: Any, send: bool = True) -> Any:
    task = pack(function, args, pool="general")
    return host.work(task.digest, task.code if send else None, task.arguments)


def test_a_host_says_when_it_has_not_got_the_function_and_keeps_it_when_sent() -> None:
    host = Host()
    assert work(host, abs, -1, send=False) == ("missing", b"")
    assert decode(work(host, abs, -1), **PLACE) == 1
    assert decode(work(host, abs, -2, send=False), **PLACE) == 2


def test_a_host_forgets_what_was_not_used_for_long() -> None:
    host = Host()
    work(host, abs, -1)
    for number in range(CACHE):
        work(host, functools.partial(max, number), 0)
    assert work(host, abs, -1, send=False)[0] == "missing"


def test_a_host_says_what_it_cannot_load() -> None:
    host = Host()
    with pytest.raises(PoolError, match=r"f could not be loaded in worker general-0 .*no_such_module"):
        decode(host.work("d", (b"cno_such_module\nf\n.", []), pickle.dumps(())), **PLACE)
    with pytest.raises(PoolError, match="no_such_module"):
        decode(host.work("e", (pickle.dumps(abs), []), b"cno_such_module\nf\n."), **PLACE)


def test_memory_that_runs_out_while_loading_is_out_of_memory() -> None:
    class Greedy:
        def __reduce__(self) -> Any:
            return run_out, ()

    assert work(Host(), len, Greedy())[0] == "memory"


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

    _, payload = work(Host(), mine)
    text = pickle.loads(payload)[-1]  # noqa: S301
    assert "in mine" in text
    assert "_host.py" not in text


def test_a_hosts_path_grows_by_the_kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    Host().work("d", (pickle.dumps(abs), [str(tmp_path)]), pickle.dumps((1,)))
    assert sys.path[-1] == str(tmp_path)
