"""Pages at a loopback address, served from the kernel's process by a thread of its own."""

from __future__ import annotations

import abc
import asyncio
import html
import secrets
import socket
import tempfile
import threading
import webbrowser
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import panel as pn
from bokeh.server.server import BaseServer
from bokeh.server.tornado import BokehTornado
from panel.io.application import build_applications
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError

from dspex_lab.dashboards._gate import Gate
from dspex_lab.dashboards._style import DOCUMENT
from dspex_lab.errors import ConfigurationError

ADDRESS = "127.0.0.1"


class Page(Protocol):
    """What a person sees in a window: something that Panel shows. Made and used in the server's thread."""

    def stop(self) -> None:
        """End what it does: the server stops. May be called twice."""


P = TypeVar("P", bound=Page)


class PageServer(abc.ABC, Generic[P]):
    """Pages that are being served, each window its own; may be used as a context manager. Thread-safe.

    A subclass says in ``_make`` how a page is made.

    Args:
        title: of the windows.
        port: the port, or 0 for a free one.

    Attributes:
        url: the whole address, with its token; whoever knows it can use the pages while they are served.
        port: the port on 127.0.0.1.

    Raises:
        ConfigurationError: the port is taken, or is none.
    """

    #: What a page is called, and how one gets its address again: for messages.
    noun: ClassVar[str] = "page"
    again: ClassVar[str] = "Serve it again"

    def __init__(self, title: str, *, port: int = 0) -> None:
        self._title = title
        self._token = secrets.token_urlsafe(32)
        self._pages: set[P] = set()
        self._lock = threading.Lock()
        self._stopped = False
        self._opener: Path | None = None
        self._socket = self._listen(port)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://{ADDRESS}:{self.port}/{self._token}/"
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name=f"dspex-{self.noun}-server", daemon=True)
        self._thread.start()
        ready.wait()
        if self._failure is not None:
            raise self._failure

    _failure: BaseException | None = None
    _loop: IOLoop

    @property
    def running(self) -> bool:
        """Whether it is being served."""
        return self._thread.is_alive()

    def open(self) -> bool:
        """Open the page in the person's browser; return whether a browser could be started.

        The browser is given a private file that leads on to the page: a command line can be read by everybody on
        the machine, and the token is not theirs.
        """
        if self._opener is None:
            handle, name = tempfile.mkstemp(prefix=f"dspex-{self.noun}-", suffix=".html")
            with open(handle, "w", encoding="utf-8") as file:
                target = html.escape(self.url, quote=True)
                link = f'<a href="{target}">{self.noun.title()}</a>'
                file.write(f'<!doctype html><meta http-equiv="refresh" content="0; url={target}">{link}')
            self._opener = Path(name)
        return webbrowser.open(self._opener.as_uri())

    def stop(self) -> None:
        """End serving, close every page's connection and wait until no thread is left. May be called twice."""
        with self._lock:
            first, self._stopped = not self._stopped, True
        if first:
            self._loop.add_callback(self._shut)
            if self._opener is not None:
                self._opener.unlink(missing_ok=True)
        if self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r}{'' if self.running else ', stopped'})"

    def _repr_html_(self) -> str:
        if not self.running:
            return f"<p>The {self.noun} was stopped.</p>"
        return f'<p><a href="{html.escape(self.url, quote=True)}" target="_blank" rel="noreferrer">Open the {self.noun}</a></p>'

    @abc.abstractmethod
    def _make(self) -> P:
        """Make the page of one window, in the server's thread."""

    def _files(self) -> list[tuple[Any, ...]]:
        """Return what is answered beside the page, as Tornado's patterns."""
        return []

    def _page(self) -> P:
        page = self._make()
        pn.config.raw_css = [*pn.config.raw_css, DOCUMENT]  # kept by Panel for this session only
        self._pages.add(page)
        pn.state.on_session_destroyed(lambda _context: self._pages.discard(page))
        return page

    def _run(self, ready: threading.Event) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._serve(ready))

    async def _serve(self, ready: threading.Event) -> None:
        self._ended = asyncio.Event()
        asyncio.get_running_loop().set_exception_handler(_quiet)
        try:
            self._loop = IOLoop.current()
            hosts = frozenset({f"{ADDRESS}:{self.port}", f"localhost:{self.port}"})
            pages = build_applications({"/": self._page}, title=self._title, location=False)
            application = BokehTornado(
                pages,
                prefix=self._token,
                extra_websocket_origins=sorted(hosts),
                extra_patterns=self._files(),
                use_index=False,
                log_function=lambda handler: None,  # every path has the token in it, which is not for a log
            )
            http = HTTPServer(Gate(application, self._token, hosts, self._refusal()))
            server = BaseServer(self._loop, application, http)
            http.add_socket(self._socket)
            server.start()
        except BaseException as error:
            self._failure = error
            self._socket.close()
            return
        finally:
            ready.set()
        await self._ended.wait()
        server.stop()
        for page in list(self._pages):
            page.stop()
        await http.close_all_connections()

    def _shut(self) -> None:
        self._ended.set()

    def _refusal(self) -> str:
        return f"403: this {self.noun} needs the whole address it was given with, including its token. {self.again}.\n"

    def _listen(self, port: int) -> socket.socket:
        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65_535:
            raise self._no_port(port, "a port is a whole number from 0 to 65535")
        try:
            listening = socket.create_server((ADDRESS, port), backlog=128)
        except OSError as error:
            raise self._no_port(port, str(error)) from error
        listening.setblocking(False)
        return listening

    def _no_port(self, port: object, why: str) -> ConfigurationError:
        return ConfigurationError(
            f"The {self.noun} cannot be served on port {port!r} of {ADDRESS}: {why}.",
            key="port",
            expected="a free port, or 0 for any",
            actual=port,
            hint="Choose another port, or leave it out to get a free one.",
        )


def _quiet(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # A page that is closed while an update is on its way to it is no error, and nobody waits for that message.
    if not isinstance(context.get("exception"), WebSocketClosedError | StreamClosedError):
        loop.default_exception_handler(context)
