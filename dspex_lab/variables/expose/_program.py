"""All knobs of a program, copies of programs, and values put into them."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from dspex_lab.errors import VariableError, did_you_mean
from dspex_lab.variables._protocols import Knob
from dspex_lab.variables.expose._adapter import adapter_knob
from dspex_lab.variables.expose._modules import module_knobs
from dspex_lab.variables.expose._places import dspy_class, is_predict
from dspex_lab.variables.expose._predictors import named_models, predictor_knobs
from dspex_lab.variables.expose._settings import setting_knobs
from dspex_lab.variables.expose._tools import TOOLS, tool_knobs
from dspex_lab.variables.expose._walk import Part, is_module, is_retriever, parts

#: Attributes under which parts of programs have a model.
_MODELS = ("lm", "sub_lm")


def knobs(
    program: Any,
    *,
    models: Mapping[str, Any] | None = None,
    modules: Mapping[str, Mapping[str, Any]] | None = None,
    adapters: Mapping[str, Any] | None = None,
) -> list[Knob]:
    """Return every knob of a DSPy program.

    They are named by path, predictors as ``named_predictors`` names them: ``"triage.predict.instructions"``. What two paths
    lead to has the knobs of the first. Modules that were compiled before, which DSPy leaves out, are among them.

    Args:
        program: a ``dspy.Module`` (or a retriever of DSPy's).
        models: further models by name, for the ``lm`` of each predictor; those in the program, and the one in use, are known.
        modules: further modules by the path of the place where they may stand (``{"answer": {"mine": make}}``); each is made
            from a signature.
        adapters: further adapters by name.

    Raises:
        VariableError: ``program`` is no program.
    """
    if not (is_module(program) or is_retriever(program)):
        raise VariableError(
            f"{type(program).__name__} is no DSPy program, so it has no knobs.",
            hint="Give a dspy.Module, such as dspy.Predict(...); of a pipeline: pipelines.knobs(pipeline).",
        )
    found = parts(program)
    asked = {**_models(found), **(models or {})}
    every = [adapter_knob(program, adapters or {})] if is_module(program) else []
    exchange = {k.path: k for k in module_knobs(found, modules or {})}
    for part in found:
        path = f"{part.place.name}.module" if part.place.legs else "module"
        every.extend(k for k in [exchange.get(path)] if k is not None)
        if is_predict(part.value):
            every.extend(predictor_knobs(part, asked))
        every.extend(tool_knobs(part))
        every.extend(setting_knobs(part, asked))
    return list(_distinct(every))


def _distinct(found: Iterable[Knob]) -> Iterator[Knob]:
    """Return knobs of which no two have one name: ``a-b`` and ``a_b`` may both be keys of a dict."""
    taken: dict[str, int] = {}
    for knob in found:
        taken[knob.path] = taken.get(knob.path, 0) + 1
        yield knob if taken[knob.path] == 1 else dataclasses.replace(knob, path=f"{knob.path}_{taken[knob.path]}")


def _models(found: Sequence[Part]) -> dict[str, Any]:
    """Return the models that a program has, each under a name of its own."""
    held = [getattr(part.value, attribute, None) for part in found for attribute in _MODELS]
    return named_models([lm for lm in held if lm is not None], {})


# --- copies ---------------------------------------------------------------------------------------------------


def copy_of(program: Any, instead: Mapping[int, Any] | None = None) -> Any:
    """Return a program of its own that is like ``program``.

    Models, tools, retrievers and single demonstrations are shared: they are replaced and never changed. So is what cannot be
    copied, such as a connection.

    Args:
        instead: what is copied in the place of parts, by the parts' ids.
    """
    if is_retriever(program):
        return copy.copy(program)
    memo: dict[int, Any] = {}
    for part in parts(program):
        _share(part.value, memo)
    for identity, stand_in in (instead or {}).items():
        for part in parts(stand_in):
            _share(part.value, memo)
        memo[identity] = copy.deepcopy(stand_in, memo)
    try:
        return copy.deepcopy(program, dict(memo))
    except Exception:  # any object in it may refuse, each in its own way
        for part in parts(program):
            for value in vars(part.value).values() if is_module(part.value) else ():
                _share_stubborn(value, memo)
        return copy.deepcopy(program, memo)


def _share(value: Any, memo: dict[int, Any]) -> None:
    """Note what copies of a part share with it."""
    if is_retriever(value):
        memo[id(value)] = value
        return
    if is_predict(value):
        for demo in value.demos:
            memo[id(demo)] = demo
        if value.lm is not None:
            memo[id(value.lm)] = value.lm
        return
    for held in vars(value).values():
        if isinstance(held, list | tuple):
            _share_all(held, memo)
        elif isinstance(held, dict):
            _share_all(held.values(), memo)
        elif hasattr(held, "__dict__"):
            _share_all((held,), memo)


def _share_all(values: Iterable[Any], memo: dict[int, Any]) -> None:
    for value in values:
        if isinstance(value, _shared()):
            memo[id(value)] = value


@functools.cache
def _shared() -> tuple[type, ...]:
    return tuple(dspy_class(name) for name in ("BaseLM", "Tool", "Embedder", "Adapter"))


def _share_stubborn(value: Any, memo: dict[int, Any]) -> None:
    if is_module(value) or id(value) in memo:
        return
    if isinstance(value, list | tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            _share_stubborn(item, memo)
        return
    try:
        copy.deepcopy(value, dict(memo))
    except Exception:  # a lock, a connection, a client: as DSPy does, the copy uses the same one
        memo[id(value)] = value


# --- values ---------------------------------------------------------------------------------------------------


def apply(program: Any, values: Mapping[str, Any], found: Sequence[Knob] | None = None) -> Any:
    """Put values into ``program`` itself, and return it.

    What has the value already is left as it is, so an unchanged predictor keeps the very signature it has.

    Args:
        program: one that nobody else runs at this moment, such as a copy.
        values: by the knobs' paths.
        found: its knobs, or those of a program of the same shape (they travel to workers). By default they are found anew; the
            range of a user's own number is then guessed from the value that it has in this program.

    Raises:
        VariableError: a path leads nowhere, or a value is none that the knob can have. Nothing was written in the second case.
    """
    by_path = {k.path: k for k in (knobs(program) if found is None else found)}
    ready: list[tuple[Knob, Any]] = []
    for path, value in values.items():
        if path not in by_path:
            raise VariableError(
                f"The program has no knob {path!r}.{did_you_mean(path, by_path)}",
                name=path,
                hint="knobs(program) lists them.",
            )
        ready.append((by_path[path], by_path[path].domain.cast(value, path)))
    written = False
    for knob, value in sorted(ready, key=lambda pair: pair[0].rank):
        if (knob.rank == TOOLS and written) or not knob.domain.equal(present(knob, program), value):
            knob.write(program, value)
            written = True
    return program


def present(knob: Knob, program: Any) -> Any:
    """Return the value that a knob has in a program, as its domain has it; what the domain does not know as it is."""
    value = knob.read(program)
    try:
        return knob.domain.cast(value, knob.path)
    except VariableError:
        return value


def build(program: Any, values: Mapping[str, Any], found: Sequence[Knob] | None = None) -> Any:
    """Return a program of its own with these values; ``program`` is left as it is. See :func:`apply`."""
    return apply(copy_of(program), values, found)
