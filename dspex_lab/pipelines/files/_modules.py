"""DSPy modules in a file: their class by name, their signature as text, and what an optimizer taught them as plain data."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import DspexError
from dspex_lab.pipelines.files._models import read_lm
from dspex_lab.pipelines.files._nodes import Node
from dspex_lab.pipelines.files._values import from_plain, to_plain
from dspex_lab.signatures import Signature

if TYPE_CHECKING:
    from dspex_lab.pipelines.files._reader import StepReader
    from dspex_lab.pipelines.files._writer import Tree, Writer

#: DSPy's own modules a file may name, and those it may not without the caller's saying so.
CLASSES = ("Predict", "ChainOfThought", "ReAct")
_RUN_CODE = ("ProgramOfThought", "CodeAct", "RLM")


def predictors(module: Any) -> dict[str, Any]:
    """Return the predictors of a module by their place in it, ``""`` where it is one itself; frozen ones too."""
    import dspy

    if isinstance(module, dspy.Predict):
        return {"": module}
    # named_predictors() leaves out what is in a part that an optimizer froze.
    found = {n.removeprefix("self."): m for n, m in module.named_sub_modules() if isinstance(m, dspy.Predict)}
    return dict(sorted(found.items()))


# --- writing ------------------------------------------------------------------------------------------------------


def write_module(module: Any, writer: Writer) -> Tree:
    """Return a DSPy module."""
    import dspy

    name = type(module).__name__
    if name in CLASSES and type(module) is getattr(dspy, name):
        contract, about = _construction(module, writer)
        tree: Tree = {"module": name, "signature": writer.signature(contract), **about}
        fresh: Any = _construct(name, contract.to_dspy(), _tools(module), about.get("max_iters"))
        known = {n: write_predictor(p, writer) for n, p in predictors(fresh).items()}
    else:
        tree, known = {"module": writer.reference(module)}, {}
    if getattr(module, "_compiled", False):
        tree["compiled"] = True
    learned = {}
    for place, predictor in predictors(module).items():
        told = write_predictor(predictor, writer)
        usual = known.get(place, {})
        told = {k: v for k, v in told.items() if k not in usual or str(usual[k]) != str(v)}
        if told:
            learned[place] = told
    if "signature" in tree and len(predictors(module)) == 1:
        only = next(iter(learned.values()), {})
        if not only.keys() - {"demos", "config"}:
            return {**tree, **only}
    return {**tree, "predictors": {place or "self": told for place, told in learned.items()}} if learned else tree


def _construction(module: Any, writer: Writer) -> tuple[Signature, Tree]:
    import dspy

    if isinstance(module, dspy.ChainOfThought):
        full = Signature.from_dspy(module.predict.signature)
        return full.replace(fields=[f for f in full.fields.values() if f.name != "reasoning"]), {}
    about: Tree = {}
    if isinstance(module, dspy.ReAct):
        about["tools"] = [writer.reference(tool, getattr(tool, "__name__", "tool")) for tool in _tools(module)]
        about["max_iters"] = module.max_iters
    return Signature.from_dspy(module.signature), about


def _tools(module: Any) -> list[Any]:
    tools = getattr(module, "tools", {})
    return [tool.func if type(tool).__name__ == "Tool" else tool for name, tool in tools.items() if name != "finish"]


def write_predictor(predictor: Any, writer: Writer) -> Tree:
    """Return what a predictor has learned: its signature, demonstrations, settings and model."""
    contract = Signature.from_dspy(predictor.signature)
    tree: Tree = {"signature": writer.signature(contract), **write_learned(predictor.demos, predictor.config, contract, writer)}
    if predictor.lm is not None:
        tree["lm"] = writer.lm(predictor.lm)
    return tree


def write_learned(demos: Any, config: Mapping[str, Any] | None, contract: Signature, writer: Writer) -> Tree:
    """Return demonstrations and settings."""
    tree: Tree = {}
    if demos:
        kinds = {f.name: f.checked_type for f in contract.fields.values()}
        tree["demos"] = [
            {k: to_plain(v, kinds.get(k, Any), f"{k!r} of a demonstration of {writer.path!r}") for k, v in dict(demo).items()}
            for demo in demos
        ]
    if config:
        tree["config"] = {k: writer.value(v, f"the setting {k!r}") for k, v in config.items()}
    return tree


# --- reading ------------------------------------------------------------------------------------------------------


def read_module(step: StepReader) -> Any:
    """Return the DSPy module that a step says.

    Raises:
        PipelineError: it may not be used, or what it learned does not fit it.
    """
    node = step.need("module", str)
    name, objects = node.value, step.loader.allowed.objects
    if name in CLASSES and name not in objects:
        contract = step.signature("signature")
        tools = [step.loader.reference(n) for n in step.items("tools")] if name == "ReAct" else []
        module = _made(step, node, name, contract.to_dspy(), tools, step.number("max_iters") if name == "ReAct" else None)
    else:
        module = _handed_in(step, node)
        contract = None
    known = predictors(module)
    if len(known) == 1 and contract is not None:
        _teach(step, next(iter(known.values())), {k: n for k in ("demos", "config") if (n := step.get(k)) is not None}, node)
    for place, taught in (step.mapping("predictors") or {}).items():
        predictor = known.get("" if place == "self" else place)
        if predictor is None:
            raise step.fail("predictors", f"the module has no predictor {place!r}; it has {', '.join(known) or 'none'}.")
        if not isinstance(taught.value, dict):
            raise step.loader.document.error(taught, f"{place!r} is {taught.kind}, not what a predictor has learned.")
        _teach(step, predictor, taught.value, taught)
    if step.flag("compiled"):
        module._compiled = True
    return module


def _made(step: StepReader, node: Node, name: str, contract: Any, tools: list[Any], rounds: Any) -> Any:
    try:
        return _construct(name, contract, tools, rounds)
    except DspexError:
        raise
    except Exception as error:  # DSPy refuses a tool or a signature in its own ways
        raise step.loader.document.error(node, f"dspy.{name} cannot be made: {error}", cause=error) from error


def _construct(name: str, contract: Any, tools: list[Any], rounds: Any = None) -> Any:
    import dspy

    if name == "ReAct":
        return dspy.ReAct(contract, tools=tools, **({} if rounds is None else {"max_iters": rounds}))
    return getattr(dspy, name)(contract)


def _handed_in(step: StepReader, node: Node) -> Any:
    import dspy

    name = node.value
    if name in _RUN_CODE and name not in step.loader.allowed.objects:
        raise step.loader.document.error(
            node,
            f"dspy.{name} runs code that a model wrote; a file does not begin that by itself.",
            f'Make it yourself and hand it in: functions={{"{name}": dspy.{name}(...)}}.',
        )
    found = step.loader.reference(node, also=CLASSES)
    if isinstance(found, type) and issubclass(found, dspy.Module):
        try:
            found = found()
        except Exception as error:
            raise step.loader.document.error(
                node, f"{name} cannot be made without arguments: {error}", "Hand in a module: functions={...}.", cause=error
            ) from error
    if not isinstance(found, dspy.Module):
        raise step.loader.document.error(node, f"{name!r} is {type(found).__name__}, not a dspy.Module.")
    return copy.deepcopy(found)


def _teach(step: StepReader, predictor: Any, taught: Mapping[str, Node], node: Node) -> None:
    loader = step.loader
    loader.known(taught, node, ("signature", "demos", "config", "lm"), "a predictor")
    if "signature" in taught:
        contract = loader.contract(taught["signature"])
        ours = Signature.from_dspy(predictor.signature)
        if [list(s) for s in (contract.inputs, contract.outputs)] != [list(s) for s in (ours.inputs, ours.outputs)]:
            raise loader.document.error(
                taught["signature"], f"what was learned is for {contract!r}, but the module answers {ours!r}."
            )
        if contract != ours:
            predictor.signature = contract.to_dspy()
    demos, config = read_learned(step, taught, Signature.from_dspy(predictor.signature))
    if demos:
        predictor.demos = demos
    if config is not None:
        predictor.config = config
    if "lm" in taught:
        import dspy

        found = read_lm(taught["lm"], loader)
        predictor.lm = dspy.LM(found) if isinstance(found, str) else found


def read_learned(step: StepReader, taught: Mapping[str, Node], contract: Signature) -> tuple[list[Any], dict[str, Any] | None]:
    """Return demonstrations, as ``dspy.Example``, and settings.

    Raises:
        PipelineError: a value does not fit its field, or a setting is none.
    """
    loader, demos, config = step.loader, [], None
    kinds = {f.name: f.checked_type for f in contract.fields.values()}
    for one in loader.listed(taught["demos"], "demos") if "demos" in taught else ():
        if not isinstance(one.value, dict):
            raise loader.document.error(one, f"a demonstration is {one.kind}, not a mapping of fields.")
        demos.append({name: _shown(value.plain(), kinds.get(name, Any)) for name, value in one.value.items()})
    if demos:
        import dspy

        demos = [dspy.Example(**fields) for fields in demos]
    if "config" in taught:
        node = taught["config"]
        if not isinstance(node.value, dict):
            raise loader.document.error(node, f"config is {node.kind}, not a mapping of settings.")
        for key, value in node.value.items():
            loader.setting(key, node.keys[key], value)
        config = node.plain()
    return demos, config


def _shown(value: Any, kind: Any) -> Any:
    """Return a value of a demonstration; one that is not of the field's type is shown to the model as it is."""
    try:
        return from_plain(value, kind)
    except ValueError:
        return value
