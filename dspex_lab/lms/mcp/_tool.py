"""One tool of an MCP server as a ``dspy.Tool``. Imports DSPy."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dspy.adapters.types.tool import Tool, convert_input_schema_to_tool_args
from dspy.utils.callback import with_callbacks

from dspex_lab.lms._schema_check import violation

if TYPE_CHECKING:
    from dspex_lab.lms.mcp._session import Session

#: Characters of a description, of one of its arguments, and of a schema as JSON. A prompt holds them all, at every turn.
_LONGEST_TEXT = 2_000
_LONGEST_SCHEMA = 16_000
#: Names that ``dspy.ReAct`` keeps for itself.
_TAKEN = frozenset(["finish"])
_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
#: What ends a description in DSPy's prompts, and what begins a field there.
_MARKUP = re.compile(r"</?desc>|\[\[\s*##", re.IGNORECASE)


class Unfit(Exception):
    """A tool that is not offered; the message says why."""


class Remote:
    """The work of a tool: sends it to the server and gives back text, whatever happens there.

    Args:
        session: where the server is reached.
        name: the tool's name there.
        schema: the JSON schema of its arguments.
    """

    def __init__(self, session: Session, name: str, schema: dict[str, Any]) -> None:
        self.session = session
        self.name = name
        self.schema = schema

    def __call__(self, **arguments: Any) -> str:
        """Call the tool and wait; returns what it gave, or what went wrong."""
        return self._refusal(arguments) or self.session.call(self.name, plain(arguments))

    async def acall(self, arguments: Mapping[str, Any]) -> str:
        """Call the tool; can be cancelled."""
        return self._refusal(arguments) or await self.session.acall(self.name, plain(arguments))

    def _refusal(self, arguments: Mapping[str, Any]) -> str | None:
        try:
            problem = violation(self.schema, plain(arguments))
        except ValueError as error:
            problem = str(error)
        return None if problem is None else f"Error: the arguments of {self.name} do not fit, {problem}. It was not called."

    def __deepcopy__(self, memo: dict[int, Any]) -> Remote:
        return self  # optimizers copy programs; the server stays the same one


class MCPTool(Tool):
    """A ``dspy.Tool`` whose work an MCP server does; usable both sync and async, also inside a running event loop.

    What goes wrong there (an error of the tool, arguments that do not fit, a timeout, a server that is gone) is its answer,
    as text that begins with ``Error:``, so that an agent can read it and go on.
    """

    @with_callbacks
    def __call__(self, **kwargs: Any) -> Any:
        """Call the tool and wait for what it gives."""
        return self.func(**kwargs)

    @with_callbacks
    async def acall(self, **kwargs: Any) -> Any:
        """Call the tool; cancelling the call cancels it on the server."""
        return await self.func.acall(kwargs)

    def format_as_litellm_function_call(self) -> dict[str, Any]:
        """Return the tool as native function calling describes it: with the server's own schema."""
        about = {"name": self.name, "description": self.desc, "parameters": self.func.schema}
        return {"type": "function", "function": about}


def as_tool(session: Session, found: Any, prefix: str = "") -> MCPTool:
    """Return a tool that a server lists.

    Its texts are a stranger's: they are cut to size, and lose control characters and what would end them in a prompt.

    Args:
        found: the tool as the server describes it.
        prefix: put before its name.

    Raises:
        Unfit: its schema is too large, or none.
    """
    schema = _clean(found.input_schema)
    size = len(json.dumps(schema))
    if size > _LONGEST_SCHEMA:
        raise Unfit(f"the schema of its arguments has {size:,} characters; {_LONGEST_SCHEMA:,} are allowed")
    try:
        violation(schema, {})
        args, types, about = convert_input_schema_to_tool_args(schema)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as problem:
        raise Unfit(f"the schema of its arguments cannot be read: {problem}") from problem
    return MCPTool(
        func=Remote(session, found.name, schema),
        name=tool_name(prefix + found.name),
        desc=clean_text(found.description or found.title or ""),
        args=args,
        arg_types=types,
        arg_desc=about,
    )


def tool_name(name: str) -> str:
    """Return ``name`` as prompts and providers take it."""
    fit = _NAME.sub("_", name)[:64] or "tool"
    return f"{fit}_" if fit in _TAKEN else fit


def clean_text(text: str) -> str:
    """Return a stranger's text as plain text of a bearable length."""
    shown = _MARKUP.sub(lambda found: found.group().replace("<", "(").replace(">", ")").replace("[[", "[ ["), text)
    shown = _CONTROL.sub("", shown)
    return shown if len(shown) <= _LONGEST_TEXT else f"{shown[:_LONGEST_TEXT]}… (cut)"


def _clean(value: Any, depth: int = 0) -> Any:
    if depth > 40:
        raise Unfit("the schema of its arguments is nested too deeply")
    if isinstance(value, dict):
        return {str(key): _clean(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [_clean(inner, depth + 1) for inner in value]
    return clean_text(value) if isinstance(value, str) else value


def plain(arguments: Any) -> Any:
    """Return arguments as JSON-able data: Pydantic models as what they hold."""
    if hasattr(arguments, "model_dump"):
        return arguments.model_dump(mode="json")
    if isinstance(arguments, Mapping):
        return {str(key): plain(value) for key, value in arguments.items()}
    if isinstance(arguments, list | tuple):
        return [plain(value) for value in arguments]
    return arguments
