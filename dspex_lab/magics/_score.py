"""``%dspex score METRIC FRAME``: a metric, by name, over the rows of a map."""

from __future__ import annotations

from typing import Any

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._line import parse

FLAGS = ("prediction", "reference", "into")


def run(call: Call) -> Any:
    """Score each row and return the DataFrame with a column of that name; without METRIC the metrics there are.

    FRAME is the name of a DataFrame or of what a map wrote. Where it has one column NAME beside a column NAME_given, as the
    map of labelled rows has, these are the prediction and the reference.
    """
    from dspex_lab.native.metrics import names

    line = parse(call.line, words=2, flags=FLAGS)
    if not line.words:
        print("metrics: " + ", ".join(names()))
        return None
    import dspex_lab as dx

    metric = dx.metric(line.words[0])
    if len(line.words) < 2:
        raise ConfigurationError("Which rows are to be scored?", key="score", hint=f"Write: {COMMAND.usage}")
    frame = _frame(call, line.words[1])
    columns = [str(c) for c in frame.columns]
    pairs = [c for c in columns if f"{c}_given" in columns]
    pair = (pairs[0], f"{pairs[0]}_given") if len(pairs) == 1 else (None, None)
    prediction = _column(line.flags.get("prediction", pair[0]), "prediction", columns)
    reference = _column(line.flags.get("reference", pair[1]), "reference", columns)
    scores = [metric.score(p, r) for p, r in zip(frame[prediction], frame[reference], strict=True)]
    scored = frame.assign(**{line.words[0]: scores})
    mean = sum(scores) / len(scores) if scores else float("nan")
    print(f"{line.words[0]}: {mean:.3f} over {len(scores):,} row{'s' * (len(scores) != 1)}")
    if (into := line.flags.get("into")) is not None:
        call.shell.user_ns[into] = scored
    return scored


def _frame(call: Call, word: str) -> Any:
    value: Any = call.shell.user_ns.get(word)
    value = value.frame() if hasattr(value, "frame") and not hasattr(value, "columns") else value
    if not hasattr(value, "columns"):
        frames = [n for n, v in call.shell.user_ns.items() if hasattr(v, "columns") and not n.startswith("_")]
        raise ConfigurationError(
            f"{word!r} is no DataFrame of the notebook.{did_you_mean(word, frames)}",
            key="score",
            hint="Bind what a map returns: %dspex map NAME DATA --into rows",
        )
    return value


def _column(name: str | None, role: str, columns: list[str]) -> str:
    if name is not None and name in columns:
        return name
    what = f"There is no column {name!r}.{did_you_mean(name, columns)}" if name else f"Which column is the {role}?"
    raise ConfigurationError(what, key=role, hint=f"Name it: --{role} COLUMN; there are {', '.join(columns)}.")


COMMAND = Command(
    "score",
    "%dspex score METRIC FRAME [--prediction COLUMN] [--reference COLUMN] [--into VARIABLE]",
    "score the rows of a map by a metric's name; alone it lists the metrics",
    run,
    flags=FLAGS,
)
