"""A program that is run once, in a session of its own: variables in, named values out."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dspex_lab.errors import SandboxDied, SandboxError, SandboxUnavailable
from dspex_lab.security.interpreter._opening import open_session
from dspex_lab.security.interpreter._own import packages
from dspex_lab.security.interpreter._session import Done, Session
from dspex_lab.security.interpreter._tools import check_names
from dspex_lab.security.sandbox import CodeError, Limits

#: Asked of the sandbox after the program: its variables of these names as JSON text, which every interpreter gives alike.
_FETCH = """
def __dspex_plain__(value):
    for name in ("tolist", "item", "isoformat"):
        if callable(getattr(value, name, None)):
            return getattr(value, name)()
    if hasattr(value, "columns") and hasattr(value, "to_dict"):
        return value.to_dict("records")
    if isinstance(value, (set, frozenset)):
        return list(value)
    if hasattr(value, "__dataclass_fields__"):
        return {{name: getattr(value, name) for name in value.__dataclass_fields__}}
    raise TypeError(f"{{type(value).__name__}} has no JSON form")

__import__("json").dumps({{n: globals()[n] for n in {names!r} if n in globals()}}, default=__dspex_plain__)
"""


@dataclass(frozen=True, slots=True)
class Once:
    """What a program gave.

    Attributes:
        outputs: its values by name, as JSON gives them: what it gave to ``SUBMIT``, else its variables of these names.
        value: the value of its last expression, None where it has no JSON form.
        printed: what it printed.
        level: what held it.
        seconds: wall time.
    """

    outputs: Mapping[str, Any]
    value: Any
    printed: str
    level: str
    seconds: float


class OneRun:
    """A program with its variables, to be called once. Can be pickled before that.

    Args:
        code: Python.
        variables: what it sees as global names.
        names: of the values that are asked of it.
        limits: what it may use.

    Raises, when called:
        CodeError: what the program raised.
        SandboxError: the rule it broke, or that there is no sandbox here.
        ConfigurationError: a variable has no JSON form.
    """

    __hash__ = None  # type: ignore[assignment] # nothing keeps it in a table

    def __init__(self, code: str, variables: Mapping[str, Any], names: tuple[str, ...], limits: Limits) -> None:
        self.code, self.variables, self.names, self.limits = code, dict(variables), names, limits
        self._begin()

    def _begin(self) -> None:
        self._session: Session | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("code", "variables", "names", "limits")}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def __call__(self) -> Once:
        check_names(self.variables, "variable")
        clock = time.perf_counter()
        session = open_session(self.limits, packages())
        with self._lock:
            self._session = session
            stopped = self._stopped
        try:
            if stopped:
                raise SandboxDied("The program was stopped before it began.", level=session.level)
            fields = [{"name": name} for name in self.names]
            done = session.run(self.code, session.prepare(self.variables), {}, _no_tool, fields)
            outputs = done.value if done.final else self._fetch(session)
            value = None if done.final or done.is_repr else done.value
            return Once(outputs, value, done.printed, session.level, time.perf_counter() - clock)
        except SandboxError as error:
            if not session.alive and not isinstance(error, SandboxUnavailable):
                error.hint = None  # it speaks of a next run
            raise
        finally:
            session.close()

    def _fetch(self, session: Session) -> Mapping[str, Any]:
        try:
            found: Done = session.run(_FETCH.format(names=list(self.names)), {}, {}, _no_tool, None)
        except (CodeError, SandboxError) as error:
            raise CodeError(f"What the program gave could not be read: {error}", type="TypeError", detail=str(error)) from error
        text = found.value if isinstance(found.value, str) else found.printed
        try:
            outputs = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CodeError(
                f"What the program gave could not be read: {error}", type="ValueError", detail=str(error)
            ) from error
        return outputs if isinstance(outputs, dict) else {}

    def stop(self) -> None:
        """End it, from another thread; whoever waits for it gets ``SandboxDied``."""
        with self._lock:
            self._stopped = True
            session = self._session
        if session is not None:
            session.close()


def _no_tool(name: str, args: Any, kwargs: Any) -> Any:
    raise RuntimeError(f"There is no tool {name!r}.")
