"""Which variable reads which: topology and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from dspex_lab.errors import VariableError


class Graph:
    """Names, and what each of them reads; it has no cycles."""

    def __init__(self) -> None:
        self._reads: dict[str, tuple[str, ...]] = {}
        # A dict keeps the order in which they came, which is the order in which equals are computed.
        self._readers: dict[str, dict[str, None]] = {}

    def copy(self) -> Graph:
        """Return one of its own."""
        made = Graph()
        made._reads = dict(self._reads)
        made._readers = {name: dict(readers) for name, readers in self._readers.items()}
        return made

    def reads(self, name: str) -> tuple[str, ...]:
        """Return what ``name`` reads."""
        return self._reads.get(name, ())

    def readers(self, name: str) -> tuple[str, ...]:
        """Return who reads ``name``."""
        return tuple(self._readers.get(name, ()))

    def put(self, name: str, reads: Sequence[str]) -> None:
        """Let ``name`` read these and nothing else.

        Raises:
            VariableError: it would come to read itself; nothing is changed then.
        """
        self.check(name, reads)
        self.remove(name)
        if reads:
            self._reads[name] = tuple(reads)
            for read in reads:
                self._readers.setdefault(read, {})[name] = None

    def remove(self, name: str) -> None:
        """Let ``name`` read nothing."""
        for read in self._reads.pop(name, ()):
            readers = self._readers[read]
            readers.pop(name, None)
            if not readers:
                del self._readers[read]

    def check(self, name: str, reads: Iterable[str]) -> None:
        """Refuse what would make a cycle.

        Raises:
            VariableError: it names the variables of the cycle, each of which reads the next.
        """
        wanted = list(reads)
        if not wanted or (name not in self._readers and name not in wanted):
            return
        came: dict[str, str] = {}
        waiting = [name]
        while waiting:
            at = waiting.pop()
            if at in wanted:
                raise _cycle(name, at, came)
            for reader in self._readers.get(at, ()):
                if reader not in came and reader != name:
                    came[reader] = at
                    waiting.append(reader)

    def after(self, names: Iterable[str]) -> list[str]:
        """Return ``names`` and all that comes to read them, each after what it reads; others keep their order."""
        given = list(names)
        if not any(name in self._readers for name in given):
            return given
        done: set[str] = set()
        backwards: list[str] = []
        for name in reversed(given):
            if name not in done:
                self._visit(name, done, backwards)
        backwards.reverse()
        return backwards

    def _visit(self, name: str, done: set[str], backwards: list[str]) -> None:
        """Append ``name`` after all that reads it; by a stack of its own, as chains may be longer than Python's."""
        done.add(name)
        stack: list[tuple[str, Iterator[str]]] = [(name, iter(reversed(self._readers.get(name, {}))))]
        while stack:
            at, readers = stack[-1]
            for reader in readers:
                if reader not in done:
                    done.add(reader)
                    stack.append((reader, iter(reversed(self._readers.get(reader, {})))))
                    break
            else:
                stack.pop()
                backwards.append(at)


def _cycle(name: str, last: str, came: dict[str, str]) -> VariableError:
    path = [name, last] if last != name else [name]
    while path[-1] != name:
        path.append(came[path[-1]])
    if len(path) == 1:
        path.append(name)
    return VariableError(
        f"Variable {name!r} would come to read itself: {' → '.join(path)} (each reads the next).",
        name=name,
        hint="Derive one of them from something else.",
    )
