"""Fields to fill in, for pipelines that take more than one text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import panel as pn

from dspex_lab.dashboards import Html
from dspex_lab.web import _chat_style as style
from dspex_lab.web._chat_text import escaped
from dspex_lab.web._inputs import Misfit, Unfit, read_inputs, schema_of
from dspex_lab.web._offers import Offer

#: What a list offers for an input that may be left out.
LEFT_OUT = "–"
_IN_LINE: dict[str, Any] = {"margin": 0, "sizing_mode": "stretch_width"}


def wants_form(offer: Offer) -> bool:
    """Say whether an offer takes something else than one text and the conversation until now."""
    return [name for name in offer.pipeline.inputs if name != offer.history_input] != [offer.text_input]


class Blank:
    """A field: a widget, and below it what is wrong with what stands there.

    Args:
        name: of the input.
        schema: its JSON schema.
        required: whether it must be given.
    """

    def __init__(self, name: str, schema: Mapping[str, Any], required: bool) -> None:
        self.name, self._required = name, required
        self._schema, self._json = _without_none(schema), False
        self.widget = self._made()
        self._wrong = Html("", stylesheets=[style.STATE], visible=False, margin=0, sizing_mode="stretch_width")
        self.view = pn.Column(self.widget, self._wrong, **_IN_LINE)

    def read(self) -> Any:
        """Return what stands there as JSON has it, None where nothing does.

        Raises:
            Unfit: it should be JSON, and is not.
        """
        value = self.widget.value
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        if not self._json:
            return value
        try:
            return json.loads(value)
        except ValueError as error:
            if not self._schema:
                return value  # anything is taken, a text too
            raise Unfit(Misfit(f"inputs.{self.name}", f"is no JSON: {error}")) from error

    def complain(self, why: str | None) -> None:
        """Show what is wrong; None for nothing."""
        self._wrong.object = "" if why is None else f'<div class="bad">{escaped(why)}</div>'
        self._wrong.visible = why is not None

    def _made(self) -> Any:
        kind, said = self._schema.get("type"), f"{self.name}{'' if self._required else ' (may be left out)'}"
        look = {"label": said, "stylesheets": [style.INPUT], "sizing_mode": "stretch_width", "margin": 0}
        if "enum" in self._schema:
            options = {str(value): value for value in self._schema["enum"]}
            return pn.widgets.Select(options=options if self._required else {LEFT_OUT: "", **options}, **look)
        if kind == "boolean" and self._required:
            return pn.widgets.Checkbox(**look)
        if kind in ("integer", "number"):
            return pn.widgets.TextInput(placeholder="a whole number" if kind == "integer" else "a number", **look)
        if kind == "string":
            hint = self._schema.get("format", "")
            return pn.widgets.TextAreaInput(
                placeholder=hint, auto_grow=True, resizable=False, rows=1, max_rows=8, max_length=1_000_000, **look
            )
        self._json = True
        hint = f"JSON: {json.dumps(self._schema)}" if self._schema else "JSON"
        return pn.widgets.TextAreaInput(
            placeholder=hint[:200], auto_grow=True, resizable=False, rows=2, max_rows=12, max_length=4_000_000, **look
        )


class Form:
    """The fields of a pipeline, in a frame that is hidden while none is shown.

    Args:
        submit: called with inputs that the pipeline takes.
        stop: called when the person wants the run to end.
    """

    def __init__(self, submit: Callable[[dict[str, Any]], None], stop: Callable[[], object]) -> None:
        self._submit, self._offer = submit, None
        self._blanks: dict[str, Blank] = {}
        self.run, self.halt = _button("Run", style.SEND), _button("Stop", style.STOP)
        self.halt.visible = False
        self.run.on_click(lambda _event: self.send())
        self.halt.on_click(lambda _event: stop())
        self._buttons = pn.Row(self.run, self.halt, **_IN_LINE)
        self.view = pn.Column(
            self._buttons,
            visible=False,
            margin=0,
            sizing_mode="stretch_width",
            max_height=380,
            scroll="y-auto",
            stylesheets=[style.CARD],
            styles={"gap": "10px"},
        )

    _offer: Offer | None

    def show(self, offer: Offer | None) -> None:
        """Show the fields of an offer, those of None are none."""
        if offer is not None and self._offer is not None and offer.pipeline is self._offer.pipeline:
            return
        self._offer = offer
        self._blanks = {}
        if offer is not None:
            schema = schema_of(offer.pipeline)
            for name, about in schema["properties"].items():
                if name != offer.history_input:
                    self._blanks[name] = Blank(name, about, name in schema["required"])
        self.view.objects = [*(blank.view for blank in self._blanks.values()), self._buttons]
        self.view.visible = offer is not None

    def busy(self, busy: bool) -> None:
        """Offer to stop the run that is under way, or to begin one."""
        self.run.visible, self.halt.visible = not busy, busy

    def send(self) -> None:
        """Hand on what stands in the fields, if the pipeline takes it; else say by the fields what is wrong."""
        if self._offer is None:
            return
        wrong: list[Misfit] = []
        given: dict[str, Any] = {}
        for name, blank in self._blanks.items():
            try:
                value = blank.read()
            except Unfit as error:
                wrong += error.misfits
                continue
            if value is not None:
                given[name] = value
        wrong += _misfits(self._offer, given, {misfit.where for misfit in wrong})
        self._complain(wrong)
        if not wrong:
            self._submit(given)

    def _complain(self, wrong: list[Misfit]) -> None:
        for name, blank in self._blanks.items():
            own = f"inputs.{name}"
            said = [_said(misfit, own) for misfit in wrong if misfit.where == own or misfit.where.startswith(f"{own}.")]
            blank.complain("; ".join(said) or None)


def _button(name: str, icon: str) -> Any:
    return pn.widgets.Button(label=name, icon=icon, css_classes=["chief"], stylesheets=[style.BUTTON], width=100, margin=0)


def _misfits(offer: Offer, given: dict[str, Any], known: set[str]) -> list[Misfit]:
    """Return what is wrong with inputs, beside what is known to be."""
    try:
        read_inputs(offer.pipeline, given)
    except Unfit as error:
        before = f"inputs.{offer.history_input}"  # the page knows it
        return [misfit for misfit in error.misfits if misfit.where not in known and misfit.where != before]
    return []


def _without_none(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema of what is given, where nothing may be given too; a constant as a choice of one."""
    some = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    found = some[0] if len(some) == 1 else schema
    return {**found, "enum": [found["const"]]} if "const" in found else found


def _said(misfit: Misfit, own: str) -> str:
    inner = misfit.where[len(own) + 1 :]
    return f"{inner}: {misfit.why}" if inner else misfit.why
