"""What of a program is kept as a version of it, and how it is put back: instructions, demonstrations, settings, by path."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import JobError, PipelineError
from dspex_lab.lms import describe, make_lm
from dspex_lab.pipelines import Pipeline, knobs
from dspex_lab.pipelines import with_values as set_knobs

if TYPE_CHECKING:
    from dspex_lab.variables.expose import Exposure

#: Under which a version has the values of all knobs, where its program was exposed; no predictor has such a path.
VALUES = "(variables)"
#: Of a predictor's state: what is not of the program, or is kept in another way.
_NOT_KEPT = ("traces", "train", "lm")


def predictors(program: Any) -> dict[str, Any]:
    """Return the predictors of a DSPy program by path; those too of a sub-module that was compiled, which
    ``named_predictors`` leaves out."""
    found = program.named_sub_modules()
    return {
        path.removeprefix("self.") or path: module
        for path, module in found
        if hasattr(module, "signature") and hasattr(module, "demos")
    }


def state_of(program: Any) -> dict[str, Any]:
    """Return what makes this version of a program what it is, as JSON: DSPy's own state of each predictor, with what that
    leaves out: ``config``, and the name of a model of its own."""
    return {path: _state(predictor) for path, predictor in predictors(program).items()}


def values_of(exposure: Exposure, program: Any) -> dict[str, Any]:
    """Return what each knob is in a program of the shape of the exposed one, by path, as JSON: also what is no part of a
    predictor, such as a parameter of a native step."""
    found = {knob.path: _domain(exposure, knob.path).to_json(knob.read(program)) for knob in exposure.knobs}
    made: dict[str, Any] = _plain(found)
    return made


def with_values(exposure: Exposure, values: Mapping[str, Any]) -> Any:
    """Return a program of the exposed one's shape with what :func:`values_of` gave, of the knobs that there are.

    Raises:
        VariableError: a value is none that its variable may have today.
    """
    paths = [knob.path for knob in exposure.knobs if knob.path in values]
    return exposure.build({path: _domain(exposure, path).from_json(values[path]) for path in paths})


def knob_values(pipeline: Pipeline) -> dict[str, Any]:
    """Return what :func:`values_of` would of a pipeline that is not exposed."""
    made: dict[str, Any] = _plain({knob.path: knob.domain.to_json(knob.read(pipeline)) for knob in knobs(pipeline)})
    return made


def agree(values: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
    """Say whether a version has these values, of the knobs that both have; one that was not exposed has none."""
    kept = state.get(VALUES, {})
    return all(kept[path] == value for path, value in values.items() if path in kept)


def with_knob_values(pipeline: Pipeline, state: Mapping[str, Any]) -> Pipeline:
    """Return a pipeline with the values that a version has for its knobs."""
    domains = {knob.path: knob.domain for knob in knobs(pipeline)}
    return set_knobs(pipeline, {p: domains[p].from_json(v) for p, v in state.get(VALUES, {}).items() if p in domains})


def _domain(exposure: Exposure, path: str) -> Any:
    return exposure.space[exposure.name(path)].domain


def put_state(program: Any, state: Mapping[str, Any]) -> None:
    """Make a program what :func:`state_of` was given.

    Raises:
        JobError: it has other predictors, or one with other fields. Nothing was changed.
    """
    own = predictors(program)
    _check_paths(set(own), set(state) - {VALUES})
    for path, predictor in own.items():
        _check_fields(path, _fields(predictor), state[path].get("fields", {}))
    for path, predictor in own.items():
        kept, model = state[path], predictor.lm
        predictor.load_state({**kept["state"], "lm": None})
        predictor.config = dict(kept.get("config") or {})
        predictor.lm = _model(kept.get("lm"), model)


def imprint(program: Any, other: Any) -> None:
    """Make a program what another one of its shape is, in place.

    Raises:
        JobError: it has other predictors, or one with other fields. Nothing was changed.
    """
    own, new = predictors(program), predictors(other)
    _check_paths(set(own), set(new))
    for path, predictor in own.items():
        _check_fields(path, _fields(predictor), _fields(new[path]))
    for path, predictor in own.items():
        predictor.signature = new[path].signature
        predictor.demos = list(new[path].demos)
        predictor.config = dict(getattr(new[path], "config", None) or {})
        predictor.lm = new[path].lm


def as_program(live: Any) -> Any:
    """Return a pipeline as a program; a module is one."""
    return live.as_module() if isinstance(live, Pipeline) else live


def with_state(live: Any, state: Mapping[str, Any]) -> Any:
    """Return a program of the shape of the one in use, with the state of another version."""
    made = live.as_module() if isinstance(live, Pipeline) else live.deepcopy()
    put_state(made, state)
    return live.with_modules(made) if isinstance(live, Pipeline) else made


def source_of(new: Any) -> str | None:
    """Return the file of a pipeline; None where a part of it cannot be written, or it is a module."""
    if not isinstance(new, Pipeline):
        return None
    try:
        return new.to_yaml()
    except PipelineError:
        return None


def check_shape(program: Any) -> Any:
    """Return a program, if its predictors are all that makes it.

    Raises:
        JobError: it is no DSPy program, or an optimizer (KNNFewShot, an ensemble) put another ``forward`` around them.
    """
    if not callable(getattr(program, "named_sub_modules", None)):
        raise JobError(f"A {type(program).__name__} is no program that could be adopted.", hint="job.result() has it.")
    if getattr(program, "replaced", False) or "forward" in vars(program):
        raise JobError(
            f"The optimizer put another forward() around {type(program).__name__}: no values in a program make it that.",
            hint="Use the program itself: job.result().program, or dx.step(program) in a pipeline.",
        )
    return program


def _state(predictor: Any) -> dict[str, Any]:
    bare = copy.copy(predictor)
    bare.lm = None  # of which DSPy would want a state, and not every engine has one
    # DSPy hands out its own dicts of demonstrations.
    state = {k: v for k, v in copy.deepcopy(bare.dump_state(json_mode=True)).items() if k not in _NOT_KEPT}
    own = None if predictor.lm is None else describe(predictor.lm)
    found: dict[str, Any] = _plain({"state": state, "fields": _fields(predictor), "config": predictor.config, "lm": own})
    return found


def _model(name: str | None, present: Any) -> Any:
    """Return the model of a name: the present one where it is that. Only the name is kept: what a file says of addresses and
    options would be sent this person's key."""
    if name is None or (present is not None and describe(present) == name):
        return None if name is None else present
    return make_lm(name)


def _fields(predictor: Any) -> dict[str, list[str]]:
    signature = predictor.signature
    return {"inputs": list(signature.input_fields), "outputs": list(signature.output_fields)}


def _check_paths(own: set[str], given: set[str]) -> None:
    if own != given:
        raise JobError(
            f"That is the state of another program: it has {_listed(given)}, and this one {_listed(own)}.",
            hint="The program must have the same parts as the one that was optimized.",
        )


def _check_fields(path: str, own: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    if dict(own) != dict(given):
        raise JobError(
            f"The fields of {path!r} are others: {json.dumps(given)}, and here {json.dumps(own)}.",
            hint="The signature was changed since; start the job anew.",
        )


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
