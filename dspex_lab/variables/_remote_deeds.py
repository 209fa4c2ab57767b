"""What the owner of a space does for others: each deed takes the arguments of a request and returns JSON."""

from __future__ import annotations

import json
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import LeaseError
from dspex_lab.variables._lease import Lease
from dspex_lab.variables._protocols import Commit
from dspex_lab.variables._remote import Message
from dspex_lab.variables._remote_wire import (
    author_from_json,
    commit_to_json,
    commits_from_records,
    field,
    names_of,
    record_to_json,
)

if TYPE_CHECKING:
    from dspex_lab.variables._space import Space

#: What may be done again where an answer was lost.
READS = frozenset({"hello", "definitions", "cell", "values", "snapshot", "history", "since", "leases"})

#: What is never refused for its number: those who wait, wait for it.
ENDS = frozenset({"renew", "release", "cancel"})

#: Commits that are kept for who missed them; older ones come from the journal.
_KEPT = 200

#: Leases of others that are remembered.
_LEASES = 1000

#: Letters of one answer with several commits.
_ANSWER = 200_000


class Deeds:
    """Reads and writes a space by requests, and keeps the leases that others hold.

    Args:
        space: the space.
        epoch: which serving of it this is.
        take_back: ends the wait of somebody's request by its number; returns its answer where it has one.

    Attributes:
        short: by name, what is done at once, on any thread.
    """

    def __init__(self, space: Space, epoch: str, take_back: Callable[[str, int], Any]) -> None:
        self.space = space
        self._epoch, self._take_back = epoch, take_back
        self._leases: OrderedDict[int, Lease] = OrderedDict()
        self._kept: deque[tuple[int, Message]] = deque(maxlen=_KEPT)
        self.short: dict[str, Callable[[Message], Any]] = {
            "hello": self._hello,
            "definitions": self._definitions,
            "cell": self._cell,
            "values": self._values,
            "snapshot": self._snapshot,
            "history": self._history,
            "since": self._since,
            "leases": self._all_leases,
            "commit": self._commit,
            "rollback": self._rollback,
            "pin": self._pin,
            "break": self._break,
        }
        #: What waits, or must not wait behind others: on the loop, with who asks.
        self.waiting: dict[str, Callable[[str, Message], Coroutine[Any, Any, Any]]] = {
            "lease": self._lease,
            "renew": self._renew,
            "release": self._release,
            "cancel": self._cancel,
        }

    def keep(self, commit: Commit) -> Message:
        """Return a commit as JSON, which is also kept for who will have missed it."""
        message = commit_to_json(commit, self._to_json)
        self._kept.append((commit.version, message))
        return message

    def _to_json(self, name: str, value: Any) -> Any:
        return self.space.entry(name).domain.to_json(value) if name in self.space and value is not None else value

    # ---- reading ---------------------------------------------------------------------------------------------------

    def _hello(self, args: Message) -> Any:
        return {"epoch": self._epoch, "version": self.space.version}

    def _definitions(self, args: Message) -> Any:
        wanted = names_of(args, "names", optional=True)
        return [self._definition(name) for name in (self.space if wanted is None else wanted)]

    def _definition(self, name: str) -> Message:
        entry = self.space.entry(name)
        return {**asdict(entry.definition()), "reads": list(entry.derive.reads) if entry.derive else []}

    def _cell(self, args: Message) -> Any:
        name = field(args, "name", str)
        cell = self.space.cell(name)
        return {"value": self._to_json(name, cell.value), "version": cell.version, "active": cell.active}

    def _values(self, args: Message) -> Any:
        return {name: self._to_json(name, value) for name, value in self.space.values().items()}

    def _snapshot(self, args: Message) -> Any:
        version = field(args, "version", int, optional=True)
        snapshot = self.space.snapshot() if version is None else self.space.at(version)
        values = {name: self._to_json(name, value) for name, value in snapshot.values.items()}
        return {"version": snapshot.version, "values": values, "versions": dict(snapshot.versions)}

    def _history(self, args: Message) -> Any:
        name, limit = field(args, "name", str, optional=True), field(args, "limit", int, optional=True)
        return [record_to_json(record) for record in self.space.history(name, limit)]

    def _since(self, args: Message) -> Any:
        """Return commits after a version, oldest first, as many as one answer carries."""
        after = field(args, "after", int)
        kept = [(number, commit) for number, commit in list(self._kept) if number > after]
        version = self.space.version
        if len(kept) != version - after:  # some are too old, or could not be told, or were not yet
            kept = [(each["version"], each) for each in commits_from_records(self.space.history()) if each["version"] > after]
        answer: list[Message] = []
        room = _ANSWER
        for _, commit in kept:
            room -= len(json.dumps(commit))
            if room < 0 and answer:
                break
            answer.append(commit)
        return {"version": version, "commits": answer}

    def _all_leases(self, args: Message) -> Any:
        return [
            [each.owner, list(each.names), each.state, each.since, each.fence, each.expires, list(each.behind)]
            for each in self.space.leases()
        ]

    # ---- writing ---------------------------------------------------------------------------------------------------

    def _commit(self, args: Message) -> Any:
        values = {name: self.space.entry(name).domain.from_json(value) for name, value in field(args, "values", dict).items()}
        fence = field(args, "fence", int, optional=True)
        expect: Any = field(args, "expect", (int, dict), optional=True)
        if isinstance(expect, dict):
            expect = {name: field(expect, name, int) for name in expect}
        author = author_from_json(field(args, "author", dict))
        lease = None if fence is None else self._known(fence)
        return commit_to_json(self.space.commit(values, expect=expect, author=author, lease=lease), self._to_json)

    def _rollback(self, args: Message) -> Any:
        author = field(args, "author", dict, optional=True)
        fence = field(args, "fence", int, optional=True)
        commit = self.space.rollback(
            field(args, "version", int),
            names_of(args, "names", optional=True),
            author=None if author is None else author_from_json(author),
            lease=None if fence is None else self._known(fence),
        )
        return commit_to_json(commit, self._to_json)

    def _pin(self, args: Message) -> Any:
        names = names_of(args, "names") or []
        if field(args, "pinned", bool):
            self.space.pin(*names)
        else:
            self.space.unpin(*names)

    def _break(self, args: Message) -> Any:
        self.space.break_lease(field(args, "name", str), field(args, "why", str, optional=True))

    # ---- leases ----------------------------------------------------------------------------------------------------

    async def _lease(self, asker: str, args: Message) -> Any:
        names, owner = names_of(args, "names") or [], field(args, "owner", str)
        ttl, patience = field(args, "ttl", (int, float)), field(args, "patience", (int, float), optional=True)
        lease = await self.space.alease(*names, owner=f"{owner}@{asker}", ttl=ttl, patience=patience)
        self._leases[lease.fence] = lease
        while len(self._leases) > _LEASES:
            self._leases.popitem(last=False)
        return _held(lease)

    async def _renew(self, asker: str, args: Message) -> Any:
        return _held(self._known(field(args, "fence", int)).renew())

    async def _release(self, asker: str, args: Message) -> Any:
        lease = self._leases.get(field(args, "fence", int))
        if lease is not None:
            lease.release()

    async def _cancel(self, asker: str, args: Message) -> Any:
        """Take back a request for a lease: it leaves the queue, or the lease ends."""
        given = self._take_back(asker, field(args, "number", int))
        lease = self._leases.get(given["fence"]) if isinstance(given, dict) and "fence" in given else None
        if lease is not None:
            lease.release()

    def _known(self, fence: int) -> Lease:
        lease = self._leases.get(fence)
        if lease is None:
            raise LeaseError(f"There is no lease with the number {fence}: it ended long ago, or before a restart.")
        return lease


def _held(lease: Lease) -> Message:
    held = lease.held
    return {"owner": held.owner, "names": list(held.names), "fence": held.fence, "ttl": held.ttl, "waited": held.waited}
