"""The pipelines of a Lab by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping

from dspex_lab.pipelines import Pipeline


class Defined(MutableMapping[str, Pipeline]):
    """Pipelines by name; ``lab.pipelines``. What is put under a name is first shown to who knows what is in use there.

    Args:
        shown: is given the name and the pipeline, and returns the one that is kept.
    """

    def __init__(self, shown: Callable[[str, Pipeline], Pipeline]) -> None:
        self._shown = shown
        self._by_name: dict[str, Pipeline] = {}

    def __getitem__(self, name: str) -> Pipeline:
        return self._by_name[name]

    def __setitem__(self, name: str, pipeline: Pipeline) -> None:
        self.put(name, self._shown(name, pipeline))

    def put(self, name: str, pipeline: Pipeline) -> None:
        """Keep this very pipeline under a name."""
        self._by_name[name] = pipeline

    def __delitem__(self, name: str) -> None:
        del self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return repr(self._by_name)
