"""``code``: Python that a field holds, such as a model wrote, run in the sandbox."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

from dspex_lab.errors import PipelineError, SandboxError, SandboxUnavailable
from dspex_lab.pipelines._execution import StepRun
from dspex_lab.pipelines._fields import Shape, StepField
from dspex_lab.pipelines._kinds import Kind, step_kind
from dspex_lab.pipelines._result import describe
from dspex_lab.pipelines._step import Step, as_signature
from dspex_lab.security.interpreter import Once, OneRun, limits_of, outcome_of
from dspex_lab.security.sandbox import CodeError, Limits
from dspex_lab.signatures import Field, Signature

_FENCED = re.compile(r"^```(?:python3?|py3?)?[ \t]*\r?\n(.*?)(?:^```|\Z)", re.DOTALL | re.MULTILINE | re.IGNORECASE)

#: Characters of what the code printed that its span keeps.
_KEPT = 4_000


class Code:
    """Which field holds the code, what the code is given and what it must give; made by :func:`code`."""

    def __init__(self, field: str, contract: Signature | None, variables: tuple[str, ...], limits: Limits) -> None:
        self.field, self.contract, self.variables, self.limits = field, contract, variables, limits

    @property
    def shape(self) -> dict[str, StepField]:
        """The fields it takes."""
        taken = {self.field: StepField(self.field, str)}
        for name in self.variables:
            known = None if self.contract is None else self.contract.inputs.get(name)
            taken[name] = StepField(name, known.type if known is not None and known.declared else Any)
        return taken

    def cache_token(self) -> tuple[Any, ...]:
        """Return what tells this from other code steps."""
        return self.field, None if self.contract is None else str(self.contract), self.variables, self.limits

    def __eq__(self, other: object) -> bool:
        return self.cache_token() == other.cache_token() if isinstance(other, Code) else NotImplemented

    def __hash__(self) -> int:
        return hash((Code, self.field, self.variables))

    def __repr__(self) -> str:
        return f"code({self.field!r})"


def code(
    field: str,
    outputs: Any = None,
    *,
    variables: str | Iterable[str] = (),
    timeout: float | None = None,
    memory: int | str | None = None,
) -> Code:
    """Return a step's work: the Python in the field ``field`` is run in the sandbox.

    ::

        answer = dx.code("program", "value: float", variables="rows", timeout=5)
        answer = dx.code("program", "rows: list[dict] -> value: float[0..], note: str")

    The code gives an output by setting a variable of its name, or by calling ``SUBMIT(value=…)``; a single output may also be
    the value of the last expression. What it printed is in the step's span.

    Args:
        field: the name of the field that holds the code; where there is a fence (```) around it, what stands in that.
        outputs: what it gives: fields with types (``"value: float, note: str"``), a dict of types, a whole signature, whose
            inputs are then the variables, or None for one field of any kind, named like the step.
        variables: the names of further fields that the code sees as variables.
        timeout: seconds it may run; 30 by default.
        memory: the most memory it may have, in bytes or as text (``"512 MB"``).

    Raises:
        PipelineError: a name is no name of a field. SignatureError: ``outputs`` cannot be read. ConfigurationError: a limit is
            none.
    """
    names = tuple(part.strip() for part in variables.split(",")) if isinstance(variables, str) else tuple(variables)
    for name in (field, *names):
        if not (isinstance(name, str) and name.isidentifier()):
            raise PipelineError(
                f"code: {name!r} is no name of a field.", hint='Name the field that holds the code: dx.code("program", …)'
            )
    contract = None if outputs is None else _contract(field, outputs)
    if contract is not None and not contract.outputs:
        raise PipelineError("code: outputs= names no field.", hint='Write: outputs="value: float"')
    inputs = () if contract is None else tuple(n for n in contract.inputs if n != field)
    names = tuple(n for n in dict.fromkeys((*inputs, *names)) if n != field)
    if contract is not None:
        contract = _whole(field, names, contract)
    return Code(field, contract, names, limits_of(None, timeout=timeout, memory=memory))


def _contract(field: str, outputs: Any) -> Signature:
    if isinstance(outputs, Mapping):
        return Signature([Field(field, str), *(Field(name, kind, role="output") for name, kind in outputs.items())])
    if isinstance(outputs, str) and "->" not in outputs:
        outputs = f"{field}: str -> {outputs}"
    elif isinstance(outputs, str) and not outputs.partition("->")[0].strip():
        outputs = f"{field}: str {outputs.strip()}"
    return as_signature(outputs, depth=3)


def _whole(field: str, variables: tuple[str, ...], contract: Signature) -> Signature:
    """Return the contract with all that is taken: the code, and each of its variables."""
    inputs = [contract.inputs.get(name) or Field(name, declared=False) for name in variables]
    return contract.replace(fields=[Field(field, str), *inputs, *contract.outputs.values()])


@step_kind
class CodeKind(Kind):
    """It takes the code and its variables, and gives what is declared."""

    name = "code"
    pooled = True

    def accepts(self, target: Any) -> bool:
        """Take what :func:`code` made."""
        return isinstance(target, Code)

    def shape(self, name: str, item: Step) -> Shape:
        """Return the code's field and its variables, and what it gives.

        Raises:
            PipelineError: ``outputs=`` of the step says otherwise than the code's own.
        """
        made: Code = item.target
        if made.contract is None:
            fields = {n: StepField(n) for n in item.outputs or (name,)}
        else:
            fields = {n: StepField(n, f.type) for n, f in made.contract.outputs.items()}
        if item.outputs and set(item.outputs) != set(fields):
            raise PipelineError(
                f"Step {name!r}: outputs={list(item.outputs)} are not the fields the code is to give, "
                f"{', '.join(map(repr, fields))}.",
                step=name,
                hint='Name them once: dx.code("program", "value: float").',
            )
        return Shape(made.shape, fields)

    async def run(self, work: StepRun, item: Step, inputs: Mapping[str, Any]) -> Mapping[str, Any]:  # type: ignore[override]
        """Run the code and return what it gave, checked."""
        made: Code = item.target
        source = inputs[made.field]
        if not isinstance(source, str):
            raise PipelineError(
                f"Step {work.name!r}: the field {made.field!r} is {type(source).__name__}, not the text of a program.",
                step=work.name,
            )
        one = OneRun(
            _unfenced(source), {n: inputs[n] for n in made.variables if n in inputs}, tuple(work.shape.outputs), made.limits
        )
        work.implementation = "sandbox"
        clock = time.perf_counter()
        try:
            if item.pool is None:
                ran: Once = await work.call(one, {})
            else:
                ran = await work.on_pool(item.pool, one, {}, module=False)
        except asyncio.CancelledError:
            one.stop()
            raise
        except (CodeError, SandboxError) as error:
            what = "sandbox.refuse" if isinstance(error, SandboxUnavailable) else "sandbox.run"
            level, seconds = getattr(error, "level", None), time.perf_counter() - clock
            work.event(what, level=level, seconds=seconds, outcome=outcome_of(error), code=len(source), error=describe(error))
            _keep(work, getattr(error, "stdout", ""), level)
            raise
        work.event("sandbox.run", level=ran.level, seconds=ran.seconds, outcome="complete", code=len(source),
                   printed=len(ran.printed))  # fmt: skip
        _keep(work, ran.printed, ran.level)
        return _outputs(work, made, ran)

    def plain(self, item: Step) -> bool:
        """It can be waited for in the thread that asks."""
        return True

    def repeatable(self, item: Step) -> bool:
        """What happens in the sandbox leaves no trace."""
        return True

    def label(self, item: Step) -> str:
        """Return where the code is found."""
        return f"code in {item.target.field}"


def _unfenced(text: str) -> str:
    """Return the program in a model's answer: what stands in the first fence that is Python's or nobody's, else all of it."""
    found = _FENCED.search(text)
    return text if found is None else found[1]


def _keep(work: StepRun, printed: str, level: str | None) -> None:
    shown = printed if len(printed) <= _KEPT else f"{printed[:_KEPT]}… ({len(printed):,} characters)"
    work.data = {**(work.data or {}), "stdout": shown, "sandbox": level}


def _outputs(work: StepRun, made: Code, ran: Once) -> Mapping[str, Any]:
    """Return what the code gave, checked.

    Raises:
        PipelineError: it did not give a field. SignatureError: a value is not of its type.
    """
    names = list(work.shape.outputs)
    given = {name: ran.outputs[name] for name in names if name in ran.outputs}
    if not given and len(names) == 1 and ran.value is not None:
        given = {names[0]: ran.value}
    missing = [name for name in names if name not in given]
    if missing:
        printed = f" It printed {ran.printed[:200]!r}." if ran.printed else ""
        raise PipelineError(
            f"Step {work.name!r}: the code gave no {', '.join(map(repr, missing))}.{printed}",
            step=work.name,
            hint=f"It gives it by {missing[0]} = …, or by SUBMIT({', '.join(f'{name}=…' for name in names)}).",
        )
    return given if made.contract is None else made.contract.validate_outputs(given)
