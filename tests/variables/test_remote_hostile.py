"""Messages that anybody on the cluster may have sent: each is refused by name, and changes nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from remote_helpers import ASK, TOLD, Heard, Hub

from dspex_lab.errors import VariableError
from dspex_lab.variables import RemoteSpace, Served, Space
from dspex_lab.variables._remote_deeds import READS

GOOD: dict[str, Any] = {"protocol": 1, "from": "x", "number": 1, "low": 1, "epoch": None, "do": "hello", "args": {}}


@pytest.mark.parametrize(
    "change",
    [
        {"protocol": 2},
        {"protocol": None},
        {"from": None},
        {"from": "x" * 3000},
        {"number": "1"},
        {"number": True},
        {"low": []},
        {"epoch": 5},
        {"do": {}},
        {"args": [1]},
    ],
)
def test_messages_that_are_none_are_left_and_said(
    remote: RemoteSpace, hub: Hub, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "dspex_lab"):
        hub.publish(ASK, {**GOOD, **change})
        hub.publish(ASK, {})
        hub.settle()
    assert caplog.text.count("is none and was left") == 2
    assert remote.get("k") == 4


@pytest.mark.parametrize(
    ("do", "args", "says"),
    [
        ("histroy", {}, "cannot be asked for 'histroy'. Did you mean 'history'"),
        ("__class__", {}, "cannot be asked for '__class__'"),
        ("cell", {"name": 5}, "'name' is int, not str"),
        ("cell", {"name": "x" * 5000}, "has 5000 letters"),
        ("commit", {}, "'values' is NoneType, not dict"),
        ("commit", {"values": {"k": {"__reduce__": []}}, "author": {"who": "person"}}, "k"),
        ("commit", {"values": {"demos": 7}, "author": {"who": "person"}}, ""),
        ("commit", {"values": {"k": 1}, "author": {"who": "root"}}, "nobody is 'root'"),
        ("commit", {"values": {"k": 1}, "author": []}, "'author' is list"),
        ("commit", {"values": {"k": 1}, "author": {"who": "person", "score": "high"}}, "'score' is str"),
        ("commit", {"values": {"k": 1}, "author": {"who": "person"}, "expect": {"k": "1"}}, "'k' is str, not int"),
        ("commit", {"values": {"k": 1}, "author": {"who": "person"}, "fence": 3}, "no lease with the number 3"),
        ("rollback", {"version": 1.5, "author": None}, "'version' is float, not int"),
        ("definitions", {"names": ["k", 1]}, "not a list of names"),
        ("lease", {"names": ["k"], "owner": "x", "ttl": -1}, "ttl=-1"),
        ("lease", {"names": [], "owner": "x", "ttl": 1}, "no variable"),
        ("lease", {"names": ["nothing"], "owner": "x", "ttl": 1}, "no variable 'nothing'"),
        ("renew", {"fence": 1}, "no lease with the number 1"),
        ("pin", {"names": ["k"], "pinned": 1}, "'pinned' is int, not bool"),
    ],
)
def test_requests_that_make_no_sense_are_refused_by_name_and_change_nothing(
    space: Space, remote: RemoteSpace, do: str, args: dict[str, Any], says: str
) -> None:
    before = space.snapshot()
    with pytest.raises(VariableError) as caught:
        remote._caller.ask(do, args)
    assert says in str(caught.value)
    assert space.snapshot() == before
    assert space.leases() == ()


def test_a_failure_of_the_owners_own_is_named_and_logged(
    space: Space, remote: RemoteSpace, served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(served._deeds.short, "values", lambda args: 1 / 0)
    with pytest.raises(VariableError, match="ZeroDivisionError: division by zero"):
        remote.values()
    assert "was asked for 'values'" in caplog.text


def test_answers_and_news_that_are_none_do_not_break_who_asks(
    space: Space, remote: RemoteSpace, hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard()
    remote.observe(heard)
    me = remote._caller.me
    for news in ({"commit": 5}, {"commit": {}}, {"commit": {"version": "9"}}, {"to": me, "number": 10**9}, {"to": me}, {}):
        hub.publish(TOLD, news)
    bad = {"version": space.version + 1, "time": 0, "changes": [5], "author": {"who": "person"}}
    hub.publish(TOLD, {"commit": bad})
    commit = space.commit({"k": 1})
    assert heard.wait(1) == [commit.version]
    hub.lose = lambda topic, message: message.get("do") == "hello"
    hub.publish(TOLD, {"to": me, "number": 1, "error": 7})
    assert remote.get("k") == 1


def test_an_error_that_cannot_be_read_says_so(remote: RemoteSpace, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for found in (7, {}, {"kind": "VersionConflict", "message": 5}, {"kind": "LeaseError", "message": "m", "holder": []}):
        monkeypatch.setattr("dspex_lab.variables._remote_owner.error_to_json", lambda error, found=found: found)
        with pytest.raises(VariableError, match="its reason cannot be read"):
            remote.get("nothing")


def test_all_reads_are_known(served: Served) -> None:
    assert set(served._deeds.short) >= READS
    assert json.dumps(sorted(READS))
    assert isinstance(served._deeds.waiting["lease"], Callable)  # type: ignore[arg-type]
