"""Variables over a joined cluster: the Lab's own are served to other kernels, theirs are opened."""

from __future__ import annotations

import logging
import re
import threading
from pathlib import Path

from dspex_lab.errors import ConfigurationError, VariableError
from dspex_lab.pools import Pools
from dspex_lab.variables import NameTaken, RemoteSpace, Served, Space, serve_space

log = logging.getLogger("dspex_lab")


def name_for(store: str | Path, lab_id: str) -> str:
    """Return the name under which a Lab's variables are served: that of its store's file."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(store).stem).strip("-.")[:80]
    return plain if plain and str(store) != ":memory:" else lab_id


class Sharing:
    """Serves a space in the background, from when it is asked for to :meth:`close`, and keeps the spaces of other kernels.

    Thread-safe.

    Args:
        pools: whose cluster carries the messages.
        name: under which it is served; where another kernel has that name, with the end of ``lab_id`` behind it.
    """

    def __init__(self, pools: Pools, name: str, lab_id: str) -> None:
        self._pools, self._name, self._lab_id = pools, name, lab_id
        self._lock = threading.Lock()
        self._over, self._ready = threading.Event(), threading.Event()
        self._served: Served | None = None
        self._thread: threading.Thread | None = None
        self._others: dict[str, RemoteSpace] = {}

    def begin(self, space: Space) -> None:
        """Serve a space as soon as the cluster is reached; returns at once."""
        with self._lock:
            if self._thread is None and not self._over.is_set():
                self._thread = threading.Thread(target=self._serve, args=(space,), name="dspex-share", daemon=True)
                self._thread.start()

    def served_as(self, timeout: float | None) -> str:
        """Return the name under which the space is served, when it is.

        Raises:
            ConfigurationError: no cluster was joined.
            TimeoutError: the cluster was not reached in so many seconds.
        """
        self._check_joined()
        if not self._ready.wait(timeout) or self._served is None:
            raise TimeoutError(f"The variables are not served yet: the cluster {self._pools.address} was not reached.")
        return self._served.name

    def of(self, name: str, timeout: float) -> RemoteSpace:
        """Return the space that another kernel serves; the same one as long as it is open.

        Raises:
            ConfigurationError: no cluster was joined.
            VariableError: nobody serves one of that name.
        """
        self._check_joined()
        with self._lock:
            found = self._others.get(name)
        return self._opened(name, timeout) if found is None or found.closed else found

    def _opened(self, name: str, timeout: float) -> RemoteSpace:
        made = RemoteSpace(self._pools.channel(), name, timeout=timeout)
        try:
            len(made)
            with self._lock:
                found = self._others.get(name)
                if self._over.is_set():
                    raise VariableError(f"The variables of {name!r} cannot be opened: the Lab is being closed.")
                if found is None or found.closed:
                    found = self._others[name] = made
        except BaseException:  # somebody may also have lost patience
            made.close()
            raise
        if found is not made:  # another thread was first
            made.close()
        return found

    def close(self) -> None:
        """Serve and see nothing any more."""
        self._over.set()
        with self._lock:
            thread, others = self._thread, list(self._others.values())
        if thread is not None:
            thread.join()
        for each in others:
            each.close()
        if self._served is not None:
            self._served.close()
        self._ready.set()

    def _check_joined(self) -> None:
        if not self._pools.joined:
            raise ConfigurationError(
                "Kernels see one another's variables over a cluster that both have joined, and none was joined.",
                key="pools.address",
                expected="the address of a Dask scheduler",
                actual=None,
                hint='Put address = "tls://HOST:8786" under [pools] in dspex.toml.',
            )

    def _serve(self, space: Space) -> None:
        name, said = self._name, False
        while not self._over.is_set():
            try:
                self._served = serve_space(space, self._pools.channel(), name=name, over=self._over)
            except NameTaken as taken:
                name = f"{self._name}-{self._lab_id[-8:]}"
                log.warning("%s The variables of this Lab are served as %r", taken, name)
            except VariableError as error:
                if not said and not self._over.is_set():
                    log.warning("%s It is tried again", error)
                said = True
            else:
                self._ready.set()
                return
