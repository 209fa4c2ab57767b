"""How the built-in kinds of steps stand in a file: for each, what is read and what is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from dspex_lab.errors import ConfigurationError
from dspex_lab.pipelines._step import Operation, Step, step
from dspex_lab.pipelines.files._compute import Compute
from dspex_lab.pipelines.files._modules import read_learned, read_module, write_learned, write_module
from dspex_lab.pipelines.files._nodes import Node, resolve
from dspex_lab.pipelines.files._reader import StepReader
from dspex_lab.pipelines.files._transform import Transform
from dspex_lab.pipelines.files._turned import read_adapter, read_values, written_adapter, written_values
from dspex_lab.pipelines.files._writer import Tree, Writer
from dspex_lab.pipelines.kinds._check import Check
from dspex_lab.pipelines.kinds._code import Code, code
from dspex_lab.pipelines.kinds._each import Each
from dspex_lab.pipelines.kinds._loop import Loop
from dspex_lab.pipelines.kinds._parallel import Parallel
from dspex_lab.pipelines.kinds._retrieve import Retrieval
from dspex_lab.pipelines.kinds._template import LMTemplate
from dspex_lab.pipelines.kinds._when import When

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


# --- functions and models ---------------------------------------------------------------------------------------------


def _read_native(read: StepReader) -> Any:
    return read_values(read, read.reference("function"))


def _write_native(item: Step, writer: Writer) -> Tree:
    function, values = written_values(item.target)
    return {"function": writer.reference(function), **values}


def _read_dspy(read: StepReader) -> Any:
    return read_adapter(read, read_module(read))


def _write_dspy(item: Step, writer: Writer) -> Tree:
    return {**write_module(item.target, writer), **written_adapter(item.target)}


def _read_operation(name: str) -> Callable[[StepReader], Any]:
    def load(read: StepReader) -> Any:
        contract = read.signature("signature")
        taught = {k: n for k in ("demos", "config") if (n := read.get(k)) is not None}
        demos, config = read_learned(read, taught, contract)
        return Operation(name or str(read.text("operation")), contract, tuple(demos), config)

    return load


def _read_any_operation(read: StepReader) -> Any:
    return _read_operation(read.need("operation", str).value)(read)


def _write_operation(item: Step, writer: Writer) -> Tree:
    made = item.target
    known = made.name in ("predict", "chain_of_thought")
    tree: Tree = {"type": made.name} if known else {"operation": made.name}
    tree["signature"] = writer.signature(made.signature)
    return {**tree, **write_learned(made.demos, made.config, made.signature, writer)}


def _read_lm(read: StepReader) -> Any:
    text, returns = _template(read), read.get("returns")
    config = read.mapping("config")
    for key, value in config.items():
        read.loader.setting(key, (read.get("config") or value).keys.get(key, value), value)
    kind: Any = str
    if returns is not None and isinstance(returns.value, dict):
        kind = {name: read.loader.type(value) for name, value in returns.value.items()}
    elif returns is not None:
        kind = read.loader.type(returns)
    options = {k: n.plain() for k, n in config.items()}
    return LMTemplate(text, system=read.text("system"), returns=kind, output=read.text("output"), options=options)


def _template(read: StepReader) -> str:
    """Return a prompt: a text, or parts (texts, ``{file: PATH}`` and ``{field: NAME}``) with empty lines between them."""
    node = read.need("template")
    if not isinstance(node.value, list):
        return read.loader.as_text(node, "template")
    parts = []
    for part in node.value:
        told = part.value if isinstance(part.value, dict) else {"text": part}
        if len(told) != 1 or next(iter(told)) not in ("text", "file", "field"):
            raise read.loader.document.error(
                part, "this is no part of a prompt.", "Write a text, {file: PATH} or {field: NAME}."
            )
        key, inner = next(iter(told.items()))
        text = read.loader.as_text(inner, f"the {key}")
        if key == "field" and not text.isidentifier():
            raise read.loader.document.error(inner, f"{text!r} is no name of a field.")
        if key == "file":
            text = read.loader.text_of(read.loader, inner)
        parts.append(f"{{{{ {text} }}}}" if key == "field" else text)
    return "\n\n".join(parts)


def _write_lm(item: Step, writer: Writer) -> Tree:
    made = item.target
    if isinstance(made, str):
        return {"template": made}
    tree: Tree = {"template": made.text}
    if made.system is not None:
        tree["system"] = made.system
    if isinstance(made.returns, dict):
        tree["returns"] = {name: writer.type(kind) for name, kind in made.returns.items()}
    elif made.returns is not str:
        tree["returns"] = writer.type(made.returns)
    if made.output is not None:
        tree["output"] = made.output
    if made.options:
        tree["config"] = {k: writer.value(v, f"the setting {k!r}") for k, v in made.options.items()}
    return tree


def _read_retrieve(read: StepReader) -> Any:
    node = read.need("source")
    if isinstance(node.value, dict) and list(node.value) == ["server"]:
        source = _server(read, node.value["server"])
    else:
        source = read.loader.reference(node)
    query, k = read.text("query", "question"), read.number("k", 3)
    return Retrieval(source, str(query), k, read.text("output"), read.flag("scores"), read.number("longest"))


def _server(read: StepReader, node: Node) -> str:
    """Return the address of a server: one of this machine, or one the caller handed in."""
    address = read.loader.as_text(node, "the server")
    try:
        host = urlsplit(address).hostname
    except ValueError as error:
        raise read.loader.document.error(node, f"{address!r} is no address: {error}.") from None
    if host in _LOOPBACK or address in read.loader.allowed.objects.values():
        return address
    raise read.loader.document.error(
        node,
        f"a file may not send queries to {host or address!r}, which is not this machine.",
        f'Hand the address in: functions={{"server": {address!r}}}.',
    )


def _write_retrieve(item: Step, writer: Writer) -> Tree:
    made = item.target
    source = made.source
    tree: Tree = {
        "source": {"server": source} if isinstance(source, str) else writer.reference(source, f"{writer.path}_source")
    }
    tree["query"] = made.query
    tree["k"] = made.k
    rest = {"output": made.output, "scores": made.scores, "longest": made.longest}
    return {**tree, **{k: v for k, v in rest.items() if v}}


#: The most a file may ask for; who wants more makes the step in Python.
_MOST = {"seconds": 600.0, "memory": 2_000_000_000}


def _read_code(read: StepReader) -> Any:
    field, contract = read.need("code"), read.get("signature")
    name = read.loader.as_text(field, "code")
    variables = [read.loader.as_text(one, "a variable") for one in read.items("variables")]
    limits = read.mapping("limits")
    read.loader.known(limits, read.get("limits") or field, ("seconds", "memory"), "limits")
    given = {{"seconds": "timeout"}.get(key, key): node.plain() for key, node in limits.items()}
    try:
        made = code(name, None if contract is None else read.signature("signature"), variables=variables, **given)
    except ConfigurationError as error:
        raise read.fail("limits", f"do not fit: {error}") from error
    for key, most in _MOST.items():
        if key in limits and getattr(made.limits, key) > most:
            raise read.fail("limits", f"ask for more {key} than a file may, {most:,.0f}.", "Make the step in Python.")
    return made


def _write_code(item: Step, writer: Writer) -> Tree:
    made: Code = item.target
    tree: Tree = {"code": made.field}
    if made.contract is not None:
        tree["signature"] = writer.signature(made.contract)
    elif made.variables:
        tree["variables"] = list(made.variables)
    usual = code(made.field).limits
    limits = {key: getattr(made.limits, key) for key in _MOST if getattr(made.limits, key) != getattr(usual, key)}
    return {**tree, "limits": limits} if limits else tree


# --- steps made of steps --------------------------------------------------------------------------------------------------


def _read_parallel(read: StepReader) -> Any:
    return Parallel(read.steps("steps"))


def _write_parallel(item: Step, writer: Writer) -> Tree:
    return {"steps": writer.steps(item.target.inner.steps)}


def _condition(source: Any, writer: Writer) -> Any:
    return source if isinstance(source, str) else {"function": writer.reference(source, f"{writer.path}_condition")}


def _read_when(read: StepReader) -> Any:
    condition = read.condition(read.need("condition"))
    return When(condition, read.step("then"), read.step("otherwise") if read.get("otherwise") is not None else None)


def _write_when(item: Step, writer: Writer) -> Tree:
    tree = {"condition": _condition(item.target.test.source, writer)}
    return {**tree, **{name: writer.step(branch, name, named=True) for name, branch in item.target.steps.items()}}


def wrapped(read: StepReader, condition: Node, made: Step) -> Step:
    """Return a step that is done only where a condition holds."""
    inner = replace(made, replaces=False)
    return step(When(read.condition(condition), inner), replaces=made.replaces)


_WORD = re.compile(r"[A-Za-z_][\w.]*\Z")


def _read_switch(read: StepReader) -> Any:
    """Read ``on``, ``cases`` and ``default`` as one ``when`` in the other."""
    on = read.loader.as_text(read.need("on"), "on")
    subject = on if _WORD.match(on) else f"({on})"
    cases = read.mapping("cases")
    if not cases:
        raise read.fail("cases", "are missing: there is nothing to choose from.", "Write cases: {VALUE: STEP}.")
    keys = read.need("cases").keys
    chosen: Step | None = read.step("default") if read.get("default") is not None else None
    for value, node in reversed(cases.items()):
        branch = read.loader.step(node, f"{read.name}.{value}")
        meant = value if keys[value].style else resolve(value)
        chosen = step(When(f"{subject} == {meant!r}", branch, chosen))
    assert chosen is not None  # noqa: S101 - there is a case
    return chosen.target


def _read_each(read: StepReader) -> Any:
    return Each(read.need("field", str).value, read.step("do"), read.text("item"), read.number("concurrency", 8))


def _write_each(item: Step, writer: Writer) -> Tree:
    made = item.target
    tree: Tree = {"field": made.field}
    if made.item is not None:
        tree["item"] = made.item
    if made.concurrency != 8:
        tree["concurrency"] = made.concurrency
    return {**tree, "do": writer.step(made.step, "do", named=True)}


def _read_loop(read: StepReader) -> Any:
    until, going = read.get("until"), read.get("while")
    if (until is None) == (going is None):
        raise read.fail("until", "or while says when a loop ends; one of them is needed.")
    node = until or Node({"not": going}, going.line, going.column)  # type: ignore[union-attr]
    test = read.condition(node)
    return Loop(read.step("do"), test, read.number("limit", 10))


def _write_loop(item: Step, writer: Writer) -> Tree:
    made = item.target
    tree = {"until": _condition(made.test.source, writer), "limit": made.limit}
    return {**tree, "do": writer.step(made.step, "do", named=True)}


def _read_check(strict: bool) -> Callable[[StepReader], Any]:
    def load(read: StepReader) -> Any:
        node = read.need("check")
        found = node.value if isinstance(node.value, list) else None
        check = read.condition(node) if found is None else [read.condition(one) for one in found]
        attempts = read.number("attempts", 2)
        return Check(read.step("do"), check, read.text("message"), attempts, read.text("on"), strict)

    return load


def _write_check(item: Step, writer: Writer) -> Tree:
    made = item.target
    several = isinstance(made.check, list | tuple)
    checks = [_condition(one, writer) for one in (made.check if several else [made.check])]
    tree: Tree = {"check": checks if several else checks[0]}
    if made.message is not None:
        tree["message"] = made.message
    if made.attempts != 2:
        tree["attempts"] = made.attempts
    if made.on is not None:
        tree["on"] = made.on
    return {**tree, "do": writer.step(made.step, "do", named=True)}


def _read_pipeline(read: StepReader) -> Any:
    file, inline = read.get("file"), read.get("pipeline")
    if (file is None) == (inline is None):
        raise read.fail("pipeline", "(the pipeline itself) or file (a path) is needed, one of them.")
    if file is not None:
        return read.loader.nested(read.loader, file)
    return read.loader.pipeline(inline, top=False)  # type: ignore[arg-type]


def _write_pipeline(item: Step, writer: Writer) -> Tree:
    return {"pipeline": writer.pipeline(item.target)}


# --- values -----------------------------------------------------------------------------------------------------------


def _read_compute(read: StepReader) -> Any:
    values = read.mapping("values")
    return Compute({name: str(n.value) if isinstance(n.value, int | float) else read.loader.as_text(n, name)
                    for name, n in values.items()})  # fmt: skip


def _write_compute(item: Step, writer: Writer) -> Tree:
    return {"values": dict(item.target.texts)}


def _read_transform(read: StepReader) -> Any:
    return Transform(
        read.need("field", str).value,
        keep=read.text("keep"),
        make=read.text("make"),
        sort=read.text("sort"),
        descending=read.flag("descending"),
        limit=read.number("limit"),
    )


def _write_transform(item: Step, writer: Writer) -> Tree:
    made = item.target
    rest = {n: getattr(made, n) for n in ("keep", "make", "sort", "descending", "limit")}
    return {"field": made.field, **{k: v for k, v in rest.items() if v is not None and v is not False}}


LOADERS: dict[str, Callable[[StepReader], Any]] = {
    "native": _read_native,
    "dspy": _read_dspy,
    "predict": _read_operation("predict"),
    "chain_of_thought": _read_operation("chain_of_thought"),
    "operation": _read_any_operation,
    "lm": _read_lm,
    "retrieve": _read_retrieve,
    "code": _read_code,
    "parallel": _read_parallel,
    "when": _read_when,
    "switch": _read_switch,
    "each": _read_each,
    "loop": _read_loop,
    "assert": _read_check(True),
    "suggest": _read_check(False),
    "pipeline": _read_pipeline,
    "compute": _read_compute,
    "transform": _read_transform,
}

DUMPERS: dict[str, Callable[[Step, Writer], Tree]] = {
    "native": _write_native,
    "dspy": _write_dspy,
    "operation": _write_operation,
    "lm": _write_lm,
    "retrieve": _write_retrieve,
    "code": _write_code,
    "parallel": _write_parallel,
    "when": _write_when,
    "each": _write_each,
    "loop": _write_loop,
    "assert": _write_check,
    "suggest": _write_check,
    "pipeline": _write_pipeline,
    "compute": _write_compute,
    "transform": _write_transform,
}
