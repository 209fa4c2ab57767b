"""``transform``: a list's items kept, changed, sorted and counted off by expressions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dspex_lab.errors import PipelineError
from dspex_lab.native import Condition
from dspex_lab.pipelines._execution import StepRun
from dspex_lab.pipelines._fields import Shape, StepField
from dspex_lab.pipelines._kinds import Kind, step_kind
from dspex_lab.pipelines._step import Step, step

#: What an expression calls the item at hand.
ITEM = "item"


class Transform:
    """A field with a list and what is done to it; made by :func:`transform`."""

    def __init__(
        self,
        field: str,
        *,
        keep: str | None = None,
        make: str | None = None,
        sort: str | None = None,
        descending: bool = False,
        limit: int | None = None,
    ) -> None:
        if not isinstance(field, str) or not field.isidentifier() or field == ITEM:
            raise PipelineError(f"transform: {field!r} is no name of a field.", hint='Write: transform("rows", keep="…")')
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise PipelineError(f"transform: limit={limit!r} is not 0 or more.", hint="Give a whole number of items.")
        self.field, self.keep, self.make, self.sort, self.descending, self.limit = field, keep, make, sort, descending, limit
        self.parts = {n: Condition(t) for n, t in (("keep", keep), ("make", make), ("sort", sort)) if t is not None}

    def cache_token(self) -> tuple[Any, ...]:
        """Return what tells this from others."""
        return self.field, self.keep, self.make, self.sort, self.descending, self.limit

    def apply(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the list that comes of the fields ``values``: sorted, then kept or not, counted off, and changed.

        Raises:
            PipelineError: an expression fails, or two items cannot be sorted.
        """
        items = list(values[self.field])
        others = {n: v for n, v in values.items() if n != self.field}

        def ask(part: str, item: Any) -> Any:
            return self.parts[part]({**others, ITEM: item})

        if "keep" in self.parts:
            items = [i for i in items if ask("keep", i)]
        if "sort" in self.parts:
            try:
                items.sort(key=lambda i: ask("sort", i), reverse=self.descending)
            except TypeError as error:
                raise PipelineError(f"The items of {self.field!r} cannot be sorted by {self.sort!r}: {error}.") from error
        elif self.descending:
            items.reverse()
        items = items[: self.limit]
        return [ask("make", i) for i in items] if "make" in self.parts else items


def transform(
    field: str,
    *,
    keep: str | None = None,
    make: str | None = None,
    sort: str | None = None,
    descending: bool = False,
    limit: int | None = None,
) -> Step:
    """Return a step that makes one list of another, in a field named like the step.

    Expressions are in the language of conditions; ``item`` is the item, other names are fields.

    Args:
        field: the field with the list.
        keep: which items stay (``"item.score > 80"``).
        make: what an item becomes (``"{'id': item.id}"``).
        sort: what items are sorted by, the smallest first; with ``descending`` the largest.
        limit: how many are taken at most, after sorting.

    Raises:
        PipelineError: an argument is wrong.
    """
    return step(Transform(field, keep=keep, make=make, sort=sort, descending=descending, limit=limit))


@step_kind
class TransformKind(Kind):
    """Its inputs are the list and the other fields the expressions read, its output a list."""

    name = "transform"

    def accepts(self, target: Any) -> bool:
        """Take what :func:`transform` made."""
        return isinstance(target, Transform)

    def shape(self, name: str, item: Step) -> Shape:
        """Return the fields that are read, and the list."""
        read = [n for part in item.target.parts.values() for n in part.names if n != ITEM]
        field = item.outputs[0] if item.outputs else name
        return Shape(
            {item.target.field: StepField(item.target.field), **{n: StepField(n) for n in read}},
            {field: StepField(field, list)},
        )

    async def run(self, work: StepRun, item: Step, inputs: Mapping[str, Any]) -> Mapping[str, Any]:  # type: ignore[override]
        """Do it."""
        given = inputs[item.target.field]
        if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
            raise PipelineError(
                f"Step {work.name!r} needs a list in {item.target.field!r}; it is {type(given).__name__}.", step=work.name
            )
        return {item.outputs[0] if item.outputs else work.field: item.target.apply(inputs)}

    def repeatable(self, item: Step) -> bool:
        """It does nothing but compute."""
        return True

    def plain(self, item: Step) -> bool:
        """Nothing is awaited."""
        return True

    def label(self, item: Step) -> str:
        """Return the field and the expressions."""
        return ", ".join([item.target.field, *(f"{n} {p}" for n, p in item.target.parts.items())])
