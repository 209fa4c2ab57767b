"""What a subcommand of ``%dspex`` is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from dspex_lab.errors import ConfigurationError


class Shell(Protocol):
    """The notebook's shell, as far as the magics need it."""

    user_ns: dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One use of a magic: the line after the subcommand, and the cell below it (None for a line magic)."""

    shell: Shell
    line: str
    cell: str | None = None

    @property
    def lab(self) -> Any:
        """Return the kernel's Lab, opened on first use; what its start found is said once."""
        from dspex_lab.magics._lab import kernel_lab

        return kernel_lab(self.shell)


@dataclass(frozen=True)
class Command:
    """A subcommand.

    Args:
        name: as typed after ``%dspex``.
        usage: one line that shows how it is written.
        summary: one sentence.
        run: does it and returns what the cell shows.
        cell: it is used as ``%%dspex name`` with a cell below; ``line`` says that it works on a line too.
        flags: its flags, without dashes.
        names: gives the names that may follow it, for completion.
        more: gives the names that may follow those, for completion: of the words between the command and the one being typed.
    """

    name: str
    usage: str
    summary: str
    run: Callable[[Call], Any]
    cell: bool = False
    line: bool = True
    flags: tuple[str, ...] = ()
    names: Callable[[Mapping[str, Any]], list[str]] = field(default=lambda namespace: [])
    more: Callable[[list[str]], list[str]] | None = None

    def __call__(self, call: Call) -> Any:
        """Run it, in the form in which it may be used.

        Raises:
            ConfigurationError: it is written as a line but needs a cell, or the other way round.
        """
        if call.cell is None and not self.line:
            raise ConfigurationError(f"%dspex {self.name} needs a cell below it.", key=self.name, hint=f"Write: {self.usage}")
        if call.cell is not None and not self.cell:
            raise ConfigurationError(f"%%dspex {self.name} takes no cell.", key=self.name, hint=f"Write: {self.usage}")
        return self.run(call)
