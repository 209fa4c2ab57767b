"""How a space is seen from another kernel: what carries messages between the two, and what they say.

The kernel that owns a space serves it (``serve_space``); another one joined to the same cluster has a ``RemoteSpace``, which
asks. Every request names its asker and has a number. It is sent again until it is answered, and the owner remembers what it has
answered, so that what is lost on the way is said again and nothing is done twice. Of commits the owner tells everybody; who
finds by their versions that one is missing asks for it.

Messages are JSON, never pickles. Whoever can write to the cluster can send any, so each is checked before it is believed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from dspex_lab.errors import VariableError

Message = Mapping[str, Any]
Handler = Callable[[Message], None]

#: What both ends speak; another number is refused.
PROTOCOL = 1

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")


class Channel(Protocol):
    """Carries messages between kernels, to everybody who has subscribed to their topic.

    Messages of one publisher arrive in the order in which they were published, each once or, while the connection is lost,
    not at all. Both methods may be called from any thread, and do not wait for the other side. Handlers are called one at a
    time, on a thread of the channel's own: they must not block it. One that raises is logged.
    """

    def publish(self, topic: str, message: Message) -> None:
        """Send a message.

        Raises:
            Unserialisable: it is no JSON, or larger than the channel carries.
            DspexError: it cannot be sent now.
        """
        ...

    def subscribe(self, topic: str, handler: Handler) -> Callable[[], None]:
        """Have ``handler`` called for each message; return what ends that."""
        ...


def topics(space: str) -> tuple[str, str]:
    """Return the topic on which the owner of a space is asked, and the one on which it tells.

    Raises:
        VariableError: a name that is not one.
    """
    if not isinstance(space, str) or not _NAME.fullmatch(space):
        raise VariableError(
            f"A space cannot be served as {space!r}.",
            hint="A name has up to 100 letters, digits, dots, dashes and underscores.",
        )
    return f"dspex.space.{space}.ask", f"dspex.space.{space}.told"
