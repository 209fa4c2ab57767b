"""How a native predictor reaches a model."""

from __future__ import annotations

from typing import Any, Protocol

from dspex_lab.native._prompt import Message


class Transport(Protocol):
    """Brings messages to a model and its outputs back, as ``lm(messages=…, **config)`` does. Can be pickled.

    Both return a list with one entry per candidate: the text, or a dict with ``text`` and more. What the LM raises,
    they raise.
    """

    def call(self, lm: Any, messages: list[Message], config: dict[str, Any]) -> list[Any]:
        """Ask ``lm`` and wait for the answer."""
        ...

    async def acall(self, lm: Any, messages: list[Message], config: dict[str, Any]) -> list[Any]:
        """Ask ``lm`` without blocking the event loop."""
        ...


class LMCalls:
    """The plain transport: DSPy's own way to call an LM."""

    def call(self, lm: Any, messages: list[Message], config: dict[str, Any]) -> list[Any]:
        """Ask ``lm`` and wait for the answer."""
        from dspy.clients._deprecation import adapter_message_call

        with adapter_message_call(lm, messages):
            outputs: list[Any] = lm(messages=messages, **config)
        return outputs

    async def acall(self, lm: Any, messages: list[Message], config: dict[str, Any]) -> list[Any]:
        """Ask ``lm`` without blocking the event loop."""
        from dspy.clients._deprecation import adapter_message_call

        with adapter_message_call(lm, messages):
            outputs: list[Any] = await lm.acall(messages=messages, **config)
        return outputs


#: The transport of predictors that were given none, alone in the list.
current_transport: list[Transport] = [LMCalls()]


def use_transport(transport: Transport) -> None:
    """Make ``transport`` the one that predictors use which were given none; the Lab brings the quickest."""
    current_transport[:] = [transport]
