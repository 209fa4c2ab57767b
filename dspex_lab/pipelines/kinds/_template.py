"""``lm``: a template filled with fields and answered by the language model in use."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from typing_extensions import TypedDict

from dspex_lab import native
from dspex_lab.errors import PipelineError, SignatureError
from dspex_lab.lms import DirectCalls
from dspex_lab.pipelines._execution import StepRun
from dspex_lab.pipelines._fields import Shape, StepField, type_name
from dspex_lab.pipelines._kinds import Kind, step_kind
from dspex_lab.pipelines._step import Step

#: Types whose answer is asked for in words instead of by a JSON schema.
_WORDS = {int: "one whole number", float: "one number", bool: "true or false"}


class LMTemplate:
    """A prompt with fields in it and the type of the answer; made by :func:`template`."""

    def __init__(
        self,
        text: str,
        *,
        system: str | None = None,
        returns: Any = str,
        output: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.text, self.system, self.returns, self.output, self.options = text, system, returns, output, dict(options or {})
        if output is not None and not (isinstance(output, str) and output.isidentifier()):
            raise PipelineError(f"template: {output!r} is no name of a field.", hint='Write: output="summary"')
        if isinstance(returns, dict):
            wrong = [name for name in returns if not (isinstance(name, str) and name.isidentifier())]
            if wrong or not returns:
                raise PipelineError(
                    f"template: {wrong[0]!r} is no name of a field." if wrong else "template: returns= names no field.",
                    hint='Write: returns={"title": str, "tags": list[str]}',
                )
            if output is not None:
                raise PipelineError("template: output= names one field, and returns= names them all.", hint="Leave one out.")
        self._user = native.Template(text)
        self._system = None if system is None else native.Template(system)
        self.form = _asked_for(returns)
        # The type as the answer is read: of several fields an object with each of them.
        self.kind: Any = TypedDict("Answer", returns) if isinstance(returns, dict) else returns  # type: ignore[operator]
        self._askers: dict[str, _Asker] = {}

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names the text and the system message use, in order of first appearance."""
        return tuple(dict.fromkeys([*self._user.inputs, *(self._system.inputs if self._system is not None else ())]))

    def fields(self, name: str) -> dict[str, Any]:
        """Return the types of the output fields of a step whose field is called ``name``."""
        return dict(self.returns) if isinstance(self.returns, dict) else {self.output or name: self.returns}

    def messages(self, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return what is sent: the system message, if there is one, and the text with the form of the answer.

        Raises:
            PipelineError: a value lacks what the text asks of it.
        """
        user = self._user.render(values)
        if self.form:
            user = f"{user}\n\n{self.form}"
        sent = [] if self._system is None else [{"role": "system", "content": self._system.render(values)}]
        return [*sent, {"role": "user", "content": user}]

    def asker(self, name: str) -> _Asker:
        """Return what asks the model for a step whose field is called ``name``; the same one each time."""
        return self._askers.setdefault(name, _Asker(self, name))

    def cache_token(self) -> tuple[Any, ...]:
        """Return what tells this from other templates; a cell that is run again makes an equal one."""
        return self.text, self.system, self.returns, self.output, self.options

    def __eq__(self, other: object) -> bool:
        return self.cache_token() == other.cache_token() if isinstance(other, LMTemplate) else NotImplemented

    def __hash__(self) -> int:
        return hash((LMTemplate, self.text, self.system))

    def __repr__(self) -> str:
        return f"template({_short(self.text)!r})"


class _Asker:
    """Asks the model in use, called as a predictor is. Thread-safe."""

    def __init__(self, made: LMTemplate, name: str) -> None:
        self.made, self.name = made, name

    def __call__(self, **values: Any) -> dict[str, Any]:
        from dspy import settings

        return self._read(DirectCalls().call(settings.lm, self.made.messages(values), dict(self.made.options)))

    async def acall(self, **values: Any) -> dict[str, Any]:
        from dspy import settings

        return self._read(await DirectCalls().acall(settings.lm, self.made.messages(values), dict(self.made.options)))

    def _read(self, outputs: list[Any]) -> dict[str, Any]:
        """Return the answer as output fields.

        Raises:
            SignatureError: it does not say a value of the type asked for.
        """
        text = outputs[0].get("text") if isinstance(outputs[0], Mapping) else outputs[0]
        names = self.made.fields(self.name)
        try:
            found = native.parse_as(text or "", self.made.kind)
        except PipelineError as error:
            field = next(iter(names)) if len(names) == 1 else None
            raise SignatureError(error.message, field=field, hint=error.hint) from error
        return dict(found.value) if isinstance(self.made.returns, dict) else {next(iter(names)): found.value}


def template(
    text: str, *, system: str | None = None, returns: Any = str, output: str | None = None, **options: Any
) -> LMTemplate:
    """Return a prompt as a step's work: its fields are filled in, and the model in use answers.

    Its inputs are the names the text uses (``"Summarise {{ text }} in {{ n }} words."``). It gives one field named like the
    step.

    Args:
        text: a template in Jinja2's language.
        system: the system message, also a template.
        returns: the type of the answer, which is then asked for, read, mended where it is broken JSON, and validated; or a
            dict of types (``{"title": str, "tags": list[str]}``), each key an output field, asked for as one JSON object.
        output: the name of the output field, where it is not to be the step's.
        options: settings of the LM call (``temperature=0.2``, ``max_tokens=…``, ``rollout_id=…``).

    Raises:
        PipelineError: the text is no template, or no answer can be of the type.
    """
    return LMTemplate(text, system=system, returns=returns, output=output, options=options)


@step_kind
class TemplateKind(Kind):
    """Its inputs are the names in the template, its output the answer."""

    name = "lm"

    def accepts(self, target: Any) -> bool:
        """Take a text or what :func:`template` made."""
        return isinstance(target, str | LMTemplate)

    def shape(self, name: str, item: Step) -> Shape:
        """Return the names in the text, and the answer.

        Raises:
            PipelineError: the text is no template.
        """
        made = _made(item.target, name)
        fields = made.fields(item.outputs[0] if len(item.outputs) == 1 else name)
        if item.outputs and set(item.outputs) != set(fields):
            own = ", ".join(map(repr, fields))
            raise PipelineError(
                f"Step {name!r}: outputs={list(item.outputs)} are not the fields of the template, {own}.",
                step=name,
                hint='Name several with returns={"title": str, "tags": list[str]}.',
            )
        inputs = {n: StepField(n) for n in made.inputs}
        return Shape(inputs, {n: StepField(n, kind) for n, kind in fields.items()})

    async def run(self, work: StepRun, item: Step, inputs: Mapping[str, Any]) -> Mapping[str, Any]:  # type: ignore[override]
        """Fill in the fields and ask."""
        asker = _made(item.target, work.name).asker(item.outputs[0] if len(item.outputs) == 1 else work.field)
        return await work.carry_out("template", asker, None, inputs)

    def plain(self, item: Step) -> bool:
        """A model may be asked in the thread that asks."""
        return True

    def asks(self, item: Step) -> tuple[float, float] | None:
        """Count one call."""
        return (1, 1)

    def repeatable(self, item: Step) -> bool:
        """Asking does no harm."""
        return True

    def label(self, item: Step) -> str:
        """Return the beginning of the text."""
        return _short(item.target if isinstance(item.target, str) else item.target.text)


def _made(target: str | LMTemplate, name: str) -> LMTemplate:
    if isinstance(target, LMTemplate):
        return target
    if "{{" not in target and "{%" not in target:
        raise PipelineError(
            f"Step {name!r} is the text {_short(target)!r}, which has no field in it.",
            step=name,
            hint="Write a field as {{ name }}. To do what is called so, give the pipeline or the function itself; for a prompt "
            "without fields write dx.template(...).",
        )
    return _of_text(target)


@functools.lru_cache(maxsize=256)
def _of_text(text: str) -> LMTemplate:
    return LMTemplate(text)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:59] + "…"


def _asked_for(returns: Any) -> str:
    """Return how the form of the answer is asked for; nothing for a text.

    Raises:
        PipelineError: the type has no JSON schema, so no model can be asked for it.
    """
    if returns is str or returns is Any:
        return ""
    if isinstance(returns, type) and returns in _WORDS:
        return f"Answer with {_WORDS[returns]} and nothing else."
    if get_origin(returns) is Literal:
        return f"Answer with exactly one of these and nothing else: {', '.join(map(str, get_args(returns)))}."
    from pydantic import TypeAdapter

    kind: Any = TypedDict("Answer", returns) if isinstance(returns, dict) else returns  # type: ignore[operator]
    try:
        schema = TypeAdapter(kind).json_schema()
    except Exception as error:  # each kind of wrong type has an error of its own
        shown = (
            ", ".join(f"{n}: {type_name(k)}" for n, k in returns.items()) if isinstance(returns, dict) else type_name(returns)
        )
        raise PipelineError(
            f"template: an answer of type {shown} cannot be asked for: {type(error).__name__}: {error}",
            hint="Give a type that Pydantic knows: str, int, list[str], a Literal, a model, or a dict of such types.",
        ) from error
    schema.pop("title", None)
    for field in schema.get("properties", {}).values():
        field.pop("title", None)
    what = "one JSON object" if schema.get("type") == "object" else "JSON"
    return f"Answer with {what} of this schema and nothing else:\n{json.dumps(schema, ensure_ascii=False)}"
