"""A prompt compiled from a signature: DSPy's Chat and JSON formats, made once.

What depends on the signature and the demonstrations alone is written by DSPy's own adapter, once; what depends on the
inputs is written here. The messages are equal to those of the ``ChatAdapter`` and ``JSONAdapter`` of DSPy 3.4.1
(``dspy/adapters/base.py: Adapter.format``), which ``tests/native/test_predict_conformance.py`` holds.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

#: The form in which questions are put and answers are expected.
Format = Literal["chat", "json"]
#: One message as DSPy's adapters write it; the content is a list of blocks where it holds an image or a file.
Message = dict[str, Any]

_MARKER = "<<CUSTOM-TYPE-START-IDENTIFIER>>"
_NOT_GIVEN: Any = object()


@functools.lru_cache(maxsize=1024)
def _serializer(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def jsonable(value: Any) -> Any:
    """Return ``value`` as JSON-able data, as its string where Pydantic cannot (``adapters/utils.py: serialize_for_json``)."""
    kind: Any = type(value)
    try:
        return _serializer(kind).dump_python(value, mode="json", fallback=str)
    except Exception:
        # A value of a type nobody can serialize is shown as text; the prompt says what it looks like. As wide as DSPy's own:
        # a serializer or computed field of the user's class may raise anything, and the prompt must be the same as DSPy's.
        return str(value)


def show(value: Any, plain: bool) -> str:
    """Return a field's value as the text of a prompt (``adapters/utils.py: format_field_value``).

    Args:
        plain: the field is a ``str``; a list given for it becomes a numbered list.
    """
    if type(value) is str:
        return value
    if plain and isinstance(value, list):
        return _numbered(value)
    data = jsonable(value)
    return json.dumps(data, ensure_ascii=False) if isinstance(data, dict | list) else str(data)


def _numbered(values: list[Any]) -> str:
    if not values:
        return "N/A"
    if len(values) == 1:
        return _blob(values[0])
    return "\n".join(f"[{number}] {_blob(text)}" for number, text in enumerate(values, 1))


def _blob(text: str) -> str:
    if "\n" not in text and "«" not in text and "»" not in text:
        return f"«{text}»"
    indented = text.replace("\n", "\n    ")
    return f"«««\n    {indented}\n»»»"


def make_adapter(form: Format, native_calls: bool = False) -> Any:
    """Return DSPy's adapter of that format, with or without the model's own tool calls; no callback hangs on it."""
    import dspy

    kind = dspy.ChatAdapter if form == "chat" else dspy.JSONAdapter
    return kind(use_native_function_calling=native_calls)


class CompiledPrompt:
    """The messages of one signature with its demonstrations, as a function of the inputs. Immutable, thread-safe.

    Args:
        signature: the ``dspy.Signature`` class.
        demos: the demonstrations (``dspy.Example`` or dict), in order.
        form: chat or JSON.
        native_calls: earlier tool calls are shown to the model as such, not as text.
    """

    def __init__(self, signature: Any, demos: Iterable[Any], form: Format, native_calls: bool = False) -> None:
        from dspy import History

        self.form = form
        self._adapter = make_adapter(form, native_calls)
        system = self._adapter.format_system_message(signature)
        turns = self._adapter.format_demos(signature, list(demos))
        self._fixed = [("system", system), *((m["role"], _with_blocks(m["role"], m["content"])) for m in turns)]
        self._history = next((n for n, f in signature.input_fields.items() if f.annotation == History), None)
        self._rest = signature.delete(self._history) if self._history else signature
        self._inputs = [(n, f"[[ ## {n} ## ]]\n", f.annotation is str) for n, f in self._rest.input_fields.items()]
        self._outputs = [(n, f"[[ ## {n} ## ]]\n", f.annotation is str) for n, f in signature.output_fields.items()]
        self._request = self._adapter.user_message_output_requirements(signature)

    def messages(self, inputs: Mapping[str, Any]) -> list[Message]:
        """Return the messages of one question; new dicts, which the caller may keep and change.

        Args:
            inputs: the values of the fields; one that is missing is left out of the prompt.
        """
        found: list[Message] = [{"role": role, "content": content} for role, content in self._fixed]
        if self._history:
            found += self._conversation(inputs)
        found.append({"role": "user", "content": _with_blocks("user", self._question(inputs, True))})
        return found

    def _question(self, values: Mapping[str, Any], asks: bool) -> str:
        parts = [head + show(values[name], plain) for name, head, plain in self._inputs if name in values]
        if asks:
            parts.append(self._request)
        return "\n\n".join(parts).strip()

    def _answer(self, values: Mapping[str, Any]) -> str:
        if self.form == "json":
            return json.dumps(jsonable({name: values.get(name) for name, _, _ in self._outputs}), indent=2, ensure_ascii=False)
        shown = "\n\n".join(head + show(values.get(name), plain) for name, head, plain in self._outputs).strip()
        return f"{shown}\n\n[[ ## completed ## ]]\n"

    def _conversation(self, inputs: Mapping[str, Any]) -> list[Message]:
        """Return earlier turns (``adapters/base.py: format_conversation_history``)."""
        given = inputs.get(self._history or "", _NOT_GIVEN)
        turns = None if given is _NOT_GIVEN else given.messages
        if turns is None:
            return []
        if any(_calls_tools(turn) for turn in turns):
            made = self._adapter.format_conversation_history(self._rest, self._history, dict(inputs))
            return [{**m, "content": _with_blocks(m["role"], m["content"])} for m in made]
        found: list[Message] = []
        for turn in turns:
            question = self._question(turn, any(name in turn for name, _, _ in self._inputs))
            if question:
                found.append({"role": "user", "content": _with_blocks("user", question)})
            found.append({"role": "assistant", "content": self._answer(turn)})
        return found


def _calls_tools(turn: Mapping[str, Any]) -> bool:
    from dspy import ToolCalls

    return any(isinstance(v, ToolCalls) or (isinstance(v, dict) and "tool_calls" in v) for v in turn.values())


def _with_blocks(role: str, content: Any) -> Any:
    """Return a user's content with images, audio and files as blocks of their own."""
    if role != "user" or not isinstance(content, str) or _MARKER not in content:
        return content
    from dspy.adapters._legacy_type_markers import _split_legacy_custom_type_text_to_blocks as split

    return split(content)
