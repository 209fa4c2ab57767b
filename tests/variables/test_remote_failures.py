"""What goes wrong between two kernels: owners that go or begin anew, messages lost, doubled, late or too large."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from remote_helpers import ASK, TOLD, Heard, Hub, until

from dspex_lab.errors import LeaseError, VariableError
from dspex_lab.variables import MemoryJournal, RemoteSpace, Served, Space, serve_space


def test_an_owner_that_is_not_there_is_named_after_the_time_given(hub: Hub) -> None:
    with RemoteSpace(hub, "nobody", timeout=0.05) as remote:
        with pytest.raises(VariableError, match=r"The owner of the space 'nobody' does not answer: .* for 0\.05 s\.") as caught:
            remote.values()
        assert "is it joined to the same cluster" in str(caught.value)
    for bad in ({"timeout": 0}, {"every": -1}):
        with pytest.raises(VariableError, match="more than 0"):
            RemoteSpace(hub, **bad)


def test_an_owner_that_goes_away_is_named_and_the_change_is_said_to_be_uncertain(space: Space, hub: Hub) -> None:
    served = serve_space(space, hub, probe=0.01)
    with RemoteSpace(hub, timeout=30) as remote:
        remote.commit({"k": 5})
        served.close()
        served.close()
        remote._caller.timeout = 0.3
        assert "closed" in repr(served)
        with pytest.raises(VariableError, match=r"does not answer.*Whether it was done is not known"):
            remote.commit({"k": 6})
        assert space.get("k") == 5


def test_a_cluster_that_is_away_is_the_cause(remote: RemoteSpace, hub: Hub) -> None:
    remote.values()
    hub.down = True
    remote._caller.timeout = 0.05
    with pytest.raises(VariableError, match="does not answer") as caught:
        remote.values()
    assert "the cluster is away" in str(caught.value.__cause__)
    hub.down = False


def test_a_lost_request_or_answer_is_sent_again_and_nothing_is_done_twice(space: Space, remote: RemoteSpace, hub: Hub) -> None:
    remote.values()
    lost: list[str] = []

    def once(topic: str, message: dict[str, Any]) -> bool:
        """Lose the first request and the first answer to it."""
        if (message.get("do") == "commit" or "changes" in str(message.get("ok"))) and topic not in lost:
            lost.append(topic)
            return True
        return False

    hub.lose = once
    before = space.version
    commit = remote.commit({"k": 9})
    assert lost == [ASK, TOLD]
    assert commit.version == space.version == before + 1
    assert len([1 for topic, message in hub.sent if message.get("do") == "commit"]) >= 3


def test_a_request_that_comes_twice_or_late_is_done_once(space: Space, remote: RemoteSpace, hub: Hub) -> None:
    remote.commit({"k": 9})
    space.commit({"k": 3})
    asked = next(message for topic, message in hub.sent if message.get("do") == "commit")
    hub.publish(ASK, asked)  # its answer is known
    remote.values()
    assert space.get("k") == 3
    remote.values()
    hub.publish(ASK, asked)  # who asked has gone on
    remote.values()
    assert space.get("k") == 3
    assert len(space.history("k")) == 3


def test_a_word_that_it_is_under_way_keeps_the_asker_waiting(space: Space, served: Served, hub: Hub) -> None:
    held = space.lease("k", owner="optuna")
    said = threading.Event()

    def listen(topic: str, message: dict[str, Any]) -> bool:
        if message.get("waiting"):
            said.set()
        return False

    hub.lose = listen
    with RemoteSpace(hub, timeout=30) as remote, ThreadPoolExecutor(1) as pool:
        waits = pool.submit(remote.lease, "k", owner="gepa")
        assert said.wait(60)
        held.release()
        assert waits.result(60).alive


def test_a_restarted_owner_is_found_again(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = MemoryJournal()

    def owner() -> tuple[Space, Served]:
        space = Space(journal=journal)
        space.int("k", 0, 99, default=0)
        return space, serve_space(space, hub, probe=0.01)

    space, served = owner()
    with RemoteSpace(hub, timeout=30, every=0.05) as remote:
        heard = Heard()
        remote.observe(heard)
        remote.commit({"k": 1})
        lease = remote.lease("k", owner="gepa", ttl=100)
        served.close()
        space, served = owner()
        assert space.version == 2
        # What is asked twice before the new owner's answer comes may have been done by the old one.
        monkeypatch.setattr("dspex_lab.variables._remote_calls._AGAIN", 30.0)
        with pytest.raises(LeaseError, match="before a restart"):
            lease.commit({"k": 2})
        with pytest.raises(LeaseError, match="before a restart"):
            lease.renew()
        assert not lease.alive
        assert remote.commit({"k": 3}).version == 3  # asked for the first time: it cannot have been done before
        assert remote.lease("k", owner="gepa").fence > lease.fence
        assert heard.wait(2) == [2, 3]
        served.close()


def test_a_change_that_was_asked_for_before_a_restart_is_not_done_again(hub: Hub) -> None:
    space = Space()
    space.int("k", 0, 99, default=0)
    served = serve_space(space, hub, probe=0.01)
    with RemoteSpace(hub, timeout=30) as remote, ThreadPoolExecutor(1) as pool:
        remote.values()
        asked = threading.Event()

        def lose(topic: str, message: dict[str, Any]) -> bool:
            if message.get("do") == "commit":
                asked.set()
            return topic == TOLD  # it is done, and the answer is lost

        hub.lose = lose
        waits = pool.submit(remote.commit, {"k": 1})
        assert asked.wait(60)
        until(lambda: space.get("k") == 1)
        served.close()
        hub.settle()  # whatever it has still said is lost
        hub.lose = lambda topic, message: False
        with Served(space, hub, "default"):
            with pytest.raises(VariableError, match=r"was restarted while it was asked. Whether it was done is not known"):
                waits.result(60)
            assert len(space.history("k")) == 2
            assert remote.get("k") == 1


def test_an_owner_that_began_anew_is_followed_from_where_it_is(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    space = Space()
    space.int("k", 0, 99, default=0)
    for number in range(1, 4):
        space.commit({"k": number})
    served = serve_space(space, hub, probe=0.01)
    with RemoteSpace(hub, timeout=30, every=0.02) as remote:
        heard = Heard()
        remote.observe(heard)
        served.close()
        again = Space()  # without a journal
        again.int("k", 0, 99, default=0)
        with serve_space(again, hub, probe=0.01):
            until(lambda: "nobody knows how" in caplog.text)
            again.commit({"k": 7})
            assert heard.wait(1) == [2]
    assert "went from version 4 to 1" in caplog.text


def test_a_version_that_nobody_has_is_given_up_in_the_end(
    space: Space, remote: RemoteSpace, served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard()
    remote.observe(heard)
    monkeypatch.setitem(served._deeds.short, "since", lambda args: {"version": space.version, "commits": []})
    monkeypatch.setattr(served, "_tell", None)
    first = space.version + 1
    hub = served._channel
    hub.lose = lambda topic, message: "commit" in message and message["commit"]["version"] == first  # type: ignore[attr-defined]
    space.commit({"k": 1})
    until(lambda: "nobody knows how" in caplog.text)
    space.commit({"k": 2})
    assert heard.wait(1) == [first + 1]


def test_an_owner_that_cannot_be_followed_for_a_while_is_said_so_once(
    space: Space, remote: RemoteSpace, hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard()
    remote.observe(heard)
    remote._caller.timeout = 0.02
    hub.down = True
    until(lambda: "cannot be followed now" in caplog.text)
    space.commit({"k": 1})
    remote._caller.timeout = 30
    hub.down = False
    heard.wait(1)
    assert caplog.text.count("cannot be followed now") == 1


def test_one_name_has_one_owner(space: Space, served: Served, hub: Hub) -> None:
    with pytest.raises(VariableError, match="Another kernel serves a space as 'default'"):
        serve_space(Space(), hub, probe=30)
    with serve_space(Space(), hub, name="other", probe=0.01) as other:
        assert other.name == "other"
    with pytest.raises(VariableError, match="cannot be served as"):
        serve_space(Space(), hub, name="no name")


def test_a_space_is_served_once_the_cluster_is_reached(space: Space, served: Served, hub: Hub) -> None:
    hub.down = True
    with pytest.raises(VariableError, match=r"the cluster was not reached in 0\.02 s") as caught:
        serve_space(Space(), hub, name="late", probe=0.01, patience=0.02)
    assert "the cluster is away" in str(caught.value.__cause__)
    with ThreadPoolExecutor(1) as pool:
        serves = pool.submit(serve_space, Space(), hub, probe=30)
        until(lambda: serves.running())
        hub.down = False
        with pytest.raises(VariableError, match="Another kernel serves"):  # though it was not heard at first
            serves.result(60)


def test_what_is_too_large_is_refused_by_name_and_the_rest_goes_on(
    space: Space, remote: RemoteSpace, hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    space.text("prompt")
    hub.largest = 5_000
    with pytest.raises(VariableError, match=r"cannot be asked for 'commit': it has .* letters, more than 5000"):
        remote.commit({"prompt": "x" * 6_000})
    space.commit({"prompt": "x" * 6_000})
    assert "could not be told to other kernels: it has" in caplog.text
    with pytest.raises(VariableError, match=r"Unserialisable: it has .* letters, more than 5000"):
        remote.get("prompt")
    assert remote.get("k") == 4


def test_requests_beyond_a_number_are_refused(space: Space, remote: RemoteSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = remote.lease("k", owner="gepa")
    monkeypatch.setattr("dspex_lab.variables._remote_owner.MOST", 0)
    with pytest.raises(VariableError, match="has 0 requests under way"):
        remote.values()
    lease.renew()
    lease.release()
    assert space.leases() == ()


def test_closing_ends_waiting_on_both_sides(space: Space, hub: Hub) -> None:
    space.lease("k", owner="optuna")
    served = serve_space(space, hub, probe=0.01)
    remote = RemoteSpace(hub, timeout=60)
    with ThreadPoolExecutor(2) as pool:
        waits = pool.submit(remote.lease, "k", owner="gepa")
        until(lambda: len(space.leases()) == 2)
        remote.close()
        with pytest.raises(VariableError, match="was given up"):
            waits.result(60)
        until(lambda: len(space.leases()) == 1)
        with RemoteSpace(hub, timeout=60) as other:
            waits = pool.submit(other.lease, "k", owner="gepa")
            until(lambda: len(space.leases()) == 2)
            served.close()
            with pytest.raises(VariableError, match="is not served any more"):
                waits.result(60)
    assert [status.owner for status in space.leases()] == ["optuna"]
    assert "closed" in repr(remote)
    with pytest.raises(VariableError, match="was closed here"):  # at once: nobody would answer
        remote.values()


def test_a_lease_that_cannot_be_given_back_is_logged_and_ends_in_its_time(
    space: Space, remote: RemoteSpace, hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    with remote.lease("k", owner="gepa", ttl=1000) as lease:
        remote._caller.timeout = 0.02
        hub.down = True
    assert "could not be given back, and will end in its time" in caplog.text
    assert not lease.alive
    assert [status.owner for status in space.leases()] == [lease.owner]
    hub.down = False
