"""The registry behind validators, metrics and template filters."""

from __future__ import annotations

import threading

import pytest

from dspex_lab.errors import ConfigurationError
from dspex_lab.native import Registry


def test_a_value_is_found_by_its_name_and_by_the_decorator() -> None:
    registry: Registry[object] = Registry("thing")
    assert registry.register("one", 1) == 1

    @registry.register("two")
    def two() -> int:
        return 2

    assert registry.get("one") == 1
    assert registry.get("two") is two
    assert registry.names() == ("one", "two") == tuple(registry)
    assert "one" in registry
    assert 1 not in registry
    assert len(registry) == 2
    assert repr(registry) == "<Registry of 2 things>"


def test_a_taken_name_is_refused_unless_it_is_replaced_or_the_same() -> None:
    registry: Registry[object] = Registry("thing")
    first, second = object(), object()
    registry.register("x", first)
    registry.register("x", first)
    with pytest.raises(ConfigurationError, match=r"already a thing named 'x'.*replace=True"):
        registry.register("x", second)
    assert registry.get("x") is first
    registry.register("x", second, replace=True)
    assert registry.get("x") is second

    @registry.register("x", replace=True)
    def third() -> None: ...

    assert registry.get("x") is third


def test_none_is_a_value() -> None:
    registry: Registry[object] = Registry("thing")
    registry.register("nothing", None)
    assert registry.get("nothing") is None


def test_an_unknown_name_gets_the_nearest_and_the_known_ones() -> None:
    registry: Registry[int] = Registry("metric")
    with pytest.raises(ConfigurationError, match="No metric is registered yet"):
        registry.get("f1")
    registry.register("exact_match", 1)
    with pytest.raises(
        ConfigurationError, match=r"no metric named 'exactmatch'. Did you mean 'exact_match'\? Known: exact_match."
    ):
        registry.get("exactmatch")
    with pytest.raises(ConfigurationError, match="no metric named 3"):
        registry.get(3)  # type: ignore[arg-type]
    for number in range(30):
        registry.register(f"m{number}", number)
    with pytest.raises(ConfigurationError, match=", …"):
        registry.get("zzz")


def test_a_name_can_be_taken_out() -> None:
    registry: Registry[int] = Registry("metric")
    registry.register("x", 1)
    assert registry.unregister("x") == 1
    assert "x" not in registry
    with pytest.raises(ConfigurationError, match="no metric named 'x'"):
        registry.unregister("x")


@pytest.mark.parametrize("name", ["", " ", " x", "x ", 3, None])
def test_only_a_name_is_a_name(name: object) -> None:
    with pytest.raises(ConfigurationError, match="registered under a name"):
        Registry("metric").register(name, 1)  # type: ignore[call-overload]


def test_of_many_threads_one_gets_the_name() -> None:
    registry: Registry[object] = Registry("thing")
    outcomes: list[object] = []
    start = threading.Barrier(8)

    def take() -> None:
        mine = object()
        start.wait()
        try:
            outcomes.append(registry.register("x", mine))
        except ConfigurationError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [o for o in outcomes if not isinstance(o, ConfigurationError)]
    assert won == [registry.get("x")]
    assert len(outcomes) == 8
