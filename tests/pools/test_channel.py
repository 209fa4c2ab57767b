"""Messages between kernels over Dask's scheduler, and a space that two processes share by it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from _dask_cli import Cluster

from dspex_lab.errors import LeaseError, PoolError, Unserialisable
from dspex_lab.pools import Pools, _channel
from dspex_lab.pools._channel import ClusterChannel, channel_of
from dspex_lab.pools._runtime import Runtime
from dspex_lab.variables import Commit, Space
from dspex_lab.variables._remote_owner import serve_space
from dspex_lab.variables._remote_space import RemoteSpace


class Inbox:
    """A handler that can be waited for."""

    def __init__(self) -> None:
        self.messages: list[Mapping[str, Any]] = []
        self._more = threading.Condition()

    def __call__(self, message: Mapping[str, Any]) -> None:
        with self._more:
            self.messages.append(message)
            self._more.notify_all()

    def wait(self, holds: Callable[[list[Any]], bool], send: Callable[[], None] | None = None) -> list[Any]:
        """Wait until what came is as wanted; where a message may be lost, ``send`` sends it again meanwhile."""
        with self._more:
            for _ in range(600):
                if self._more.wait_for(lambda: holds(self.messages), 0.1):
                    return list(self.messages)
                if send is not None:
                    send()
        raise AssertionError(self.messages)


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    """A cluster of this kernel's own: a scheduler and no worker."""
    runtime = Runtime()
    yield runtime
    runtime.close()


@pytest.fixture
def channel(runtime: Runtime) -> Iterator[ClusterChannel]:
    channel = channel_of(runtime)
    yield channel
    channel.close()


def hearing(channel: ClusterChannel, topic: str) -> Inbox:
    """Return an inbox that hears: a subscription takes a moment."""
    inbox = Inbox()
    channel.subscribe(topic, inbox)
    inbox.wait(bool, lambda: channel.publish(topic, {"hello": True}))
    channel.publish(topic, {"hello": False})
    inbox.wait(lambda messages: messages[-1] == {"hello": False})
    inbox.messages.clear()
    return inbox


def test_messages_arrive_once_and_in_order(channel: ClusterChannel) -> None:
    inbox, other = hearing(channel, "order"), hearing(channel, "other")
    for number in range(500):
        channel.publish("order" if number % 5 else "other", {"number": number, "text": "ü" * (number % 7)})
    assert [m["number"] for m in inbox.wait(lambda m: len(m) == 400)] == [n for n in range(500) if n % 5]
    assert [m["number"] for m in other.wait(lambda m: len(m) == 100)] == [n for n in range(500) if not n % 5]
    assert repr(channel) == "<ClusterChannel open, 2 topics>"


def test_who_does_not_want_any_more_hears_nothing(channel: ClusterChannel) -> None:
    first, second = Inbox(), hearing(channel, "end")
    end = channel.subscribe("end", first)
    channel.publish("end", {"number": 1})
    first.wait(bool)
    end()
    end()
    channel.publish("end", {"number": 2})
    second.wait(lambda messages: len(messages) == 2)
    assert len(first.messages) == 1
    alone = hearing(channel, "alone")
    channel.subscribe("alone", alone)()
    channel._handlers.clear()
    channel._wake()
    inbox = hearing(channel, "later")  # by then it has unsubscribed
    assert channel._subscribed == {"later"}
    channel.publish("alone", {"number": 3})
    channel.publish("later", {"number": 4})
    inbox.wait(bool)
    assert alone.messages == []


def test_a_handler_that_raises_is_logged_and_the_next_one_is_called(
    channel: ClusterChannel, caplog: pytest.LogCaptureFixture
) -> None:
    channel.subscribe("raises", lambda message: 1 / 0)
    hearing(channel, "raises")
    assert "what hears topic raises raised" in caplog.text


@pytest.mark.parametrize("message", [{"x": object()}, {"x": float("nan")}, {"x": {1, 2}}, {"x": b"y"}])
def test_what_is_no_json_is_refused(channel: ClusterChannel, message: dict[str, Any]) -> None:
    with pytest.raises(Unserialisable, match="is JSON, and this one cannot be"):
        channel.publish("a", message)


def test_what_is_too_large_or_too_deep_is_refused(channel: ClusterChannel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_channel, "LARGEST", 1_000)
    with pytest.raises(Unserialisable, match=r"at most 1,000 letters, and this one has 2,"):
        channel.publish("a", {"x": "y" * 2_000})
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(Unserialisable):
        channel.publish("a", {"x": deep})


def test_large_messages_and_many_small_ones_share_the_way(channel: ClusterChannel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_channel, "LARGEST", 1_000)
    inbox = hearing(channel, "large")
    for number in range(40):
        channel.publish("large", {"number": number, "text": "x" * (900 if number % 4 == 0 else 100)})
    assert [m["number"] for m in inbox.wait(lambda m: len(m) == 40)] == list(range(40))


def test_more_than_the_scheduler_takes_is_refused(channel: ClusterChannel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "_wake", lambda: None)  # nothing leaves
    monkeypatch.setattr(_channel, "_WAITING", 2)
    channel.publish("a", {})
    channel.publish("a", {})
    with pytest.raises(PoolError, match="2 messages to other kernels wait already"):
        channel.publish("a", {})
    monkeypatch.setattr(_channel, "_WAITING_LETTERS", 10)
    monkeypatch.setattr(_channel, "_WAITING", 20)
    with pytest.raises(PoolError, match="wait already"):
        channel.publish("a", {"x": "y"})


HOSTILE: list[Any] = [
    7,
    None,
    b"[{}]",
    {"number": 1},
    ["[{}]"],
    "",
    "{",
    "{}",
    "[1]",
    '[{"x": NaN}]',
    '[{"x": ' + "9" * 5_000 + "}]",
    "[" * 100_000,
    "x" * 5_000_000,
]


def test_what_others_publish_and_is_no_message_is_left_and_said_once(
    channel: ClusterChannel, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = hearing(channel, "hostile")
    client = channel._runtime.cluster().client  # type: ignore[attr-defined]

    async def publish() -> None:
        for what in HOSTILE:
            await client.log_event("hostile", what)

    with caplog.at_level(logging.WARNING, "dspex_lab"):
        channel._runtime.submit(publish()).result(60)
        channel.publish("hostile", {"number": 1})
        assert inbox.wait(bool) == [{"number": 1}]
    assert channel.refused == len(HOSTILE)
    assert caplog.text.count("is no message of ours and was left") == 1


def test_a_closed_channel_takes_nothing_and_another_one_takes_its_place(runtime: Runtime) -> None:
    channel = channel_of(runtime)
    assert channel_of(runtime) is channel
    heard = hearing(channel, "closed")
    channel.close()
    channel.close()
    assert repr(channel) == "<ClusterChannel closed, 0 topics>"
    with pytest.raises(PoolError, match="is closed"):
        channel.publish("closed", {})
    channel.subscribe("closed", heard)
    again = channel_of(runtime)
    assert again is not channel
    inbox = hearing(again, "closed")
    assert inbox.messages == heard.messages == []
    again.close()


def test_a_channel_is_closed_with_its_pools() -> None:
    pools = Pools([])
    channel = channel_of(pools._runtime)
    hearing(channel, "pools")
    pools.close()
    assert channel.closed


# ---- a cluster that somebody else has started ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.close()


@pytest.fixture
def joined(cluster: Cluster) -> Iterator[ClusterChannel]:
    pools = Pools(cluster.config())
    yield channel_of(pools._runtime)
    pools.close()


#: Another kernel: it is told by lines what to do, and answers by lines.
OTHER = """
import json, sys
from dspex_lab.errors import VariableError
from dspex_lab.pools import Pools
from dspex_lab.pools._channel import channel_of
from dspex_lab.variables import Author
from dspex_lab.variables._remote_space import RemoteSpace

pools = Pools(json.loads(sys.argv[1]))
remote = RemoteSpace(channel_of(pools._runtime), timeout=60, every=0.2)
heard = []

def values(): return remote.values()
def commit(values, expect=None): return remote.commit(values, expect=expect, author=Author("optimizer", "other")).version
def observe(): remote.observe(lambda commit: heard.append([commit.version, commit.changes["k"].value]), "k")
def told(): return heard
def lease(ttl):
    global held
    held = remote.lease("k", owner="gepa", ttl=ttl)
    return held.fence
def write(value): return held.commit({"k": value}, why="better").fence
def keep(): held.__enter__()
def release(): held.release()

print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    name, *arguments = json.loads(line)
    try:
        answer = globals()[name](*arguments)
    except VariableError as error:
        answer = [type(error).__name__, str(error)]
    print(json.dumps(answer), flush=True)
remote.close()
pools.close()
"""


class Other:
    """Another kernel, as a process."""

    def __init__(self, config: dict[str, Any], folder: Path) -> None:
        self._errors = (folder / "other.err").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-c", OTHER, json.dumps(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        assert self._read() == "ready"

    def __call__(self, name: str, *arguments: Any) -> Any:
        self.send(name, *arguments)
        return self._read()

    def send(self, name: str, *arguments: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, *arguments]) + "\n")
        self.process.stdin.flush()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise AssertionError(self._errors.read())
        return json.loads(line)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self._errors.close()


@pytest.fixture
def other(cluster: Cluster, tmp_path: Path) -> Iterator[Other]:
    other = Other(cluster.config(), tmp_path)
    yield other
    other.close()


def test_two_kernels_share_a_space(joined: ClusterChannel, other: Other) -> None:
    space = Space()
    space.int("k", 0, 100, default=0)
    space.float("temperature", 0, 2, default=1.0)
    with serve_space(space, joined):
        assert other("values") == {"k": 0, "temperature": 1.0}
        other("observe")
        assert other("commit", {"k": 1}) == 3
        assert space.history("k", 1)[0].author == "other"
        kind, message = other("commit", {"k": 2}, {"k": 1})
        assert kind == "VersionConflict"
        assert "somebody else has written it" in message
        for number in range(2, 40):
            space.commit({"k": number})
        while len(other("told")) < 39:
            pass
        assert other("told") == [[number + 2, number] for number in range(1, 40)]

        fence = other("lease", 1_000)
        assert other("write", 50) == fence
        assert space.get("k") == 50
        assert len(space.leases()) == 1
        with pytest.raises(LeaseError, match="'k' is leased to 'gepa@"):
            space.commit({"k": 51})
        other("release")
        mine = space.lease("k", owner="optuna")
        other.send("lease", 1)  # it waits in the same queue, for a lease that is soon over
        waiting = threading.Event()
        while len(space.leases()) < 2:
            waiting.wait(0.01)
        mine.release()
        later = other._read()
        assert later > fence
        other.process.kill()  # nobody renews it
        assert space.lease("k", owner="next", patience=60).fence > later


def test_a_scheduler_that_comes_back_brings_the_space_back(
    cluster: Cluster, joined: ClusterChannel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "distributed")
    monkeypatch.setattr("dspex_lab.pools._joined.CONNECT", 2.0)
    monkeypatch.setattr(_channel, "_LOOK", 0.5)
    space = Space()
    space.int("k", 0, 100, default=0)
    heard: list[Commit] = []
    three = threading.Event()

    def hear(commit: Commit) -> None:
        heard.append(commit)
        if len(heard) == 3:
            three.set()

    with serve_space(space, joined), RemoteSpace(joined, timeout=60, every=0.2) as remote:
        remote.observe(hear)
        remote.commit({"k": 1})
        port = cluster.address.rpartition(":")[2]
        cluster.scheduler.kill()
        cluster.scheduler.wait()
        pause = threading.Event()
        while "lost" not in repr(joined):
            pause.wait(0.02)
        with pytest.raises(PoolError, match="Other kernels cannot be reached"):
            joined.publish("a", {})
        space.commit({"k": 2})  # nobody can be told
        cluster.start_scheduler(port)
        assert remote.commit({"k": 3}).version == 4  # asked until it is back
        assert three.wait(60)
        assert [(commit.version, commit.changes["k"].value) for commit in heard] == [(2, 1), (3, 2), (4, 3)]
