"""A dict that stays as it was made, so that whoever is handed a value of a space cannot change the space by it."""

from __future__ import annotations

from typing import Any, NoReturn


class Frozen(dict[str, Any]):
    """A dict without the methods that change it; equal to a dict of the same items, and as quick to read."""

    def _refuse(self, *arguments: object, **named: object) -> NoReturn:
        raise TypeError("This dict belongs to a space and does not change; make one of your own: dict(values).")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return (Frozen, (dict(self),))

    def __copy__(self) -> Frozen:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        # A copy is its owner's: programs change theirs.
        import copy

        return {key: copy.deepcopy(value, memo) for key, value in self.items()}
