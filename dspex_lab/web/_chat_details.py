"""What stands behind an answer, folded under it: the steps, who answered and why, and what it cost. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dspex_lab.dashboards import STATUS_COLOURS, count, dollars, duration, status
from dspex_lab.pipelines import Result, StepOutcome
from dspex_lab.security import redact
from dspex_lab.web._ask import Answer
from dspex_lab.web._chat_text import escaped
from dspex_lab.web._fallbacks import told_of
from dspex_lab.web._routing import Route

#: Characters of a step's output that are shown.
MOST = 400


def details(answer: Answer) -> str:
    """Return it as HTML; every value in it is escaped."""
    result = answer.result
    known = [escaped(answer.offer.name), f"{len(result.steps)} step{'' if len(result.steps) == 1 else 's'}"]
    known.append(duration(answer.seconds))
    if result.tokens is not None:
        known.append(f"{count(result.tokens)} tokens")
    if result.cost is not None:
        known.append(dollars(result.cost))
    tag = ' <span class="tag">simulated</span>' if result.simulated else ""
    if answer.fallback is not None:
        tag += ' <span class="tag">fallback</span>'
    head = f"<summary><b>steps</b> · {' · '.join(known)}{tag}</summary>"
    return f'<details>{head}<div class="inside">{_steps(result.steps)}{_facts(answer)}</div></details>'


def _steps(steps: Mapping[str, StepOutcome]) -> str:
    rows = "".join(_row(name, step) for name, step in _all(steps))
    return f"<table class='steps'><tr><th>step</th><th>status</th><th>time</th><th>gave</th></tr>{rows}</table>" if rows else ""


def _all(steps: Mapping[str, StepOutcome], before: str = "") -> Iterator[tuple[str, StepOutcome]]:
    for name, step in steps.items():
        yield before + name, step
        yield from _all(step.parts, f"{before}{name}.")


def _row(name: str, step: StepOutcome) -> str:
    colour = STATUS_COLOURS.get(step.status, STATUS_COLOURS["partial" if step.status == "fallback" else "cancelled"])
    gave = "<br>".join(f"{escaped(field)}: <code>{escaped(value, MOST)}</code>" for field, value in step.outputs.items())
    if why := _why(step):
        gave += f'{"<br>" if gave else ""}<span class="why">{escaped(why, MOST)}</span>'
    how = escaped(name) + (f"<br><span>by {escaped(step.implementation)}</span>" if step.implementation else "")
    return (
        f'<tr><td class="how">{how}</td><td class="status" style="color:{colour}">{escaped(status(step.status))}</td>'
        f'<td class="time">{duration(step.seconds)}</td><td class="gave">{gave}</td></tr>'
    )


def _why(step: StepOutcome) -> str:
    """Return what a step failed by, as clients may know it, and what it says it left out."""
    error = None if step.error is None else told_of(step.error)
    return redact(" · ".join(part for part in (error, step.note) if part))


def _facts(answer: Answer) -> str:
    result = answer.result
    facts = {"pipeline": answer.offer.name, "chosen": routed(answer.route)}
    if answer.fallback is not None:
        facts["fallback"] = answer.fallback.why
    if answer.tried:
        facts["tried"] = "; ".join(answer.tried)
    facts |= {"model": _model(result), "tokens": _tokens(result), "cost": dollars(result.cost), "run": result.run_id}
    rows = "".join(f"<tr><th>{name}</th><td>{escaped(redact(value))}</td></tr>" for name, value in facts.items() if value)
    return f'<table class="facts">{rows}</table>'


def routed(route: Route) -> str:
    """Return why an offer was asked, as a sentence."""
    if route.why == "named":
        return "you chose it"
    if route.why == "only one":
        return "no other can take this message"
    near = ", ".join(f"{each.name} {each.score:.2f}" for each in route.ranking[:4])
    return f"it is most like the message: {near}"


def _model(result: Result) -> str:
    if result.lm is None:
        return ""
    return f"{result.lm}: simulated, no provider was asked" if result.simulated else result.lm


def _tokens(result: Result) -> str:
    if result.tokens is None:
        return ""
    return f"{count(result.prompt_tokens)} sent, {count(result.completion_tokens)} written"
