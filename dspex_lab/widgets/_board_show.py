"""The variable board in a cell: as a picture, or live with its last state kept in the saved output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dspex_lab.widgets import _board_static
from dspex_lab.widgets._board_rows import Rows
from dspex_lab.widgets._live_show import show_live

if TYPE_CHECKING:
    from dspex_lab.widgets._board import VariableBoard

__all__ = ["BoardPicture", "board_picture", "show_board"]


@dataclass(frozen=True)
class BoardPicture:
    """The variables of a space as they were at one moment."""

    rows: dict[str, dict[str, Any]] = field(repr=False)
    head: dict[str, Any] = field(repr=False)

    def _repr_html_(self) -> str:
        return _board_static.board_html(self.rows, self.head)

    def __repr__(self) -> str:
        return _board_static.board_text(self.rows, self.head)


def board_picture(space: Any, names: Sequence[str] | None = None) -> BoardPicture:
    """Return the variables of a space as they are now, to be shown in a cell.

    Args:
        space: a space of ``dspex_lab.variables``.
        names: the variables to show, in order; by default all, the first 200.
    """
    return BoardPicture(*Rows(space, names).snapshot())


def show_board(lab: Any, names: Sequence[str] | None = None) -> VariableBoard:
    """Show the variables of a Lab live in the cell until it is closed, and return the board."""
    from dspex_lab.widgets._board import VariableBoard

    return show_live(lab, VariableBoard(lab.variables, names, bus=lab.bus))
