"""What is remembered of tasks that killed their workers."""

from __future__ import annotations

import pytest
from clocks import Clock
from pool_links import job

from dspex_lab.pools._poison import LIMIT, MEMORY, Poison, identity_of
from dspex_lab.pools._wire import Packed


def test_two_deaths_are_too_many_and_an_hour_forgets_them() -> None:
    clock = Clock()
    poison = Poison(clock)
    assert poison.against(job()) is None
    for number in range(LIMIT):
        assert poison.against(job()) is None
        poison.count(job(), f"death {number}")
        clock.now += 10
    assert poison.against(job()) == ["death 0", "death 1"]
    clock.now += MEMORY - 15
    assert poison.against(job()) is None  # the first is forgotten
    clock.now += MEMORY
    assert poison.against(job()) is None
    assert len(poison) == 0


def test_of_several_that_ran_there_each_has_its_share_of_the_blame() -> None:
    poison = Poison()
    for _ in range(LIMIT * 3 - 1):
        poison.count(job(), "it died", 3)
        assert poison.against(job()) is None
    poison.count(job(), "it died", 3)
    assert poison.against(job())


def test_others_are_not_to_blame() -> None:
    poison = Poison()
    for _ in range(2):
        poison.count(job(), "it died")
    assert poison.against(job(arguments=b"others")) is None
    assert poison.against(job(function="another")) is None
    assert poison.against(job(identity="named")) is None


def test_a_name_of_ones_own_goes_before_function_and_arguments() -> None:
    poison = Poison()
    for arguments in (b"1", b"2"):
        poison.count(job(identity="row 7", arguments=arguments), "it died")
    assert poison.against(job(identity="row 7", function="other", arguments=b"3")) == ["it died", "it died"]
    assert poison.against(job(arguments=b"1")) is None


def test_pardon_is_for_one_or_for_all() -> None:
    poison = Poison()
    for name in ("a", "b"):
        for _ in range(2):
            poison.count(job(name, identity=name), "it died")
    assert poison.pardon("nobody") == []
    assert poison.pardon("a") == ["a"]
    assert poison.against(job(identity="a")) is None
    assert poison.against(job(identity="b"))
    assert poison.pardon() == ["b"]
    assert len(poison) == 0


def test_arguments_are_looked_at_only_where_the_function_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    poison = Poison()
    poison.count(job(), "it died")
    monkeypatch.setattr("dspex_lab.pools._poison.identity_of", lambda job: pytest.fail("it was looked at"))
    assert poison.against(job(function="another")) is None


def test_large_buffers_are_told_apart_by_their_size_and_ends() -> None:
    def large(head: bytes = b"h", buffer: bytes = bytes(3_000_000), shared: object = None) -> str:
        made = job()
        made.parcel.arguments = Packed(head, [buffer], size=len(buffer), shared=shared)  # type: ignore[arg-type]
        return identity_of(made)

    assert large() == large()
    different = {
        large(),
        large(b"i"),
        large(buffer=bytes(3_000_001)),
        large(buffer=b"\1" + bytes(2_999_999)),
        large(buffer=bytes(2_999_999) + b"\1"),
        large(shared=("somewhere", (1, 2))),
        large(shared=("somewhere", (1, 3))),
    }
    assert len(different) == 7
    assert large(shared=("somewhere", (1, 2))) == large(shared=("elsewhere", (1, 2)))
