"""A session of our sandbox, with what DSPy's code expects of the place it runs in."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Mapping
from typing import Any

from dspex_lab.security._protection import protection
from dspex_lab.security.interpreter._session import Answer, Done, Output
from dspex_lab.security.interpreter._values import DECODER, encode, is_marked
from dspex_lab.security.sandbox import Limits, Sandbox, Submit

#: Where values are put that become variables there.
_GIVEN = "dspex_given_"
#: Stands before the name of a tool that begins with two underscores, which the sandbox keeps for itself and DSPy uses.
_TOOL = "dspex_tool_"


def packages() -> tuple[str, ...]:
    """Return the folders in which the packages of this Python are."""
    return tuple(dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib")))


class OwnSession:
    """One child of our sandbox.

    Args:
        limits: of each run.
        importable: folders of packages that the code may import.
    """

    def __init__(self, limits: Limits, importable: tuple[str, ...]) -> None:
        self._sandbox = Sandbox(limits, importable=importable)
        self.level = str(protection())

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._sandbox.alive

    def prepare(self, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the variables as JSON trees."""
        return {name: encode(value) for name, value in variables.items()}

    def run(
        self, code: str, given: Mapping[str, Any], tools: Mapping[str, Callable[..., Any]], answer: Answer, fields: Output
    ) -> Done:
        """Run ``code``; see :class:`~dspex_lab.security.interpreter._session.Session`."""
        odd = {name for name, tree in given.items() if name.startswith("__") or is_marked(tree)}
        there = {f"{_TOOL}{n}" if n.startswith("__") else n: _asking(n, answer) for n in tools}
        making = [f"{name} = __dspex_value__({_GIVEN}[{name!r}])" for name in odd]
        making += [f"{name} = {_TOOL}{name}" for name in tools if name.startswith("__")]
        if making:
            values = {_GIVEN: {name: given[name] for name in odd}}
            self._sandbox.run("\n".join([DECODER, *making, f"del {_GIVEN}"]), values, tools=there)
        there["SUBMIT"] = _submitter(fields)
        ran = self._sandbox.run(code, {n: tree for n, tree in given.items() if n not in odd}, tools=there)
        facts: dict[str, Any] = {"cpu_seconds": ran.cpu_seconds, "peak_memory": ran.peak_memory}
        printed = f"{ran.stdout}\n[more was printed than is kept]" if ran.truncated else ran.stdout
        return Done(ran.result, printed, ran.submitted, ran.is_repr, facts)

    def close(self) -> None:
        """End the process."""
        self._sandbox.close()


def _asking(name: str, answer: Answer) -> Callable[..., Any]:
    def ask(*args: Any, **kwargs: Any) -> Any:
        return answer(name, args, kwargs)

    return ask


def _submitter(fields: Output) -> Callable[..., Any]:
    """Return what the code calls to end with an answer: with one value, or with one for each field."""
    names = None if fields is None else [str(field["name"]) for field in fields]

    def submit(*args: Any, **kwargs: Any) -> None:
        if names is None:
            if len(args) + len(kwargs) != 1 or (kwargs and "output" not in kwargs):
                raise TypeError("SUBMIT takes one value: SUBMIT(value).")
            raise Submit({"output": args[0] if args else kwargs["output"]})
        values = dict(zip(names, args, strict=False))
        twice = [name for name in kwargs if name in values]
        values.update(kwargs)
        if len(args) > len(names) or twice or set(values) != set(names):
            raise TypeError(f"SUBMIT takes {', '.join(names)}, each once; it was given {', '.join(values) or 'nothing'}.")
        raise Submit(values)

    return submit
