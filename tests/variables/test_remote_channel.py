"""The channel within one process is one, and a space is served under a plain name."""

from __future__ import annotations

from typing import Any

import pytest
from remote_helpers import Hub

from dspex_lab.errors import Unserialisable, VariableError
from dspex_lab.variables._remote import topics


def test_messages_arrive_in_order_at_all_who_subscribed_until_they_do_not_want_them(hub: Hub) -> None:
    one: list[Any] = []
    two: list[Any] = []
    hub.subscribe("a", one.append)
    end = hub.subscribe("a", two.append)
    for number in range(3):
        hub.publish("a", {"number": number})
    hub.settle()
    end()
    hub.publish("a", {"number": 3})
    hub.publish("b", {"number": 4})
    hub.settle()
    assert [message["number"] for message in one] == [0, 1, 2, 3]
    assert [message["number"] for message in two] == [0, 1, 2]


def test_a_handler_that_raises_is_logged_and_breaks_nothing(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Any] = []
    hub.subscribe("a", lambda message: 1 / 0)
    hub.subscribe("a", heard.append)
    hub.publish("a", {})
    hub.settle()
    assert heard == [{}]
    assert "a handler of a raised" in caplog.text


def test_what_is_no_json_or_too_large_is_refused(hub: Hub) -> None:
    with pytest.raises(Unserialisable, match="no JSON"):
        hub.publish("a", {"x": object()})
    with pytest.raises(Unserialisable, match="more than"):
        hub.publish("a", {"x": "y" * 100_000})


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 101, None, "ü"])
def test_a_space_is_served_under_a_plain_name(name: Any) -> None:
    with pytest.raises(VariableError, match="cannot be served as"):
        topics(name)
    assert topics("default") == ("dspex.space.default.ask", "dspex.space.default.told")
