"""A signature as a JSON schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._validate import adapter

if TYPE_CHECKING:
    from ._signature import Side, Signature


def schema_of(sig: Signature, side: Side | None) -> dict[str, Any]:
    """Return the schema of one side's records, or of a record of both sides."""
    if side is not None:
        return _generate(sig._checker(side).record_type(), f"{sig.name} {side}")
    from typing_extensions import TypedDict

    both = TypedDict("both", {s: sig._checker(s).record_type() for s in ("inputs", "outputs")})  # type: ignore[misc]
    return {**_generate(both, sig.name), "description": sig.instructions}


def _generate(record: Any, title: str) -> dict[str, Any]:
    from pydantic.json_schema import GenerateJsonSchema

    class Generate(GenerateJsonSchema):
        """Classes without a JSON form stand as "anything", with their name."""

        ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 (declared so by Pydantic)

        def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:
            cls = schema.get("cls")
            return {"description": f"A Python object: {cls.__name__}"} if isinstance(cls, type) else {}

    schema = adapter(record).json_schema(schema_generator=Generate)
    schema["title"] = title
    return schema
