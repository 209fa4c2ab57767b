"""A pipeline as a file of plain Python, which runs without IPython."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines._cell import Cell, cell_of
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines.files._carry import Carrier
from dspex_lab.pipelines.files._load import handed_in, to_yaml
from dspex_lab.pipelines.files._source import WIDTH, binds, block, dedented, indented, literal, read_before, renamed

_MAIN = '''\
def main(arguments: list[str]) -> int:
    """Run the pipeline on FIELD=VALUE arguments; print its outputs as JSON."""
    pipeline = {builder}()
    try:
        with dx.Lab(":memory:") as lab:
            result = lab.run(pipeline, read_fields(pipeline, arguments))
    except dx.DspexError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(result.outputs, indent=2, ensure_ascii=False, default=plain))
    try:
        result.raise_for_status()
    except dx.DspexError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def plain(value: object) -> object:
    """Return what JSON has no word for: the value of an enum, else the text."""
    return value.value if isinstance(value, enum.Enum) else str(value)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
'''


def to_python(pipeline: Pipeline, file_name: str | None = None, *, cells: Iterable[str] = ()) -> str:
    """Return a module of plain Python that makes the pipeline, and runs it when it is called from a command line.

    A pipeline of a cell is written as that cell, with the functions, classes, signatures and constants of the notebook that
    it uses; any other one as its YAML, with the functions it names.

    Args:
        file_name: what the file is to be called, for its docstring.
        cells: the notebook's cells, newest first; the classes of a notebook are looked up in them.

    Raises:
        PipelineError: something it uses cannot be written as Python; says what, and what to do.
    """
    carrier = Carrier(_builder, cells)
    carrier.imports |= {
        "import enum",
        "import json",
        "import sys",
        "import dspex_lab as dx",
        "from dspex_lab.pipelines import read_fields",
    }
    for name, module in (("enum", _module("enum")), ("json", _module("json")), ("sys", sys), ("dx", _module("dspex_lab"))):
        carrier.carry(name, module, "the file")
    builder = _builder(pipeline, carrier)
    parts = [_docstring(pipeline, file_name), _imports(carrier.imports)]
    blocks = [*carrier.definitions, _MAIN.format(builder=builder)]
    return "\n\n".join(parts) + "\n" + "".join(_apart(blocks))


def _builder(pipeline: Pipeline, carrier: Carrier) -> str:
    """Write the function that makes a pipeline, and return its name."""
    cell = cell_of(pipeline)
    body = _from_cell(pipeline, cell, carrier) if cell is not None else _from_yaml(pipeline, carrier)
    name = _free(pipeline.name if pipeline.name.isidentifier() else "make", carrier.names | {"main", "plain", "read_fields"})
    carrier.take(name)
    carrier.definitions.append(f'def {name}() -> dx.Pipeline:\n    """Return the pipeline."""\n{body}')
    return name


def _module(name: str) -> Any:
    import importlib

    return importlib.import_module(name)


def _apart(blocks: list[str]) -> Iterator[str]:
    """Yield blocks with two empty lines around definitions and one line end between assignments."""
    before = False  # imports stand above
    for text in blocks:
        defines = text.startswith(("def ", "async def ", "class ", "@"))
        first = text is blocks[0]
        yield ("\n\n" if defines or before else "\n" if first else "") + text.rstrip("\n") + "\n"
        before = defines


def _docstring(pipeline: Pipeline, file_name: str | None) -> str:
    inputs = " ".join(f'{n}="…"' if f.type is str else f"{n}=…" for n, f in pipeline.inputs.items() if f.required)
    about = f'"""The pipeline {pipeline.name!r}.\n\nRun it:  python {file_name or "FILE.py"} {inputs}'.rstrip()
    return f'{about}\nDSPEX_LM=provider/model chooses the model; without it the offline engine answers.\n"""'


def _imports(lines: set[str]) -> str:
    """Return imports in two groups, the standard library and others; those of one module on one line."""
    plain = sorted(line for line in lines if line.startswith("import "))
    parts: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith("from "):
            module, _, name = line[5:].partition(" import ")
            parts.setdefault(module, []).append(name)
    joined = []
    for module, names in sorted(parts.items()):
        names.sort(key=str.casefold)
        line = f"from {module} import {', '.join(names)}"
        if len(line) > WIDTH:
            line = f"from {module} import (\n" + "".join(f"    {n},\n" for n in names) + ")"
        joined.append(line)
    groups: list[list[str]] = [[], []]
    for line in [*plain, *joined]:
        groups[line.split()[1].partition(".")[0] not in sys.stdlib_module_names].append(line)
    return "\n\n".join("\n".join(group) for group in groups if group)


def _free(name: str, taken: set[str]) -> str:
    return name if name not in taken else _free(f"make_{name}", taken)


# --- from a cell ------------------------------------------------------------------------------------------------------


def _from_cell(pipeline: Pipeline, cell: Cell, carrier: Carrier) -> str:
    source = dedented(cell.source)
    carrier.uses_of(source, cell.names, f"the pipeline {pipeline.name}")
    tree = ast.parse(source)
    bound = set().union(*(binds(node) for node in tree.body))
    new = {name: _other(name, bound | carrier.names) for name in read_before(tree, bound)}
    if new:
        source = renamed(source, new)
    steps = [f"        {name}={new.get(name, name)},\n" for name in pipeline.steps]
    return f"{indented(source)}\n    return dx.pipeline(\n        {literal(pipeline.name)},\n{''.join(steps)}    )"


def _other(name: str, taken: set[str]) -> str:
    made = f"{name}_step"
    while made in taken:
        made += "_"
    return made


# --- from its YAML ----------------------------------------------------------------------------------------------------


def _from_yaml(pipeline: Pipeline, carrier: Carrier) -> str:
    text, objects = to_yaml(pipeline), handed_in(pipeline)
    modules = sorted({name.partition(":")[0] for name in objects if ":" in name})
    given = {}
    for name, value in objects.items():
        if ":" in name:
            continue
        if getattr(value, "__name__", None) == "<lambda>":
            raise PipelineError(
                f"The pipeline {pipeline.name!r} has a lambda as {name!r}, whose source cannot be told apart.",
                hint="Define it with def, or make the pipeline in a %%dspex pipeline cell.",
            )
        carrier.carry(name, value, f"the pipeline {pipeline.name}")
        given[name] = name
    taken = carrier.names
    constant = "PIPELINE" if "PIPELINE" not in taken else _other("PIPELINE", taken)
    carrier.definitions.append(f"{constant} = {block(text)}")
    arguments = [constant]
    if modules:
        arguments.append(f"modules={literal(modules, 8, 16)}")
    if given:
        arguments.append("functions={" + ", ".join(f"{literal(n)}: {n}" for n in given) + "}")
    line = f"    return dx.load_pipeline({', '.join(arguments)})"
    if len(line) > WIDTH:
        line = "    return dx.load_pipeline(\n" + "".join(f"        {a},\n" for a in arguments) + "    )"
    return line
